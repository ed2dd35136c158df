"""Pure: NodeName, NodeUnschedulable, NodePorts and NodeAffinity: what a pod says about the node itself."""

from collections.abc import Sequence
from typing import Any

from kubette.api import node_selectors
from kubette.kube_scheduler.framework import Rejection, Snapshot, scaled, unresolvable, unschedulable
from kubette.kube_scheduler.node_info import NodeInfo, Object, host_ports
from kubette.kube_scheduler.plugins.taint_toleration import tolerates

_UNSCHEDULABLE_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


class NodeName:
    name = "NodeName"

    def pre_filter(self, pod: Object, snapshot: Snapshot) -> str:
        return str(pod["spec"].get("nodeName") or "")

    def filter(self, state: str, pod: Object, node: NodeInfo) -> Rejection | None:
        return unresolvable("node(s) didn't match the requested node name") if state and state != node.name else None


class NodeUnschedulable:
    name = "NodeUnschedulable"

    def pre_filter(self, pod: Object, snapshot: Snapshot) -> bool:
        return tolerates(pod, _UNSCHEDULABLE_TAINT)

    def filter(self, state: bool, pod: Object, node: NodeInfo) -> Rejection | None:
        if not (node.node.get("spec") or {}).get("unschedulable") or state:
            return None
        return unresolvable("node(s) were unschedulable")


class NodePorts:
    name = "NodePorts"

    def pre_filter(self, pod: Object, snapshot: Snapshot) -> list[tuple[str, str, int]]:
        return list(host_ports(pod))

    def filter(self, state: list[tuple[str, str, int]], pod: Object, node: NodeInfo) -> Rejection | None:
        for address, protocol, port in state:
            for taken_address, taken_protocol, taken_port in node.ports:
                same_address = "0.0.0.0" in (address, taken_address) or address == taken_address
                if (protocol, port) == (taken_protocol, taken_port) and same_address:
                    return unschedulable("node(s) didn't have free ports for the requested pod ports")
        return None


class NodeAffinity:
    name = "NodeAffinity"

    def pre_filter(self, pod: Object, snapshot: Snapshot) -> None:
        return None

    def filter(self, state: None, pod: Object, node: NodeInfo) -> Rejection | None:
        if node_selectors.required_matches(pod, node.labels, node.name):
            return None
        return unresolvable("node(s) didn't match Pod's node affinity/selector")

    def pre_score(self, pod: Object, snapshot: Snapshot, nodes: Sequence[NodeInfo]) -> list[Object] | None:
        affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
        return affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or None

    def score(self, state: list[Object], pod: Object, node: NodeInfo) -> int:
        return sum(term["weight"] for term in state if node_selectors.term_matches(term["preference"], node.labels, node.name))

    def normalize(self, state: Any, scores: dict[str, int]) -> dict[str, int]:
        return scaled(scores)
