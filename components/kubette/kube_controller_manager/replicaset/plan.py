"""Pure: how many pods a ReplicaSet creates or which it deletes, and its status (replica_set.go, replica_set_utils.go)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import meta, timestamps
from kubette.apimachinery.selectors import EQUALS, Requirement, Selector
from kubette.kube_controller_manager import objects, pods
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]

BURST_REPLICAS = 500  # creations or deletions in one go


@dataclass(slots=True)
class Plan:
    create: int = 0
    delete: list[Object] = field(default_factory=list)


def replicas(rs: Object) -> int:
    value = spec(rs).get("replicas")
    return 1 if value is None else int(value)


def plan_replicas(rs: Object, active: Sequence[Object], related: Sequence[Object], now: float) -> Plan:
    """`active` are the pods it owns, `related` all pods of its siblings (same Deployment): crowded nodes are relieved first."""
    difference = len(active) - replicas(rs)
    if difference < 0:
        return Plan(create=min(-difference, BURST_REPLICAS))
    if difference == 0:
        return Plan()
    difference = min(difference, BURST_REPLICAS)
    on_node = Counter(spec(p).get("nodeName") for p in related)
    ranked = sorted(active, key=lambda p: pods.deletion_rank(p, on_node[spec(p).get("nodeName")], now))
    return Plan(delete=ranked[:difference])


def new_status(rs: Object, active: Sequence[Object], failure: tuple[str, str] | None, now: float) -> Object:
    """`failure` is (reason, message) of an attempt to create or delete that failed just now."""
    template_labels = ((spec(rs).get("template") or {}).get("metadata") or {}).get("labels") or {}
    template = Selector(tuple(Requirement(k, EQUALS, (v,)) for k, v in template_labels.items()))
    min_ready_s = int(spec(rs).get("minReadySeconds") or 0)
    found: Object = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(1 for p in active if template.matches(meta.labels(p))),
        "readyReplicas": sum(1 for p in active if pods.is_ready(p)),
        "availableReplicas": sum(1 for p in active if pods.is_available(p, min_ready_s, now)),
        "observedGeneration": meta.generation(rs),
    }
    conditions = list(status(rs).get("conditions") or [])
    had_failure = objects.find_condition(conditions, "ReplicaFailure") is not None
    if failure is not None and not had_failure:
        reason, message = failure
        condition = {
            "type": "ReplicaFailure",
            "status": "True",
            "lastTransitionTime": timestamps.format_time(now),
            "reason": reason,
            "message": message,
        }
        conditions = objects.set_condition(conditions, condition)
    elif failure is None and had_failure:
        conditions = objects.without_condition(conditions, "ReplicaFailure")
    if conditions:
        found["conditions"] = conditions
    return found


def same_status(rs: Object, found: Object) -> bool:
    old = status(rs)
    numbers = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")
    return all(int(old.get(f) or 0) == found[f] for f in numbers) and (old.get("conditions") or []) == (found.get("conditions") or [])


def next_availability_check_s(rs: Object, active: Sequence[Object], now: float) -> float | None:
    """When the next ready pod will have been ready long enough."""
    min_ready_s = int(spec(rs).get("minReadySeconds") or 0)
    if min_ready_s == 0:
        return None
    moments = [since + min_ready_s - now for p in active if (since := pods.ready_since(p)) is not None]
    waiting = [m for m in moments if m > 0]
    return min(waiting) if waiting else None
