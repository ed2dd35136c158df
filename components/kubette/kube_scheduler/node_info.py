"""Pure: what a pod asks for and what a node has left (upstream: pkg/scheduler/framework/types.go, component-helpers resource).

Amounts are exact integers in thousandths of the unit (so that `100m` of CPU is 100), which every resource can be given in.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import quantity
from kubette.apimachinery.meta import key as key_of

Object = dict[str, Any]
Amounts = dict[str, int]

# What a container that asks for nothing is counted as when nodes are ranked (never when they are filtered).
DEFAULT_CPU_MILLI = 100
DEFAULT_MEMORY_MILLI = 200 * 1024 * 1024 * 1000


def amounts(resources: dict[str, Any] | None) -> Amounts:
    return {name: quantity.parse(value).milli_value for name, value in (resources or {}).items()}


def add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def raise_to(total: Amounts, least: Amounts) -> None:
    for name, amount in least.items():
        total[name] = max(total.get(name, 0), amount)


def requests(pod: Object) -> Amounts:
    """The pod's effective requests: its containers and sidecars together, or the hungriest moment of its init containers."""
    spec = pod["spec"]
    total: Amounts = {}
    for container in spec.get("containers") or ():
        add(total, amounts((container.get("resources") or {}).get("requests")))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        wanted = amounts((container.get("resources") or {}).get("requests"))
        if container.get("restartPolicy") == "Always":
            add(sidecars, wanted)
            moment = dict(sidecars)
        else:
            moment = dict(sidecars)
            add(moment, wanted)
        raise_to(peak, moment)
    add(total, sidecars)
    raise_to(total, peak)
    total |= amounts((spec.get("resources") or {}).get("requests"))
    add(total, amounts(spec.get("overhead")))
    return total


def ranked_requests(pod: Object) -> Amounts:
    """Like `requests`, with a default for each container that asks for no CPU or memory."""
    total = requests(pod)
    for container in pod["spec"].get("containers") or ():
        asked = (container.get("resources") or {}).get("requests") or {}
        if "cpu" not in asked:
            total["cpu"] = total.get("cpu", 0) + DEFAULT_CPU_MILLI
        if "memory" not in asked:
            total["memory"] = total.get("memory", 0) + DEFAULT_MEMORY_MILLI
    return total


def host_ports(pod: Object) -> Iterator[tuple[str, str, int]]:
    """(host IP, protocol, port) of every port the pod takes on its node."""
    spec = pod["spec"]
    for container in [*(spec.get("containers") or ()), *(c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always")]:
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                yield port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"]


def is_terminal(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


@dataclass(slots=True)
class NodeInfo:
    """One node and the pods that are on it or assumed to be."""

    node: Object
    pods: dict[str, Object] = field(default_factory=dict)
    requested: Amounts = field(default_factory=dict)
    ranked: Amounts = field(default_factory=dict)
    ports: dict[tuple[str, str, int], int] = field(default_factory=dict)
    allocatable: Amounts = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.set_node(self.node)

    @property
    def name(self) -> str:
        return str(self.node["metadata"]["name"])

    @property
    def labels(self) -> dict[str, str]:
        return self.node["metadata"].get("labels") or {}

    @property
    def taints(self) -> list[Object]:
        return (self.node.get("spec") or {}).get("taints") or []

    def set_node(self, node: Object) -> None:
        self.node = node
        status = node.get("status") or {}
        self.allocatable = amounts(status.get("allocatable") or status.get("capacity"))

    def add_pod(self, pod: Object) -> None:
        key = key_of(pod)
        if key in self.pods:
            self.remove_pod(self.pods[key])
        self.pods[key] = pod
        self._count(pod, 1)

    def remove_pod(self, pod: Object) -> None:
        known = self.pods.pop(key_of(pod), None)
        if known is not None:
            self._count(known, -1)

    def _count(self, pod: Object, sign: int) -> None:
        for total, counted in ((self.requested, requests(pod)), (self.ranked, ranked_requests(pod))):
            for name, amount in counted.items():
                total[name] = total.get(name, 0) + sign * amount
        for port in host_ports(pod):
            self.ports[port] = self.ports.get(port, 0) + sign
            if not self.ports[port]:
                del self.ports[port]

    def without(self, pods: list[Object]) -> "NodeInfo":
        """A copy of this node in which some pods are gone."""
        copy = NodeInfo(self.node, dict(self.pods), dict(self.requested), dict(self.ranked), dict(self.ports))
        for pod in pods:
            copy.remove_pod(pod)
        return copy
