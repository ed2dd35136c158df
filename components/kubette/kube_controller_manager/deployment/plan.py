"""Pure: what to do next about one Deployment.

A plan is one step: create the new ReplicaSet, or change annotations and sizes, or clean up; and always the status. The step's effects
come back as events of the ReplicaSets and lead to the next plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import meta
from kubette.kube_controller_manager import objects, pods
from kubette.kube_controller_manager.deployment import conditions, replica_sets, scaling
from kubette.kube_controller_manager.deployment.replica_sets import active, find_new, find_old, replicas
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resize:
    """An update of a ReplicaSet: its size, its annotations, or both."""

    replica_set: Object
    replicas: int
    annotations: dict[str, str]
    min_ready_s: int | None = None


@dataclass(slots=True)
class Plan:
    """What to write, in this order."""

    create: Object | None = None
    resize: list[Resize] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    revision: str = ""  # the Deployment's own revision annotation, if it must change
    status: Object | None = None
    check_after_s: float | None = None


def plan_deployment(deployment: Object, sets: Sequence[Object], owned_pods: Sequence[Object], now: float) -> Plan:
    """`sets` are the ReplicaSets the Deployment owns, `owned_pods` their pods."""
    new, plan = find_new(deployment, sets), Plan()
    old = find_old(new, sets)
    if meta.is_being_deleted(deployment):
        plan.status = _counts_only(deployment, new, sets, now)
        return plan
    deployment = _with_pause_condition(deployment, now)
    if spec(deployment).get("paused") or scaling.is_scaling_event(deployment, sets):
        _refresh_new(plan, deployment, new, old)
        _resize(plan, deployment, sets, scaling.scale(deployment, new, old))
        if spec(deployment).get("paused"):
            _clean_up(plan, deployment, old, complete=True)
        plan.status = _counts_only(deployment, new, sets, now)
        return plan
    deployment = _note_found(deployment, new, now)
    if scaling.is_rolling(deployment):
        _roll(plan, deployment, new, old, sets)
    else:
        _recreate(plan, deployment, new, old, owned_pods)
    plan.status = conditions.rollout_status(deployment, new, sets, now)
    _clean_up(plan, deployment, old, complete=conditions.is_complete(deployment, plan.status) and not plan.resize)
    at = conditions.deadline_at(deployment, plan.status["conditions"])
    if at is not None:
        plan.check_after_s = max(1.0, at - now + 1.0)
    return plan


def _roll(plan: Plan, deployment: Object, new: Object | None, old: list[Object], sets: Sequence[Object]) -> None:
    if new is None:
        _create_new(plan, deployment, old, scaling.new_replicas(deployment, sets, 0))
        return
    _refresh_new(plan, deployment, new, old)
    sizes = scaling.grow_new(deployment, new, sets) or scaling.shrink_old(deployment, new, active(old), sets)
    _resize(plan, deployment, sets, sizes)


def _recreate(plan: Plan, deployment: Object, new: Object | None, old: list[Object], owned_pods: Sequence[Object]) -> None:
    if active(old):
        _resize(plan, deployment, old, {meta.uid(rs): 0 for rs in active(old)})
        return
    old_uids = {meta.uid(rs) for rs in old}
    if any((meta.controller_of(p) or {}).get("uid") in old_uids and not pods.is_terminal(p) for p in owned_pods):
        return  # the old pods must be gone before the first new one
    if new is None:
        _create_new(plan, deployment, old, replicas(deployment))
        return
    _refresh_new(plan, deployment, new, old)
    if replicas(new) != replicas(deployment):
        _resize(plan, deployment, [new], {meta.uid(new): replicas(deployment)})


def _create_new(plan: Plan, deployment: Object, old: list[Object], count: int) -> None:
    revision = replica_sets.max_revision(old) + 1
    annotations = replica_sets.annotations_of_new(deployment, {}, revision, exists=False)
    plan.create = replica_sets.new_replica_set(deployment, count, annotations)
    if meta.annotations(deployment).get(replica_sets.REVISION) != str(revision):
        plan.revision = str(revision)


def _refresh_new(plan: Plan, deployment: Object, new: Object | None, old: list[Object]) -> None:
    """Revision, annotations and minReadySeconds of the new ReplicaSet follow the Deployment; a rolled-back one gets a new revision."""
    if new is None:
        return
    annotations = replica_sets.annotations_of_new(deployment, meta.annotations(new), replica_sets.max_revision(old) + 1, exists=True)
    min_ready = int(spec(deployment).get("minReadySeconds") or 0)
    if annotations != meta.annotations(new) or min_ready != int(spec(new).get("minReadySeconds") or 0):
        plan.resize.append(Resize(new, replicas(new), annotations, min_ready))
    if annotations.get(replica_sets.REVISION, "") != meta.annotations(deployment).get(replica_sets.REVISION, ""):
        plan.revision = annotations.get(replica_sets.REVISION, "")


def _resize(plan: Plan, deployment: Object, sets: Sequence[Object], sizes: scaling.Sizes) -> None:
    pending = {meta.uid(r.replica_set): r for r in plan.resize}
    for rs in sets:
        uid = meta.uid(rs)
        if uid not in sizes:
            continue
        earlier = pending.get(uid)
        annotations = {**(earlier.annotations if earlier else meta.annotations(rs)), **replica_sets.size_annotations(deployment)}
        if sizes[uid] == replicas(rs) and annotations == meta.annotations(rs):
            continue
        pending[uid] = Resize(rs, sizes[uid], annotations, earlier.min_ready_s if earlier else None)
    plan.resize = list(pending.values())


def _clean_up(plan: Plan, deployment: Object, old: list[Object], complete: bool) -> None:
    limit = spec(deployment).get("revisionHistoryLimit")
    if not complete or limit is None or limit == conditions.NO_DEADLINE:
        return
    finished = [rs for rs in old if not meta.is_being_deleted(rs)]
    surplus = len(finished) - int(limit)
    if surplus <= 0:
        return
    for rs in sorted(finished, key=lambda rs: (replica_sets.revision(rs), meta.creation_timestamp(rs)))[:surplus]:
        if replicas(rs) == 0 and not status(rs).get("replicas") and meta.generation(rs) <= int(status(rs).get("observedGeneration") or 0):
            plan.delete.append(rs)


def _counts_only(deployment: Object, new: Object | None, sets: Sequence[Object], now: float) -> Object:
    return conditions.counts(deployment, new, sets, now)


def _with_conditions(deployment: Object, found: list[Object]) -> Object:
    return objects.with_status(deployment, {**status(deployment), "conditions": found})


def _with_pause_condition(deployment: Object, now: float) -> Object:
    """Pausing and resuming touch the progress condition, so that time spent paused does not count against the deadline."""
    if not conditions.has_deadline(deployment):
        return deployment
    known = list(status(deployment).get("conditions") or [])
    current = objects.find_condition(known, conditions.PROGRESSING)
    if current is not None and current.get("reason") == conditions.TIMED_OUT:
        return deployment
    was_paused = current is not None and current.get("reason") == conditions.PAUSED
    is_paused = bool(spec(deployment).get("paused"))
    if is_paused and not was_paused:
        new = conditions.make(conditions.PROGRESSING, "Unknown", conditions.PAUSED, "Deployment is paused", now)
    elif not is_paused and was_paused:
        new = conditions.make(conditions.PROGRESSING, "Unknown", conditions.RESUMED, "Deployment is resumed", now)
    else:
        return deployment
    return _with_conditions(deployment, objects.set_condition(known, new))


def _note_found(deployment: Object, new: Object | None, now: float) -> Object:
    """A Deployment that meets its ReplicaSet without any progress noted begins to count from here."""
    known = list(status(deployment).get("conditions") or [])
    if new is None or not conditions.has_deadline(deployment) or objects.find_condition(known, conditions.PROGRESSING) is not None:
        return deployment
    message = f'Found new replica set "{meta.name(new)}"'
    return _with_conditions(deployment, [*known, conditions.make(conditions.PROGRESSING, "True", conditions.FOUND_NEW_REPLICA_SET, message, now)])
