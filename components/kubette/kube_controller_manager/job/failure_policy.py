"""Pure: a Job's podFailurePolicy: what a failed pod means for the job."""

from typing import Any

from kubette.apimachinery import meta
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]

FAIL_JOB, IGNORE, COUNT, FAIL_INDEX = "FailJob", "Ignore", "Count", "FailIndex"


def _matches_exit_code(rule: Object, pod: Object) -> tuple[str, int] | None:
    """(container, exit code) of a terminated container that the rule names."""
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in status(pod).get(field) or ():
            terminated = (container.get("state") or {}).get("terminated")
            if not terminated or int(terminated.get("exitCode") or 0) == 0:
                continue
            if rule.get("containerName") and rule["containerName"] != container["name"]:
                continue
            inside = int(terminated["exitCode"]) in rule.get("values", [])
            if inside == (rule["operator"] == "In"):
                return container["name"], int(terminated["exitCode"])
    return None


def _matches_condition(pattern: Object, pod: Object) -> bool:
    condition = meta.condition(pod, pattern["type"])
    return condition is not None and condition.get("status") == pattern.get("status", "True")


def _first_match(job: Object, pod: Object) -> tuple[int, Object] | None:
    for index, rule in enumerate((spec(job).get("podFailurePolicy") or {}).get("rules") or []):
        if "onExitCodes" in rule and _matches_exit_code(rule["onExitCodes"], pod):
            return index, rule
        if any(_matches_condition(p, pod) for p in rule.get("onPodConditions") or []):
            return index, rule
    return None


def action(job: Object, pod: Object) -> str:
    """The first rule that matches decides; without one the failure counts."""
    found = _first_match(job, pod)
    return str(found[1]["action"]) if found is not None else COUNT


def failure_message(job: Object, pod: Object) -> str:
    """Upstream's text when the pod fails the whole job, else empty."""
    found = _first_match(job, pod)
    if found is None or found[1]["action"] != FAIL_JOB:
        return ""
    index, rule = found
    name = meta.key(pod)
    exit_code = _matches_exit_code(rule["onExitCodes"], pod) if "onExitCodes" in rule else None
    if exit_code is not None:
        return f"Container {exit_code[0]} for pod {name} failed with exit code {exit_code[1]} matching FailJob rule at index {index}"
    matched = next(p for p in rule.get("onPodConditions") or [] if _matches_condition(p, pod))
    return f"Pod {name} has condition {matched['type']} matching FailJob rule at index {index}"
