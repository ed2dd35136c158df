"""What containers and the node use, as `/stats/summary`, `/metrics/resource` and `/metrics/cadvisor` show it (server/stats, cri_stats_provider)."""

import os
from typing import Any

from kubette.apimachinery import timestamps
from kubette.cri import api_pb2
from kubette.kubelet.cri_client import CriClient
from kubette.kubelet.node_status import Machine
from kubette.stdx.clock import Clock

Object = dict[str, Any]


def _node_cpu() -> tuple[float, float]:
    """(seconds used by all CPUs, boot time)."""
    used, boot = 0.0, 0.0
    ticks = os.sysconf("SC_CLK_TCK")
    with open("/proc/stat") as file:
        for line in file:
            words = line.split()
            if words[0] == "cpu":
                numbers = [int(w) for w in words[1:]]
                used = (sum(numbers) - numbers[3] - numbers[4]) / ticks
            elif words[0] == "btime":
                boot = float(words[1])
    return used, boot


def _memory() -> dict[str, int]:
    fields = {}
    with open("/proc/meminfo") as file:
        for line in file:
            name, _, rest = line.partition(":")
            fields[name] = int(rest.split()[0]) * 1024
    total, available = fields.get("MemTotal", 0), fields.get("MemAvailable", 0)
    return {"total": total, "available": available, "workingSet": total - available, "usage": total - fields.get("MemFree", 0)}


class Statistics:
    """Reads on demand; the rate of CPU use is between two readings."""

    def __init__(self, cri: CriClient, machine: Machine, node_name: str, root_dir: str, clock: Clock) -> None:
        self._clock = clock
        self._cri, self._machine, self._node_name, self._root_dir = cri, machine, node_name, root_dir
        self._last: dict[str, tuple[float, float]] = {}

    def _rate(self, key: str, at: float, used_s: float) -> int:
        """Nanocores since the last reading of the same key."""
        before = self._last.get(key)
        self._last[key] = (at, used_s)
        if before is None or at <= before[0]:
            return 0
        return max(0, int((used_s - before[1]) / (at - before[0]) * 1e9))

    def _cpu(self, key: str, stats: api_pb2.CpuUsage) -> Object:
        nanoseconds = stats.usage_core_nano_seconds.value
        rate = stats.usage_nano_cores.value or self._rate(key, stats.timestamp / 1e9, nanoseconds / 1e9)
        return {"time": timestamps.format_time(stats.timestamp / 1e9), "usageNanoCores": rate, "usageCoreNanoSeconds": nanoseconds}

    async def summary(self) -> Object:
        """The body of /stats/summary."""
        containers, sandboxes = await self._cri.container_stats(), await self._cri.sandbox_stats()
        if len(self._last) > 8192:
            self._last.clear()
        states = {c.id: c for c in await self._cri.list_containers()}
        pods: dict[str, Object] = {}
        for stats in containers:
            labels = stats.attributes.labels
            uid = labels.get("io.kubernetes.pod.uid", "")
            if not uid:
                continue
            pod = pods.setdefault(uid, _new_pod(labels))
            known = states.get(stats.attributes.id)
            entry = {
                "name": labels.get("io.kubernetes.container.name", ""),
                "startTime": timestamps.format_time(known.created_at / 1e9) if known else None,
                "cpu": self._cpu(stats.attributes.id, stats.cpu),
                "memory": _memory_entry(stats.memory),
                "rootfs": {"time": timestamps.format_time(stats.writable_layer.timestamp / 1e9), "usedBytes": stats.writable_layer.used_bytes.value},
            }
            pod["containers"].append(entry)
            pod["startTime"] = min(filter(None, [pod["startTime"], entry["startTime"]]), default=None)
        for pod in pods.values():
            _sum(pod)
        for sandbox in sandboxes:
            found = pods.get(sandbox.attributes.metadata.uid)
            network = sandbox.linux.network
            if found is not None and network.default_interface.name:
                interface = network.default_interface
                found["network"] = {
                    "time": timestamps.format_time(network.timestamp / 1e9),
                    "name": interface.name,
                    "rxBytes": interface.rx_bytes.value,
                    "rxErrors": interface.rx_errors.value,
                    "txBytes": interface.tx_bytes.value,
                    "txErrors": interface.tx_errors.value,
                    "interfaces": [],
                }
        return {"node": self._node(), "pods": sorted(pods.values(), key=lambda p: (p["podRef"]["namespace"], p["podRef"]["name"]))}

    def _node(self) -> Object:
        now = self._clock.wall()
        stamp = timestamps.format_time(now)
        used_s, boot = _node_cpu()
        memory, disk = _memory(), os.statvfs(self._root_dir)
        fs = {
            "time": stamp,
            "availableBytes": disk.f_bavail * disk.f_frsize,
            "capacityBytes": disk.f_blocks * disk.f_frsize,
            "usedBytes": (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
            "inodesFree": disk.f_ffree,
            "inodes": disk.f_files,
            "inodesUsed": disk.f_files - disk.f_ffree,
        }
        return {
            "nodeName": self._node_name,
            "startTime": timestamps.format_time(boot),
            "cpu": {"time": stamp, "usageNanoCores": self._rate("node", now, used_s), "usageCoreNanoSeconds": int(used_s * 1e9)},
            "memory": {"time": stamp, "availableBytes": memory["available"], "usageBytes": memory["usage"], "workingSetBytes": memory["workingSet"]},
            "fs": fs,
            "runtime": {"imageFs": fs},
        }

    async def resource_metrics(self) -> str:
        """The body of /metrics/resource."""
        lines: dict[str, list[str]] = {name: [] for name in _RESOURCE_METRICS}
        summary = await self.summary()
        for pod in summary["pods"]:
            where = f'namespace="{pod["podRef"]["namespace"]}",pod="{pod["podRef"]["name"]}"'
            for container in pod["containers"]:
                labels = f'{{container="{container["name"]}",{where}}}'
                lines["container_cpu_usage_seconds_total"].append(f"{labels} {container['cpu']['usageCoreNanoSeconds'] / 1e9:.9g}")
                lines["container_memory_working_set_bytes"].append(f"{labels} {container['memory']['workingSetBytes']}")
                if container["startTime"]:
                    lines["container_start_time_seconds"].append(f"{labels} {timestamps.parse_time(container['startTime']):.3f}")
            lines["pod_cpu_usage_seconds_total"].append(f"{{{where}}} {pod['cpu']['usageCoreNanoSeconds'] / 1e9:.9g}")
            lines["pod_memory_working_set_bytes"].append(f"{{{where}}} {pod['memory']['workingSetBytes']}")
        node = summary["node"]
        lines["node_cpu_usage_seconds_total"].append(f" {node['cpu']['usageCoreNanoSeconds'] / 1e9:.9g}")
        lines["node_memory_working_set_bytes"].append(f" {node['memory']['workingSetBytes']}")
        lines["resource_scrape_error"].append(" 0")
        return _exposition(_RESOURCE_METRICS, lines)

    async def cadvisor_metrics(self) -> str:
        """The body of /metrics/cadvisor: what the runtime knows of each container, under cAdvisor's names."""
        lines: dict[str, list[str]] = {name: [] for name in _CADVISOR_METRICS}
        images = {c.id: c.image.image for c in await self._cri.list_containers()}
        for stats in await self._cri.container_stats():
            known, key = stats.attributes.labels, stats.attributes.id
            labels = (
                f'{{container="{known.get("io.kubernetes.container.name", "")}",id="/kubepods/{key}",image="{images.get(key, "")}",name="{key}",'
                f'namespace="{known.get("io.kubernetes.pod.namespace", "")}",pod="{known.get("io.kubernetes.pod.name", "")}"}}'
            )
            lines["container_cpu_usage_seconds_total"].append(f"{labels} {stats.cpu.usage_core_nano_seconds.value / 1e9:.9g}")
            lines["container_memory_working_set_bytes"].append(f"{labels} {stats.memory.working_set_bytes.value}")
            lines["container_memory_usage_bytes"].append(f"{labels} {stats.memory.usage_bytes.value}")
            lines["container_memory_rss"].append(f"{labels} {stats.memory.rss_bytes.value}")
            lines["container_fs_usage_bytes"].append(f"{labels} {stats.writable_layer.used_bytes.value}")
        lines["machine_cpu_cores"].append(f" {self._machine.cpus}")
        lines["machine_memory_bytes"].append(f" {self._machine.memory_bytes}")
        return _exposition(_CADVISOR_METRICS, lines)


_RESOURCE_METRICS = {
    "container_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the container in core-seconds"),
    "container_memory_working_set_bytes": ("gauge", "Current working set of the container in bytes"),
    "container_start_time_seconds": ("gauge", "Start time of the container since unix epoch in seconds"),
    "node_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the node in core-seconds"),
    "node_memory_working_set_bytes": ("gauge", "Current working set of the node in bytes"),
    "pod_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the pod in core-seconds"),
    "pod_memory_working_set_bytes": ("gauge", "Current working set of the pod in bytes"),
    "resource_scrape_error": ("gauge", "1 if there was an error while getting container metrics, 0 otherwise"),
}
_CADVISOR_METRICS = {
    "container_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed in seconds."),
    "container_fs_usage_bytes": ("gauge", "Number of bytes that are consumed by the container on this filesystem."),
    "container_memory_rss": ("gauge", "Size of RSS in bytes."),
    "container_memory_usage_bytes": ("gauge", "Current memory usage in bytes, including all memory regardless of when it was accessed"),
    "container_memory_working_set_bytes": ("gauge", "Current working set in bytes."),
    "machine_cpu_cores": ("gauge", "Number of logical CPU cores."),
    "machine_memory_bytes": ("gauge", "Amount of memory installed on the machine."),
}


