"""`--force-new-cluster`: one member of a cluster that has lost its majority goes on alone, with what was committed.

The log gets entries that remove everyone else, committed by decree; applying them does the rest. What was not committed is lost.
"""

from kubette.component_base import logs
from kubette.etcd import membership, raft_codec, wal
from kubette.etcd.membership import Member, Membership
from kubette.etcd_api import raft_pb2
from kubette.raft.log import RaftLog
from kubette.raft.messages import ConfChangeType, Entry, EntryType, HardState, Snapshot

log = logs.logger(__name__)


def alone(
    own: int, members: Membership, snapshot: Snapshot, entries: list[Entry], hard_state: HardState, log_file: wal.Wal
) -> tuple[RaftLog, HardState]:
    """The log and state of the only member left, written to disk."""
    kept = [entry for entry in entries if entry.index <= hard_state.commit]
    voters, others = _configuration(own, snapshot, kept)
    at = kept[-1].index if kept else snapshot.index
    added: list[Entry] = []
    changes = [raft_pb2.ConfChange(type=raft_pb2.ConfChangeRemoveNode, node_id=node) for node in others]
    if own not in voters:
        known = members.members.get(own, Member(own, ("http://localhost:2380",)))
        changes.insert(0, raft_pb2.ConfChange(type=raft_pb2.ConfChangeAddNode, node_id=own, context=membership.promotion_context(known)))
    for change in changes:
        at += 1
        added.append(Entry(hard_state.term, at, change.SerializeToString(), EntryType.CONF_CHANGE))
    decreed = HardState(hard_state.term, hard_state.vote, at)
    log_file.save(decreed, added)
    log_file.sync()
    log.warning("forcing restart member", local_member_id=f"{own:x}", commit_index=at, removed=len(others), discarded=len(entries) - len(kept))
    return RaftLog(snapshot, kept + added), decreed


def _configuration(own: int, snapshot: Snapshot, entries: list[Entry]) -> tuple[list[int], list[int]]:
    """Who votes as of the end of `entries`, and everyone but this member."""
    state = snapshot.conf_state
    voters = dict.fromkeys((*state.voters, *state.voters_outgoing)) if snapshot.index else {}
    learners = dict.fromkeys((*state.learners, *state.learners_next)) if snapshot.index else {}
    for entry in entries:
        if entry.type is EntryType.NORMAL:
            continue
        change, _, _ = raft_codec.conf_change_of(entry)
        for kind, node in change.changes:
            if kind is ConfChangeType.UPDATE_NODE:
                continue
            voters.pop(node, None)
            learners.pop(node, None)
            if kind is ConfChangeType.ADD_NODE:
                voters[node] = None
            elif kind is ConfChangeType.ADD_LEARNER_NODE:
                learners[node] = None
    return list(voters), sorted(node for node in (*voters, *learners) if node != own)
