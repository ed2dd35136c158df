"""Pure: what to do next about one StatefulSet (stateful_set_control.go).

Pods come up from the lowest ordinal, each after its predecessor is healthy, and go from the highest. A name is never reused before its
pod object is gone: two pods of one identity must not run at once (INV-C2), so a pod on a lost node is waited for, not replaced.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import meta
from kubette.kube_controller_manager import objects, pods
from kubette.kube_controller_manager.objects import spec, status
from kubette.kube_controller_manager.statefulset import pods_of

Object = dict[str, Any]


@dataclass(slots=True)
class Plan:
    create: list[tuple[int, bool]] = field(default_factory=list)  # ordinal, whether of the update revision
    delete: list[Object] = field(default_factory=list)
    status: Object | None = None
    check_after_s: float | None = None


def template_data(stateful_set: Object) -> Object:
    """What a ControllerRevision remembers."""
    return {"spec": {"template": {**objects.copy(spec(stateful_set)["template"]), "$patch": "replace"}}}


def is_rolling(stateful_set: Object) -> bool:
    return bool((spec(stateful_set).get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def partition(stateful_set: Object) -> int:
    return int(((spec(stateful_set).get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition") or 0)


def _max_unavailable(stateful_set: Object) -> int:
    value = ((spec(stateful_set).get("updateStrategy") or {}).get("rollingUpdate") or {}).get("maxUnavailable", 1)
    if isinstance(value, int):
        return max(1, value)
    return max(1, -(-int(value.rstrip("%")) * pods_of.replicas(stateful_set) // 100))


def plan_set(stateful_set: Object, owned: Sequence[Object], current: str, update: str, now: float) -> Plan:
    """`current` and `update` are the names of the two revisions."""
    plan = Plan()
    first = pods_of.start_ordinal(stateful_set)
    wanted = range(first, first + pods_of.replicas(stateful_set))
    by_ordinal = {pods_of.ordinal(p): p for p in owned if pods_of.is_member(stateful_set, p)}
    min_ready_s = int(spec(stateful_set).get("minReadySeconds") or 0)
    if not meta.is_being_deleted(stateful_set):
        _decide(plan, stateful_set, by_ordinal, wanted, current, update, min_ready_s, now)
    plan.status = _status(stateful_set, list(by_ordinal.values()), current, update, min_ready_s, now)
    waits = [since + min_ready_s - now for p in by_ordinal.values() if min_ready_s and (since := pods.ready_since(p)) is not None]
    coming = [w for w in waits if w > 0]
    plan.check_after_s = min(coming) if coming else None
    return plan


def _decide(
    plan: Plan, stateful_set: Object, by_ordinal: dict[int, Object], wanted: range, current: str, update: str, min_ready_s: int, now: float
) -> None:
    ordered = spec(stateful_set).get("podManagementPolicy", "OrderedReady") != "Parallel"

    def usable(pod: Object) -> bool:
        return pods_of.is_healthy(pod) and pods.is_available(pod, min_ready_s, now)

    for number in wanted:
        pod = by_ordinal.get(number)
        if pod is None:
            plan.create.append((number, _is_new(stateful_set, number, by_ordinal, current, update)))
        elif pods.is_terminal(pod) and not meta.is_being_deleted(pod):
            plan.delete.append(pod)  # it comes again once its object is gone
        elif usable(pod):
            continue
        if ordered:
            return
    condemned = sorted((n for n in by_ordinal if n not in wanted), reverse=True)
    unhealthy = [n for n in sorted(by_ordinal) if not pods_of.is_healthy(by_ordinal[n])]
    for number in condemned:
        pod = by_ordinal[number]
        if meta.is_being_deleted(pod):
            if ordered:
                return
            continue
        # A healthy one waits until the sick are well; the first sick one may itself go.
        if ordered and unhealthy and unhealthy[0] != number:
            return
        plan.delete.append(pod)
        if ordered:
            return
    if plan.create or plan.delete or condemned or not is_rolling(stateful_set):
        return
    room = _max_unavailable(stateful_set) - sum(1 for n in wanted if n in by_ordinal and not usable(by_ordinal[n]))
    for number in reversed(wanted):
        if number - wanted.start < partition(stateful_set):
            return
        pod = by_ordinal[number]
        if pods_of.revision_of(pod) != update and not meta.is_being_deleted(pod):
            # A sick pod of the old revision goes too, whatever the room: it is what the update may have to heal.
            if room <= 0 and usable(pod):
                return
            plan.delete.append(pod)
            room -= usable(pod)
            if room <= 0:
                return
        elif not usable(pod):
            return


def _is_new(stateful_set: Object, number: int, by_ordinal: dict[int, Object], current: str, update: str) -> bool:
    """Whether a pod made now is of the update revision: when its turn in the rollout, which goes from the top, has come.

    Judged by the pods there are, not by the status: that may be behind, and a pod of the wrong revision would be deleted at once.
    """
    if current == update:
        return True
    if not is_rolling(stateful_set) or number - pods_of.start_ordinal(stateful_set) < partition(stateful_set):
        return False
    return all(pods_of.revision_of(pod) == update for other, pod in by_ordinal.items() if other > number)


def _status(stateful_set: Object, members: Sequence[Object], current: str, update: str, min_ready_s: int, now: float) -> Object:
    alive = [p for p in members if not meta.is_being_deleted(p)]
    found: Object = {
        "observedGeneration": meta.generation(stateful_set),
        "replicas": len(members),
        "readyReplicas": sum(1 for p in members if pods.phase(p) == "Running" and pods.is_ready(p)),
        "availableReplicas": sum(1 for p in members if pods_of.is_healthy(p) and pods.is_available(p, min_ready_s, now)),
        "currentReplicas": sum(1 for p in alive if pods_of.revision_of(p) == current),
        "updatedReplicas": sum(1 for p in alive if pods_of.revision_of(p) == update),
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": int(status(stateful_set).get("collisionCount") or 0),
    }
    if status(stateful_set).get("conditions"):
        found["conditions"] = status(stateful_set)["conditions"]
    total = found["replicas"]
    if is_rolling(stateful_set) and found["updatedReplicas"] == total and found["readyReplicas"] == total:
        found["currentReplicas"], found["currentRevision"] = found["updatedReplicas"], update
    return found
