"""From an empty or used data directory to a node that can run.

A new cluster's log begins with one configuration entry a member, committed: every member writes the same ones, and from there
on starting for the first time and restarting are the same thing.
"""

import asyncio
import random
import ssl
from dataclasses import dataclass
from pathlib import Path

from kubette.component_base import logs
from kubette.component_base.run import StartupError
from kubette.etcd import data_dir, forced, membership, raft_codec, snapshot_files, snapshotter, transport, v2_apply, wal
from kubette.etcd.apply import State
from kubette.etcd.config import Config
from kubette.etcd.disk import SYSTEM_DISK, Disk
from kubette.etcd.membership import Member
from kubette.etcd.server import empty_state
from kubette.etcd_api.metadata_pb2 import Metadata
from kubette.raft.core import Options
from kubette.raft.log import RaftLog
from kubette.raft.messages import ConfState, Entry, EntryType, HardState, Snapshot
from kubette.raft.node import Node

log = logs.logger(__name__)
BOOTSTRAP_TIMEOUT_S = 1.0  # for asking whether this member has run before


@dataclass(slots=True)
class Booted:
    """What `open_member` found or made."""

    member_id: int
    cluster_id: int
    state: State
    node: Node
    wal: wal.Wal
    snap_directory: Path
    fresh: bool
    seeds: list[Member]  # members known before the log says so, when joining


async def open_member(config: Config, peer_context: ssl.SSLContext | None) -> Booted:
    """Open the data directory, creating it for a member that starts for the first time. Raises StartupError."""
    base, wal_dir = Path(config.data_dir), Path(config.wal_dir)
    snap_directory = base / "member" / "snap"
    data_dir.prepare(base)
    try:
        SYSTEM_DISK.make_directory(snap_directory)
        fresh = not wal_dir.exists() or not wal.segments(wal_dir)
        seeds: list[Member] = []
        if fresh:
            seeds = await _create(config, wal_dir, peer_context)
        booted = open_files(config, fresh, seeds, SYSTEM_DISK, random.Random())
        if not SYSTEM_DISK.exists(snap_directory / "db"):
            # Empty until the first snapshot (the log has everything), but there from the first minute, where those who make backups look for it.
            snapshotter.write_database(snap_directory / "db", snapshotter.capture(booted.state, ConfState()))
        return booted
    except OSError as error:
        raise StartupError(data_dir.told(error, config.data_dir)) from error
    except (wal.WalError, snapshotter.SnapshotError) as error:
        raise StartupError(str(error)) from error


async def _create(config: Config, wal_dir: Path, peer_context: ssl.SSLContext | None) -> list[Member]:
    """Write the log of a member that starts for the first time; answers the members it must ask when it joins."""
    try:
        initial = membership.parse_initial_cluster(config.initial_cluster)
    except ValueError as error:
        raise StartupError(f"error setting up initial cluster: {error}") from None
    if config.name not in initial:
        raise StartupError(f'couldn\'t find local name "{config.name}" in the initial cluster configuration')
    if sorted(initial[config.name]) != sorted(config.advertise_peer_urls):
        ours = ",".join(f"{config.name}={url}" for url in config.advertise_peer_urls)
        raise StartupError(f"--initial-cluster has {config.initial_cluster} but missing from --initial-advertise-peer-urls={ours}")
    others = [url for name, urls in initial.items() if name != config.name for url in urls]
    if config.new_cluster:
        own_id = membership.bootstrap(initial, config.token)[config.name].id
        found = await asyncio.gather(*(_ask(url, peer_context, BOOTSTRAP_TIMEOUT_S) for url in others))
        _check_not_started([member for answer in found if answer for member in answer[0] if member.id == own_id])
        write_first_log(config, initial, SYSTEM_DISK)
        return []
    members_there, cluster_id = await _ask_members(others, peer_context)
    own = [member for member in members_there if set(member.peer_urls) == set(config.advertise_peer_urls)]
    if not own:
        raise StartupError("error validating peerURLs: member count is unequal or unmatched member while checking PeerURLs")
    _check_not_started(own)
    write_log(wal_dir, own[0].id, cluster_id, HardState(), [], SYSTEM_DISK)
    return members_there


def _check_not_started(own: list[Member]) -> None:
    """A member that has lost its data must not come back as itself: it has forgotten votes and entries that others count on. Raises StartupError."""
    for member in own:
        if member.client_urls:
            raise StartupError(f"member {member.id:x} has already been bootstrapped")


def write_first_log(config: Config, initial: dict[str, tuple[str, ...]], disk: Disk) -> None:
    """The log of a member of a new cluster: who belongs to it, committed."""
    members = membership.bootstrap(initial, config.token)
    cluster_id = membership.cluster_id(member.id for member in members.values())
    ordered = sorted(members.values(), key=lambda member: member.id)
    entries = [snapshot_files.first_entry(index, member) for index, member in enumerate(ordered, 1)]
    write_log(Path(config.wal_dir), members[config.name].id, cluster_id, HardState(1, 0, len(entries)), entries, disk)


