"""Pure: PodTopologySpread: replicas spread over hostnames and zones (KEP-895; default constraints KEP-1258)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubette.api import node_selectors
from kubette.apimachinery import selectors
from kubette.kube_scheduler.framework import MAX_SCORE, Rejection, Snapshot, unresolvable, unschedulable
from kubette.kube_scheduler.node_info import NodeInfo, Object
from kubette.kube_scheduler.plugins.taint_toleration import tolerates

HOSTNAME = "kubernetes.io/hostname"
_SYSTEM_DEFAULTS = ((HOSTNAME, 3), ("topology.kubernetes.io/zone", 5))


@dataclass(slots=True)
class Constraint:
    topology_key: str
    max_skew: int
    matches: Callable[[dict[str, str]], bool]
    min_domains: int = 1
    honor_affinity: bool = True
    honor_taints: bool = False


@dataclass(slots=True)
class _Counts:
    constraints: list[Constraint]
    pods: list[dict[str, int]] = field(default_factory=list)  # per constraint: topology value -> matching pods


def _constraints(pod: Object, action: str) -> list[Constraint]:
    found = []
    labels = pod["metadata"].get("labels") or {}
    for each in pod["spec"].get("topologySpreadConstraints") or ():
        if (each.get("whenUnsatisfiable") or "DoNotSchedule") != action:
            continue
        selector = dict(each.get("labelSelector") or {})
        extra = [{"key": k, "operator": "In", "values": [labels[k]]} for k in each.get("matchLabelKeys") or () if k in labels]
        if extra:
            selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), *extra]
        matcher = selectors.from_label_selector(selector)
        found.append(
            Constraint(
                each["topologyKey"],
                each["maxSkew"],
                matcher.matches,
                each.get("minDomains") or 1,
                each.get("nodeAffinityPolicy", "Honor") == "Honor",
                each.get("nodeTaintsPolicy", "Ignore") == "Honor",
            )
        )
    return found


def _counted(constraint: Constraint, pod: Object, node: NodeInfo) -> bool:
    if constraint.honor_affinity and not node_selectors.required_matches(pod, node.labels, node.name):
        return False
    hard = (t for t in node.taints if t["effect"] in ("NoSchedule", "NoExecute"))
    return not constraint.honor_taints or all(tolerates(pod, taint) for taint in hard)


def _count(constraints: list[Constraint], pod: Object, snapshot: Snapshot) -> _Counts:
    namespace = pod["metadata"].get("namespace", "")
    counts = _Counts(constraints)
    for constraint in constraints:
        values: dict[str, int] = {}
        for node in snapshot.nodes:
            value = node.labels.get(constraint.topology_key)
            if value is None or not _counted(constraint, pod, node):
                continue
            values.setdefault(value, 0)
            for other in node.pods.values():
                metadata = other["metadata"]
                same = metadata.get("namespace", "") == namespace and not metadata.get("deletionTimestamp")
                if same and constraint.matches(metadata.get("labels") or {}):
                    values[value] += 1
        counts.pods.append(values)
    return counts


class PodTopologySpread:
    name = "PodTopologySpread"

    def pre_filter(self, pod: Object, snapshot: Snapshot) -> _Counts | None:
        constraints = _constraints(pod, "DoNotSchedule")
        return _count(constraints, pod, snapshot) if constraints else None

    def filter(self, state: _Counts | None, pod: Object, node: NodeInfo) -> Rejection | None:
        if state is None:
            return None
        for constraint, pods in zip(state.constraints, state.pods, strict=True):
            value = node.labels.get(constraint.topology_key)
            if value is None:
                return unresolvable("node(s) didn't match pod topology spread constraints (missing required label)")
            fewest = 0 if len(pods) < constraint.min_domains else min(pods.values(), default=0)
            own = int(constraint.matches(pod["metadata"].get("labels") or {}))
            if pods.get(value, 0) + own - fewest > constraint.max_skew:
                return unschedulable("node(s) didn't match pod topology spread constraints")
        return None

    def pre_score(self, pod: Object, snapshot: Snapshot, nodes: Sequence[NodeInfo]) -> _Counts | None:
        constraints = _constraints(pod, "ScheduleAnyway")
        if not constraints and not pod["spec"].get("topologySpreadConstraints"):
            matches = snapshot.default_selector(pod)
            if matches is not None:
                constraints = [Constraint(key, skew, matches) for key, skew in _SYSTEM_DEFAULTS if any(key in node.labels for node in nodes)]
        return _count(constraints, pod, snapshot) if constraints else None

    def score(self, state: _Counts, pod: Object, node: NodeInfo) -> int:
        """Matching pods in the node's domains, each weighted by how many domains there are: the fewer the better."""
        total = 0.0
        for constraint, pods in zip(state.constraints, state.pods, strict=True):
            value = node.labels.get(constraint.topology_key)
            if value is not None:
                total += pods.get(value, 0) * (len(pods) + 2) + constraint.max_skew - 1
        return round(total)

    def normalize(self, state: Any, scores: dict[str, int]) -> dict[str, int]:
        lowest, highest = min(scores.values()), max(scores.values())
        if highest == 0:
            return dict.fromkeys(scores, MAX_SCORE)
        return {name: MAX_SCORE * (highest + lowest - score) // highest for name, score in scores.items()}