def _exposition(metrics: dict[str, tuple[str, str]], lines: dict[str, list[str]]) -> str:
    text = []
    for name, (kind, meaning) in metrics.items():
        if lines[name]:
            text += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *(f"{name}{line}" for line in lines[name])]
    return "\n".join(text) + "\n"


def _new_pod(labels: Any) -> Object:
    reference = {
        "name": labels.get("io.kubernetes.pod.name", ""),
        "namespace": labels.get("io.kubernetes.pod.namespace", ""),
        "uid": labels.get("io.kubernetes.pod.uid", ""),
    }
    return {"podRef": reference, "startTime": None, "containers": []}


def _memory_entry(memory: api_pb2.MemoryUsage) -> Object:
    return {
        "time": timestamps.format_time(memory.timestamp / 1e9),
        "usageBytes": memory.usage_bytes.value,
        "workingSetBytes": memory.working_set_bytes.value,
        "rssBytes": memory.rss_bytes.value,
        "pageFaults": memory.page_faults.value,
        "majorPageFaults": memory.major_page_faults.value,
    }


def _sum(pod: Object) -> None:
    """A pod uses what its containers use."""
    containers = pod["containers"]
    for section, fields in (("cpu", ("usageNanoCores", "usageCoreNanoSeconds")), ("memory", ("usageBytes", "workingSetBytes", "rssBytes"))):
        pod[section] = {"time": containers[0][section]["time"], **{f: sum(c[section][f] for c in containers) for f in fields}}
