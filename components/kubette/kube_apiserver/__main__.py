"""kube-apiserver."""

import sys
from collections.abc import Sequence

from kubette.component_base import run
from kubette.kube_apiserver import config


def main(argv: Sequence[str] | None = None) -> int:
    from kubette.kube_apiserver import app

    return run.run(config.FLAGS, argv, app.serve)


if __name__ == "__main__":
    sys.exit(main())
