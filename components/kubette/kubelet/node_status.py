"""Pure: the Node object this kubelet registers and the status it reports (nodestatus setters).

`conditions` keep their transition time while their status is the same; heartbeats alone are no change worth a write.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import quantity, timestamps
from kubette.kubelet import eviction

Object = dict[str, Any]

IMAGES_MAX = 50  # nodeStatusMaxImages
IMAGE_NAMES_MAX = 5


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine is: read once, at start."""

    cpus: int
    memory_bytes: int
    disk_bytes: int
    inodes: int
    machine_id: str
    system_uuid: str
    boot_id: str
    kernel_version: str
    os_image: str
    architecture: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the status is made of."""

    node_name: str
    hostname: str
    machine: Machine
    release: tuple[int, int]
    git_version: str
    runtime_version: str = ""
    addresses: tuple[str, ...] = ()
    port: int = 10250
    max_pods: int = 110
    reserved: Mapping[str, str] = field(default_factory=dict)
    eviction_hard: Mapping[str, str] = field(default_factory=dict)
    pressure: frozenset[str] = frozenset()
    not_ready: tuple[str, ...] = ()  # why, in upstream's texts
    images: tuple[Object, ...] = ()


def capacity(machine: Machine, max_pods: int) -> dict[str, str]:
    return {
        "cpu": str(machine.cpus),
        "ephemeral-storage": f"{machine.disk_bytes // 1024}Ki",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        "memory": f"{machine.memory_bytes // 1024}Ki",
        "pods": str(max_pods),
    }


def allocatable(machine: Machine, max_pods: int, reserved: Iterable[Mapping[str, str]], eviction_hard: Mapping[str, str]) -> dict[str, str]:
    """Capacity less what is reserved for the system and the room that eviction keeps free."""
    total = capacity(machine, max_pods)
    cpu = quantity.parse(total["cpu"]).milli_value
    memory, disk = machine.memory_bytes, machine.disk_bytes
    for share in reserved:
        cpu -= quantity.parse(share.get("cpu", "0")).milli_value
        memory -= quantity.parse(share.get("memory", "0")).value
        disk -= quantity.parse(share.get("ephemeral-storage", "0")).value
    if "memory.available" in eviction_hard:
        memory -= eviction.threshold_value(eviction_hard["memory.available"], machine.memory_bytes)
    if "nodefs.available" in eviction_hard:
        disk -= eviction.threshold_value(eviction_hard["nodefs.available"], machine.disk_bytes)
    return {
        **total,
        "cpu": str(quantity.of_milli(max(cpu, 0))),
        "memory": f"{max(memory, 0) // 1024}Ki",
        "ephemeral-storage": str(max(disk, 0)),
    }


def default_labels(hostname: str, architecture: str) -> dict[str, str]:
    return {
        "beta.kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "kubernetes.io/hostname": hostname,
        "kubernetes.io/os": "linux",
    }


def initial_node(facts: Facts, labels: Mapping[str, str], taints: list[Object], old: Object | None, now: float) -> Object:
    """What is registered."""
    spec: Object = {"taints": taints} if taints else {}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": facts.node_name,
            "labels": {**default_labels(facts.hostname, facts.machine.architecture), **labels},
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": spec,
        "status": compute_status(facts, (old or {}).get("status") or {}, now),
    }


def compute_status(facts: Facts, old: Object, now: float) -> Object:
    """The whole status; `old` is what the API server shows."""
    machine = facts.machine
    info = {
        "machineID": machine.machine_id,
        "systemUUID": machine.system_uuid,
        "bootID": machine.boot_id,
        "kernelVersion": machine.kernel_version,
        "osImage": machine.os_image,
        "containerRuntimeVersion": facts.runtime_version,
        "kubeletVersion": facts.git_version,
        "kubeProxyVersion": facts.git_version if facts.release < (1, 33) else "",
        "operatingSystem": "linux",
        "architecture": machine.architecture,
    }
    addresses = [{"type": "InternalIP", "address": ip} for ip in facts.addresses]
    return {
        "addresses": [*addresses, {"type": "Hostname", "address": facts.hostname}],
        "capacity": capacity(machine, facts.max_pods),
        "allocatable": allocatable(machine, facts.max_pods, [facts.reserved], facts.eviction_hard),
        "conditions": conditions(facts, old.get("conditions") or [], now),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": facts.port}},
        "nodeInfo": info,
        "images": list(facts.images),
    }


def image_list(images: Iterable[tuple[list[str], int]]) -> tuple[Object, ...]:
    """(names, size) -> the status' images, largest first."""
    entries = [{"names": names[:IMAGE_NAMES_MAX], "sizeBytes": size} for names, size in images if names]
    entries.sort(key=lambda e: (-int(str(e["sizeBytes"])), e["names"]))
    return tuple(entries[:IMAGES_MAX])


