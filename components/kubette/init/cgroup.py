"""A unit's control group: the one mark of its processes that they cannot shed.

Used where the machine's /sys/fs/cgroup is cgroup v2 and ours to write; elsewhere `processes` finds a unit's processes by their other marks. Only grouping
is used, no controller, so the rule against processes in inner groups does not apply.
"""

import os
from dataclasses import dataclass
from pathlib import Path

MOUNT_POINT = "/sys/fs/cgroup"


def find_root(mount_point: str = MOUNT_POINT) -> Path | None:
    """The directory below which init may make groups, or None. Tried for real: permissions do not tell."""
    try:
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split() for line in file]
        # The last mount on a place is the one that is seen.
        here = [fields for fields in mounts if fields[4] == mount_point]
        if not here or here[-1][here[-1].index("-") + 1] != "cgroup2":
            return None
        probe = Path(mount_point, "system.slice")
        probe.mkdir(exist_ok=True)
        return Path(mount_point) if os.access(probe / "cgroup.procs", os.W_OK) else None
    except (OSError, ValueError):
        return None


def slice_path(slice_name: str) -> str:
    """`a-b.slice` is inside `a.slice` (systemd.slice(5))."""
    parts = slice_name.removesuffix(".slice").split("-")
    return "/".join("-".join(parts[: n + 1]) + ".slice" for n in range(len(parts)))


@dataclass(frozen=True, slots=True)
class Group:
    """The group of one unit."""

    path: Path

    @property
    def procs_file(self) -> str:
        return str(self.path / "cgroup.procs")

    def create(self) -> bool:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError:
            return False
        return True

    def pids(self) -> list[int]:
        """The processes in the group and below it."""
        found: list[int] = []
        for folder, _, _ in os.walk(self.path):
            try:
                with open(os.path.join(folder, "cgroup.procs")) as file:
                    found.extend(int(line) for line in file)
            except OSError:
                continue
        return found

    def remove(self) -> None:
        for folder, _, _ in os.walk(self.path, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                return  # somebody is still in it
