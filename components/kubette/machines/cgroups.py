"""The control group of a machine (cgroup v2), where the host lets us make one: it freezes, counts and ends a machine as a whole.

Everything works without it too; then processes are found by their namespaces.
"""

import contextlib
import os
from pathlib import Path

from kubette.machines import namespaces


def hierarchy() -> Path | None:
    """Where cgroup v2 is mounted (on a hybrid host: /sys/fs/cgroup/unified)."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            return Path(left.split()[4])
    return None


def _own(base: Path) -> Path:
    """The group this process is in."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return base / line[3:].strip().lstrip("/")
    return base


def make(cluster: str) -> Path | None:
    """A group for a cluster's machines, below the caller's own; None where that is forbidden."""
    base = hierarchy()
    if base is None:
        return None
    group = _own(base) / f"kubette-{cluster}-{os.getpid()}"
    try:
        group.mkdir()
        probe = group / "probe"
        probe.mkdir()
        if not os.access(probe / "cgroup.procs", os.W_OK):
            raise PermissionError
        probe.rmdir()
    except OSError:
        with contextlib.suppress(OSError):
            (group / "probe").rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()
        return None
    return group


def join(group: Path) -> bool:
    """Move the calling process into `group`, making it."""
    try:
        group.mkdir(exist_ok=True)
        (group / "cgroup.procs").write_text("0")
    except OSError:
        return False
    return True


def freeze(group: Path, frozen: bool) -> bool:
    """Stop (or continue) everything in the group at once."""
    try:
        (group / "cgroup.freeze").write_text("1" if frozen else "0")
    except OSError:
        return False
    return True


def remove(group: Path) -> None:
    """Remove a group that has no process any more, with the groups inside it."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def mount_own(target: Path) -> None:
    """Show the machine its own groups (it is in a cgroup namespace of its own), writable where they are ours."""
    with contextlib.suppress(OSError):
        namespaces.mount("cgroup2", target, "cgroup2", namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC)


def remove_leftovers(cluster: str) -> None:
    """Remove the groups that killed supervisors of clusters of this name could not remove themselves; those of the living stay."""
    base = hierarchy()
    if base is None:
        return
    prefix = f"kubette-{cluster}-"
    for group in _own(base).glob(f"{prefix}[0-9]*"):
        pid = group.name.removeprefix(prefix)
        if pid.isdigit() and not _is_alive(int(pid)):
            remove(group)


def _is_alive(pid: int) -> bool:
    """A zombie is not: it only waits for its parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
