"""Pure: how many replicas each ReplicaSet of a Deployment gets next (rolling.go, recreate.go, and `scale` of sync.go).

Every function answers the sizes that should change, `{uid: replicas}`; an empty answer means that there is nothing to do.
"""

from collections.abc import Sequence
from typing import Any

from kubette.apimachinery import meta
from kubette.kube_controller_manager.deployment.replica_sets import (
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    active,
    available,
    max_surge,
    max_unavailable,
    replicas,
    sort_oldest_first,
    total_replicas,
)
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]
Sizes = dict[str, int]


def is_rolling(deployment: Object) -> bool:
    return bool((spec(deployment).get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def new_replicas(deployment: Object, all_sets: Sequence[Object], current: int) -> int:
    """How large the new ReplicaSet may be now, without exceeding the surge."""
    if not is_rolling(deployment):
        return replicas(deployment)
    allowed = replicas(deployment) + max_surge(deployment)
    total = total_replicas(all_sets)
    if total >= allowed:
        return current
    return current + min(allowed - total, replicas(deployment) - current)


def grow_new(deployment: Object, new: Object, all_sets: Sequence[Object]) -> Sizes:
    """The first step of a rolling update."""
    current = replicas(new)
    if current == replicas(deployment):
        return {}
    if current > replicas(deployment):
        return {meta.uid(new): replicas(deployment)}
    wanted = new_replicas(deployment, all_sets, current)
    return {meta.uid(new): wanted} if wanted != current else {}


def shrink_old(deployment: Object, new: Object, old: Sequence[Object], all_sets: Sequence[Object]) -> Sizes:
    """The second step: first old pods that are not available anyway, then as many as availability allows."""
    if total_replicas(old) == 0:
        return {}
    min_available = replicas(deployment) - max_unavailable(deployment)
    new_unavailable = replicas(new) - available(new)
    budget = total_replicas(all_sets) - min_available - new_unavailable
    if budget <= 0:
        return {}
    sizes = {meta.uid(rs): replicas(rs) for rs in old}
    _shrink_unhealthy(old, sizes, budget)
    total_available = sum(available(rs) for rs in all_sets)
    _shrink_available(old, sizes, total_available - min_available)
    return {meta.uid(rs): sizes[meta.uid(rs)] for rs in old if sizes[meta.uid(rs)] != replicas(rs)}


def _shrink_unhealthy(old: Sequence[Object], sizes: Sizes, budget: int) -> None:
    for rs in sort_oldest_first(old):
        if budget <= 0:
            return
        count = min(budget, max(0, replicas(rs) - available(rs)))
        sizes[meta.uid(rs)] -= count
        budget -= count


def _shrink_available(old: Sequence[Object], sizes: Sizes, budget: int) -> None:
    for rs in sort_oldest_first(old):
        if budget <= 0:
            return
        count = min(budget, sizes[meta.uid(rs)])
        sizes[meta.uid(rs)] -= count
        budget -= count


def is_scaling_event(deployment: Object, all_sets: Sequence[Object]) -> bool:
    """The Deployment's size changed since its ReplicaSets were last sized."""
    for rs in active(all_sets):
        desired = _annotation(rs, DESIRED_REPLICAS)
        if desired is not None and desired != replicas(deployment):
            return True
    return False


def _annotation(rs: Object, name: str) -> int | None:
    try:
        return int(meta.annotations(rs)[name])
    except (KeyError, ValueError):
        return None


def is_saturated(deployment: Object, new: Object | None) -> bool:
    """The new ReplicaSet alone carries the whole Deployment."""
    if new is None:
        return False
    wanted = replicas(deployment)
    return replicas(new) == wanted and _annotation(new, DESIRED_REPLICAS) == wanted and available(new) == wanted


def scale(deployment: Object, new: Object | None, old: Sequence[Object]) -> Sizes:
    """Sizes after the Deployment itself was scaled (or paused): one ReplicaSet takes it all, several share in proportion."""
    wanted = replicas(deployment)
    all_sets = [*old, *([new] if new is not None else [])]
    single = _active_or_latest(new, old)
    if single is not None:
        # Even an unchanged size is answered: its annotations may have to follow.
        return {meta.uid(single): wanted}
    if is_saturated(deployment, new):
        return {meta.uid(rs): 0 for rs in active(old)}
    if not is_rolling(deployment):
        return {}
    return _proportional(deployment, active(all_sets), wanted + max_surge(deployment) if wanted > 0 else 0)


def _active_or_latest(new: Object | None, old: Sequence[Object]) -> Object | None:
    candidates = active([*old, *([new] if new is not None else [])])
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        return new if new is not None else (sort_oldest_first(old)[-1] if old else None)
    return None


def _proportional(deployment: Object, sets: Sequence[Object], allowed: int) -> Sizes:
    to_add = allowed - total_replicas(sets)
    # Growing starts with the largest and newest, shrinking with the largest and oldest.
    by_age = sort_oldest_first(sets)
    ordered = sorted(by_age[::-1] if to_add > 0 else by_age, key=lambda rs: -replicas(rs))
    sizes: Sizes = {}
    added = 0
    for rs in ordered:
        share = _proportion(deployment, rs, to_add, added) if to_add else 0
        sizes[meta.uid(rs)] = replicas(rs) + share
        added += share
    if ordered and to_add:
        first = meta.uid(ordered[0])
        sizes[first] = max(0, sizes[first] + to_add - added)
    return sizes


def _proportion(deployment: Object, rs: Object, to_add: int, added: int) -> int:
    if replicas(rs) == 0 or to_add == added:
        return 0
    fraction = _fraction(deployment, rs)
    allowed = to_add - added
    return min(fraction, allowed) if to_add > 0 else max(fraction, allowed)


def _fraction(deployment: Object, rs: Object) -> int:
    """The replicas by which this ReplicaSet would change if all grew alike."""
    if replicas(deployment) == 0:
        return -replicas(rs)
    base = _annotation(rs, MAX_REPLICAS)
    if base is None or base == 0:
        base = int(status(deployment).get("replicas") or 0)
    if base == 0:
        return 0
    new_size = replicas(rs) * (replicas(deployment) + max_surge(deployment)) / base
    return int(new_size + 0.5) - replicas(rs)
