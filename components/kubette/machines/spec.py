"""Pure: what a cluster consists of: its machines, their names and addresses. Written to `cluster.json`.

Addresses follow from the order of creation alone (ARCHITECTURE, Addresses): control planes first, from 192.168.56.11 on.
"""

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from kubette.api import releases

SWITCH_ADDRESS = "192.168.56.1"  # gateway and default route of every machine
LOAD_BALANCER_ADDRESS = "192.168.56.10"
PREFIX_LENGTH = 24
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/12"  # kubeadm's default
SERVICE_ADDRESS, DNS_ADDRESS = "10.96.0.1", "10.96.0.10"
DNS_DOMAIN = "cluster.local"
API_PORT = 6443
FIRST_HOST = 11
MACHINES_MAX = 200  # addresses .11 to .210 of the switch's /24
CONTROL_PLANES_MAX = 9  # etcd's own recommendation ends at 7 members; beyond 9 nobody has measured

STYLES = ("kubeadm", "systemd")
ETCD_MACHINE = "etcd-server"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


class SpecError(ValueError):
    """What was asked for cannot be a cluster; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine. `index` counts from 0 in order of creation."""

    name: str
    role: str  # "control-plane", "worker", or "etcd" (where it is not on the control planes)
    index: int

    @property
    def address(self) -> str:
        return f"192.168.56.{FIRST_HOST + self.index}"

    @property
    def mac_address(self) -> str:
        # Stable over reboots (a locally administered address), so that nobody's neighbour table goes stale.
        return f"02:6b:00:a8:38:{FIRST_HOST + self.index:02x}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The whole of `cluster.json`. `initialized`: there is a control plane (`kubeadm init` has succeeded); `joined`: machines that are nodes;
    `by_hand`: neither is our business, kubeadm is typed on the machines."""

    name: str
    kubernetes_version: str
    machines: tuple[Machine, ...]
    api_port: int = API_PORT
    style: str = "kubeadm"
    initialized: bool = False
    joined: tuple[str, ...] = field(default=())
    by_hand: bool = False

    @property
    def control_planes(self) -> tuple[Machine, ...]:
        return tuple(m for m in self.machines if m.role == "control-plane")

    @property
    def workers(self) -> tuple[Machine, ...]:
        return tuple(m for m in self.machines if m.role == "worker")

    @property
    def nodes(self) -> tuple[Machine, ...]:
        """The machines with a kubelet."""
        return tuple(m for m in self.machines if m.role != "etcd")

    @property
    def external_etcd(self) -> Machine | None:
        """The machine of an etcd that is not on the control planes."""
        return next((m for m in self.machines if m.role == "etcd"), None)

    @property
    def etcd_members(self) -> tuple[Machine, ...]:
        """The machines on which etcd runs."""
        return (self.external_etcd,) if self.external_etcd else self.servers

    @property
    def servers(self) -> tuple[Machine, ...]:
        """The control planes that have joined; of those set up by hand nobody keeps a list."""
        return tuple(m for m in self.control_planes if self.by_hand or m.name in self.joined)

    @property
    def endpoint(self) -> str:
        """Where the machines reach the API: the load balancer when several machines serve it."""
        address = LOAD_BALANCER_ADDRESS if len(self.control_planes) > 1 else self.control_planes[0].address
        return f"{address}:{API_PORT}"

    @property
    def admin_kubeconfig(self) -> str:
        """The administrator's kubeconfig on a control plane, relative to the machine's root."""
        return "etc/kubernetes/admin.conf" if self.style == "kubeadm" else "var/lib/kubernetes/admin.kubeconfig"

    @property
    def context(self) -> str:
        """The cluster's name in a kubeconfig."""
        return self.name if self.name == "kubette" else f"kubette-{self.name}"

    def machine(self, name: str) -> Machine:
        """Raises SpecError for a name the cluster does not have."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise SpecError(f'machine "{name}" not found in cluster "{self.name}" (it has {", ".join(m.name for m in self.machines)})')

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kubernetesVersion": self.kubernetes_version,
            "style": self.style,
            "apiPort": self.api_port,
            "initialized": self.initialized,
            "joined": list(self.joined),
            "byHand": self.by_hand,
            "machines": [{**asdict(m), "address": m.address} for m in self.machines],
        }


def from_json(data: dict[str, Any]) -> Cluster:
    """The inverse of `to_json`; raises SpecError when the file is not ours."""
    try:
        return Cluster(
            name=data["name"],
            kubernetes_version=data["kubernetesVersion"],
            machines=tuple(Machine(m["name"], m["role"], m["index"]) for m in data["machines"]),
            api_port=data["apiPort"],
            style=data["style"],
            initialized=data["initialized"],
            joined=tuple(data["joined"]),
            by_hand=data.get("byHand", False),
        )
    except (KeyError, TypeError) as error:
        raise SpecError(f"cluster.json is not readable: missing or wrong {error}") from error


def check_name(name: str) -> None:
    """A cluster's name is a DNS label of at most 40 characters: it becomes a folder, a context and part of process titles."""
    if not _NAME.fullmatch(name) or len(name) > 40:
        raise SpecError(
            f'invalid name "{name}": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or "-", '
            "must start and end with an alphanumeric character, and must be no more than 40 characters"
        )


def plan(
    name: str, control_planes: int, workers: int, kubernetes_version: str, style: str = "kubeadm", api_port: int = API_PORT, etcd: str = "stacked"
) -> Cluster:
    """A new cluster: controlplane, controlplane02, …, then node01, node02, …, then etcd's machine if it has one of its own."""
    check_name(name)
    if not 1 <= control_planes <= CONTROL_PLANES_MAX:
        raise SpecError(f"--control-planes must be between 1 and {CONTROL_PLANES_MAX}, not {control_planes}")
    if workers < 0 or control_planes + workers > MACHINES_MAX:
        raise SpecError(f"--workers must be between 0 and {MACHINES_MAX - control_planes}, not {workers}")
    if style not in STYLES:
        raise SpecError(f'invalid argument "{style}" for "--style" flag: must be one of {", ".join(STYLES)}')
    if etcd not in ("stacked", "external"):
        raise SpecError(f'invalid argument "{etcd}" for "--etcd" flag: must be one of stacked, external')
    if etcd == "external" and style != "kubeadm":
        raise SpecError("--etcd=external is for --style=kubeadm: with --style=systemd etcd is a unit of the control planes")
    if not re.fullmatch(r"v\d+\.\d+\.\d+", kubernetes_version):
        raise SpecError(f'invalid argument "{kubernetes_version}" for "--kubernetes-version" flag: must look like v1.37.0')
    if not releases.is_known(releases.parse(kubernetes_version)):
        raise SpecError(
            f'invalid argument "{kubernetes_version}" for "--kubernetes-version" flag: there are v1.{releases.OLDEST_MINOR} to '
            f"v1.{releases.NEWEST_MINOR}; see kubette versions"
        )
    names = [("controlplane" if i == 0 else f"controlplane{i + 1:02d}", "control-plane") for i in range(control_planes)]
    names += [(f"node{i + 1:02d}", "worker") for i in range(workers)]
    names += [(ETCD_MACHINE, "etcd")] if etcd == "external" else []
    machines = tuple(Machine(name, role, index) for index, (name, role) in enumerate(names))
    return Cluster(name=name, kubernetes_version=kubernetes_version, machines=machines, api_port=api_port, style=style)
