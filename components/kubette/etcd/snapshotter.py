"""Snapshots on disk, as etcd lays them out: `member/snap/<term>-<index>.snap` says which configuration and position (and holds the
small v2 store), and `member/snap/db` (a bbolt file) holds the data.

The database is written first, under another name, and carries its own position (`consistent_index`): whichever file a crash
leaves behind, data and position always belong together (RELIABILITY, lesson 4).
"""

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from kubette.component_base import logs
from kubette.etcd import bbolt, membership, raft_codec, v2_apply
from kubette.etcd.apply import State
from kubette.etcd.disk import SYSTEM_DISK, Disk
from kubette.etcd.mvcc import revision
from kubette.etcd.v2_store import V2Store
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.lease_pb2 import Lease as LeaseMessage
from kubette.etcd_api.raft_pb2 import Snapshot as SnapshotMessage
from kubette.etcd_api.snap_pb2 import snapshot as SnapFile
from kubette.raft.messages import ConfState, Snapshot

log = logs.logger(__name__)
_U64 = struct.Struct(">Q")


class SnapshotError(Exception):
    """A snapshot file cannot be used; the text names it."""


@dataclass(slots=True)
class Image:
    """The state as of one index, copied so that a thread may write it while the state moves on."""

    snapshot: Snapshot
    order: list[int]
    records: dict[int, bytes]
    tombstones: set[int]
    small: dict[bytes, list[tuple[bytes, bytes]]]

    def buckets(self) -> dict[bytes, Iterable[tuple[bytes, bytes]]]:
        return {**self.small, b"key": self._keys()}

    def _keys(self) -> Iterator[tuple[bytes, bytes]]:
        for at in self.order:
            yield revision.to_key(at, at in self.tombstones), self.records[at]


def capture(state: State, conf_state: ConfState) -> Image:
    """The image of the state now."""
    order, records, tombstones = state.store.capture()
    meta = [
        *([(b"confState", json.dumps(_conf_state_json(conf_state), separators=(",", ":")).encode())] if conf_state.voters else []),
        (b"consistent_index", _U64.pack(state.applied_index)),
        (b"term", _U64.pack(state.applied_term)),
    ]
    if state.store.compacted > 0:
        compacted = revision.to_key(revision.pack(state.store.compacted), tombstone=False)
        meta += [(b"finishedCompactRev", compacted), (b"scheduledCompactRev", compacted)]
    small: dict[bytes, list[tuple[bytes, bytes]]] = {
        b"alarm": sorted((pb.AlarmMember(memberID=member, alarm=kind).SerializeToString(), b"") for kind, member in state.alarms),  # type: ignore[arg-type]
        **state.auth.buckets(),
        b"cluster": [(b"clusterVersion", state.membership.version.encode())] if state.membership.version else [],
        b"lease": sorted(
            (_U64.pack(lease.id & (1 << 64) - 1), LeaseMessage(ID=lease.id, TTL=lease.ttl).SerializeToString())
            for lease in state.lessor.leases.values()
        ),
        b"members": sorted((b"%x" % member.id, membership.to_json(member)) for member in state.membership.members.values()),
        b"members_removed": sorted((b"%x" % member, b"removed") for member in state.membership.removed),
        b"meta": sorted(meta),
    }
    # The .snap file of etcd up to 3.5 carries the v2 store, the members in it: a real one can go on from our directory.
    snapshot = Snapshot(state.applied_index, state.applied_term, conf_state, state.v2.save())
    return Image(snapshot, order, records, tombstones, small)


def _conf_state_json(state: ConfState) -> dict[str, object]:
    """As Go's encoding/json writes a raftpb.ConfState."""
    document: dict[str, object] = {"voters": list(state.voters)}
    for name, nodes in (("learners", state.learners), ("voters_outgoing", state.voters_outgoing), ("learners_next", state.learners_next)):
        if nodes:
            document[name] = list(nodes)
    return {**document, "auto_leave": state.auto_leave}


