"""Pure: the status the API server shows for a pod, from its spec and what the runtime has (kubelet_pods' generateAPIPodStatus).

Nothing here asks or stores anything: the previous status, the waiting reasons of the last sync and the probes' results are given.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import timestamps
from kubette.kubelet import pod_actions, pod_spec, quality_of_service
from kubette.kubelet.pod_spec import Pod
from kubette.kubelet.runtime_state import Container, ContainerState, PodRuntime

Status = dict[str, Any]
Object = dict[str, Any]

CONTAINER_CREATING = "ContainerCreating"
POD_INITIALIZING = "PodInitializing"
RUNTIME_PREFIX = "containerd://"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the status depends on beside the pod and the runtime."""

    now: float
    release: tuple[int, int]
    host_ips: tuple[str, ...] = ()
    waiting: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # container name -> reason, message of the last failed start
    ready: Mapping[str, bool] = field(default_factory=dict)  # container id -> readiness (absent: no probe)
    started: Mapping[str, bool] = field(default_factory=dict)  # container id -> startup (absent: no probe)
    is_terminal: bool = False  # all containers are stopped for good
    terminated_reason: tuple[str, str] | None = None  # why the kubelet ended the pod: Evicted, DeadlineExceeded


def compute_status(pod: Pod, runtime: PodRuntime, inputs: Inputs) -> Status:
    """The whole new status; conditions keep their transition time where they did not change."""
    old: Status = pod.get("status") or {}
    status: Status = {}
    status["containerStatuses"] = container_statuses(pod, pod_spec.containers(pod), old.get("containerStatuses"), runtime, inputs, init=False)
    if pod_spec.init_containers(pod):
        init = container_statuses(pod, pod_spec.init_containers(pod), old.get("initContainerStatuses"), runtime, inputs, init=True)
        status["initContainerStatuses"] = init
    if pod_spec.ephemeral_containers(pod):
        status["ephemeralContainerStatuses"] = container_statuses(
            pod, pod_spec.ephemeral_containers(pod), old.get("ephemeralContainerStatuses"), runtime, inputs, init=False
        )
    status["phase"] = "Failed" if inputs.terminated_reason and inputs.is_terminal else phase(pod, status, inputs.is_terminal)
    if pod_spec.is_finished(old) and not pod_spec.is_finished(status):
        # A pod that ended never lives again, whatever is left of its containers.
        status["phase"] = old["phase"]
    if inputs.terminated_reason:
        status["reason"], status["message"] = inputs.terminated_reason
    else:
        for name in ("reason", "message"):
            if old.get(name):
                status[name] = old[name]
    for name in ("resize", "nominatedNodeName", "resourceClaimStatuses"):
        if old.get(name):
            status[name] = old[name]
    if inputs.release >= (1, 34) and pod["metadata"].get("generation"):
        status["observedGeneration"] = pod["metadata"]["generation"]
    status["qosClass"] = old.get("qosClass") or quality_of_service.qos_class(pod)
    status["startTime"] = old.get("startTime") or timestamps.format_time(inputs.now)
    _addresses(pod, runtime, inputs, old, status)
    status["conditions"] = conditions(pod, runtime, status, old.get("conditions") or [], inputs)
    return status


def _addresses(pod: Pod, runtime: PodRuntime, inputs: Inputs, old: Status, status: Status) -> None:
    if inputs.host_ips:
        status["hostIP"] = inputs.host_ips[0]
        if inputs.release >= (1, 29):
            status["hostIPs"] = [{"ip": ip} for ip in inputs.host_ips]
    sandbox = runtime.ready_sandbox
    ips: tuple[str, ...] = sandbox.ips if sandbox else ()
    if pod_spec.host_network(pod):
        ips = inputs.host_ips
    elif not ips:
        # The address stays shown after the end of the pod, as upstream does.
        ips = tuple(entry["ip"] for entry in old.get("podIPs") or [])
    if ips:
        status["podIP"] = ips[0]
        status["podIPs"] = [{"ip": ip} for ip in ips]


# Containers


