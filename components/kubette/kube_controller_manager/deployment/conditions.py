"""Pure: a Deployment's status: counts, availability, progress and its deadline (progress.go)."""

from collections.abc import Sequence
from typing import Any

from kubette.apimachinery import meta, timestamps
from kubette.kube_controller_manager import objects
from kubette.kube_controller_manager.deployment.replica_sets import max_unavailable, replicas, total_replicas
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]

AVAILABLE, PROGRESSING, REPLICA_FAILURE = "Available", "Progressing", "ReplicaFailure"

NEW_REPLICA_SET_CREATED = "NewReplicaSetCreated"
FAILED_CREATE = "ReplicaSetCreateError"
FOUND_NEW_REPLICA_SET = "FoundNewReplicaSet"
NEW_REPLICA_SET_AVAILABLE = "NewReplicaSetAvailable"
REPLICA_SET_UPDATED = "ReplicaSetUpdated"
TIMED_OUT = "ProgressDeadlineExceeded"
PAUSED, RESUMED = "DeploymentPaused", "DeploymentResumed"

NO_DEADLINE = 2**31 - 1


def make(type: str, value: str, reason: str, message: str, now: float) -> Object:
    stamp = timestamps.format_time(now)
    return {"type": type, "status": value, "lastUpdateTime": stamp, "lastTransitionTime": stamp, "reason": reason, "message": message}


def has_deadline(deployment: Object) -> bool:
    deadline = spec(deployment).get("progressDeadlineSeconds")
    return deadline is not None and deadline != NO_DEADLINE


def counts(deployment: Object, new: Object | None, all_sets: Sequence[Object], now: float) -> Object:
    """The status without the progress condition."""
    old = status(deployment)

    def total(field: str) -> int:
        return sum(int(status(rs).get(field) or 0) for rs in all_sets)

    available = total("availableReplicas")
    found: Object = {
        "observedGeneration": meta.generation(deployment),
        "replicas": total("replicas"),
        "updatedReplicas": int(status(new).get("replicas") or 0) if new is not None else 0,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total_replicas(all_sets) - available),
    }
    if old.get("collisionCount") is not None:
        found["collisionCount"] = old["collisionCount"]
    if available >= replicas(deployment) - max_unavailable(deployment):
        condition = make(AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now)
    else:
        condition = make(AVAILABLE, "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.", now)
    found["conditions"] = objects.set_condition(list(old.get("conditions") or []), condition)
    return found


def is_complete(deployment: Object, new_status: Object) -> bool:
    """All of the desired replicas are new and available, and there are no others."""
    wanted = replicas(deployment)
    return bool(
        new_status["updatedReplicas"] == wanted
        and new_status["replicas"] == wanted
        and new_status["availableReplicas"] == wanted
        and new_status["observedGeneration"] >= meta.generation(deployment)
    )


def is_progressing(deployment: Object, new_status: Object) -> bool:
    """Something moved forward since the last status."""
    old = {f: int(status(deployment).get(f) or 0) for f in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")}
    return bool(
        new_status["updatedReplicas"] > old["updatedReplicas"]
        or new_status["replicas"] - new_status["updatedReplicas"] < old["replicas"] - old["updatedReplicas"]
        or new_status["readyReplicas"] > old["readyReplicas"]
        or new_status["availableReplicas"] > old["availableReplicas"]
    )


def deadline_at(deployment: Object, conditions: list[Object]) -> float | None:
    """When the current rollout times out; None if it cannot."""
    condition = objects.find_condition(conditions, PROGRESSING)
    if not has_deadline(deployment) or condition is None or condition.get("reason") in (NEW_REPLICA_SET_AVAILABLE, TIMED_OUT):
        return None
    return timestamps.parse_time(condition["lastUpdateTime"]) + int(spec(deployment)["progressDeadlineSeconds"])


def is_timed_out(deployment: Object, conditions: list[Object], now: float) -> bool:
    condition = objects.find_condition(conditions, PROGRESSING)
    if condition is None or condition.get("reason") == NEW_REPLICA_SET_AVAILABLE:
        return False
    if condition.get("reason") == TIMED_OUT:
        return True
    at = deadline_at(deployment, conditions)
    return at is not None and at < now


def rollout_status(deployment: Object, new: Object | None, all_sets: Sequence[Object], now: float) -> Object:
    """The whole status during a rollout."""
    found = counts(deployment, new, all_sets, now)
    current = objects.find_condition(found["conditions"], PROGRESSING)
    settled = found["replicas"] == found["updatedReplicas"] and current is not None and current.get("reason") == NEW_REPLICA_SET_AVAILABLE
    if has_deadline(deployment) and not settled:
        found["conditions"] = _progress(deployment, new, found, current, now)
    failure = next((c for rs in all_sets for c in status(rs).get("conditions") or () if c["type"] == REPLICA_FAILURE), None)
    if failure is not None:
        condition = make(REPLICA_FAILURE, failure["status"], failure.get("reason", ""), failure.get("message", ""), now)
        found["conditions"] = objects.set_condition(found["conditions"], condition)
    else:
        found["conditions"] = objects.without_condition(found["conditions"], REPLICA_FAILURE)
    return found


def _progress(deployment: Object, new: Object | None, found: Object, current: Object | None, now: float) -> list[Object]:
    subject = f'ReplicaSet "{meta.name(new)}"' if new is not None else f'Deployment "{meta.name(deployment)}"'
    conditions: list[Object] = found["conditions"]
    if is_complete(deployment, found):
        return objects.set_condition(conditions, make(PROGRESSING, "True", NEW_REPLICA_SET_AVAILABLE, f"{subject} has successfully progressed.", now))
    if is_progressing(deployment, found):
        condition = make(PROGRESSING, "True", REPLICA_SET_UPDATED, f"{subject} is progressing.", now)
        if current is not None and current.get("status") == "True":
            condition["lastTransitionTime"] = current.get("lastTransitionTime")
        # Removed first: its update time must move, the deadline counts from it.
        return [*objects.without_condition(conditions, PROGRESSING), condition]
    if is_timed_out(deployment, conditions, now):
        return objects.set_condition(conditions, make(PROGRESSING, "False", TIMED_OUT, f"{subject} has timed out progressing.", now))
    return conditions
