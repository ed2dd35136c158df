"""Where a waiting pod is, told as stories with a hand-held clock."""

from typing import Any

from kubette.kube_scheduler.cache import Cache
from kubette.kube_scheduler.queue import SchedulingQueue


def pod(name: str, priority: int = 0) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"priority": priority, "containers": []}}


def popped(queue: SchedulingQueue) -> str | None:
    waiting = queue.pop_nowait()
    return waiting.pod["metadata"]["name"] if waiting else None


def test_important_pods_first_then_the_oldest() -> None:
    queue = SchedulingQueue()
    for name, priority, at in (("a", 0, 1.0), ("b", 10, 2.0), ("c", 0, 0.5)):
        queue.add(pod(name, priority), at)
    assert [popped(queue), popped(queue), popped(queue), popped(queue)] == ["b", "c", "a", None]


def test_an_unschedulable_pod_waits_for_a_change_and_then_for_its_backoff() -> None:
    queue = SchedulingQueue()
    queue.add(pod("a"), 0.0)
    assert popped(queue) == "a"
    queue.failed("default/a", 0.0)
    queue.advance(100.0)
    assert popped(queue) is None
    queue.move_all(0.5)
    assert popped(queue) is None
    assert queue.next_due() == 1.0
    queue.advance(1.0)
    assert popped(queue) == "a"


def test_a_change_during_the_attempt_is_not_lost() -> None:
    queue = SchedulingQueue()
    queue.add(pod("a"), 0.0)
    popped(queue)
    queue.move_all(0.1)
    queue.failed("default/a", 0.2)
    assert queue.pending() == {"active": 0, "backoff": 1, "unschedulable": 0}


def test_a_deleted_pod_is_never_handed_out() -> None:
    queue = SchedulingQueue()
    queue.add(pod("a"), 0.0)
    queue.delete("default/a")
    assert popped(queue) is None
    queue.failed("default/a", 0.0)
    assert queue.pending() == {"active": 0, "backoff": 0, "unschedulable": 0}


def test_an_assumed_pod_counts_until_its_binding_fails() -> None:
    cache = Cache()
    cache.set_node({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "1"}}})
    cache.assume_pod(pod("a"), "n")
    assert list(cache.nodes()[0].pods) == ["default/a"]
    cache.forget_pod("default/a")
    assert not cache.nodes()[0].pods
    bound = pod("b")
    bound["spec"]["nodeName"] = "n"
    cache.assume_pod(pod("b"), "n")
    cache.set_pod(bound)
    cache.forget_pod("default/b")
    assert list(cache.nodes()[0].pods) == ["default/b"]
    cache.remove_pod("default/b")
    assert not cache.nodes()[0].pods


def test_pods_of_a_node_that_comes_later_are_counted_when_it_does() -> None:
    cache = Cache()
    bound = pod("a")
    bound["spec"]["nodeName"] = "late"
    cache.set_pod(bound)
    cache.set_node({"metadata": {"name": "late"}, "status": {}})
    assert list(cache.nodes()[0].pods) == ["default/a"]