def container_statuses(
    pod: Pod, specs: list[Object], old_statuses: list[Status] | None, runtime: PodRuntime, inputs: Inputs, *, init: bool
) -> list[Status]:
    """One status a container, in the order of the spec."""
    old_by_name = {s["name"]: s for s in old_statuses or []}
    initializing = bool(pod_spec.init_containers(pod))
    default_reason = POD_INITIALIZING if initializing else CONTAINER_CREATING
    answer = []
    for spec in specs:
        attempts = runtime.attempts(spec["name"])
        old = old_by_name.get(spec["name"])
        status = _from_runtime(spec, attempts, inputs) if attempts else _without_runtime(pod, spec, old, default_reason, inputs)
        _apply_waiting(pod, spec, status, runtime, inputs)
        _ready_and_started(spec, status, attempts, inputs, init=init)
        if inputs.release >= (1, 31):
            if mounts := _volume_mounts(spec):
                status["volumeMounts"] = mounts
        if inputs.release >= (1, 33):
            _resources(spec, status, attempts)
        answer.append(status)
    return answer


def terminated_state(container: Container) -> Object:
    """`state.terminated`; reason and message as the kubelet completes them."""
    reason = container.reason or ("Completed" if container.exit_code == 0 else "Error")
    state: Object = {"exitCode": container.exit_code, "reason": reason}
    if container.message:
        state["message"] = container.message
    state["startedAt"] = timestamps.format_time(container.started_at) if container.started_at else None
    state["finishedAt"] = timestamps.format_time(container.finished_at) if container.finished_at else None
    state["containerID"] = RUNTIME_PREFIX + container.id
    return {"terminated": state}


def _state(container: Container, default_reason: str) -> Object:
    if container.state is ContainerState.RUNNING:
        return {"running": {"startedAt": timestamps.format_time(container.started_at)}}
    if container.state is ContainerState.EXITED:
        return terminated_state(container)
    if container.state is ContainerState.UNKNOWN:
        return {
            "terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": _UNKNOWN_MESSAGE, "startedAt": None, "finishedAt": None}
        }
    return {"waiting": {"reason": default_reason}}


_UNKNOWN_MESSAGE = "The container could not be located when the pod was terminated"
_LOST_MESSAGE = "The container could not be located when the pod was deleted.  The container used to be Running"


def _from_runtime(spec: Object, attempts: list[Container], inputs: Inputs) -> Status:
    latest = attempts[0]
    status: Status = {
        "name": spec["name"],
        "state": _state(latest, CONTAINER_CREATING),
        "lastState": {},
        "ready": False,
        "restartCount": latest.restart_count,
        "image": latest.image or spec.get("image", ""),
        "imageID": latest.image_id,
        "containerID": RUNTIME_PREFIX + latest.id,
    }
    if len(attempts) > 1 and attempts[1].state is ContainerState.EXITED:
        status["lastState"] = terminated_state(attempts[1])
    if latest.uid is not None and inputs.release >= (1, 31):
        status["user"] = {"linux": {"uid": latest.uid, "gid": latest.gid or 0, "supplementalGroups": [latest.gid or 0]}}
    return status


def _without_runtime(pod: Pod, spec: Object, old: Status | None, default_reason: str, inputs: Inputs) -> Status:
    """A container the runtime does not know (yet, or any more)."""
    status: Status = {
        "name": spec["name"],
        "state": {"waiting": {"reason": default_reason}},
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "image": spec.get("image", ""),
        "imageID": "",
    }
    if old is None:
        if inputs.is_terminal:
            status["state"] = {
                "terminated": {
                    "exitCode": 137,
                    "reason": "ContainerStatusUnknown",
                    "message": _UNKNOWN_MESSAGE,
                    "startedAt": None,
                    "finishedAt": None,
                }
            }
        return status
    status["restartCount"] = old.get("restartCount", 0)
    status["lastState"] = old.get("lastState") or {}
    if (old.get("state") or {}).get("terminated"):
        # It ended and was garbage-collected: what we reported stays true.
        status["state"] = old["state"]
        for name in ("imageID", "containerID"):
            if old.get(name):
                status[name] = old[name]
        return status
    if (old.get("state") or {}).get("running"):
        # It ran and is gone without a trace (a reboot, the runtime's store lost): counted as one end.
        lost = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": _LOST_MESSAGE, "startedAt": None, "finishedAt": None}
        if inputs.is_terminal:
            status["state"] = {"terminated": lost}
        else:
            status["lastState"] = {"terminated": lost}
            status["restartCount"] += 1
    elif inputs.is_terminal:
        status["state"] = {
            "terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": _UNKNOWN_MESSAGE, "startedAt": None, "finishedAt": None}
        }
    return status


