"""Pure: the two kinds that are served in more versions than they are stored in.

Everything else is stored as it is served. Upstream converts through an internal type; two pairs do not need one.
"""

import json
from typing import Any

from kubette.apimachinery.gvk import GroupVersion

Object = dict[str, Any]

_CORE_EVENTS = GroupVersion("", "v1")
_NEW_EVENTS = GroupVersion("events.k8s.io", "v1")
_HPA_V1 = GroupVersion("autoscaling", "v1")
_HPA_V2 = GroupVersion("autoscaling", "v2")

# (events.k8s.io/v1, v1)
_EVENT_FIELDS = (
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedCount", "count"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedSource", "source"),
    ("reportingController", "reportingComponent"),
)
_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_CURRENT_METRICS = "autoscaling.alpha.kubernetes.io/current-metrics"


def convert(obj: Object, to: GroupVersion) -> Object:
    """The object in another version of its kind; the same object when it is already that version. The argument is left alone."""
    if obj.get("apiVersion") == str(to):
        return obj
    kind = obj.get("kind")
    if kind == "Event":
        return _rename(obj, _EVENT_FIELDS if to == _CORE_EVENTS else tuple((core, new) for new, core in _EVENT_FIELDS), to)
    if kind == "HorizontalPodAutoscaler":
        return _hpa_to_v2(obj) if to == _HPA_V2 else _hpa_to_v1(obj)
    return {**obj, "apiVersion": str(to)}


def _rename(obj: Object, pairs: tuple[tuple[str, str], ...], to: GroupVersion) -> Object:
    names = dict(pairs)
    return {names.get(name, name): value for name, value in obj.items()} | {"apiVersion": str(to)}


def _annotations(obj: Object, changes: dict[str, Any], dropped: tuple[str, ...]) -> dict[str, Any]:
    metadata = dict(obj.get("metadata") or {})
    annotations = {name: value for name, value in (metadata.get("annotations") or {}).items() if name not in dropped}
    for name, value in changes.items():
        if value:
            annotations[name] = json.dumps(value, separators=(",", ":"))
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    return metadata


def _is_cpu_utilization(metric: dict[str, Any], value_field: str) -> bool:
    resource = metric.get("resource") or {}
    return (
        metric.get("type") == "Resource" and resource.get("name") == "cpu" and (resource.get(value_field) or {}).get("averageUtilization") is not None
    )


def _hpa_to_v1(obj: Object) -> Object:
    """What v1 cannot say travels in annotations, as upstream's conversion does."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    metrics, current = spec.pop("metrics", None) or [], status.pop("currentMetrics", None) or []
    others, other_current = [], []
    for metric in metrics:
        if _is_cpu_utilization(metric, "target") and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
        else:
            others.append(metric)
    for metric in current:
        if _is_cpu_utilization(metric, "current") and "currentCPUUtilizationPercentage" not in status:
            status["currentCPUUtilizationPercentage"] = metric["resource"]["current"]["averageUtilization"]
        else:
            other_current.append(metric)
    changes = {
        _METRICS: others,
        _BEHAVIOR: spec.pop("behavior", None),
        _CONDITIONS: status.pop("conditions", None),
        _CURRENT_METRICS: other_current,
    }
    return {**obj, "apiVersion": str(_HPA_V1), "metadata": _annotations(obj, changes, ()), "spec": spec, "status": status}


def _hpa_to_v2(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = (obj.get("metadata") or {}).get("annotations") or {}

    def carried(name: str) -> Any:
        try:
            return json.loads(annotations.get(name) or "null")
        except ValueError:
            return None

    metrics = list(carried(_METRICS) or [])
    utilization = spec.pop("targetCPUUtilizationPercentage", None)
    if utilization is not None:
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": utilization}}})
    current = list(carried(_CURRENT_METRICS) or [])
    used = status.pop("currentCPUUtilizationPercentage", None)
    if used is not None:
        current.append({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": used}}})
    for target, name, value in (
        (spec, "metrics", metrics),
        (spec, "behavior", carried(_BEHAVIOR)),
        (status, "conditions", carried(_CONDITIONS)),
        (status, "currentMetrics", current),
    ):
        if value:
            target[name] = value
    metadata = _annotations(obj, {}, (_METRICS, _BEHAVIOR, _CONDITIONS, _CURRENT_METRICS))
    return {**obj, "apiVersion": str(_HPA_V2), "metadata": metadata, "spec": spec, "status": status}
