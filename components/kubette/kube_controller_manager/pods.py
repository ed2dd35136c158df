"""Pure: what every workload controller asks of pods: active, ready, available, and which to delete first (controller_utils.go)."""

from typing import Any

from kubette.apimachinery import meta, timestamps
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]


def phase(pod: Object) -> str:
    return str(status(pod).get("phase") or "Pending")


def is_terminal(pod: Object) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Neither finished nor being deleted."""
    return not is_terminal(pod) and not meta.is_being_deleted(pod)


def ready_condition(pod: Object) -> Object | None:
    return meta.condition(pod, "Ready")


def is_ready(pod: Object) -> bool:
    return meta.is_condition_true(pod, "Ready")


def ready_since(pod: Object) -> float | None:
    """When it became ready; None if it is not, or nobody noted when."""
    condition = ready_condition(pod)
    if condition is None or condition.get("status") != "True" or not condition.get("lastTransitionTime"):
        return None
    return timestamps.parse_time(condition["lastTransitionTime"])


def is_available(pod: Object, min_ready_s: int, now: float) -> bool:
    """Ready for at least `min_ready_s`."""
    if not is_ready(pod):
        return False
    if min_ready_s == 0:
        return True
    since = ready_since(pod)
    return since is not None and since + min_ready_s <= now


def restarts(pod: Object) -> int:
    return max((int(c.get("restartCount") or 0) for c in status(pod).get("containerStatuses") or ()), default=0)


def deletion_cost(pod: Object) -> int:
    try:
        return int(meta.annotations(pod).get("controller.kubernetes.io/pod-deletion-cost", "0"))
    except ValueError:
        return 0


def deletion_rank(pod: Object, pods_on_node: int, now: float) -> tuple[Any, ...]:
    """Sort key, the first goes first: unassigned, pending, not ready, cheap, on a crowded node, ready for a short time, restarting, young."""
    since = ready_since(pod)
    created = meta.creation_timestamp(pod)
    return (
        bool(spec(pod).get("nodeName")),
        {"Pending": 0, "Unknown": 1}.get(phase(pod), 2),
        is_ready(pod),
        deletion_cost(pod),
        -pods_on_node,
        -_age_rank(since, now),
        -restarts(pod),
        -_age_rank(timestamps.parse_time(created) if created else None, now),
        meta.name(pod),
    )


def _age_rank(moment: float | None, now: float) -> float:
    """Times compare by order of magnitude of their age, so that deletions are not biased to one batch (LogarithmicScaleDown).

    Older is smaller; unknown counts as just now.
    """
    if moment is None:
        return float("inf")
    seconds = max(0.0, now - moment)
    return -float(int(seconds).bit_length())


def from_template(template: Object, owner_reference: Object, name_prefix: str) -> Object:
    """The pod a template makes for its controller; the API server completes the name."""
    metadata = template.get("metadata") or {}
    pod_metadata: Object = {"generateName": name_prefix if len(name_prefix) <= 253 else name_prefix[:253], "ownerReferences": [owner_reference]}
    for field in ("labels", "annotations"):
        if metadata.get(field):
            pod_metadata[field] = dict(metadata[field])
    if metadata.get("finalizers"):
        pod_metadata["finalizers"] = list(metadata["finalizers"])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": pod_metadata, "spec": template.get("spec") or {}}
