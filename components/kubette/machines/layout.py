"""Where a cluster lives on the host: `$KUBETTE_HOME/<cluster>/` (default `~/.kubette`), and its `cluster.json`."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kubette.machines import spec
from kubette.stdx import files


def home() -> Path:
    """The folder of all clusters."""
    configured = os.environ.get("KUBETTE_HOME")
    return Path(configured).absolute() if configured else Path.home() / ".kubette"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one cluster."""

    root: Path

    @property
    def cluster_file(self) -> Path:
        return self.root / "cluster.json"

    @property
    def control_socket(self) -> Path:
        return self.root / "control.sock"

    @property
    def ssh_socket(self) -> Path:
        """The door between the machines, shown to each of them."""
        return self.root / "ssh.sock"

    @property
    def lock_file(self) -> Path:
        """Locked by the supervisor as long as it lives."""
        return self.root / "lock"

    @property
    def supervisor_log(self) -> Path:
        return self.root / "logs" / "supervisor.log"

    @property
    def gateway_log(self) -> Path:
        return self.root / "logs" / "gateway.log"

    @property
    def programs(self) -> Path:
        """Our programs, as laid over the machines' /usr/bin and /usr/sbin."""
        return self.root / "programs"

    @property
    def kubeconfig(self) -> Path:
        """The admin's kubeconfig for use on the host."""
        return self.root / "kubeconfig"

    def console_log(self, machine: str) -> Path:
        """What PID 1 of a machine writes to its console."""
        return self.root / "logs" / f"{machine}.console.log"

    def machine_root(self, machine: str) -> Path:
        return self.root / "machines" / machine

    def exists(self) -> bool:
        return self.cluster_file.exists()

    def load(self) -> spec.Cluster:
        """Raises SpecError when there is no such cluster."""
        try:
            return spec.from_json(json.loads(self.cluster_file.read_text()))
        except FileNotFoundError:
            raise spec.SpecError(f'no cluster "{self.root.name}" found; start one with: kubette up') from None
        except ValueError as error:
            raise spec.SpecError(f"cannot read {self.cluster_file}: {error}") from error

    def save(self, cluster: spec.Cluster) -> None:
        files.write_atomic(self.cluster_file, json.dumps(cluster.to_json(), indent=2) + "\n", durable=True)

    def is_running(self) -> bool:
        """Whether a supervisor lives. The lock tells the truth even after a `kill -9`."""
        try:
            fd = os.open(self.lock_file, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False


def of(name: str) -> Layout:
    return Layout(home() / name)


def clusters() -> list[Layout]:
    """All clusters of this user, by name."""
    with contextlib.suppress(OSError):
        return [Layout(path.parent) for path in sorted(home().glob("*/cluster.json"))]
    return []


@contextlib.contextmanager
def in_directory_of(path: Path) -> Iterator[str]:
    """A short name for a socket whose full path may exceed the 108 bytes of sockaddr_un."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)
