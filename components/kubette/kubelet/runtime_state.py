"""Pure: what the runtime says about one pod, as values (upstream's kubecontainer.PodStatus)."""

from dataclasses import dataclass, field
from enum import StrEnum


class ContainerState(StrEnum):
    """The CRI's container states, in the words of kubecontainer."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Container:
    """One container (one attempt) of a pod. Times are Unix seconds, 0 when not reached."""

    id: str
    name: str
    state: ContainerState
    sandbox_id: str = ""
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    image: str = ""
    image_id: str = ""
    reason: str = ""
    message: str = ""
    restart_count: int = 0
    spec_hash: str = ""
    log_path: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One sandbox of a pod; a pod has one that is ready, or none."""

    id: str
    attempt: int
    ready: bool
    created_at: float = 0.0
    ips: tuple[str, ...] = ()
    host_network: bool = False


@dataclass(frozen=True, slots=True)
class PodRuntime:
    """All that the runtime has of one pod, newest first."""

    uid: str
    name: str = ""
    namespace: str = ""
    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Container, ...] = ()

    def latest(self, container_name: str) -> Container | None:
        """The newest container of that name."""
        return next((c for c in self.containers if c.name == container_name), None)

    def attempts(self, container_name: str) -> list[Container]:
        return [c for c in self.containers if c.name == container_name]

    def running(self) -> list[Container]:
        """Containers that may have processes."""
        return [c for c in self.containers if c.state in (ContainerState.RUNNING, ContainerState.UNKNOWN)]

    @property
    def ready_sandbox(self) -> Sandbox | None:
        return self.sandboxes[0] if self.sandboxes and self.sandboxes[0].ready else None