def write_database(path: Path, image: Image, disk: Disk = SYSTEM_DISK) -> int:
    """Write the image as a bbolt file, durable when this returns; answers its size."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with disk.create(temporary) as file:
            size = bbolt.write(file, image.buckets())
            file.flush()
            disk.sync(file.fileno())
        disk.rename(temporary, path)
    except OSError:
        # A full disk gets its space back.
        disk.remove(temporary)
        raise
    disk.sync_directory(path.parent)
    return size


def stream_database(file: BinaryIO, image: Image) -> int:
    """Write the image into an open file."""
    return bbolt.write(file, image.buckets())


def save(directory: Path, image: Image, disk: Disk = SYSTEM_DISK) -> None:
    """Database, then .snap. Afterwards the log may record the snapshot."""
    write_database(directory / "db", image, disk)
    save_snap(directory, image.snapshot, disk)


def save_snap(directory: Path, snapshot: Snapshot, disk: Disk = SYSTEM_DISK) -> None:
    data = raft_codec.snapshot_to(snapshot).SerializeToString()
    content = SnapFile(crc=google_crc32c.value(data), data=data).SerializeToString()
    disk.write_atomic(directory / f"{snapshot.term:016x}-{snapshot.index:016x}.snap", content)


def load_snap(path: Path, disk: Disk = SYSTEM_DISK) -> Snapshot:
    """Raises SnapshotError."""
    try:
        file = SnapFile.FromString(disk.read(path))
        if not file.data or not file.crc:
            raise SnapshotError(f"snap: empty snapshot file {path}")
        if file.crc != google_crc32c.value(file.data):
            raise SnapshotError(f"snap: crc mismatch in {path}")
        return raft_codec.snapshot_from(SnapshotMessage.FromString(file.data))
    except SnapshotError:
        raise
    except Exception as error:
        raise SnapshotError(f"snap: cannot read {path}: {error}") from error


def load_newest(directory: Path, known: list[tuple[int, int]], disk: Disk = SYSTEM_DISK) -> Snapshot | None:
    """The newest snapshot that the log knows of. A broken file is set aside (as .broken), an older one is used."""
    for path in _snaps(directory, disk)[::-1]:
        try:
            snapshot = load_snap(path, disk)
        except SnapshotError as error:
            log.warning("set a broken snapshot aside", err=error, renamed_to=path.name + ".broken")
            disk.rename(path, path.with_name(path.name + ".broken"))
            continue
        if (snapshot.index, snapshot.term) in known:
            return snapshot
    return None


def _snaps(directory: Path, disk: Disk) -> list[Path]:
    return [directory / name for name in disk.names(directory) if name.endswith(".snap")]


def purge(directory: Path, keep: int, disk: Disk = SYSTEM_DISK) -> None:
    """Keep the newest `keep` .snap files (0: all)."""
    for path in _snaps(directory, disk)[:-keep] if keep > 0 else ():
        disk.remove(path)


def load_database(path: Path, state: State, disk: Disk = SYSTEM_DISK) -> ConfState | None:
    """Fill an empty state from a database; answers the configuration it holds (None in files of etcd before 3.5). Raises SnapshotError."""
    try:
        return _fill(bbolt.Database(disk.read(path)), state)
    except (bbolt.BboltError, ValueError, struct.error) as error:
        raise SnapshotError(f"snap: cannot read {path}: {error}") from error


def load_v2(state: State, data: bytes) -> None:
    """Fill the v2 store with what a snapshot says, after everything else is loaded. Raises SnapshotError."""
    if not data:
        members = state.membership
        state.v2 = V2Store()
        v2_apply.seed(state.v2, members.sorted(), sorted(members.removed), members.version)
        return
    try:
        state.v2.restore(data)
    except ValueError as error:
        raise SnapshotError(f"snap: cannot read the v2 store: {error}") from error


def _fill(database: bbolt.Database, state: State) -> ConfState | None:
    meta = dict(database.items(b"meta"))
    compacted = revision.main_of(revision.from_key(meta[b"finishedCompactRev"])[0]) if b"finishedCompactRev" in meta else -1
    for _, value in database.items(b"lease"):
        lease = LeaseMessage.FromString(value)
        state.lessor.grant(lease.ID, lease.TTL, 0.0)
    for key, lease_id in state.store.restore(database.items(b"key"), compacted):
        if lease_id in state.lessor.leases:
            state.lessor.attach(key, lease_id)
    # A compaction that was decided on and not finished (a crash of the real etcd, or `restore --mark-compacted`) is done now.
    scheduled = revision.main_of(revision.from_key(meta[b"scheduledCompactRev"])[0]) if b"scheduledCompactRev" in meta else -1
    if max(compacted, 0) < scheduled <= state.store.current:
        state.store.compact(scheduled)
    for _, value in database.items(b"members"):
        member = membership.from_json(value)
        state.membership.members[member.id] = member
    for key, _ in database.items(b"members_removed"):
        state.membership.removed[int(key, 16)] = None
    for key, value in database.items(b"cluster"):
        if key == b"clusterVersion":
            state.membership.version = value.decode()
    for key, _ in database.items(b"alarm"):
        alarm = pb.AlarmMember.FromString(key)
        state.alarms[(alarm.alarm, alarm.memberID)] = None
    state.auth.load(database.items)
    state.applied_index = _U64.unpack(meta[b"consistent_index"])[0] if b"consistent_index" in meta else 0
    state.applied_term = _U64.unpack(meta[b"term"])[0] if b"term" in meta else 0
    if b"confState" not in meta:
        return None
    document = json.loads(meta[b"confState"])
    voters, learners, outgoing, following = (
        tuple(sorted(document.get(name) or ())) for name in ("voters", "learners", "voters_outgoing", "learners_next")
    )
    return ConfState(voters, learners, outgoing, following, bool(document.get("auto_leave", False)))