def write_log(wal_dir: Path, member_id: int, cluster_id: int, state: HardState, entries: list[Entry], disk: Disk) -> None:
    """A log that begins with these entries; without any, of a member that joins and is told everything."""
    disk.make_directory(wal_dir.parent)
    metadata = Metadata(NodeID=member_id, ClusterID=cluster_id).SerializeToString()
    created = wal.Wal.create(wal_dir, metadata, state, entries, disk)
    created.close()


async def _ask_members(urls: list[str], context: ssl.SSLContext | None) -> tuple[list[Member], int]:
    """The members of the cluster to join, from any member that answers."""
    for url in urls:
        answer = await _ask(url, context, transport.QUESTION_TIMEOUT_S)
        if answer is not None:
            return answer
    raise StartupError("cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs")


async def _ask(url: str, context: ssl.SSLContext | None, timeout_s: float) -> tuple[list[Member], int] | None:
    """Who is in the cluster of the member there, and the cluster's id."""
    import json

    try:
        async with asyncio.timeout(timeout_s):
            status, headers, body = await transport.get(url, "/members", context)
        if status != 200:
            return None
        members = [membership.from_json(json.dumps(each).encode()) for each in json.loads(body)]
        return members, int(headers["x-etcd-cluster-id"], 16)
    except (OSError, TimeoutError, ValueError, KeyError) as error:
        log.warning("Could not get the cluster's members", url=url, err=str(error) or type(error).__name__)
        return None


def open_files(config: Config, fresh: bool, seeds: list[Member], disk: Disk, rng: random.Random) -> Booted:
    """A node as its files say it was left. Raises WalError, SnapshotError, StartupError, OSError."""
    wal_dir, snap_directory = Path(config.wal_dir), Path(config.data_dir) / "member" / "snap"
    snapshot = snapshotter.load_newest(snap_directory, wal.snapshot_positions(wal_dir, disk), disk) or Snapshot()
    log_file, contents = _open_log(wal_dir, snapshot.index, disk)
    state = load_state(snap_directory, snapshot, contents.entries, max(1, round(1.5 * config.election_s)), disk)
    metadata = Metadata.FromString(contents.metadata)
    raft_log = RaftLog(snapshot, contents.entries)
    options = Options(
        metadata.NodeID,
        election_ticks=config.election_ticks,
        heartbeat_ticks=1,
        pre_vote=config.pre_vote,
        check_quorum=True,
    )
    # What was committed stays so: a state that is ahead of the log's record of it proves that it was.
    committed = max(contents.hard_state.commit, min(state.applied_index, raft_log.last_index))
    hard_state = HardState(contents.hard_state.term, contents.hard_state.vote, committed)
    log_file.fsyncs, log_file.max_files = config.fsync, config.max_wals
    if config.force_new_cluster and not fresh:
        raft_log, hard_state = forced.alone(metadata.NodeID, state.membership, snapshot, contents.entries, hard_state, log_file)
    node = Node(options, raft_log, hard_state, snapshot.conf_state if snapshot.index else ConfState(), rng)
    return Booted(metadata.NodeID, metadata.ClusterID, state, node, log_file, snap_directory, fresh, seeds)


def load_state(snap_directory: Path, snapshot: Snapshot, entries: list[Entry], min_ttl: int, disk: Disk) -> State:
    """The state as database and snapshot have it; the entries (what follows the snapshot) are still to be applied. Raises SnapshotError, StartupError."""
    state = empty_state(min_ttl)
    database = snap_directory / "db"
    if disk.exists(database):
        snapshotter.load_database(database, state, disk)
    if state.applied_index < snapshot.index:
        raise StartupError(f"snap: database {database} is at index {state.applied_index}, older than its snapshot at {snapshot.index}")
    if snapshot.index:
        snapshotter.load_v2(state, snapshot.data)
        _members_of_the_log(state, entries)
    return state


def _members_of_the_log(state: State, entries: list[Entry]) -> None:
    """Who is a member as of the state, by snapshot and log: in a directory restored by etcdctl 3.4 the database still has the old cluster's members."""
    believed = membership.Membership(v2_apply.members(state.v2))
    for entry in entries:
        if entry.index <= state.applied_index and entry.type is not EntryType.NORMAL:
            change, context, _ = raft_codec.conf_change_of(entry)
            believed.apply_change(change, context)
    if believed.members:
        stored = state.membership.members
        state.membership.members = {node: stored.get(node, member) for node, member in believed.members.items()}


def _open_log(wal_dir: Path, after_index: int, disk: Disk) -> tuple[wal.Wal, wal.Contents]:
    """Open the log, cutting off a torn tail once: it was never acknowledged."""
    try:
        return wal.Wal.open(wal_dir, after_index, disk)
    except wal.TornTailError as torn:
        copy = wal.repair(torn, disk)
        log.warning("Repaired the log's torn tail", file=str(torn.path), offset=torn.offset, copy=str(copy))
        return wal.Wal.open(wal_dir, after_index, disk)
