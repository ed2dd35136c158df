"""Pure: which nodes get a pod, which pods go, and the status (daemon_controller.go, update.go)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import meta
from kubette.kube_controller_manager import objects, pods
from kubette.kube_controller_manager.daemonset.nodes import is_updated, node_of, should_run
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]

BURST_REPLICAS = 250


@dataclass(slots=True)
class Plan:
    create: list[str] = field(default_factory=list)  # node names
    delete: list[Object] = field(default_factory=list)
    failed: list[Object] = field(default_factory=list)  # of `delete`, those that had failed


def by_node(owned: Sequence[Object]) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for pod in owned:
        found.setdefault(node_of(pod), []).append(pod)
    return found


def template_data(daemon_set: Object) -> Object:
    """What a ControllerRevision remembers: a patch that replaces the template."""
    return {"spec": {"template": {**objects.copy(spec(daemon_set)["template"]), "$patch": "replace"}}}


def plan_manage(daemon_set: Object, nodes: Sequence[Object], owned: Sequence[Object]) -> Plan:
    """One pod on each node that should have one, none elsewhere."""
    plan = Plan()
    on_nodes = by_node(owned)
    surge = max_surge(daemon_set, nodes) > 0
    for node in nodes:
        run, keep = should_run(daemon_set, node)
        here = on_nodes.pop(meta.name(node), [])
        if run and not here:
            plan.create.append(meta.name(node))
        elif keep:
            _tidy(plan, here, surge)
        else:
            plan.delete += here
    # Pods of nodes that do not exist (any more) are the pod garbage collector's, unless they were never bound: no kubelet knows them.
    plan.delete += [p for name, left in on_nodes.items() if name for p in left if not spec(p).get("nodeName")]
    plan.delete = [p for p in plan.delete if not meta.is_being_deleted(p)][:BURST_REPLICAS]
    plan.create = plan.create[:BURST_REPLICAS]
    return plan


def _tidy(plan: Plan, here: list[Object], surge: bool) -> None:
    living: list[Object] = []
    for pod in here:
        if meta.is_being_deleted(pod):
            continue
        if pods.phase(pod) == "Failed":
            plan.delete.append(pod)
            plan.failed.append(pod)
        elif pods.phase(pod) == "Succeeded":
            plan.delete.append(pod)
        else:
            living.append(pod)
    # The oldest bound pod stays. While surging two are right: the old one and its successor.
    living.sort(key=lambda p: (not spec(p).get("nodeName"), meta.creation_timestamp(p), meta.name(p)))
    plan.delete += living[2 if surge else 1 :]


def _rolling(daemon_set: Object) -> Object:
    return (spec(daemon_set).get("updateStrategy") or {}).get("rollingUpdate") or {}


def _scaled(value: int | str, total: int) -> int:
    return value if isinstance(value, int) else -(-int(value.rstrip("%")) * total // 100)


def max_surge(daemon_set: Object, nodes: Sequence[Object]) -> int:
    return _scaled(_rolling(daemon_set).get("maxSurge", 0), len(nodes))


def max_unavailable(daemon_set: Object, desired: int) -> int:
    """At least one, unless surging: else nothing would ever be replaced."""
    value = _scaled(_rolling(daemon_set).get("maxUnavailable", 1), desired)
    return value if value > 0 or _scaled(_rolling(daemon_set).get("maxSurge", 0), desired) > 0 else 1


def plan_update(daemon_set: Object, nodes: Sequence[Object], owned: Sequence[Object], revision_hash: str, now: float) -> Plan:
    """Old pods to replace now: those that are of no use first, then as many as may be unavailable. With surge: successors first."""
    plan = Plan()
    if (spec(daemon_set).get("updateStrategy") or {}).get("type", "RollingUpdate") != "RollingUpdate":
        return plan
    desired = [n for n in nodes if should_run(daemon_set, n)[0]]
    on_nodes, min_ready_s = by_node(owned), int(spec(daemon_set).get("minReadySeconds") or 0)
    surge = max_surge(daemon_set, desired)
    if surge > 0:
        return _plan_surge(daemon_set, desired, on_nodes, revision_hash, surge, min_ready_s, now)
    unavailable, candidates = 0, []
    for node in desired:
        new = [p for p in on_nodes.get(meta.name(node), []) if is_updated(p, daemon_set, revision_hash)]
        old = [p for p in on_nodes.get(meta.name(node), []) if not is_updated(p, daemon_set, revision_hash)]
        if new:
            unavailable += not any(pods.is_available(p, min_ready_s, now) for p in new)
        elif not old or any(meta.is_being_deleted(p) for p in old):
            unavailable += 1
        elif any(pods.is_available(p, min_ready_s, now) for p in old):
            candidates += old
        else:
            unavailable += 1
            plan.delete += old  # not serving anyway
    room = max(0, max_unavailable(daemon_set, len(desired)) - unavailable)
    plan.delete += candidates[:room]
    return plan


def _plan_surge(
    daemon_set: Object, desired: Sequence[Object], on_nodes: Mapping[str, list[Object]], revision_hash: str, surge: int, min_ready_s: int, now: float
) -> Plan:
    plan, surging, candidates = Plan(), 0, []
    for node in desired:
        here = [p for p in on_nodes.get(meta.name(node), []) if not meta.is_being_deleted(p)]
        new = [p for p in here if is_updated(p, daemon_set, revision_hash)]
        old = [p for p in here if not is_updated(p, daemon_set, revision_hash)]
        if not old:
            continue
        if any(pods.is_available(p, min_ready_s, now) for p in new):
            plan.delete += old
        elif new:
            surging += 1
        elif any(pods.is_available(p, min_ready_s, now) for p in old):
            candidates.append(meta.name(node))
        else:
            plan.create.append(meta.name(node))
    plan.create += candidates[: max(0, surge - surging)]
    return plan


def new_status(daemon_set: Object, nodes: Sequence[Object], owned: Sequence[Object], revision_hash: str, now: float) -> Object:
    on_nodes = by_node(owned)
    min_ready_s = int(spec(daemon_set).get("minReadySeconds") or 0)
    desired = current = misscheduled = ready = available = updated = 0
    for node in nodes:
        run, _ = should_run(daemon_set, node)
        here = on_nodes.get(meta.name(node), [])
        if not run:
            misscheduled += bool(here)
            continue
        desired += 1
        if not here:
            continue
        current += 1
        # The youngest speaks for the node, as the oldest is on its way out.
        pod = max(here, key=lambda p: (meta.creation_timestamp(p), meta.name(p)))
        if pods.is_ready(pod):
            ready += 1
            available += pods.is_available(pod, min_ready_s, now)
        updated += is_updated(pod, daemon_set, revision_hash)
    found: Object = {
        "desiredNumberScheduled": desired,
        "currentNumberScheduled": current,
        "numberMisscheduled": misscheduled,
        "numberReady": ready,
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
        "numberUnavailable": desired - available,
        "observedGeneration": meta.generation(daemon_set),
    }
    for kept in ("collisionCount", "conditions"):
        if status(daemon_set).get(kept) is not None:
            found[kept] = status(daemon_set)[kept]
    return found


def same_status(daemon_set: Object, found: Object) -> bool:
    old = status(daemon_set)
    return all((old.get(k) or 0) == v for k, v in found.items() if isinstance(v, int))
