"""Pure: whether a pod that was bound to this node may run here (lifecycle's predicate admission handler).

The scheduler decided on what it knew; the node has the last word, because two schedulers, a stale cache or a changed label may be wrong.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubette.api import node_selectors
from kubette.apimachinery import quantity
from kubette.kubelet import pod_spec, quality_of_service
from kubette.kubelet.pod_spec import Pod


@dataclass(frozen=True, slots=True)
class Rejection:
    """Reason and message of the failed pod."""

    reason: str
    message: str


def admit(pod: Pod, others: Iterable[Pod], node: Mapping[str, Any], allocatable: Mapping[str, str]) -> Rejection | None:
    """None if it may run. `others` are the pods that are admitted and not finished; `allocatable` is asked of a live node, not of the API."""
    active = [p for p in others if pod_spec.uid(p) != pod_spec.uid(pod)]
    if pod_spec.is_static(pod):
        return None
    if rejection := _resources(pod, active, allocatable):
        return rejection
    labels = (node.get("metadata") or {}).get("labels") or {}
    if not node_affinity_matches(pod, labels, str((node.get("metadata") or {}).get("name", ""))):
        return Rejection("NodeAffinity", "Predicate NodeAffinity failed")
    if _ports_collide(pod, active):
        return Rejection("NodePorts", "Predicate NodePorts failed")
    for taint in (node.get("spec") or {}).get("taints") or []:
        if taint.get("effect") == "NoExecute" and not any(_tolerates(t, taint) for t in pod["spec"].get("tolerations") or []):
            return Rejection("TaintToleration", "Predicate TaintToleration failed")
    return None


def _resources(pod: Pod, active: list[Pod], allocatable: Mapping[str, str]) -> Rejection | None:
    room = int(allocatable.get("pods", "110"))
    if len(active) + 1 > room:
        return Rejection("OutOfpods", f"Node didn't have enough resource: pods, requested: 1, used: {len(active)}, capacity: {room}")
    used: dict[str, quantity.Quantity] = {}
    for other in active:
        for name, amount in quality_of_service.pod_requests(other).items():
            used[name] = used[name] + amount if name in used else amount
    for name, wanted in sorted(quality_of_service.pod_requests(pod).items()):
        if not wanted:
            continue
        has, taken = quantity.parse(allocatable.get(name, "0")), used.get(name, quantity.zero())
        if has < taken + wanted:
            numbers = [q.milli_value if name == "cpu" else q.value for q in (wanted, taken, has)]
            return Rejection(
                f"OutOf{name}",
                f"Node didn't have enough resource: {name}, requested: {numbers[0]}, used: {numbers[1]}, capacity: {numbers[2]}",
            )
    return None


def node_affinity_matches(pod: Pod, labels: Mapping[str, str], node_name: str) -> bool:
    """nodeSelector and the required node affinity."""
    return node_selectors.required_matches(pod, labels, node_name)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def _host_ports(pod: Pod) -> set[tuple[str, str, int]]:
    ports = set()
    sidecars = [c for c in pod_spec.init_containers(pod) if pod_spec.is_sidecar(c)]
    for container in [*pod_spec.containers(pod), *sidecars]:
        for port in container.get("ports") or []:
            if port.get("hostPort"):
                ports.add((port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", int(port["hostPort"])))
    return ports


def _ports_collide(pod: Pod, others: list[Pod]) -> bool:
    wanted = _host_ports(pod)
    if not wanted:
        return False
    taken = {entry for other in others for entry in _host_ports(other)}
    for ip, protocol, port in wanted:
        for other_ip, other_protocol, other_port in taken:
            if (protocol, port) == (other_protocol, other_port) and (ip == other_ip or "0.0.0.0" in (ip, other_ip)):
                return True
    return False
