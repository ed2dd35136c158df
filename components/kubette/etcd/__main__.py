"""etcd's command line."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubette.component_base import flags, run
from kubette.component_base.flags import FlagError
from kubette.etcd import config, config_sources, flag_table, version

FLAGS = flag_table.flag_set()
USAGE_CODE = 2  # Go's, for a command line that cannot be read


async def _serve(options: Any) -> None:
    from kubette.component_base import logs
    from kubette.etcd import app, zap_log

    zap_log.install(config.Logging())
    log = logs.logger(__name__)
    try:
        if options.args:
            raise FlagError(f"'{options.args[0]}' is not a valid flag")
        options = _completed(options, log)
        checked = config.check(options)
    except FlagError as error:
        raise run.StartupError(f"error verifying flags, {error}. See 'etcd --help'.") from None
    zap_log.install(checked.logging)
    for line in flag_table.deprecations(options.changed):
        log.warning(line)
    await app.serve(checked, version.server_version(dict(os.environ)))


def _completed(options: Any, log: Any) -> Any:
    """The options with what the environment or a configuration file says. Raises FlagError."""
    path = options.config_file or os.environ.get(config_sources.variable("config-file"), "")
    if not path:
        config_sources.apply_environment(FLAGS, options, os.environ, log.warning)
        return options
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise FlagError(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise FlagError(f"error converting YAML to JSON: yaml: {error}") from None
    log.info("loaded server configuration, other configuration command line flags and environment variables will be ignored if provided", path=path)
    read = config_sources.from_file(FLAGS, text)
    read.config_file = path
    return read


def main(argv: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        FLAGS.parse(words)
    except flags.FlagError as error:
        sys.stderr.write(f"{error}\nUsage:\n\n  etcd [flags]\n    Start an etcd server.\n\nSee 'etcd --help'.\n")
        return USAGE_CODE
    except (flags.HelpRequested, flags.VersionRequested):
        pass  # answered below
    server = version.server_version(dict(os.environ))
    line = f"etcd Version: {server}\nGit SHA: kubette\nGo Version: python{sys.version.split()[0]}\nGo OS/Arch: linux/amd64"
    return run.run(FLAGS, words, _serve, version_line=line)


if __name__ == "__main__":
    sys.exit(main())
