"""A copy of a member's data directory from which another cluster begins: what upstream calls `backup`, the way before snapshots.

The copy holds the state at the end of the log, as a snapshot with an empty log behind it, under new ids and without the old members; a member
started from it with `--force-new-cluster` is the first of the new cluster.
"""

import time
from pathlib import Path

from kubette.etcd import offline, snapshotter, v2_apply, wal
from kubette.etcd.apply import State
from kubette.etcd.membership import Member
from kubette.etcd.server import empty_state
from kubette.etcd.v2_store import Node
from kubette.etcd_api.metadata_pb2 import Metadata
from kubette.raft.messages import ConfState, HardState

# Upstream's, of the only member of the copy until the flag gives it the addresses that it is started with.
NAME, PEER_URL = "etcdctl-v2-backup", "http://use-flag--force-new-cluster:2080"


def backup(data_dir: Path, wal_dir: Path, backup_dir: Path, backup_wal_dir: Path, with_v3: bool) -> None:
    """Raises OfflineError, OSError."""
    snap_directory = backup_dir / "member" / "snap"
    try:
        snap_directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        backup_dir.chmod(0o700)
    except OSError as error:
        text = f"mkdir {error.filename}: {(error.strerror or str(error)).lower()}"
        raise offline.OfflineError(f"failed creating backup snapshot dir {snap_directory}: {text}") from error
    state = offline.recover(data_dir, wal_dir)
    if backup_wal_dir.exists() and any(backup_wal_dir.iterdir()):
        raise offline.OfflineError("file already exists")  # etcd's text
    node, cluster = (time.time_ns() << shift & (1 << 64) - 1 for shift in (8, 9))
    member = Member(node, (PEER_URL,), NAME)
    _begin_anew(state, member)
    kept = state if with_v3 else _without_v3(state)
    conf_state = ConfState((node,))
    snapshotter.save(snap_directory, snapshotter.capture(kept, conf_state))
    backup_wal_dir.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    if backup_wal_dir.exists():
        backup_wal_dir.rmdir()
    metadata = Metadata(NodeID=node, ClusterID=cluster).SerializeToString()
    log = wal.Wal.create(backup_wal_dir, metadata, HardState(state.applied_term, 0, state.applied_index))
    log.save_snapshot(state.applied_index, state.applied_term)
    log.sync()
    log.close()


def _begin_anew(state: State, member: Member) -> None:
    state.membership.members = {member.id: member}
    state.membership.removed.clear()
    version, state.membership.version = state.membership.version, ""
    state.v2.root.children["0"] = Node("/0", 0, 0)
    v2_apply.seed(state.v2, [member], [], version)


def _without_v3(state: State) -> State:
    alone = empty_state(1)
    alone.membership, alone.v2 = state.membership, state.v2
    alone.applied_index, alone.applied_term = state.applied_index, state.applied_term
    return alone
