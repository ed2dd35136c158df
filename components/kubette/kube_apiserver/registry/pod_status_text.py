"""Pure: the READY, STATUS and RESTARTS of a pod: the most-read words of Kubernetes (`printPod`)."""

from typing import Any, NamedTuple

from kubette.apimachinery import meta, timestamps

Object = dict[str, Any]


class PodText(NamedTuple):
    """The three cells, before formatting."""

    ready: str
    status: str
    restarts: str


def pod_text(pod: Object, now: float) -> PodText:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    init_specs = {one.get("name"): one for one in spec.get("initContainers") or []}
    sidecars = {name for name, one in init_specs.items() if one.get("restartPolicy") == "Always"}
    total = len(spec.get("containers") or []) + len(sidecars)
    ready = restarts = sidecar_restarts = 0
    last_restart = last_sidecar_restart = 0.0
    reason = str(status.get("reason") or status.get("phase") or "")
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"

    initializing = False
    for index, container in enumerate(status.get("initContainerStatuses") or []):
        is_sidecar = container.get("name") in sidecars
        restarts += int(container.get("restartCount") or 0)
        last_restart = max(last_restart, _last_finished(container))
        if is_sidecar:
            sidecar_restarts += int(container.get("restartCount") or 0)
            last_sidecar_restart = max(last_sidecar_restart, _last_finished(container))
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if is_sidecar and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        if terminated is not None:
            reason = "Init:" + _terminated_text(terminated)
        elif waiting is not None and waiting.get("reason") not in (None, "", "PodInitializing"):
            reason = "Init:" + waiting["reason"]
        else:
            reason = f"Init:{index}/{len(init_specs)}"
        initializing = True
        break

    if not initializing or meta.is_condition_true(pod, "Initialized"):
        restarts, last_restart = sidecar_restarts, last_sidecar_restart
        has_running = False
        for container in reversed(status.get("containerStatuses") or []):
            restarts += int(container.get("restartCount") or 0)
            last_restart = max(last_restart, _last_finished(container))
            state = container.get("state") or {}
            terminated, waiting = state.get("terminated"), state.get("waiting")
            if waiting is not None and waiting.get("reason"):
                reason = waiting["reason"]
            elif terminated is not None:
                reason = _terminated_text(terminated)
            elif container.get("ready") and state.get("running") is not None:
                has_running = True
                ready += 1
        if reason == "Completed" and has_running:
            reason = "Running" if meta.is_condition_true(pod, "Ready") else "NotReady"

    if meta.is_being_deleted(pod):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    shown = str(restarts)
    if restarts and last_restart:
        shown = f"{restarts} ({timestamps.human_duration(now - last_restart)} ago)"
    return PodText(f"{ready}/{total}", reason, shown)


def _terminated_text(terminated: dict[str, Any]) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode') or 0}"


def _last_finished(container: dict[str, Any]) -> float:
    finished = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
    try:
        return timestamps.parse_time(finished) if finished else 0.0
    except ValueError:
        return 0.0
