"""The data directory of a member that does not run: its state up to the end of its log, and what is made out of it.

Counterpart of what upstream's `etcdctl migrate` and `backup` do with the files. Nothing here talks to anybody.
"""

import fcntl
import heapq
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubette.component_base.run import StartupError
from kubette.etcd import bootstrap, membership, raft_codec, snapshot_files, snapshotter, v2_apply, wal
from kubette.etcd.apply import Applier, State
from kubette.etcd.disk import SYSTEM_DISK
from kubette.etcd.mvcc import revision
from kubette.etcd.server import request_of
from kubette.etcd_api.kv_pb2 import KeyValue
from kubette.raft.messages import ConfState, Entry, EntryType, Snapshot
from kubette.stdx.clock import SYSTEM_CLOCK

Nodes = list[dict[str, Any]]


class OfflineError(Exception):
    """The directory cannot be used; the text is what the user sees."""


@contextmanager
def held(data_dir: Path, wal_dir: Path, wait: Callable[[Path], None]) -> Iterator[None]:
    """Keep members off the directory; `wait` is told (once) of a lock that one holds, before that is waited for."""
    segments = sorted(wal_dir.glob("*.wal"))
    if not segments:
        yield
        return
    with segments[-1].open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait(data_dir / "member" / "snap" / "db")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read(data_dir: Path, wal_dir: Path) -> tuple[Snapshot, wal.Contents]:
    """The newest snapshot that can be read, and the log behind it. Raises OfflineError."""
    try:
        os.listdir(data_dir / "member" / "snap")
        if not wal.segments(wal_dir):
            raise OfflineError("wal: file not found")
        snapshot = snapshotter.load_newest(data_dir / "member" / "snap", wal.snapshot_positions(wal_dir)) or Snapshot()
        return snapshot, wal.read(wal_dir, snapshot.index)
    except OSError as error:
        raise OfflineError(f"open {error.filename}: {(error.strerror or str(error)).lower()}") from error
    except (wal.WalError, snapshotter.SnapshotError) as error:
        raise OfflineError(str(error)) from error


def recover(data_dir: Path, wal_dir: Path) -> State:
    """The state with everything in the log applied. Raises OfflineError."""
    snapshot, contents = read(data_dir, wal_dir)
    try:
        state = bootstrap.load_state(data_dir / "member" / "snap", snapshot, contents.entries, 1, SYSTEM_DISK)
    except (StartupError, snapshotter.SnapshotError) as error:
        raise OfflineError(str(error)) from error
    applier = Applier(state, lambda _: b"", SYSTEM_CLOCK.wall)
    for entry in contents.entries:
        fresh = entry.index > state.applied_index
        if entry.type is not EntryType.NORMAL:
            _apply_change(state, entry, fresh)
        elif entry.data and fresh:
            applier.apply(request_of(entry.data), 0.0)
        elif entry.data:
            applier.replay_v2(request_of(entry.data))
        if fresh:
            state.applied_index, state.applied_term = entry.index, entry.term
    state.v2.now = int(SYSTEM_CLOCK.wall() * 1e9)
    return state


def _apply_change(state: State, entry: Entry, fresh: bool) -> None:
    change, context, _ = raft_codec.conf_change_of(entry)
    try:
        if fresh:
            state.membership.check_change(change, context)
            state.membership.apply_change(change, context)
    except membership.MembershipError:
        return
    v2_apply.record_change(state.v2, change, state.membership.members.get)


# The v2 keys as v3 keys


def v2_nodes(state: State, with_ttl: bool) -> Nodes:
    """Every node below the root of the users' keys, that one first, by key; those with a time to live only when asked for."""
    found: Nodes = []

    def take(node: dict[str, Any]) -> None:
        below = node.pop("nodes", ())
        node["key"] = node["key"].removeprefix(v2_apply.KEYS) or "/"
        if with_ttl or not node.get("ttl"):
            found.append(node)
        for each in below:
            take(each)

    take(state.v2.get(v2_apply.KEYS, recursive=True, ordered=True).node)
    return found


def as_pairs(nodes: Nodes) -> list[KeyValue]:
    """What a node becomes unless somebody else decides: its indexes are its revisions."""
    return [
        KeyValue(
            key=node["key"].encode(),
            value=node["value"].encode(),
            create_revision=node["createdIndex"],
            mod_revision=node["modifiedIndex"],
            version=1,
        )
        for node in nodes
        if not node.get("dir")
    ]


def node_json(node: dict[str, Any]) -> bytes:
    """A node as a transformer reads it."""
    return json.dumps(node, separators=(",", ":"), ensure_ascii=False).encode()


def write_pairs(data_dir: Path, state: State, pairs: list[KeyValue]) -> None:
    """Write the database anew, with these pairs at their revisions: what else is at a revision goes."""
    members = state.membership.sorted()
    voters, learners = (tuple(each.id for each in members if each.is_learner is learner) for learner in (False, True))
    conf_state = ConfState(voters, learners)
    buckets = snapshotter.capture(state, conf_state).buckets()
    added = {revision.to_key(revision.pack(pair.mod_revision), tombstone=False): pair.SerializeToString() for pair in pairs}
    kept = (each for each in buckets[b"key"] if each[0] not in added)
    buckets[b"key"] = heapq.merge(kept, sorted(added.items()))
    snapshot_files.write_database(data_dir / "member" / "snap" / "db", buckets)
