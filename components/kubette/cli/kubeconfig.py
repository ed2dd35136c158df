"""`kubette kubeconfig [--path]`: the administrator's kubeconfig of a cluster, for use on the host."""

from typing import Any

from kubette.cli import common_flags
from kubette.cli.errors import CommandError
from kubette.component_base.flags import FlagSet
from kubette.machines import layout, spec


def flags() -> FlagSet:
    flag_set = common_flags.flag_set("kubeconfig", "Print the administrator's kubeconfig.")
    flag_set.bool("path", False, "Print the path of the file instead.")
    return flag_set


def run(options: Any) -> int:
    spec.check_name(options.name)
    place = layout.of(options.name)
    place.load()
    if not place.kubeconfig.exists():
        raise CommandError(f'cluster "{options.name}" has no kubeconfig yet: it was never up')
    print(place.kubeconfig if options.path else place.kubeconfig.read_text(), end="\n" if options.path else "")
    return 0