def _apply_waiting(pod: Pod, spec: Object, status: Status, runtime: PodRuntime, inputs: Inputs) -> None:
    """A container that could not be started waits, and says why; its last end moves to lastState."""
    waiting = inputs.waiting.get(spec["name"])
    if waiting is None or inputs.is_terminal or not pod_actions.should_be_restarted(pod, spec, runtime):
        return
    if status["state"].get("terminated"):
        status["lastState"] = status["state"]
    reason, message = waiting
    status["state"] = {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def _ready_and_started(spec: Object, status: Status, attempts: list[Container], inputs: Inputs, *, init: bool) -> None:
    running = bool(status["state"].get("running"))
    container_id = attempts[0].id if attempts else ""
    started = running and inputs.started.get(container_id, not spec.get("startupProbe"))
    status["started"] = started
    if init and not pod_spec.is_sidecar(spec):
        terminated = status["state"].get("terminated")
        status["ready"] = bool(terminated and terminated["exitCode"] == 0)
    else:
        status["ready"] = started and inputs.ready.get(container_id, not spec.get("readinessProbe"))


def _volume_mounts(spec: Object) -> list[Object]:
    mounts = []
    for mount in spec.get("volumeMounts") or []:
        entry = {"name": mount["name"], "mountPath": mount["mountPath"]}
        if mount.get("readOnly"):
            entry |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
        mounts.append(entry)
    return mounts


def _resources(spec: Object, status: Status, attempts: list[Container]) -> None:
    resources = spec.get("resources") or {}
    if resources.get("requests"):
        status["allocatedResources"] = resources["requests"]
    if attempts and attempts[0].state is ContainerState.RUNNING:
        status["resources"] = {k: v for k, v in resources.items() if k in ("limits", "requests")}


# Phase


def phase(pod: Pod, status: Status, is_terminal: bool) -> str:
    """upstream's getPhase."""
    init_statuses = {s["name"]: s for s in status.get("initContainerStatuses") or []}
    pending = failed = 0
    for spec in pod_spec.init_containers(pod):
        known = init_statuses.get(spec["name"])
        if pod_spec.is_sidecar(spec):
            # A sidecar that has started once does not hold the pod back when it restarts.
            if known is None or not (known.get("started") or known["state"].get("terminated") or known.get("lastState")):
                pending += 1
            continue
        if known is None or known["state"].get("running"):
            pending += 1
        elif terminated := known["state"].get("terminated"):
            failed += terminated["exitCode"] != 0
        else:
            last = (known.get("lastState") or {}).get("terminated")
            failed += bool(last and last["exitCode"] != 0)
            pending += not (last and last["exitCode"] != 0)
    statuses = {s["name"]: s for s in status["containerStatuses"]}
    running = waiting = stopped = succeeded = unknown = 0
    for spec in pod_spec.containers(pod):
        known = statuses.get(spec["name"])
        if known is None:
            unknown += 1
        elif known["state"].get("running"):
            running += 1
        elif terminated := known["state"].get("terminated"):
            stopped += 1
            succeeded += terminated["exitCode"] == 0
        elif (known.get("lastState") or {}).get("terminated"):
            stopped += 1
        else:
            waiting += 1
    policy = pod_spec.restart_policy(pod)
    if failed and policy == "Never":
        return "Failed"
    if is_terminal and stopped and not running:
        return "Succeeded" if stopped == succeeded and not pending else "Failed"
    if pending or failed or waiting:
        return "Pending"
    if running and not unknown:
        return "Running"
    if not running and stopped and not unknown:
        if policy == "Always":
            return "Running"
        if stopped == succeeded:
            return "Succeeded"
        return "Failed" if policy == "Never" else "Running"
    return "Pending"


# Conditions


def conditions(pod: Pod, runtime: PodRuntime, status: Status, old: list[Object], inputs: Inputs) -> list[Object]:
    """The kubelet's conditions; those of others (readiness gates, DisruptionTarget) are kept as they are."""
    own: list[Object] = []
    if inputs.release >= (1, 29):
        own.append({"type": "PodReadyToStartContainers", "status": "True" if runtime.ready_sandbox else "False"})
    own.append({"type": "Initialized", **_initialized(pod, status)})
    containers_ready = _containers_ready(pod, status)
    own.append({"type": "Ready", **_ready(pod, old, containers_ready)})
    own.append({"type": "ContainersReady", **containers_ready})
    own.append({"type": "PodScheduled", "status": "True"})
    by_type = {c["type"]: c for c in old}
    generation = pod["metadata"].get("generation") if inputs.release >= (1, 34) else None
    for condition in own:
        before = by_type.get(condition["type"])
        unchanged = before is not None and before.get("status") == condition["status"]
        condition["lastProbeTime"] = None
        condition["lastTransitionTime"] = (before or {}).get("lastTransitionTime") if unchanged else timestamps.format_time(inputs.now)
        if generation:
            condition["observedGeneration"] = generation
    names = {c["type"] for c in own}
    return own + [c for c in old if c["type"] not in names]


def _completed(status: Status) -> Object | None:
    if status["phase"] == "Succeeded":
        return {"status": "False", "reason": "PodCompleted"}
    if status["phase"] == "Failed":
        return {"status": "False", "reason": "PodFailed"}
    return None


def _initialized(pod: Pod, status: Status) -> Object:
    if status["phase"] == "Succeeded":
        return {"status": "True", "reason": "PodCompleted"}
    known = {s["name"]: s for s in status.get("initContainerStatuses") or []}
    if any(s["state"].get("running") or s["state"].get("terminated") for s in status["containerStatuses"]):
        return {"status": "True"}
    incomplete, unknown = [], []
    for spec in pod_spec.init_containers(pod):
        entry = known.get(spec["name"])
        if entry is None:
            unknown.append(spec["name"])
        elif not (entry.get("started") if pod_spec.is_sidecar(spec) else entry["ready"]):
            incomplete.append(spec["name"])
    return _incomplete("ContainersNotInitialized", [("unknown", unknown), ("incomplete", incomplete)])


def _containers_ready(pod: Pod, status: Status) -> Object:
    if completed := _completed(status):
        return completed
    known = {s["name"]: s for s in [*(status.get("initContainerStatuses") or []), *status["containerStatuses"]]}
    unready, unknown = [], []
    for spec in [*(c for c in pod_spec.init_containers(pod) if pod_spec.is_sidecar(c)), *pod_spec.containers(pod)]:
        entry = known.get(spec["name"])
        if entry is None:
            unknown.append(spec["name"])
        elif not entry["ready"]:
            unready.append(spec["name"])
    return _incomplete("ContainersNotReady", [("unknown", unknown), ("unready", unready)])


def _incomplete(reason: str, groups: list[tuple[str, list[str]]]) -> Object:
    messages = [f"containers with {adjective} status: [{' '.join(names)}]" for adjective, names in groups if names]
    return {"status": "False", "reason": reason, "message": ", ".join(messages)} if messages else {"status": "True"}


def _ready(pod: Pod, old: list[Object], containers_ready: Object) -> Object:
    if containers_ready["status"] != "True":
        return dict(containers_ready)
    messages = []
    for gate in pod["spec"].get("readinessGates") or []:
        kind = gate["conditionType"]
        condition = next((c for c in old if c["type"] == kind), None)
        if condition is None:
            messages.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif condition.get("status") != "True":
            messages.append(f'the status of pod readiness gate "{kind}" is not "True", but {condition.get("status")}')
    return {"status": "False", "reason": "ReadinessGatesNotReady", "message": ", ".join(messages)} if messages else {"status": "True"}
