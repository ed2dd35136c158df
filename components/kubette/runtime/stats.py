"""Usage of containers and pods, from /proc: CPU by processes' own clocks, memory by their proportional share, network by the pod's interface.

Control groups are not asked: without root there are none to ask, and the figures must mean the same on every machine. Processes belong to a container by its
PID namespace, or, where it shares one, by descent. What a process shares with others (a warm-started program shares most of it) counts proportionally.
"""

import os
from pathlib import Path
from typing import Any

from kubette.cri import api_pb2
from kubette.runtime import netlink, records
from kubette.stdx import clock

_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
# One walk over /proc serves all containers of a list call.
SCAN_S = 1.0

_CPU = "container_cpu_usage_seconds_total"
_MEMORY = "container_memory_working_set_bytes"
DESCRIPTORS = [
    api_pb2.MetricDescriptor(name=_CPU, help="Cumulative cpu time consumed in seconds.", label_keys=["id", "name"]),
    api_pb2.MetricDescriptor(name=_MEMORY, help="Current working set in bytes.", label_keys=["id", "name"]),
]


class _Process:
    """One line of a walk over /proc."""

    __slots__ = ("cpu_ns", "namespace", "parent", "pid")

    def __init__(self, pid: int) -> None:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.pid = pid
        self.parent = int(fields[1])
        self.cpu_ns = sum(int(fields[i]) for i in (11, 12, 13, 14)) * _TICK_NS
        self.namespace = os.stat(f"/proc/{pid}/ns/pid").st_ino


def _memory(pid: int) -> tuple[int, int]:
    """Proportional and anonymous bytes of a process."""
    pss = anonymous = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup") as table:
            for line in table:
                if line.startswith("Pss:"):
                    pss = int(line.split()[1]) * 1024
                elif line.startswith("Pss_Anon:"):
                    anonymous = int(line.split()[1]) * 1024
    except OSError:
        pass  # it has ended, or is a zombie
    return pss, anonymous


def _value(number: int) -> api_pb2.UInt64Value:
    return api_pb2.UInt64Value(value=number)


class Collector:
    """Keeps the last sample of each container, for rates and so that counters never go back."""

    def __init__(self, now: clock.Clock) -> None:
        self._clock = now
        self._scan_at = -SCAN_S
        self._processes: list[_Process] = []
        self._last: dict[str, tuple[int, int]] = {}

    def _scan(self) -> list[_Process]:
        if self._clock.monotonic() - self._scan_at >= SCAN_S:
            self._scan_at = self._clock.monotonic()
            self._processes = []
            for name in os.listdir("/proc"):
                if name.isdigit():
                    try:
                        self._processes.append(_Process(int(name)))
                    except (OSError, IndexError, ValueError):
                        continue  # it ended while it was looked at
        return self._processes

    def _members(self, pid: int) -> list[_Process]:
        processes = self._scan()
        first = next((p for p in processes if p.pid == pid), None)
        if first is None:
            return []
        if first.namespace != os.stat("/proc/self/ns/pid").st_ino and _is_namespace_init(pid):
            return [p for p in processes if p.namespace == first.namespace]
        members = {pid}
        for _ in processes:  # descent is at most as deep as there are processes
            grown = members | {p.pid for p in processes if p.parent in members}
            if grown == members:
                break
            members = grown
        return [p for p in processes if p.pid in members]

    def _usage(self, key: str, pid: int) -> tuple[api_pb2.CpuUsage, api_pb2.MemoryUsage, int]:
        members = self._members(pid) if pid else []
        now_ns = int(self._clock.wall() * 1e9)
        last_at, last_cpu = self._last.get(key, (0, 0))
        cpu_ns = max(sum(p.cpu_ns for p in members), last_cpu)
        rate = (cpu_ns - last_cpu) * 10**9 // (now_ns - last_at) if last_at and now_ns > last_at else 0
        self._last[key] = (now_ns, cpu_ns)
        shares = [_memory(p.pid) for p in members]
        used, anonymous = sum(s[0] for s in shares), sum(s[1] for s in shares)
        cpu = api_pb2.CpuUsage(timestamp=now_ns, usage_core_nano_seconds=_value(cpu_ns), usage_nano_cores=_value(rate))
        memory = api_pb2.MemoryUsage(timestamp=now_ns, working_set_bytes=_value(used), usage_bytes=_value(used), rss_bytes=_value(anonymous))
        return cpu, memory, len(members)

    def container(self, container: records.Container, layer: Path) -> api_pb2.ContainerStats:
        """ContainerStats; zero for one that does not run."""
        cpu, memory, _ = self._usage(container.id, container.status.pid)
        used, inodes = _layer_usage(layer)
        return api_pb2.ContainerStats(
            attributes=api_pb2.ContainerAttributes(
                id=container.id, metadata=container.config.metadata, labels=container.labels, annotations=dict(container.config.annotations)
            ),
            cpu=cpu,
            memory=memory,
            writable_layer=api_pb2.FilesystemUsage(
                timestamp=cpu.timestamp,
                fs_id=api_pb2.FilesystemIdentifier(mountpoint=str(layer.parent)),
                used_bytes=_value(used),
                inodes_used=_value(inodes),
            ),
        )

    def sandbox(self, sandbox: records.Sandbox, containers: list[tuple[records.Container, Path]]) -> api_pb2.PodSandboxStats:
        """PodSandboxStats: the pause process and the pod's containers."""
        cpu, memory, count = self._usage(sandbox.id, sandbox.status.pid)
        parts = [self.container(container, layer) for container, layer in containers]
        cpu.usage_core_nano_seconds.value += sum(p.cpu.usage_core_nano_seconds.value for p in parts)
        cpu.usage_nano_cores.value += sum(p.cpu.usage_nano_cores.value for p in parts)
        for name in ("working_set_bytes", "usage_bytes", "rss_bytes"):
            getattr(memory, name).value += sum(getattr(p.memory, name).value for p in parts)
        count += sum(len(self._members(c.status.pid)) for c, _ in containers)
        linux = api_pb2.LinuxPodSandboxStats(
            cpu=cpu, memory=memory, process=api_pb2.ProcessUsage(timestamp=cpu.timestamp, process_count=_value(count)), containers=parts
        )
        interface = _interface(sandbox)
        if interface is not None:
            linux.network.CopyFrom(api_pb2.NetworkUsage(timestamp=cpu.timestamp, default_interface=interface, interfaces=[interface]))
        return api_pb2.PodSandboxStats(
            attributes=api_pb2.PodSandboxAttributes(
                id=sandbox.id, metadata=sandbox.config.metadata, labels=sandbox.labels, annotations=dict(sandbox.config.annotations)
            ),
            linux=linux,
        )


