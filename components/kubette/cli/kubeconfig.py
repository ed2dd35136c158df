"""`kubette kubeconfig [--path]`: the administrator's kubeconfig of a cluster, for use on the host."""

from pathlib import Path
from typing import Any

from kubette.cli import common_flags, kubeconfig_file
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
    path = of_cluster(place, place.load())
    print(path if options.path else path.read_text(), end="\n" if options.path else "")
    return 0


def of_cluster(place: layout.Layout, cluster: spec.Cluster) -> Path:
    """The file for use on the host; of a cluster made by hand it is made when it is asked for. Raises CommandError when there is none yet."""
    if cluster.by_hand and (place.machine_root(cluster.control_planes[0].name) / cluster.admin_kubeconfig).exists():
        kubeconfig_file.of_cluster(place, cluster)
    if not place.kubeconfig.exists():
        why = f"type kubeadm init on {cluster.control_planes[0].name}" if cluster.by_hand else "it was never up"
        raise CommandError(f'cluster "{cluster.name}" has no kubeconfig yet: {why}')
    return place.kubeconfig
