"""`kubelet`: flags and the run loop, nothing else."""

import sys
from collections.abc import Sequence

from kubette.component_base import run, version
from kubette.kubelet import config


def main(argv: Sequence[str] | None = None) -> int:
    from kubette.kubelet import app

    return run.run(config.flag_set(version.major_minor()), argv, app.serve)


if __name__ == "__main__":
    sys.exit(main())
