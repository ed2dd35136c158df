"""Limits of containers by the kernel's control groups, where they are ours to write: version 1 hierarchies of a machine that runs as root.

Without root there is no group to write, and with version 2 the groups are init's: then `create` answers no directories and nothing is enforced, which
`enforced` says openly (`crictl info`). Accounting does not depend on it (`stats`).
"""

import os
from pathlib import Path

from kubette.component_base import logs
from kubette.cri import api_pb2

log = logs.logger(__name__)

MOUNT_POINT = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "cpu", "pids")
PARENT = "kubepods"
# A group this old without a process was left by a machine that lost its power: no container takes so long to start.
LEFTOVER_S = 60.0


def _limits(resources: api_pb2.LinuxContainerResources) -> dict[str, dict[str, int]]:
    """Controller -> file -> value; what is not limited is not written."""
    memory, swap, cpu = resources.memory_limit_in_bytes, resources.memory_swap_limit_in_bytes, {}
    if resources.cpu_shares:
        cpu["cpu.shares"] = max(2, resources.cpu_shares)
    if resources.cpu_quota:
        cpu.update({"cpu.cfs_period_us": resources.cpu_period or 100_000, "cpu.cfs_quota_us": resources.cpu_quota})
    wanted = {"memory": {"memory.limit_in_bytes": memory} if memory else {}, "cpu": cpu}
    if swap:
        wanted["memory"]["memory.memsw.limit_in_bytes"] = swap
    return wanted


class Cgroups:
    """The groups of a machine's containers."""

    def __init__(self, mount_point: Path = MOUNT_POINT) -> None:
        self._roots = {name: mount_point / name / PARENT for name in CONTROLLERS if self._usable(mount_point / name)}

    @staticmethod
    def _usable(controller: Path) -> bool:
        """Tried for real: permissions do not tell."""
        if not (controller / "cgroup.procs").exists():
            return False
        try:
            (controller / PARENT).mkdir(exist_ok=True)
        except OSError:
            return False
        return os.access(controller / PARENT / "cgroup.procs", os.W_OK)

    @property
    def enforced(self) -> list[str]:
        return sorted(self._roots)

    def sweep(self, now: float) -> None:
        """Take away what machines that lost their power have left; the parent is shared by all machines of the host."""
        for root in self._roots.values():
            for group in root.iterdir():
                try:
                    if group.is_dir() and now - group.stat().st_mtime > LEFTOVER_S:
                        group.rmdir()
                except OSError:
                    continue  # in use

    def create(self, container_id: str, resources: api_pb2.LinuxContainerResources) -> list[str]:
        """Make a container's groups with their limits; answers their directories, for the launcher to join."""
        for root in self._roots.values():
            try:
                (root / container_id).mkdir(exist_ok=True)
            except OSError as error:
                log.warning("Could not make control group", path=str(root / container_id), err=error)
                return []
        self.update(container_id, resources)
        return [str(root / container_id) for root in self._roots.values()]

    def update(self, container_id: str, resources: api_pb2.LinuxContainerResources) -> None:
        """Write the limits that are given."""
        for controller, values in _limits(resources).items():
            group = self._roots.get(controller)
            for name, value in values.items() if group is not None else ():
                assert group is not None, "values without a group"
                try:
                    (group / container_id / name).write_text(str(value))
                except OSError as error:
                    log.v(2, "Could not write limit", file=name, value=value, err=error)

    def oom_killed(self, container_id: str) -> bool:
        """Whether the kernel killed a process of the container for its memory limit."""
        root = self._roots.get("memory")
        if root is None:
            return False
        try:
            lines = (root / container_id / "memory.oom_control").read_text().splitlines()
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)

    def remove(self, container_id: str) -> None:
        """Take the groups away; not there, or in use still by a process that is dying, is no error."""
        for root in self._roots.values():
            try:
                (root / container_id).rmdir()
            except OSError:
                continue
