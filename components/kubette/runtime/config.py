"""Where the runtime keeps things: containerd's own places, so that a runbook's `ls /run/containerd` finds what it expects."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import kubette
from kubette.component_base import init_client

RUNTIME_NAME = "containerd"
RUNTIME_VERSION = "2.1.4"  # the containerd release whose behaviour is followed
API_VERSION = "v1"


@dataclass(frozen=True, slots=True)
class Settings:
    """The validated command line."""

    address: str = "/run/containerd/containerd.sock"
    root: Path = Path("/var/lib/containerd")
    state: Path = Path("/run/containerd")
    init_socket: str = init_client.SOCKET_PATH
    cni_configuration: Path = Path("/etc/cni/net.d")
    cni_state: Path = Path("/var/lib/cni/networks")
    network_namespaces: Path = Path("/run/netns")

    @property
    def cri_root(self) -> Path:
        return self.root / "io.containerd.grpc.v1.cri"

    @property
    def cri_state(self) -> Path:
        return self.state / "io.containerd.grpc.v1.cri"

    def task(self, container_id: str) -> Path:
        """A container's bundle: its specification, pid and mount point."""
        return self.state / "io.containerd.runtime.v2.task" / "k8s.io" / container_id

    def layer(self, container_id: str) -> Path:
        """A container's writable layer."""
        return self.root / "io.containerd.snapshotter.v1.overlayfs" / "snapshots" / container_id


def launcher_command() -> list[str]:
    """How init starts the launcher: by its console script, which init may start warm."""
    script = shutil.which("kubette-runc") or str(Path(sys.executable).with_name("kubette-runc"))
    return [script] if Path(script).exists() else [sys.executable, "-m", "kubette.runtime.launcher"]


def interpreter_paths() -> list[str]:
    """What a container needs, at the same paths, to run our programs: interpreter, virtual environment, this package."""
    package = str(Path(kubette.__file__).resolve().parent.parent)
    found: list[str] = []
    for path in sorted({sys.base_prefix, sys.prefix, package}, key=len):
        if not path.startswith("/usr/") and path != "/usr" and not any(path.startswith(f"{p}/") for p in found):
            found.append(path)
    return found
