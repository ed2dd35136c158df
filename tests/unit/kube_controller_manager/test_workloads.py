"""Expectations, ownership, DaemonSets, StatefulSets, Jobs and CronJobs: the pure parts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubette.apimachinery import selectors, timestamps
from kubette.kube_controller_manager import ownership
from kubette.kube_controller_manager.cronjob import plan as cron
from kubette.kube_controller_manager.daemonset import nodes
from kubette.kube_controller_manager.daemonset import plan as daemon
from kubette.kube_controller_manager.expectations import TIMEOUT_S, Expectations, slow_start_batches
from kubette.kube_controller_manager.job import indexes
from kubette.kube_controller_manager.job import plan as job_plan
from kubette.kube_controller_manager.statefulset import plan as stateful

Object = dict[str, Any]
NOW = 1_800_000_000.0


def test_a_cache_is_trusted_again_when_all_that_was_asked_for_has_shown_up() -> None:
    expected = Expectations()
    expected.expect_creations("k", 2, now=0.0)
    expected.creation_observed("k")
    assert not expected.satisfied("k", 1.0)
    expected.creation_observed("k")
    assert expected.satisfied("k", 1.0)
    expected.expect_deletions("k", ["a", "b"], now=0.0)
    expected.deletion_observed("k", "a")
    expected.deletion_observed("k", "a")
    assert not expected.satisfied("k", 1.0)
    assert expected.satisfied("k", TIMEOUT_S + 1)


def test_slow_start_doubles() -> None:
    assert slow_start_batches(10) == [1, 2, 4, 3]
    assert slow_start_batches(0) == []


def test_ownership_is_by_uid_and_strangers_are_left_alone() -> None:
    owner = {"metadata": {"name": "rs", "uid": "new"}}
    selector = selectors.parse_label_selector("app=web")

    def child(name: str, uid: str = "", labels: str = "web", deleting: bool = False) -> Object:
        metadata: Object = {"name": name, "labels": {"app": labels}}
        if uid:
            metadata["ownerReferences"] = [{"uid": uid, "name": "rs", "controller": True}]
        if deleting:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        return {"metadata": metadata}

    children = [child("mine", "new"), child("stranger", "old"), child("orphan"), child("lost", "new", "other"), child("dying", deleting=True)]
    claims = ownership.claim(owner, selector, children)
    names = [[c["metadata"]["name"] for c in part] for part in (claims.owned, claims.adopt, claims.release)]
    assert names == [["mine"], ["orphan"], ["lost"]]
    going = {"metadata": {**owner["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert ownership.claim(going, selector, children).adopt == []


# DaemonSets


def daemon_set(**spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": "agent"}}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}
    return {"metadata": {"name": "agent", "namespace": "d", "uid": "ds", "generation": 1}, "spec": {"template": template}}


def node(name: str, taints: list[Object] | None = None, labels: dict[str, str] | None = None) -> Object:
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": {"taints": taints or []}}


def daemon_pod(name: str, node_name: str, revision: str = "new", ready: bool = True, phase: str = "Running") -> Object:
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"controller-revision-hash": revision}},
        "spec": {"nodeName": node_name},
        "status": {"phase": phase, "conditions": [condition]},
    }


@pytest.mark.parametrize(
    ("taint", "run", "stay"),
    [
        ({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, True, True),
        ({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}, True, True),
        ({"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}, False, True),
        ({"key": "mine", "effect": "NoExecute"}, False, False),
        ({"key": "mine", "effect": "PreferNoSchedule"}, True, True),
    ],
)
def test_daemons_tolerate_a_nodes_troubles_but_not_its_owners_taints(taint: Object, run: bool, stay: bool) -> None:
    assert nodes.should_run(daemon_set(), node("n", [taint])) == (run, stay)


def test_a_daemon_goes_where_selector_and_affinity_say() -> None:
    selecting = daemon_set(nodeSelector={"disk": "ssd"})
    assert nodes.should_run(selecting, node("n", labels={"disk": "ssd"})) == (True, True)
    assert nodes.should_run(selecting, node("n")) == (False, False)
    made = nodes.new_pod(selecting, "n", "h")
    assert nodes.node_of(made) == "n"
    assert "affinity" not in selecting["spec"]["template"]["spec"]


def test_one_daemon_a_node_failed_ones_replaced_misplaced_ones_removed() -> None:
    all_nodes = [node("a"), node("b"), node("c"), node("bad", [{"key": "x", "effect": "NoExecute"}])]
    owned = [daemon_pod("a1", "a"), daemon_pod("a2", "a"), daemon_pod("b1", "b", phase="Failed"), daemon_pod("bad1", "bad")]
    decided = daemon.plan_manage(daemon_set(), all_nodes, owned)
    assert decided.create == ["c"]
    assert sorted(p["metadata"]["name"] for p in decided.delete) == ["a2", "b1", "bad1"]


def test_a_daemon_update_replaces_useless_pods_at_once_and_useful_ones_one_by_one() -> None:
    all_nodes = [node("a"), node("b"), node("c")]
    healthy = [daemon_pod(n, n, "old") for n in "abc"]
    assert len(daemon.plan_update(daemon_set(), all_nodes, healthy, "new", NOW).delete) == 1
    one_broken = [daemon_pod("a", "a", "old", ready=False), *healthy[1:]]
    assert [p["metadata"]["name"] for p in daemon.plan_update(daemon_set(), all_nodes, one_broken, "new", NOW).delete] == ["a"]
    one_starting = [daemon_pod("a", "a", "new", ready=False), *healthy[1:]]
    assert daemon.plan_update(daemon_set(), all_nodes, one_starting, "new", NOW).delete == []


# StatefulSets


def stateful_set(replicas: int = 3, **spec: Any) -> Object:
    return {"metadata": {"name": "db", "namespace": "d", "uid": "s", "generation": 1}, "spec": {"replicas": replicas, **spec}, "status": {}}


def member(number: int, revision: str = "r1", ready: bool = True, deleting: bool = False) -> Object:
    found = daemon_pod(f"db-{number}", "n", revision, ready)
    if deleting:
        found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return found


def decided(obj: Object, pods: list[Object], update: str = "r1") -> tuple[list[tuple[int, bool]], list[str]]:
    found = stateful.plan_set(obj, pods, "r1", update, NOW)
    return found.create, [p["metadata"]["name"] for p in found.delete]


def test_members_come_one_after_the_other_and_go_in_reverse() -> None:
    assert decided(stateful_set(), []) == ([(0, True)], [])
    assert decided(stateful_set(), [member(0, ready=False)]) == ([], [])
    assert decided(stateful_set(), [member(0)]) == ([(1, True)], [])
    assert decided(stateful_set(1), [member(0), member(1), member(2)]) == ([], ["db-2"])
    assert decided(stateful_set(podManagementPolicy="Parallel"), []) == ([(0, True), (1, True), (2, True)], [])


def test_a_member_on_its_way_out_is_waited_for_never_doubled() -> None:
    assert decided(stateful_set(), [member(0, deleting=True), member(1), member(2)]) == ([], [])


def test_an_update_goes_from_the_top_and_remakes_each_with_the_new_revision() -> None:
    assert decided(stateful_set(), [member(0), member(1), member(2)], "r2") == ([], ["db-2"])
    assert decided(stateful_set(), [member(0), member(1)], "r2") == ([(2, True)], [])
    assert decided(stateful_set(), [member(0), member(1), member(2, "r2", ready=False)], "r2") == ([], [])
    assert decided(stateful_set(), [member(0), member(1), member(2, "r2")], "r2") == ([], ["db-1"])


def test_a_member_that_crashes_before_its_turn_comes_back_as_it_was() -> None:
    assert decided(stateful_set(), [member(1), member(2, "r2")], "r2") == ([(0, False)], [])


# Jobs


def job(**spec: Any) -> Object:
    return {
        "metadata": {"name": "pi", "namespace": "d", "uid": "j", "creationTimestamp": timestamps.format_time(NOW)},
        "spec": {"parallelism": 2, "completions": 3, "backoffLimit": 2, "template": {"spec": {"restartPolicy": "Never"}}, **spec},
        "status": {"startTime": timestamps.format_time(NOW)},
    }


def worker(uid: str, phase: str, held: bool = True, index: int | None = None) -> Object:
    metadata: Object = {"name": uid, "namespace": "d", "uid": uid, "creationTimestamp": timestamps.format_time(NOW)}
    if held:
        metadata["finalizers"] = [job_plan.FINALIZER]
    if index is not None:
        metadata["annotations"] = {indexes.ANNOTATION: str(index)}
    return {"metadata": metadata, "spec": {"nodeName": "n"}, "status": {"phase": phase}}


def test_a_finished_pod_is_noted_then_released_then_counted_once() -> None:
    obj, pods = job(), [worker("a", "Succeeded"), worker("b", "Running")]
    first = job_plan.plan_job(obj, pods, True, NOW)
    assert first.status is not None
    assert (first.status["succeeded"], first.status["uncountedTerminatedPods"]) == (0, {"succeeded": ["a"]})
    assert [p["metadata"]["uid"] for p in first.release] == ["a"]
    # A crash after the status was written changes nothing: the same again.
    obj["status"] = first.status
    repeated = job_plan.plan_job(obj, pods, True, NOW)
    assert repeated.status is None or repeated.status["uncountedTerminatedPods"] == {"succeeded": ["a"]}
    pods[0]["metadata"]["finalizers"] = []
    second = job_plan.plan_job(obj, pods, True, NOW)
    assert second.status is not None
    assert (second.status["succeeded"], second.status["uncountedTerminatedPods"]) == (1, {})


def test_a_job_runs_no_more_pods_than_are_still_needed() -> None:
    obj = job()
    obj["status"]["succeeded"] = 2
    assert len(job_plan.plan_job(obj, [], True, NOW).create) == 1
    assert len(job_plan.plan_job(obj, [], False, NOW).create) == 0


def test_the_last_word_is_spoken_only_when_all_pods_are_counted() -> None:
    obj = job(completions=1, parallelism=1)
    pods = [worker("a", "Succeeded")]
    first = job_plan.plan_job(obj, pods, True, NOW)
    assert first.status is not None
    assert [c["type"] for c in first.status["conditions"]] == ["SuccessCriteriaMet"]
    obj["status"] = first.status
    last = job_plan.plan_job(obj, [worker("a", "Succeeded", held=False)], True, NOW)
    assert last.status is not None
    assert [c["type"] for c in last.status["conditions"]] == ["SuccessCriteriaMet", "Complete"]
    assert last.events == [("Normal", "Completed", "Job completed")]


def test_failures_beyond_the_limit_end_the_job_and_its_pods() -> None:
    obj = job()
    obj["status"]["failed"] = 3
    decided_job = job_plan.plan_job(obj, [worker("a", "Running")], True, NOW)
    assert [p["metadata"]["uid"] for p in decided_job.delete] == ["a"]
    assert decided_job.status is not None
    assert decided_job.status["conditions"][0]["reason"] == "BackoffLimitExceeded"


def test_after_a_failure_the_next_pod_waits() -> None:
    decided_job = job_plan.plan_job(job(), [worker("a", "Failed", held=False)], True, NOW + 1)
    assert decided_job.create == []
    assert decided_job.check_after_s == pytest.approx(9.0)
    assert len(job_plan.plan_job(job(), [worker("a", "Failed", held=False)], True, NOW + 11).create) == 2


def test_an_indexed_job_fills_the_gaps() -> None:
    obj = job(completionMode="Indexed", completions=4)
    obj["status"]["completedIndexes"] = "0,2"
    assert job_plan.plan_job(obj, [worker("a", "Running", index=1)], True, NOW).create == [3]


@given(st.sets(st.integers(0, 40)))
def test_completed_indexes_survive_being_written(found: set[int]) -> None:
    assert indexes.parse(indexes.show(found), 100) == found


# CronJobs


def cron_job(schedule: str, last: float, **spec: Any) -> Object:
    metadata = {"name": "tick", "namespace": "d", "uid": "c", "creationTimestamp": timestamps.format_time(last)}
    return {"metadata": metadata, "spec": {"schedule": schedule, "jobTemplate": {"spec": {}}, **spec}}


def test_a_cron_job_is_due_at_the_last_of_its_missed_times() -> None:
    noon = timestamps.parse_time("2026-05-01T12:00:00Z")
    assert cron.due(cron_job("*/5 * * * *", noon), noon + 60).at is None
    found = cron.due(cron_job("*/5 * * * *", noon), noon + 660)
    assert (found.at, found.missed, found.next_at) == (noon + 600, 2, noon + 900)
    assert cron.due(cron_job("@hourly", noon), noon + 10).next_at == noon + 3600
    assert cron.new_job(cron_job("@hourly", noon), noon)["metadata"]["name"] == f"tick-{int(noon) // 60}"


def test_a_cron_job_lives_in_its_time_zone_and_does_not_drown_in_missed_starts() -> None:
    start = timestamps.parse_time("2026-05-01T00:00:00Z")
    berlin = cron.due(cron_job("0 12 * * *", start, timeZone="Europe/Berlin"), start)
    assert timestamps.format_time(berlin.next_at or 0) == "2026-05-01T10:00:00Z"
    long_asleep = cron.due(cron_job("* * * * *", start), start + 86400 * 30)
    assert long_asleep.missed > cron.MISSED_STARTS_MAX
    assert long_asleep.at == start + 86400 * 30
    with pytest.raises(cron.ScheduleError):
        cron.due(cron_job("not a schedule", start), start)
    with pytest.raises(cron.ScheduleError, match="unknown time zone"):
        cron.due(cron_job("* * * * *", start, timeZone="Mars/Base"), start)
