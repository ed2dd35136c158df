"""Pure: how many replicas one metric asks for (upstream: replica_calculator.go).

Pods that are not ready yet, or whose value is missing, are counted against the direction of the change: nothing for a scale-up, all of it for a
scale-down, so that no pod that is only starting moves the workload.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import meta, quantity, timestamps
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]


class NoMetrics(Exception):
    """The metric cannot be told; the text is upstream's."""


@dataclass(frozen=True, slots=True)
class Value:
    """A pod's metric in milli-units, taken over the `window` that ended at `at`."""

    milli: int
    at: float = 0.0
    window_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the flags --horizontal-pod-autoscaler-cpu-initialization-period, -initial-readiness-delay and -tolerance say, and now."""

    now: float = 0.0
    cpu_initialization_s: float = 300.0
    initial_readiness_s: float = 30.0
    tolerance: float = 0.1


@dataclass(slots=True)
class Groups:
    """Pod names, by what their values are good for."""

    ready: int = 0
    unready: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Replicas, and what the metric is now: percent of the requests, and milli-units a pod."""

    replicas: int
    utilization: int = 0
    average_milli: int = 0


def group(pods: Iterable[Object], values: Mapping[str, Value], resource: str, settings: Settings) -> Groups:
    found = Groups()
    for pod in pods:
        name, phase = meta.name(pod), status(pod).get("phase")
        if meta.is_being_deleted(pod) or phase == "Failed":
            found.ignored.add(name)
        elif phase == "Pending":
            found.unready.add(name)
        elif name not in values:
            found.missing.add(name)
        elif resource == "cpu" and _starts(pod, values[name], settings):
            found.unready.add(name)
        else:
            found.ready += 1
    return found


def _starts(pod: Object, value: Value, settings: Settings) -> bool:
    """CPU while a program starts says nothing about its load."""
    condition, started = meta.condition(pod, "Ready"), status(pod).get("startTime")
    if condition is None or started is None:
        return True
    began = timestamps.parse_time(started)
    changed = timestamps.parse_time(condition.get("lastTransitionTime") or started)
    if began + settings.cpu_initialization_s > settings.now:
        return condition.get("status") == "False" or value.at < changed + value.window_s
    return condition.get("status") == "False" and began + settings.initial_readiness_s > changed


def requests_of(pods: Iterable[Object], resource: str, container: str = "") -> dict[str, int]:
    """Milli-units each pod requests. Raises NoMetrics for one without a request."""
    found = {}
    for pod in pods:
        total = 0
        for one in [*(spec(pod).get("containers") or ()), *(c for c in spec(pod).get("initContainers") or () if c.get("restartPolicy") == "Always")]:
            if container and one["name"] != container:
                continue
            amount = ((one.get("resources") or {}).get("requests") or {}).get(resource)
            if amount is None:
                raise NoMetrics(f"missing request for {resource} in container {one['name']} of Pod {meta.name(pod)}")
            total += quantity.parse(amount).milli_value
        found[meta.name(pod)] = total
    return found


def by_utilization(
    current: int, target_percent: int, pods: Iterable[Object], values: Mapping[str, Value], resource: str, settings: Settings, container: str = ""
) -> Proposal:
    """Raises NoMetrics."""
    pods = list(pods)
    requests = requests_of(pods, resource, container)
    groups = group(pods, values, resource, settings)
    usable = {name: value.milli for name, value in values.items() if name not in groups.unready | groups.ignored}
    utilization, average = _utilization(usable, requests)
    ratio = utilization / target_percent
    fallback = max(100, target_percent)
    for name in groups.missing:
        usable[name] = 0 if ratio > 1 else requests[name] * fallback // 100
    if ratio > 1:
        usable.update(dict.fromkeys(groups.unready, 0))
    adjusted = _utilization(usable, requests)[0] / target_percent
    return Proposal(_decide(current, ratio, adjusted, groups, len(usable), settings.tolerance), utilization, average)


def by_average(current: int, target_milli: int, pods: Iterable[Object], values: Mapping[str, Value], resource: str, settings: Settings) -> Proposal:
    """Raises NoMetrics."""
    groups = group(pods, values, resource, settings)
    usable = {name: value.milli for name, value in values.items() if name not in groups.unready | groups.ignored}
    if not usable:
        raise NoMetrics("no metrics returned matched known pods")
    average = sum(usable.values()) // len(usable)
    ratio = average / target_milli
    for name in groups.missing:
        usable[name] = 0 if ratio > 1 else target_milli
    if ratio > 1:
        usable.update(dict.fromkeys(groups.unready, 0))
    adjusted = sum(usable.values()) // len(usable) / target_milli
    return Proposal(_decide(current, ratio, adjusted, groups, len(usable), settings.tolerance), average_milli=average)


def by_total(current: int, ready: int, value_milli: int, target_milli: int, tolerance: float) -> Proposal:
    """One value for the whole target: of an object, or from outside."""
    ratio = value_milli / target_milli
    if current == 0:
        return Proposal(math.ceil(ratio), average_milli=value_milli)
    return Proposal(current if _is_close(ratio, tolerance) else math.ceil(round(ratio * ready, 9)), average_milli=value_milli)


def by_total_average(current: int, value_milli: int, target_milli: int, tolerance: float) -> Proposal:
    """One value, of which each replica is to have its share."""
    share = value_milli / max(current, 1)
    replicas = current if current and _is_close(share / target_milli, tolerance) else math.ceil(value_milli / target_milli)
    return Proposal(replicas, average_milli=math.ceil(share))


def _decide(current: int, ratio: float, adjusted: float, groups: Groups, count: int, tolerance: float) -> int:
    if not groups.missing and not (groups.unready and ratio > 1):
        return current if _is_close(ratio, tolerance) else math.ceil(round(ratio * groups.ready, 9))
    if _is_close(adjusted, tolerance) or (ratio < 1) != (adjusted < 1):
        return current
    wanted = math.ceil(round(adjusted * count, 9))
    # What was assumed for the missing must not turn the change round.
    return current if (adjusted < 1) == (wanted > current) else wanted


def _is_close(ratio: float, tolerance: float) -> bool:
    return abs(1 - ratio) <= tolerance


def _utilization(values: Mapping[str, int], requests: Mapping[str, int]) -> tuple[int, int]:
    """(percent of what was requested, average in milli-units)."""
    known = {name: milli for name, milli in values.items() if name in requests}
    requested = sum(requests[name] for name in known)
    if not requested:
        raise NoMetrics("no metrics returned matched known pods")
    return sum(known.values()) * 100 // requested, sum(known.values()) // len(known)
