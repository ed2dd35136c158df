"""kube-apiserver."""

import sys
from collections.abc import Sequence

from kubette.component_base import run
from kubette.kube_apiserver import config


def main(argv: Sequence[str] | None = None) -> int:
    from kubette.kube_apiserver.app import serve  # everything heavy is behind this import; --help does not need it

    return run.run(config.FLAGS, argv, serve)


if __name__ == "__main__":
    sys.exit(main())
