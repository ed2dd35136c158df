"""bbolt files and snapshots: what is written is read back, for many sizes; broken files are refused."""

import io
from pathlib import Path

import pytest

from kubette.etcd import bbolt, snapshotter
from kubette.etcd.membership import Member
from kubette.etcd.server import empty_state
from kubette.raft.messages import ConfState, Snapshot


@pytest.mark.parametrize(("count", "size"), [(0, 0), (1, 10), (50, 100), (3000, 20), (40, 5000)])
def test_a_database_reads_back(count: int, size: int) -> None:
    items = [(b"%08d" % number, bytes([number % 256]) * size) for number in range(count)]
    file = io.BytesIO()
    assert bbolt.write(file, {b"key": items, b"other": [(b"a", b"b")]}) == len(file.getvalue())
    database = bbolt.Database(file.getvalue())
    assert list(database.items(b"key")) == items
    assert list(database.items(b"other")) == [(b"a", b"b")]
    assert list(database.items(b"none")) == []


def test_a_cut_or_damaged_database_is_refused() -> None:
    file = io.BytesIO()
    bbolt.write(file, {b"key": [(b"a", b"b")]})
    content = file.getvalue()
    with pytest.raises(bbolt.BboltError):
        bbolt.Database(content[:-4096])
    with pytest.raises(bbolt.BboltError):
        bbolt.Database(b"\0" * 8192 + content[8192:])
    # One damaged meta page is what the second is for.
    assert list(bbolt.Database(b"\0" * 4096 + content[4096:]).items(b"key")) == [(b"a", b"b")]


def test_a_snapshot_restores_keys_leases_members_and_position(tmp_path: Path) -> None:
    state = empty_state(1)
    state.lessor.grant(7, 60, 0.0)
    transaction = state.store.begin()
    transaction.put(b"k", b"v", 7)
    transaction.end()
    state.lessor.attach(b"k", 7)
    state.membership.members[5] = Member(5, ("http://h:2380",), "m", ("http://h:2379",))
    state.membership.removed[6] = None
    state.alarms[(1, 5)] = None
    state.applied_index, state.applied_term = 12, 3
    conf_state = ConfState((5,), (9,))
    snapshotter.save(tmp_path, snapshotter.capture(state, conf_state))
    loaded = snapshotter.load_newest(tmp_path, [(12, 3)])
    assert loaded == Snapshot(12, 3, conf_state, state.v2.save())
    assert snapshotter.load_newest(tmp_path, [(11, 3)]) is None
    again = empty_state(1)
    assert snapshotter.load_database(tmp_path / "db", again) == conf_state
    assert again.store.hash_kv() == state.store.hash_kv()
    assert (again.applied_index, again.applied_term, again.store.current) == (12, 3, 2)
    assert again.lessor.lease_of(b"k") == 7
    assert (again.membership.members, again.membership.removed, again.alarms) == (state.membership.members, {6: None}, state.alarms)


def test_a_broken_snapshot_is_set_aside_and_an_older_one_used(tmp_path: Path) -> None:
    for index in (5, 9):
        snapshotter.save_snap(tmp_path, Snapshot(index, 1, ConfState((1,))))
    newest = max(tmp_path.glob("*.snap"))
    newest.write_bytes(newest.read_bytes()[:-1] + b"\xff")
    found = snapshotter.load_newest(tmp_path, [(5, 1), (9, 1)])
    assert found is not None
    assert found.index == 5
    assert newest.with_name(newest.name + ".broken").exists()
