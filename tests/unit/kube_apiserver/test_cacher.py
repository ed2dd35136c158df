"""The watch cache against a naive twin: whatever happens, list at a revision + the events after it = the list later (INV-A5)."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubette.api.kinds import KindTable
from kubette.etcd_api import kv_pb2
from kubette.kube_apiserver.storage.cacher import CAPACITY_MAX, FRESH_S, Cacher, HistoryGone, LostPlace

KIND = KindTable(37).by_resource("", "v1", "configmaps")


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class FakeFeed:
    revision = 0

    def subscribe(self, subscriber: Any) -> None: ...

    def unsubscribe(self, subscriber: Any) -> None: ...

    async def wait_for(self, revision: int, limit_s: float = 0) -> None: ...


def make(capacity: int = 100) -> tuple[Cacher, Clock]:
    clock = Clock()
    assert KIND is not None
    cacher = Cacher(KIND, "/registry", None, FakeFeed(), clock, capacity)  # type: ignore[arg-type]
    cacher.ready = True
    return cacher, clock


def event(key: str, revision: int, value: str | None) -> kv_pb2.Event:
    kv = kv_pb2.KeyValue(key=f"/registry/configmaps/{key}".encode(), mod_revision=revision)
    if value is None:
        return kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=kv)
    namespace, name = key.split("/")
    body = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace}, "data": {"v": value}}
    kv.value = orjson.dumps(body)
    return kv_pb2.Event(type=kv_pb2.Event.PUT, kv=kv)


def state(cacher: Cacher) -> dict[str, Any]:
    return {key: found.object() for key, found in cacher.items.items()}


steps = st.lists(st.tuples(st.sampled_from(["a/x", "a/y", "b/x", "ab/x"]), st.one_of(st.none(), st.text(max_size=3))), max_size=40)


@pytest.mark.slow
@given(steps=steps, begin=st.integers(0, 40))
def test_a_list_and_the_events_after_it_give_every_later_list(steps: list[tuple[str, str | None]], begin: int) -> None:
    cacher, _ = make()
    seen: dict[str, Any] = {}
    start, incarnation = 0, cacher.incarnation
    for index, (key, value) in enumerate(steps):
        if index == begin:
            seen, start = state(cacher), cacher.end
        cacher.apply(event(key, index + 1, value))
    if begin >= len(steps):
        seen, start = state(cacher), cacher.end
    for change in cacher.since(start, incarnation):
        if change.type == "DELETED":
            del seen[change.current.key]
        else:
            assert (change.type == "ADDED") == (change.current.key not in seen)
            seen[change.current.key] = change.current.object()
    assert seen == state(cacher)
    assert cacher.ordered == sorted(cacher.items)
    assert [key for key in cacher.ordered if key.startswith("a/")] == list(cacher.select("a"))


def test_a_revision_from_before_the_log_is_refused() -> None:
    cacher, clock = make(capacity=4)
    for revision in range(1, 20):
        clock.now += FRESH_S + 1  # old enough to forget
        cacher.apply(event("a/x", revision, str(revision)))
    assert cacher.position_after(1) is None
    assert cacher.position_after(cacher.floor) is not None
    with pytest.raises(LostPlace):
        cacher.since(0, cacher.incarnation)


def test_fresh_events_are_kept_beyond_the_capacity() -> None:
    cacher, _ = make(capacity=4)
    for revision in range(1, 200):
        cacher.apply(event("a/x", revision, str(revision)))
    assert cacher.position_after(0) == 0
    assert cacher.statistics()["capacity"] <= CAPACITY_MAX


def test_a_reset_takes_every_watcher_its_place() -> None:
    cacher, _ = make()
    incarnation = cacher.incarnation
    cacher.apply(event("a/x", 1, "v"))
    cacher.reset()
    with pytest.raises(HistoryGone):
        cacher.since(0, incarnation)
