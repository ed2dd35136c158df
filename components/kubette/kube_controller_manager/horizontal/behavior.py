"""Pure: how fast a workload may grow and shrink: stabilization windows and policies (KEP-853; upstream: horizontal.go, normalizeDesiredReplicasWithBehaviors)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]

IN_RANGE = ("DesiredWithinRange", "the desired count is within the acceptable range")
TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")

_UP = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}],
}
_DOWN = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}


@dataclass(slots=True)
class History:
    """What was recommended, and what was done: (when, replicas) and (when, change)."""

    recommended: list[tuple[float, int]] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`limit` is reason and message of the ScalingLimited condition; `limited` its status."""

    replicas: int
    limited: bool
    limit: tuple[str, str]
    stabilized: str = ""  # "ScaleUpStabilized" and the like, when the window decided


def normalize(hpa_spec: Object, history: History, current: int, desired: int, now: float, downscale_stabilization_s: float) -> Outcome:
    """The desired count after windows and policies; remembers the recommendation."""
    rules = hpa_spec.get("behavior") or {}
    up, down = {**_UP, **(rules.get("scaleUp") or {})}, {**_DOWN, **(rules.get("scaleDown") or {})}
    window_up = up.get("stabilizationWindowSeconds") or 0
    window_down = down.get("stabilizationWindowSeconds")
    window_down = downscale_stabilization_s if window_down is None else window_down
    stable, stabilized = _stabilized(history, current, desired, now, window_up, window_down)
    low, high = hpa_spec.get("minReplicas", 1), hpa_spec["maxReplicas"]
    if stable > current:
        most = _ceiling(up, history.changes, current, now)
        allowed, reason = (most, ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"))
        if high <= allowed:
            allowed, reason = high, TOO_MANY
        outcome = (min(stable, allowed), stable > allowed, reason if stable > allowed else IN_RANGE)
    elif stable < current:
        least = _floor(down, history.changes, current, now)
        allowed, reason = (least, ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"))
        if low >= allowed:
            allowed, reason = low, TOO_FEW
        outcome = (max(stable, allowed), stable < allowed, reason if stable < allowed else IN_RANGE)
    else:
        outcome = (stable, False, IN_RANGE)
    if outcome[0] > high:
        return Outcome(high, True, TOO_MANY, stabilized)
    if outcome[0] < low:
        return Outcome(low, True, TOO_FEW, stabilized)
    return Outcome(*outcome, stabilized)


def _stabilized(history: History, current: int, desired: int, now: float, window_up: float, window_down: float) -> tuple[int, str]:
    """Up as little, and down as little, as anything recommended within the window."""
    least, most = desired, desired
    keep = max(window_up, window_down)
    history.recommended = [(at, count) for at, count in history.recommended if at > now - keep]
    for at, count in history.recommended:
        if at > now - window_up:
            least = min(least, count)
        if at > now - window_down:
            most = max(most, count)
    history.recommended.append((now, desired))
    stable = current
    if stable < least:
        stable = least
    if stable > most:
        stable = most
    if stable == desired:
        return stable, ""
    return stable, "ScaleUpStabilized" if desired >= stable else "ScaleDownStabilized"


def _ceiling(rules: Object, changes: Sequence[tuple[float, int]], current: int, now: float) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    limits: list[int] = []
    for policy in rules["policies"]:
        begun_with = current - _recent(changes, now, policy["periodSeconds"])
        value = policy["value"]
        limits.append(begun_with + value if policy["type"] == "Pods" else -(-begun_with * (100 + value) // 100))
    return min(limits) if rules.get("selectPolicy") == "Min" else max(limits)


def _floor(rules: Object, changes: Sequence[tuple[float, int]], current: int, now: float) -> int:
    if rules.get("selectPolicy") == "Disabled":
        return current
    limits: list[int] = []
    for policy in rules["policies"]:
        begun_with = current - _recent(changes, now, policy["periodSeconds"])
        value = policy["value"]
        limits.append(begun_with - value if policy["type"] == "Pods" else begun_with * (100 - value) // 100)
    return max(limits) if rules.get("selectPolicy") == "Min" else min(limits)


def _recent(changes: Sequence[tuple[float, int]], now: float, period_s: float) -> int:
    return sum(change for at, change in changes if at > now - period_s)
