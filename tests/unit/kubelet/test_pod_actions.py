"""Stories of what a sync does, from an empty node to the pod's end."""

from typing import Any

import pytest

from kubette.kubelet.pod_actions import PodActions, ProbeResults, compute_pod_actions
from kubette.kubelet.probe_state import Result
from kubette.kubelet.runtime_state import PodRuntime

from .builders import CREATED, EXITED, NOTHING, UNKNOWN, container, pod, ran, runtime, sidecar


def plan(a_pod: dict[str, Any], state: PodRuntime, **results: dict[str, Result]) -> PodActions:
    return compute_pod_actions(a_pod, state, ProbeResults(**results))


def test_a_new_pod_gets_a_sandbox_and_all_its_containers() -> None:
    actions = plan(pod(container("a"), container("b")), NOTHING)
    assert (actions.create_sandbox, actions.attempt, actions.start) == (True, 0, ["a", "b"])


def test_a_running_pod_is_left_alone() -> None:
    actions = plan(pod(), runtime(ran("web")))
    assert actions == PodActions(sandbox_id="s0")


def test_init_containers_run_one_after_the_other() -> None:
    a_pod = pod(init=[container("one"), container("two")])
    assert plan(a_pod, NOTHING).start_init == ["one"]
    assert plan(a_pod, runtime(ran("one"))).start_init == []
    assert plan(a_pod, runtime(ran("one", EXITED))).start_init == ["two"]
    actions = plan(a_pod, runtime(ran("one", EXITED), ran("two", EXITED)))
    assert (actions.start_init, actions.start) == ([], ["web"])


@pytest.mark.parametrize(("policy", "again", "killed"), [("Always", ["one"], False), ("OnFailure", ["one"], False), ("Never", [], True)])
def test_a_failed_init_container_follows_the_restart_policy(policy: str, again: list[str], killed: bool) -> None:
    actions = plan(pod(init=[container("one")], policy=policy), runtime(ran("one", EXITED, 1)))
    assert (actions.start_init, actions.kill_pod, actions.start) == (again, killed, [])


def test_a_sidecar_holds_back_what_follows_only_until_it_has_started() -> None:
    a_pod = pod(init=[sidecar("proxy", startupProbe={"periodSeconds": 1}), container("one")])
    assert plan(a_pod, runtime(ran("proxy"))).start_init == []
    started = plan(a_pod, runtime(ran("proxy")), startup={"proxy-0": Result.SUCCESS})
    assert started.start_init == ["one"]


def test_a_sidecar_that_dies_beside_running_containers_is_restarted_alone() -> None:
    actions = plan(pod(init=[sidecar("proxy")]), runtime(ran("proxy", EXITED, 1), ran("web")))
    assert (actions.start_init, actions.start, actions.kill_pod) == (["proxy"], [], False)


def test_sidecars_end_with_the_last_container() -> None:
    actions = plan(pod(init=[sidecar("proxy")], policy="Never"), runtime(ran("proxy"), ran("web", EXITED)))
    assert (actions.kill_pod, actions.start_init) == (True, [])


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [("Always", 0, ["web"]), ("Always", 1, ["web"]), ("OnFailure", 1, ["web"]), ("OnFailure", 0, []), ("Never", 1, [])],
)
def test_restart_policy_decides_over_an_exited_container(policy: str, code: int, expected: list[str]) -> None:
    assert plan(pod(policy=policy), runtime(ran("web", EXITED, code))).start == expected


def test_a_container_created_but_never_started_is_started_anew() -> None:
    assert plan(pod(), runtime(ran("web", CREATED))).start == ["web"]


def test_a_container_in_unknown_state_is_killed_before_it_is_started() -> None:
    actions = plan(pod(), runtime(ran("web", UNKNOWN)))
    assert (actions.start, [k.container.id for k in actions.kill]) == (["web"], ["web-0"])


def test_a_failed_liveness_probe_restarts_the_container() -> None:
    actions = plan(pod(), runtime(ran("web")), liveness={"web-0": Result.FAILURE})
    assert actions.start == ["web"]
    assert [(k.message, k.reason) for k in actions.kill] == [("Container web failed liveness probe, will be restarted", "LivenessProbe")]


def test_a_pod_that_never_restarts_is_only_killed_by_its_liveness_probe() -> None:
    actions = plan(pod(policy="Never"), runtime(ran("web")), liveness={"web-0": Result.FAILURE})
    assert (actions.start, len(actions.kill), actions.kill_pod) == ([], 1, True)


def test_another_image_makes_another_container() -> None:
    actions = plan(pod(container("web", "nginx:2")), runtime(ran("web", image="nginx:1")))
    assert actions.start == ["web"]
    assert actions.kill[0].message == "Container web definition changed, will be restarted"


def test_a_dead_sandbox_takes_the_pod_with_it_and_init_runs_again() -> None:
    a_pod = pod(init=[container("one")])
    actions = plan(a_pod, runtime(ran("one", EXITED), ran("web"), ready=False))
    assert (actions.kill_pod, actions.create_sandbox, actions.attempt, actions.start_init) == (True, True, 1, ["one"])
    # In the new sandbox the old init container does not count.
    second = runtime(ran("one", EXITED, sandbox="s0"), ran("web", EXITED, sandbox="s0"), attempt=1)
    assert plan(a_pod, second).start_init == ["one"]


def test_a_finished_pod_gets_no_new_sandbox() -> None:
    actions = plan(pod(policy="Never"), runtime(ran("web", EXITED), ready=False))
    assert (actions.kill_pod, actions.create_sandbox) == (True, False)
    succeeded = plan(pod(policy="OnFailure"), runtime(ran("web", EXITED), ready=False))
    assert (succeeded.kill_pod, succeeded.create_sandbox) == (True, False)


def test_only_what_has_not_succeeded_starts_in_a_new_sandbox() -> None:
    a_pod = pod(container("a"), container("b"), policy="OnFailure")
    actions = plan(a_pod, runtime(ran("a", EXITED), ran("b", EXITED, 1), ready=False))
    assert (actions.create_sandbox, actions.start) == (True, ["b"])


def test_an_ephemeral_container_starts_once() -> None:
    a_pod = pod(ephemeralContainers=[container("debug")])
    assert plan(a_pod, runtime(ran("web"))).start_ephemeral == ["debug"]
    assert plan(a_pod, runtime(ran("web"), ran("debug", EXITED))).start_ephemeral == []


def test_nothing_starts_in_a_pod_that_is_being_deleted() -> None:
    a_pod = pod()
    a_pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert plan(a_pod, runtime(ran("web", EXITED, 1))).start == []
