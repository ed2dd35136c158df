"""kube-proxy: parses the command line and runs."""

import sys
from collections.abc import Sequence

from kubette.component_base import run
from kubette.kube_proxy import app, config


def main(argv: Sequence[str] | None = None) -> int:
    return run.run(config.flag_set(), argv, app.serve)


if __name__ == "__main__":
    sys.exit(main())
