"""The cache and the queue behind every controller."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from kubette.client.store import Store, by_namespace, by_node
from kubette.client.workqueue import WorkQueue
from kubette.stdx.backoff import Backoff


def pod(name: str, namespace: str = "default", node: str = "") -> dict:
    return {"metadata": {"name": name, "namespace": namespace, "uid": name}, "spec": {"nodeName": node} if node else {}}


@given(st.lists(st.tuples(st.sampled_from(["put", "remove"]), st.sampled_from("abc"), st.sampled_from(["", "n1", "n2"]))))
def test_an_index_always_equals_a_scan(steps: list[tuple[str, str, str]]) -> None:
    store = Store({"node": by_node, "namespace": by_namespace})
    for verb, name, node in steps:
        if verb == "put":
            store.put(pod(name, node=node))
        else:
            store.remove(f"default/{name}")
        for wanted in ("n1", "n2"):
            scanned = [o for o in store.list() if o["spec"].get("nodeName") == wanted]
            assert sorted(o["metadata"]["name"] for o in store.by_index("node", wanted)) == sorted(o["metadata"]["name"] for o in scanned)
        assert len(store.by_index("namespace", "default")) == len(store)


def test_an_index_added_late_covers_what_is_there() -> None:
    store = Store()
    store.put(pod("a", node="n1"))
    store.add_index("node", by_node)
    assert [o["metadata"]["name"] for o in store.by_index("node", "n1")] == ["a"]


def test_reading_the_store_changes_no_object() -> None:
    store = Store({"node": by_node})
    original = pod("a", node="n1")
    before = copy.deepcopy(original)
    store.put(original)
    store.by_index("node", "n1")
    store.put(pod("a", node="n2"))
    assert original == before


def test_a_key_added_many_times_is_processed_once() -> None:
    queue = WorkQueue()
    for _ in range(3):
        queue.add("a")
    assert queue.get_nowait() == "a"
    assert queue.get_nowait() is None


def test_a_key_added_while_processed_comes_again_after_done_and_never_before() -> None:
    queue = WorkQueue()
    queue.add("a")
    assert queue.get_nowait() == "a"
    queue.add("a")
    assert queue.get_nowait() is None
    queue.done("a")
    assert queue.get_nowait() == "a"
    queue.done("a")
    assert queue.get_nowait() is None
    assert queue.idle


def test_failures_back_off_exponentially_until_forgotten() -> None:
    queue = WorkQueue(Backoff(1.0, 8.0))
    assert [queue.add_rate_limited(str(1), now=0.0) for _ in range(5)] == [1.0, 2.0, 4.0, 8.0, 8.0]
    queue.forget("1")
    assert queue.add_rate_limited("1", now=0.0) == 1.0


def test_delayed_keys_come_when_due_and_the_earliest_time_wins() -> None:
    queue = WorkQueue()
    queue.add_after("a", 10.0, now=0.0)
    queue.add_after("a", 2.0, now=0.0)
    queue.add_after("a", 5.0, now=0.0)
    queue.advance(1.9)
    assert queue.get_nowait() is None
    assert queue.next_due() == 2.0
    queue.advance(2.0)
    assert queue.get_nowait() == "a"
    queue.done("a")
    queue.advance(100.0)
    assert queue.get_nowait() is None
    assert queue.next_due() is None
