"""A snapshot file (`snapshot save`'s output, or a copy of `member/snap/db`) looked at, and a data directory made out of it.

Counterpart of upstream's snapshot manager. The file is a bbolt database; the 32 bytes behind it, if there, are its SHA-256. A restored
directory belongs to a new cluster: new member and cluster ids, the old members forgotten, the log beginning with the new ones.
"""

import fcntl
import hashlib
import itertools
import json
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from kubette.etcd import bbolt, membership, snapshotter, v2_apply, wal
from kubette.etcd.mvcc import revision
from kubette.etcd.mvcc.store import Store
from kubette.etcd.v2_store import V2Store
from kubette.etcd_api import raft_pb2
from kubette.etcd_api.metadata_pb2 import Metadata
from kubette.raft.messages import ConfState, Entry, EntryType, HardState, Snapshot
from kubette.stdx.files import fsync_directory

HASH_BYTES = 32
SECTOR_BYTES = 512  # a database is whole pages: what is left over a sector is the hash
_U64 = struct.Struct(">Q")


class SnapshotFileError(Exception):
    """The file or the target cannot be used; the text is what the user sees."""


@dataclass(frozen=True, slots=True)
class Status:
    """What `snapshot status` tells."""

    hash: int
    revision: int
    total_keys: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class KeyHash:
    """What `etcdutl hashkv` tells."""

    hash: int
    revision: int
    compact_revision: int


def _read(path: Path, missing: str = "stat") -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        verb = missing if isinstance(error, FileNotFoundError) else "open"
        raise SnapshotFileError(f"{verb} {path}: {(error.strerror or str(error)).lower()}") from error


def _checked(content: bytes, hash_required: bool) -> bbolt.Database:
    """The database of a file, its hash compared if it carries one. Raises SnapshotFileError."""
    if len(content) % SECTOR_BYTES == HASH_BYTES:
        said, found = content[-HASH_BYTES:], hashlib.sha256(memoryview(content)[:-HASH_BYTES]).digest()
        if said != found:
            raise SnapshotFileError(f"expected sha256 {_go_bytes(said)}, got {_go_bytes(found)}")
        content = content[:-HASH_BYTES]
    elif hash_required:
        raise SnapshotFileError("snapshot missing hash but --skip-hash-check=false")
    return _database(content)


def _go_bytes(data: bytes) -> str:
    return "[" + " ".join(str(byte) for byte in data) + "]"


def _database(content: bytes) -> bbolt.Database:
    try:
        return bbolt.Database(content)
    except bbolt.BboltError as error:
        raise SnapshotFileError(str(error).removeprefix("bbolt: ")) from error


def status(path: Path) -> Status:
    """Hash, revision and size, as upstream defines them. Raises SnapshotFileError."""
    database = _checked(_read(path), hash_required=False)
    crc, last, count = 0, 0, 0
    try:
        for bucket in sorted(database.buckets()):
            crc = google_crc32c.extend(crc, bucket)
            for key, value in database.items(bucket):
                crc = google_crc32c.extend(google_crc32c.extend(crc, key), value)
                count += 1
                if bucket == b"key":
                    last = revision.main_of(revision.from_key(key)[0])
    except (bbolt.BboltError, ValueError, struct.error) as error:
        raise SnapshotFileError(f"snapshot file integrity check failed. 1 errors found.\n{error}") from error
    return Status(crc, last, count, database.size)


def hash_kv(path: Path, at: int) -> KeyHash:
    """The hash of the keys up to revision `at` (0: all), to be compared with a server's. Raises SnapshotFileError."""
    database = _checked(_read(path), hash_required=False)
    store = Store()
    meta = dict(database.items(b"meta"))
    compacted = revision.main_of(revision.from_key(meta[b"finishedCompactRev"])[0]) if b"finishedCompactRev" in meta else -1
    store.restore(database.items(b"key"), compacted)
    try:
        return KeyHash(store.hash_kv(at), at or store.current, compacted)
    except Exception as error:
        what = "a future revision" if at > store.current else "compacted"
        raise SnapshotFileError(f"mvcc: required revision {'is' if at > store.current else 'has been'} {what}") from error


