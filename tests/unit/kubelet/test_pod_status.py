"""The status the API shows: phase, conditions, container states and reasons."""

from typing import Any

from kubette.kubelet.pod_status import Inputs, Status, compute_status
from kubette.kubelet.runtime_state import PodRuntime

from .builders import EXITED, NOTHING, container, pod, ran, runtime, sidecar

NOW = 1_000_000.0


def status(a_pod: dict[str, Any], state: PodRuntime, **inputs: Any) -> Status:
    return compute_status(a_pod, state, Inputs(now=NOW, release=(1, 34), host_ips=("192.168.56.12",), **inputs))


def conditions(found: Status) -> dict[str, str]:
    return {c["type"]: c["status"] for c in found["conditions"]}


def test_a_pod_not_yet_started_waits() -> None:
    found = status(pod(), NOTHING)
    assert found["phase"] == "Pending"
    assert found["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert conditions(found) == {
        "PodReadyToStartContainers": "False",
        "Initialized": "True",
        "Ready": "False",
        "ContainersReady": "False",
        "PodScheduled": "True",
    }
    ready = next(c for c in found["conditions"] if c["type"] == "Ready")
    assert (ready["reason"], ready["message"]) == ("ContainersNotReady", "containers with unready status: [web]")


def test_a_running_pod_without_probes_is_ready() -> None:
    found = status(pod(), runtime(ran("web")))
    assert (found["phase"], found["podIP"], found["hostIP"]) == ("Running", "10.244.1.2", "192.168.56.12")
    assert found["containerStatuses"][0]["ready"] is True
    assert set(conditions(found).values()) == {"True"}


def test_containers_behind_init_containers_say_so() -> None:
    found = status(pod(init=[container("one")]), runtime(ran("one")))
    assert found["phase"] == "Pending"
    assert found["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    initialized = next(c for c in found["conditions"] if c["type"] == "Initialized")
    assert (initialized["status"], initialized["message"]) == ("False", "containers with incomplete status: [one]")


def test_crash_loop_waits_with_the_last_end_beside_it() -> None:
    waiting = {"web": ("CrashLoopBackOff", "back-off 10s restarting failed container=web pod=web_default(1234)")}
    found = status(pod(), runtime(ran("web", EXITED, 3, attempt=1), ran("web", EXITED, 3)), waiting=waiting)
    entry = found["containerStatuses"][0]
    assert entry["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert entry["lastState"]["terminated"]["exitCode"] == 3
    assert (entry["restartCount"], found["phase"]) == (1, "Running")


def test_a_reason_to_wait_does_not_hide_a_container_that_shall_not_restart() -> None:
    found = status(pod(policy="Never"), runtime(ran("web", EXITED, 3)), waiting={"web": ("CrashLoopBackOff", "")})
    assert found["containerStatuses"][0]["state"]["terminated"]["reason"] == "Error"


def test_phases_of_pods_that_ended() -> None:
    assert status(pod(policy="Never"), runtime(ran("web", EXITED)))["phase"] == "Succeeded"
    assert status(pod(policy="Never"), runtime(ran("web", EXITED, 1)))["phase"] == "Failed"
    assert status(pod(policy="OnFailure"), runtime(ran("web", EXITED, 1)))["phase"] == "Running"
    assert status(pod(), runtime(ran("web", EXITED)))["phase"] == "Running"
    assert status(pod(), runtime(ran("web", EXITED)), is_terminal=True)["phase"] == "Succeeded"
    assert status(pod(init=[container("one")], policy="Never"), runtime(ran("one", EXITED, 1)))["phase"] == "Failed"


def test_a_completed_pod_is_unready_and_says_why() -> None:
    found = status(pod(policy="Never"), runtime(ran("web", EXITED)))
    reasons = {c["type"]: c.get("reason") for c in found["conditions"]}
    assert (reasons["Ready"], reasons["ContainersReady"], reasons["Initialized"]) == ("PodCompleted", "PodCompleted", "PodCompleted")


def test_an_ended_pod_never_lives_again() -> None:
    a_pod = pod(policy="Never")
    a_pod["status"] = {"phase": "Failed", "containerStatuses": []}
    assert status(a_pod, NOTHING)["phase"] == "Failed"


def test_readiness_and_startup_follow_their_probes() -> None:
    a_pod = pod(container("web", readinessProbe={"periodSeconds": 1}, startupProbe={"periodSeconds": 1}))
    entry = status(a_pod, runtime(ran("web")))["containerStatuses"][0]
    assert (entry["started"], entry["ready"]) == (False, False)
    entry = status(a_pod, runtime(ran("web")), started={"web-0": True})["containerStatuses"][0]
    assert (entry["started"], entry["ready"]) == (True, False)
    entry = status(a_pod, runtime(ran("web")), started={"web-0": True}, ready={"web-0": True})["containerStatuses"][0]
    assert (entry["started"], entry["ready"]) == (True, True)


def test_a_sidecar_counts_for_readiness() -> None:
    a_pod = pod(init=[sidecar("proxy", readinessProbe={"periodSeconds": 1})])
    found = status(a_pod, runtime(ran("proxy"), ran("web")))
    assert (found["phase"], conditions(found)["Ready"], conditions(found)["Initialized"]) == ("Running", "False", "True")


def test_a_condition_keeps_its_time_while_it_does_not_change() -> None:
    a_pod = pod()
    a_pod["status"] = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}
    found = status(a_pod, runtime(ran("web")))
    times = {c["type"]: c["lastTransitionTime"] for c in found["conditions"]}
    assert times["Ready"] == "2020-01-01T00:00:00Z"
    assert times["ContainersReady"] != "2020-01-01T00:00:00Z"


def test_others_conditions_and_readiness_gates_are_respected() -> None:
    a_pod = pod(readinessGates=[{"conditionType": "example.com/ok"}])
    found = status(a_pod, runtime(ran("web")))
    ready = next(c for c in found["conditions"] if c["type"] == "Ready")
    assert ready["message"] == 'corresponding condition of pod readiness gate "example.com/ok" does not exist.'
    a_pod["status"] = {"conditions": [{"type": "example.com/ok", "status": "True"}]}
    found = status(a_pod, runtime(ran("web")))
    assert conditions(found)["Ready"] == "True"
    assert "example.com/ok" in conditions(found)


def test_a_container_lost_in_a_reboot_counts_as_one_restart() -> None:
    a_pod = pod()
    a_pod["status"] = {
        "containerStatuses": [{"name": "web", "restartCount": 2, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "lastState": {}}]
    }
    entry = status(a_pod, NOTHING)["containerStatuses"][0]
    assert entry["restartCount"] == 3
    assert entry["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"


def test_an_evicted_pod_fails_with_its_reason() -> None:
    found = status(pod(), runtime(ran("web", EXITED, 137)), is_terminal=True, terminated_reason=("Evicted", "The node was low on resource: memory."))
    assert (found["phase"], found["reason"]) == ("Failed", "Evicted")


def test_the_release_decides_what_is_told() -> None:
    old = compute_status(pod(), runtime(ran("web")), Inputs(now=NOW, release=(1, 28), host_ips=("192.168.56.12",)))
    assert "PodReadyToStartContainers" not in conditions(old)
    assert "hostIPs" not in old