def _is_namespace_init(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("NSpid:"):
                return line.split()[-1] == "1"
    return False


def _layer_usage(layer: Path) -> tuple[int, int]:
    used = inodes = 0
    for directory, directories, names in os.walk(layer):
        for name in (*names, *directories):
            try:
                used += os.lstat(os.path.join(directory, name)).st_blocks * 512
                inodes += 1
            except OSError:
                continue
    return used, inodes


def _interface(sandbox: records.Sandbox) -> api_pb2.NetworkInterfaceUsage | None:
    if not sandbox.status.network_namespace:
        return None
    try:
        with netlink.Netlink() as link:
            seen = link.statistics(f"veth{sandbox.id[:8]}")
    except OSError:
        return None
    # The counters are those of the machine's end: what it sends, the pod receives.
    return api_pb2.NetworkInterfaceUsage(
        name="eth0",
        rx_bytes=_value(seen["tx_bytes"]),
        rx_errors=_value(seen["tx_errors"]),
        tx_bytes=_value(seen["rx_bytes"]),
        tx_errors=_value(seen["rx_errors"]),
    )


def metrics(pod: api_pb2.PodSandboxStats) -> api_pb2.PodSandboxMetrics:
    """The pod's containers as the metrics of `DESCRIPTORS`."""

    def metric(name: str, kind: Any, container: api_pb2.ContainerStats, value: int, at: int) -> api_pb2.Metric:
        labels = [container.attributes.id, container.attributes.metadata.name]
        return api_pb2.Metric(name=name, timestamp=at, metric_type=kind, label_values=labels, value=_value(value))

    return api_pb2.PodSandboxMetrics(
        pod_sandbox_id=pod.attributes.id,
        container_metrics=[
            api_pb2.ContainerMetrics(
                container_id=c.attributes.id,
                metrics=[
                    metric(_CPU, api_pb2.COUNTER, c, c.cpu.usage_core_nano_seconds.value // 10**9, c.cpu.timestamp),
                    metric(_MEMORY, api_pb2.GAUGE, c, c.memory.working_set_bytes.value, c.memory.timestamp),
                ],
            )
            for c in pod.linux.containers
        ],
    )