def defragment(data_dir: Path) -> None:
    """Write the database of a stopped member anew, without holes. Raises SnapshotFileError, BlockingIOError while the member runs."""
    path = data_dir / "member" / "snap" / "db"
    segments = sorted((data_dir / "member" / "wal").glob("*.wal"))
    with open(segments[-1] if segments else path, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a member that runs holds its log
        database = _database(_read(path))
        write_database(path, {name: database.items(name) for name in database.buckets()})


def write_database(path: Path, buckets: bbolt.Buckets) -> None:
    """Write a database file, durable when this returns."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w+b") as file:
        os.fchmod(file.fileno(), 0o600)
        bbolt.write(file, buckets)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_directory(path.parent)


@dataclass(frozen=True, slots=True)
class Target:
    """The directory to make, and whose it will be."""

    name: str
    data_dir: Path
    wal_dir: Path
    peer_urls: Sequence[str]
    initial_cluster: str
    token: str


def restore(
    path: Path, target: Target, *, skip_hash_check: bool = False, bump_revision: int = 0, added: Callable[[int, int], None] = lambda *_: None
) -> None:
    """Make the data directory of one member of a new cluster. `added` hears of each member (cluster id, member id).

    With `bump_revision` the new cluster's revisions begin that much later and everything before is compacted: clients with old
    revisions in their caches notice, instead of being shown a past that did not happen. Raises SnapshotFileError.
    """
    members = _members(target)
    for each, what in ((target.data_dir, "data-dir"), (target.wal_dir, "wal-dir")):
        if each.exists() and (not each.is_dir() or any(each.iterdir())):
            raise SnapshotFileError(f'{what} "{each}" exists')
    database = _checked(_read(path, "open"), hash_required=not skip_hash_check)
    ordered = sorted(members.values(), key=lambda member: member.id)
    cluster_id = membership.cluster_id(member.id for member in ordered)
    for member in ordered:
        added(cluster_id, member.id)
    voters = tuple(member.id for member in ordered)
    conf_state = ConfState(voters)
    snap_directory = target.data_dir / "member" / "snap"
    snap_directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    target.data_dir.chmod(0o700)
    try:
        write_database(snap_directory / "db", _buckets(database, ordered, conf_state, bump_revision))
    except (bbolt.BboltError, ValueError, struct.error) as error:
        raise SnapshotFileError(f"snapshot file integrity check failed. 1 errors found.\n{error}") from error
    # Releases up to 3.5 read the members from the v2 store of the .snap file, later ones from the database.
    v2 = V2Store()
    v2_apply.seed(v2, ordered, [], "")
    snapshotter.save_snap(snap_directory, Snapshot(len(ordered), 1, conf_state, v2.save()))
    entries = [first_entry(index, member) for index, member in enumerate(ordered, 1)]
    target.wal_dir.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    if target.wal_dir.exists():
        target.wal_dir.rmdir()
    metadata = Metadata(NodeID=members[target.name].id, ClusterID=cluster_id).SerializeToString()
    log = wal.Wal.create(target.wal_dir, metadata, HardState(1, voters[0], len(entries)), entries)
    log.save_snapshot(len(entries), 1)
    log.sync()
    log.close()


def first_entry(index: int, member: membership.Member) -> Entry:
    """The entry with which a new cluster's log says that this member belongs to it."""
    change = raft_pb2.ConfChange(id=0, type=raft_pb2.ConfChangeAddNode, node_id=member.id, context=membership.to_json(member))
    return Entry(1, index, change.SerializeToString(), EntryType.CONF_CHANGE)


def _members(target: Target) -> dict[str, membership.Member]:
    try:
        initial = membership.parse_initial_cluster(target.initial_cluster)
    except ValueError as error:
        raise SnapshotFileError(str(error)) from None
    if target.name not in initial:
        raise SnapshotFileError(f'couldn\'t find local name "{target.name}" in the initial cluster configuration')
    advertised, listed = sorted(target.peer_urls), sorted(initial[target.name])
    if advertised != listed:
        missing = [f"{target.name}={url}" for url in listed if url not in advertised]
        if not missing:
            more = ",".join(url for url in advertised if url not in listed)
            raise SnapshotFileError(f"--initial-advertise-peer-urls has {more} but missing from --initial-cluster={target.initial_cluster}")
        unequal = next((f'resolved urls: "{ours}" != "{theirs}"' for ours, theirs in zip(advertised, listed, strict=False) if ours != theirs), "")
        if len(advertised) != len(listed):
            unequal = " != ".join("len([" + " ".join(f'"{url}"' for url in urls) + "])" for urls in (advertised, listed))
        raise SnapshotFileError(
            f"--initial-cluster has {','.join(missing)} but missing from --initial-advertise-peer-urls={','.join(advertised)} ({unequal})"
        )
    return membership.bootstrap(initial, target.token)


def _buckets(database: bbolt.Database, members: Sequence[membership.Member], conf_state: ConfState, bump: int) -> bbolt.Buckets:
    """The old database with new owners: what belonged to the old cluster's log and members is replaced."""
    buckets: dict[bytes, object] = {name: database.items(name) for name in database.buckets()}
    meta = dict(database.items(b"meta"))
    meta[b"consistent_index"] = _U64.pack(len(members))
    meta[b"term"] = _U64.pack(1)
    meta[b"confState"] = json.dumps({"voters": list(conf_state.voters), "auto_leave": False}, separators=(",", ":")).encode()
    if bump:
        last = max((revision.from_key(key)[0] for key, _ in database.items(b"key")), default=revision.pack(1))
        bumped = revision.to_key(revision.pack(revision.main_of(last) + bump), tombstone=False)
        # Upstream's mark: a record of nothing at the new revision, and a compaction that is still to be done.
        buckets[b"key"] = itertools.chain(database.items(b"key"), [(bumped, b"")])
        meta[b"scheduledCompactRev"] = bumped
    buckets[b"meta"] = sorted(meta.items())
    buckets[b"members"] = sorted((b"%x" % member.id, membership.to_json(member)) for member in members)
    buckets[b"members_removed"] = []
    buckets[b"cluster"] = []  # the release that boots from it says its own version
    return buckets  # type: ignore[return-value]
