"""Pure: what the doctor knows of a cluster when it begins to think; `gather` collects it, tests write it down.

Whatever could not be read is absent, and a condition that needs it finds nothing: a cluster whose API server is away has no `objects`, a machine
without power has files but no units.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
MANIFESTS = "/etc/kubernetes/manifests"


@dataclass(frozen=True, slots=True)
class File:
    """A file of a machine. `owner` is a user id; `text` is empty for what is no text."""

    text: str = ""
    mode: int = 0o644
    owner: int = 0


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate. `path` is its file, or `FILE (client certificate)` inside a kubeconfig; `signer` the path of the CA of this machine that signed it."""

    path: str
    subject: str
    issuer: str
    not_before: float
    not_after: float
    names: tuple[str, ...] = ()
    signer: str = ""
    key: str = ""  # fingerprint of its public key
    is_ca: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """A file of the static pods' folder, as the kubelet reads it."""

    path: str
    document: Object | None = None
    error: str = ""  # of the parser
    unknown: tuple[str, ...] = ()  # paths of fields that Pod does not have

    @property
    def name(self) -> str:
        return str(((self.document or {}).get("metadata") or {}).get("name") or "")

    @property
    def container(self) -> Object:
        containers = ((self.document or {}).get("spec") or {}).get("containers") or [{}]
        return containers[0] if isinstance(containers, list) and isinstance(containers[0], dict) else {}


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the runtime lists it, newest attempt of its pod only; `log` is its last lines."""

    name: str
    pod: str
    namespace: str
    state: str  # CONTAINER_RUNNING, CONTAINER_EXITED, …
    attempt: int
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Etcd:
    """What etcdctl said on a machine: members and their answers; `error` when it got none."""

    members: tuple[Object, ...] = ()
    statuses: tuple[Object, ...] = ()  # of the endpoints that answered
    alarms: tuple[str, ...] = ()  # `memberID:1 alarm:NOSPACE`
    error: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine: its files (those that matter here, by absolute path), units, journals, containers."""

    name: str
    role: str = "worker"
    address: str = ""
    state: str = "running"
    reason: str = ""
    files: Mapping[str, File] = field(default_factory=dict)
    folders: Mapping[str, File] = field(default_factory=dict)
    manifests: tuple[Manifest, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)  # path of a private or public key → fingerprint of the public key
    units: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    journals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    containers: tuple[Container, ...] = ()
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # component → its command line, as configured
    programs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # component → the flags it knows, asked when one is unknown
    etcd: Etcd | None = None

    @property
    def is_control_plane(self) -> bool:
        return self.role == "control-plane"

    def flags(self, component: str) -> dict[str, str]:
        """The flags a component is started with; the last one counts."""
        return dict(word.lstrip("-").partition("=")[::2] for word in self.commands.get(component, ())[1:] if word.startswith("-"))

    def manifest(self, component: str) -> Manifest | None:
        return next((m for m in self.manifests if m.path == f"{MANIFESTS}/{component}.yaml"), None)

    def container(self, name: str) -> Container | None:
        return next((c for c in self.containers if c.name == name and c.namespace == "kube-system"), None)


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it. `now` is Unix time. `objects` is resource → list, None when the API server did not answer (`api_error` says how)."""

    now: float
    style: str = "kubeadm"
    version: str = ""  # of the API server
    endpoint: str = ""  # where machines reach the API: host:port
    is_running: bool = True
    machines: tuple[Machine, ...] = ()
    objects: Mapping[str, list[Object]] | None = None
    api_error: str = ""

    def listed(self, resource: str) -> list[Object]:
        """Nothing when the API server is away."""
        return list((self.objects or {}).get(resource) or [])

    @property
    def control_planes(self) -> Iterator[Machine]:
        return (machine for machine in self.machines if machine.is_control_plane)

    @property
    def powered(self) -> Iterator[Machine]:
        return (machine for machine in self.machines if machine.state == "running")
