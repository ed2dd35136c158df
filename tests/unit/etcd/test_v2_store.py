"""The v2 store's rules, and that its document carries all of it."""

import json

import pytest

from kubette.etcd import v2_apply
from kubette.etcd.v2_store import V2Error, V2Store, Watcher, clean, parse_time, time_text
from kubette.etcd_api.metadata_pb2 import Request

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND


@pytest.fixture
def store() -> V2Store:
    made = V2Store()
    made.now = NOW
    return made


def watch(store: V2Store, key: str, **how: int) -> Watcher:
    return store.watch(key, bool(how.get("recursive")), bool(how.get("stream")), how.get("since", 0), lambda: None)


def test_set_makes_directories_and_tells_what_was_there(store: V2Store) -> None:
    assert store.set("/1/a/b", "x").document == {
        "action": "set",
        "node": {"key": "/1/a/b", "value": "x", "modifiedIndex": 1, "createdIndex": 1},
    }
    again = store.set("/1/a/b", "y")
    assert again.previous == {"key": "/1/a/b", "value": "x", "modifiedIndex": 1, "createdIndex": 1}
    assert not again.created
    assert store.get("/1/a").node["nodes"] == [{"key": "/1/a/b", "value": "y", "modifiedIndex": 2, "createdIndex": 2}]


def test_a_file_is_no_directory_and_a_directory_no_file(store: V2Store) -> None:
    store.set("/1/f", "x")
    store.set("/1/d", directory=True)
    for code, act in (
        (104, lambda: store.set("/1/f/x", "y")),
        (102, lambda: store.set("/1/d", "y")),
        (102, lambda: store.delete("/1/d")),
        (105, lambda: store.create("/1/f")),
        (107, lambda: store.delete("/1", recursive=True)),
        (100, lambda: store.get("/1/none")),
    ):
        with pytest.raises(V2Error) as caught:
            act()
        assert caught.value.v2_code == code
        assert store.current == 2


def test_comparisons_guard_swaps_and_deletes(store: V2Store) -> None:
    store.set("/1/k", "a")
    with pytest.raises(V2Error) as caught:
        store.compare_and_swap("/1/k", "b", 7, "c")
    assert caught.value.document["cause"] == "[b != a] [7 != 1]"
    assert store.compare_and_swap("/1/k", "a", 1, "c").node["value"] == "c"
    with pytest.raises(V2Error):
        store.compare_and_delete("/1/k", "a", 0)
    assert store.compare_and_delete("/1/k", "", 2).action == "compareAndDelete"


def test_in_order_keys_sort_as_they_came(store: V2Store) -> None:
    keys = [store.create("/1/q", str(number), unique=True).key for number in range(12)]
    assert keys == sorted(keys)
    assert [node["value"] for node in store.get("/1/q", ordered=True).node["nodes"]] == [str(number) for number in range(12)]


def test_time_lets_keys_expire_in_order_and_a_refresh_saves_them_quietly(store: V2Store) -> None:
    store.set("/1/late", "x", expiration=NOW + 9 * SECOND)
    store.set("/1/soon", "x", expiration=NOW + 2 * SECOND)
    assert store.get("/1/soon").node["ttl"] == 2
    watcher = watch(store, "/1", recursive=1, stream=1)
    store.update("/1/soon", "", expiration=NOW + 10 * SECOND, refresh=True)
    store.expire(NOW + 9 * SECOND)
    assert [(event.action, event.key) for event in watcher.events] == [("expire", "/1/late")]
    assert store.get("/1/soon").node["value"] == "x"
    assert store.next_expiration == NOW + 10 * SECOND


def test_watchers_hear_of_what_concerns_them(store: V2Store) -> None:
    one, below, hidden = watch(store, "/1/a/b"), watch(store, "/1/a", recursive=1, stream=1), watch(store, "/1/a/_h", stream=1)
    store.set("/1/a/_h", "secret")
    store.set("/1/a/b", "x")
    store.set("/1/a/b", "y")
    store.delete("/1/a", recursive=True)
    assert [event.key for event in one.events] == ["/1/a/b"]
    assert [event.action for event in below.events][:2] == ["set", "set"]
    assert [event.action for event in hidden.events] == ["set", "delete"]


def test_a_watcher_may_start_in_the_past_as_far_as_it_is_remembered(store: V2Store) -> None:
    for number in range(1005):
        store.set("/1/k", str(number))
    assert watch(store, "/1/k", since=7).events[0].node["value"] == "6"
    with pytest.raises(V2Error) as caught:
        watch(store, "/1/k", since=5)
    assert caught.value.document == {
        "errorCode": 401,
        "message": "The event in requested index is outdated and cleared",
        "cause": "the requested history has been cleared [6/5]",
        "index": 1005,
    }


def test_a_watcher_that_lags_is_cut(store: V2Store) -> None:
    watcher = watch(store, "/1/k", stream=1)
    for number in range(101):
        store.set("/1/k", str(number))
    assert watcher.cut
    assert store.watcher_count == 0


def test_its_document_carries_everything(store: V2Store) -> None:
    store.set("/1/d", directory=True)
    store.set("/1/d/t", "x", expiration=NOW + 5 * SECOND + 120_000_000)
    store.set("/1/d/é", "<&>")
    other = V2Store()
    other.restore(store.save())
    other.now = NOW
    assert other.save() == store.save()
    assert other.get("/", recursive=True) == store.get("/", recursive=True)
    other.expire(NOW + 6 * SECOND)
    assert watch(other, "/1/d", recursive=1, since=2).events[0].key == "/1/d/t"
    with pytest.raises(ValueError, match="not a v2 store"):
        other.restore(json.dumps({"Root": {}}).encode())


def test_requests_of_the_log_choose_the_operation() -> None:
    store = V2Store()

    def action(**fields: object) -> str:
        event = v2_apply.apply(store, Request(Path="/1/k", **fields))  # type: ignore[arg-type]
        return event.action if event is not None else ""

    assert action(Method="PUT", Val="a", PrevExist=False) == "create"
    assert action(Method="PUT", Val="b") == "set"
    assert action(Method="PUT", Val="c", PrevExist=True) == "update"
    assert action(Method="PUT", Val="d", PrevValue="c") == "compareAndSwap"
    assert action(Method="QGET") == "get"
    assert action(Method="DELETE", PrevValue="d") == "compareAndDelete"
    assert action(Method="POST", Val="e") == "create"
    assert action(Method="SYNC", Time=NOW) == ""


@pytest.mark.parametrize(("path", "cleaned"), [("", "/"), ("//a//b/", "/a/b"), ("/a/../../b/./c", "/b/c")])
def test_paths_are_cleaned(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned


@pytest.mark.parametrize("moment", [0, NOW, NOW + 1, NOW + 120_000_000])
def test_times_survive_their_text(moment: int) -> None:
    assert parse_time(time_text(moment)) == moment
