"""What the runtime remembers of sandboxes and containers, on disk and in memory.

Each has a directory with `config` (the kubelet's request, as protobuf) and `status` (JSON), as containerd keeps them: so that a runtime that
was killed knows, when it comes back, everything that init does not.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from kubette.cri import api_pb2
from kubette.runtime.errors import CriError
from kubette.stdx import files


@dataclass(slots=True)
class SandboxStatus:
    """The changing half of a sandbox. Times are Unix nanoseconds."""

    created_at: int = 0
    ready: bool = False
    pid: int = 0
    ip: str = ""
    network_namespace: str = ""
    runtime_handler: str = ""


@dataclass(slots=True)
class ContainerStatus:
    """The changing half of a container: created, then running (`started_at`), then exited (`finished_at`)."""

    sandbox_id: str = ""
    image: str = ""
    image_ref: str = ""
    image_id: str = ""
    tag: str = ""
    repository: str = ""
    log_path: str = ""
    created_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    pid: int = 0
    uid: int = 0
    gid: int = 0
    resources: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> api_pb2.ContainerState:
        if self.finished_at:
            return api_pb2.CONTAINER_EXITED
        return api_pb2.CONTAINER_RUNNING if self.started_at else api_pb2.CONTAINER_CREATED


@dataclass(slots=True)
class Sandbox:
    id: str
    config: api_pb2.PodSandboxConfig
    status: SandboxStatus

    @property
    def unit(self) -> str:
        return f"cri-{self.id}.scope"

    @property
    def state(self) -> api_pb2.PodSandboxState:
        return api_pb2.SANDBOX_READY if self.status.ready else api_pb2.SANDBOX_NOTREADY

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.config.labels)


@dataclass(slots=True)
class Container:
    id: str
    config: api_pb2.ContainerConfig
    status: ContainerStatus

    @property
    def unit(self) -> str:
        return f"cri-{self.id}.scope"

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.config.labels)


class _Record(Protocol):
    id: str
    config: Any
    status: Any


R = TypeVar("R", bound=_Record)


class Store(Generic[R]):
    """Records of one kind by id; ids may be shortened as long as they are unambiguous (crictl does)."""

    def __init__(self, directory: Path, kind: type[R], config: type[Any], status: type[Any], what: str) -> None:
        self._directory = directory
        self._kind = kind
        self._what = what
        self._records: dict[str, R] = {}
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            try:
                parsed = config.FromString((path / "config").read_bytes())
                self._records[path.name] = kind(path.name, parsed, status(**json.loads((path / "status").read_text())))  # type: ignore[call-arg]
            except (OSError, ValueError, TypeError):
                # Killed between making the directory and writing it: the kubelet never learned this id.
                shutil.rmtree(path, ignore_errors=True)

    def __iter__(self) -> Iterator[R]:
        yield from list(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def path(self, record_id: str) -> Path:
        return self._directory / record_id

    def get(self, prefix: str) -> R | None:
        """By id or unambiguous beginning of one."""
        exact = self._records.get(prefix)
        if exact is not None or not prefix:
            return exact
        matching = [r for i, r in self._records.items() if i.startswith(prefix)]
        return matching[0] if len(matching) == 1 else None

    def require(self, prefix: str, doing: str) -> R:
        """Like `get`; raises NotFound in containerd's words."""
        record = self.get(prefix)
        if record is None:
            raise CriError(
                "NOT_FOUND", f'an error occurred when try to find {self._what} "{prefix}": not found' if not doing else f"{doing}: not found"
            )
        return record

    def add(self, record: R) -> None:
        directory = self.path(record.id)
        directory.mkdir(parents=True, mode=0o755)
        files.write_atomic(directory / "config", record.config.SerializeToString())
        self._records[record.id] = record
        self.save(record)

    def save(self, record: R) -> None:
        """Write the changing half. A record that was removed meanwhile stays removed."""
        if record.id in self._records:
            files.write_atomic(self.path(record.id) / "status", json.dumps(asdict(record.status)))

    def remove(self, record_id: str) -> None:
        self._records.pop(record_id, None)
        shutil.rmtree(self.path(record_id), ignore_errors=True)