_TEXTS = {
    "MemoryPressure": (
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ),
    "DiskPressure": (("KubeletHasDiskPressure", "kubelet has disk pressure"), ("KubeletHasNoDiskPressure", "kubelet has no disk pressure")),
    "PIDPressure": (
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ),
}
# Condition and its status -> the reason of the event about it.
EVENT_REASONS = {
    ("MemoryPressure", "True"): "NodeHasInsufficientMemory",
    ("MemoryPressure", "False"): "NodeHasSufficientMemory",
    ("DiskPressure", "True"): "NodeHasDiskPressure",
    ("DiskPressure", "False"): "NodeHasNoDiskPressure",
    ("PIDPressure", "True"): "NodeHasInsufficientPID",
    ("PIDPressure", "False"): "NodeHasSufficientPID",
    ("Ready", "True"): "NodeReady",
    ("Ready", "False"): "NodeNotReady",
}


def conditions(facts: Facts, old: list[Object], now: float) -> list[Object]:
    """The four conditions of the kubelet; those of others (NetworkUnavailable) are kept."""
    before = {c["type"]: c for c in old}
    answer = []
    for kind, (bad, good) in _TEXTS.items():
        under = kind in facts.pressure
        reason, message = bad if under else good
        answer.append(_condition(kind, "True" if under else "False", reason, message, before, now))
    if facts.not_ready:
        text = facts.not_ready[0] if len(facts.not_ready) == 1 else f"[{', '.join(facts.not_ready)}]"
        answer.append(_condition("Ready", "False", "KubeletNotReady", text, before, now))
    else:
        answer.append(_condition("Ready", "True", "KubeletReady", "kubelet is posting ready status", before, now))
    own = {c["type"] for c in answer}
    return [c for c in old if c["type"] not in own] + answer


def _condition(kind: str, status: str, reason: str, message: str, before: Mapping[str, Object], now: float) -> Object:
    known = before.get(kind)
    stamp = timestamps.format_time(now)
    same = known is not None and known.get("status") == status
    return {
        "type": kind,
        "status": status,
        "lastHeartbeatTime": stamp,
        "lastTransitionTime": known["lastTransitionTime"] if same and known is not None else stamp,
        "reason": reason,
        "message": message,
    }


def without_heartbeats(status: Object) -> Object:
    """For comparing: heartbeats always differ."""
    kept = [{k: v for k, v in c.items() if k != "lastHeartbeatTime"} for c in status.get("conditions") or []]
    return {**status, "conditions": kept}


def status_patch(old: Object, new: Object) -> Object:
    """The strategic merge patch of `status`: own fields whole, conditions by type."""
    patch: Object = {"conditions": new["conditions"]}
    for name in ("capacity", "allocatable", "daemonEndpoints", "nodeInfo", "images"):
        if old.get(name) != new[name]:
            patch[name] = new[name]
    if old.get("addresses") != new["addresses"]:
        patch["addresses"] = [{"$patch": "replace"}, *new["addresses"]]
    return patch


def network_error(condition: tuple[bool, str, str] | None) -> str:
    """upstream's text of a network that is not ready; empty when it is."""
    if condition is None:
        return "container runtime status check may not have completed yet"
    ready, reason, message = condition
    return "" if ready else f"container runtime network not ready: NetworkReady=false reason:{reason} message:{message}"


def runtime_error(condition: tuple[bool, str, str] | None) -> str:
    if condition is None:
        return "container runtime status check may not have completed yet"
    ready, reason, message = condition
    return "" if ready else f"container runtime not ready: RuntimeReady=false reason:{reason} message:{message}"
