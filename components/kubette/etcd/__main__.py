"""etcd's command line."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from kubette.component_base import run
from kubette.component_base.flags import FlagError
from kubette.etcd import config, version

FLAGS = config.flag_set()


async def _serve(options: Any) -> None:
    from kubette.component_base import logs
    from kubette.etcd import app

    try:
        config.apply_environment(FLAGS, options, os.environ)
        checked = config.check(options)
    except FlagError as error:
        raise run.StartupError(f"error verifying flags, {error}. See 'etcd --help'.") from None
    logs.set_verbosity(4 if checked.log_level == "debug" else 0)
    await app.serve(checked, version.server_version(dict(os.environ)))


def main(argv: Sequence[str] | None = None) -> int:
    server = version.server_version(dict(os.environ))
    line = f"etcd Version: {server}\nGit SHA: kubette\nGo Version: python{sys.version.split()[0]}\nGo OS/Arch: linux/amd64"
    return run.run(FLAGS, argv, _serve, version_line=line)


if __name__ == "__main__":
    sys.exit(main())
