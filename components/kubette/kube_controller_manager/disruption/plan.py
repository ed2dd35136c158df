"""Pure: the status of a PodDisruptionBudget (pkg/controller/disruption)."""

from collections.abc import Mapping, Sequence
from typing import Any

from kubette.apimachinery import meta, timestamps
from kubette.kube_controller_manager import objects, pods
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]

DELETION_TIMEOUT_S = 120.0  # an eviction that was granted and did not happen is forgotten after this


def _scaled(value: int | str, total: int) -> int:
    """Percentages round up: they protect."""
    return value if isinstance(value, int) else -(-int(value.rstrip("%")) * total // 100)


def expected_and_desired(budget: Object, members: Sequence[Object], scale: int) -> tuple[int, int]:
    """(pods there should be, pods that must stay healthy). `scale` is what their controllers ask for together."""
    if spec(budget).get("maxUnavailable") is not None:
        return scale, max(0, scale - _scaled(spec(budget)["maxUnavailable"], scale))
    minimum = spec(budget).get("minAvailable", 1)
    if isinstance(minimum, int):
        return len(members), minimum
    return scale, _scaled(minimum, scale)


def needs_scale(budget: Object) -> bool:
    """Whether the number of desired pods must be asked of their controllers."""
    return spec(budget).get("maxUnavailable") is not None or isinstance(spec(budget).get("minAvailable"), str)


def still_disrupted(budget: Object, members: Sequence[Object], now: float) -> tuple[dict[str, str], float | None]:
    """Evictions granted whose pods are not yet going, and when the first of them is forgotten."""
    known: Mapping[str, str] = status(budget).get("disruptedPods") or {}
    by_name = {meta.name(p): p for p in members}
    found, recheck = {}, None
    for name, stamp in known.items():
        pod = by_name.get(name)
        if pod is None or meta.is_being_deleted(pod):
            continue
        expires = timestamps.parse_time(stamp) + DELETION_TIMEOUT_S
        if expires < now:
            continue
        found[name] = stamp
        recheck = expires if recheck is None else min(recheck, expires)
    return found, recheck


def new_status(budget: Object, members: Sequence[Object], scale: int, now: float) -> tuple[Object, float | None]:
    """The status, and when to look again."""
    expected, desired = expected_and_desired(budget, members, scale)
    disrupted, recheck = still_disrupted(budget, members, now)
    healthy = sum(1 for p in members if not meta.is_being_deleted(p) and meta.name(p) not in disrupted and pods.is_ready(p))
    allowed = max(0, healthy - desired) if expected > 0 else 0
    stamp = timestamps.format_time(now)
    condition: Object = {
        "type": "DisruptionAllowed",
        "status": "True" if allowed > 0 else "False",
        "reason": "SufficientPods" if allowed > 0 else "InsufficientPods",
        "message": "",
        "lastTransitionTime": stamp,
        "observedGeneration": meta.generation(budget),
    }
    found: Object = {
        "observedGeneration": meta.generation(budget),
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptionsAllowed": allowed,
        "conditions": objects.set_condition(list(status(budget).get("conditions") or []), condition),
    }
    if disrupted:
        found["disruptedPods"] = disrupted
    return found, recheck


def same(old: Object, new: Object) -> bool:
    numbers = ("observedGeneration", "currentHealthy", "desiredHealthy", "expectedPods", "disruptionsAllowed")
    return all(old.get(k) == new[k] for k in numbers) and all((old.get(k) or None) == (new.get(k) or None) for k in ("disruptedPods", "conditions"))
