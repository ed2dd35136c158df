"""What is remembered of etcd's history against histories that go on, end earlier, or are others."""

from kubette.etcd_api import kv_pb2
from kubette.kube_apiserver.storage.landmark import Landmark

Change = tuple[str, str | None]  # key and value; None deletes


def event(key: str, value: str | None, revision: int) -> kv_pb2.Event:
    kv = kv_pb2.KeyValue(key=key.encode(), mod_revision=revision)
    if value is None:
        return kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=kv)
    kv.value = value.encode()
    return kv_pb2.Event(type=kv_pb2.Event.PUT, kv=kv)


def read(history: list[Change], key: bytes, revision: int) -> list[kv_pb2.KeyValue]:
    """What etcd answers; its revisions count from 1."""
    for at in range(revision, 0, -1):
        changed, value = history[at - 1]
        if changed.encode() == key:
            return [] if value is None else [event(changed, value, at).kv]
    return []


def follows(seen: list[Change], now: list[Change]) -> bool:
    landmark = Landmark()
    for at, (key, value) in enumerate(seen, 1):
        landmark.remember(event(key, value, at))
    return all(question.is_ours(read(now, question.key, question.revision)) for question in landmark.questions())


PAST: list[Change] = [("a", "1"), ("b", "1")]


def test_a_history_that_goes_on_is_recognised() -> None:
    for seen in ([], PAST, [*PAST, ("a", None)], [*PAST, ("a", None), ("b", None)], [*PAST, ("a", None), ("a", "2")]):
        assert follows(seen, seen)
        assert follows(seen, [*seen, ("c", "1"), ("a", "9"), ("b", None)])


def test_another_history_is_told_apart_though_it_is_as_long_and_changed_the_same_keys() -> None:
    assert not follows([*PAST, ("a", "2")], [*PAST, ("a", "3"), ("c", "1")])
    assert not follows([*PAST, ("a", "2")], [*PAST, ("b", "2"), ("a", "2")])
    assert not follows([*PAST, ("a", None)], [*PAST, ("a", "2"), ("a", None)])
    assert not follows([*PAST, ("a", None)], [*PAST, ("c", "1"), ("c", "2")])
    # The deletion alone would not show it: the put before it does.
    assert not follows([*PAST, ("c", "1"), ("a", None)], [*PAST, ("c", "2"), ("a", None)])


def test_nothing_is_asked_after_it_was_forgotten() -> None:
    landmark = Landmark()
    landmark.remember(event("a", "1", 1))
    landmark.remember(event("a", None, 2))
    assert landmark.questions()
    landmark.forget()
    assert not landmark.questions()
