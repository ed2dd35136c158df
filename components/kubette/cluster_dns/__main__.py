"""coredns: parses the command line and runs."""

import sys
from collections.abc import Sequence

from kubette.cluster_dns import app
from kubette.component_base import run
from kubette.component_base.flags import FlagSet


def flag_set() -> FlagSet:
    flags = FlagSet("coredns", "CoreDNS serves the names of the cluster.", single_dash=True)
    flags.string("conf", "Corefile", "Corefile to load")
    flags.string("dns.port", "", "Default port, when the Corefile names none")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    return run.run(flag_set(), argv, app.serve, version_line="CoreDNS-1.13.1")


if __name__ == "__main__":
    sys.exit(main())
