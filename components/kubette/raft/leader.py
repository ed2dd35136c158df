"""Pure: what a leader does: append, replicate, count, heartbeat, confirm reads, hand over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kubette.raft.messages import (
    NO_NODE,
    Entry,
    EntryType,
    Message,
    MessageType,
    ProposalDropped,
    ReadState,
    entry_size,
)
from kubette.raft.progress import State
from kubette.raft.quorum import VoteResult, joint_vote_result
from kubette.raft.read_index import MAX_PENDING

if TYPE_CHECKING:
    from kubette.raft.core import Raft
    from kubette.raft.progress import Progress


def tick(raft: Raft) -> None:
    raft.heartbeat_elapsed += 1
    raft.election_elapsed += 1
    if raft.election_elapsed >= raft.options.election_ticks:
        raft.election_elapsed = 0
        own = raft.tracker.progress.get(raft.id)
        if own is None or own.is_learner:
            raft.note(f"{raft.id:x} stepped down to follower since it no longer votes")
            raft.become_follower(raft.term, NO_NODE)
            return
        if raft.options.check_quorum:
            _check_quorum(raft)
        # A transfer that takes longer than an election has failed: serve again (diss. §3.10).
        raft.lead_transferee = NO_NODE
    if raft.lead == raft.id and raft.heartbeat_elapsed >= raft.options.heartbeat_ticks:
        raft.heartbeat_elapsed = 0
        _broadcast_heartbeat(raft, raft.read_only.last_context())


def _check_quorum(raft: Raft) -> None:
    """A leader that has not heard of a majority for an election timeout steps down (diss. §6.2)."""
    own = raft.tracker.progress.get(raft.id)
    if own is not None:
        own.recent_active = True
    if not raft.tracker.quorum_active():
        raft.note(f"{raft.id:x} stepped down to follower since quorum is not active")
        raft.become_follower(raft.term, NO_NODE)
        return
    for node, progress in raft.tracker.progress.items():
        if node != raft.id:
            progress.recent_active = False


def step(raft: Raft, message: Message) -> None:
    kind = message.type
    if kind is MessageType.PROP:
        _propose(raft, message)
        return
    if kind is MessageType.READ_INDEX:
        _read_index(raft, message)
        return
    progress = raft.tracker.progress.get(message.from_)
    if progress is None:
        return
    if kind is MessageType.APP_RESP:
        progress.recent_active = True
        if message.reject:
            _append_rejected(raft, message, progress)
        else:
            _append_accepted(raft, message.from_, message.index, progress)
    elif kind is MessageType.HEARTBEAT_RESP:
        progress.recent_active = True
        # Also with a full window: the (empty) append that follows finds out whether what filled it got lost.
        progress.flow_paused = False
        if progress.match < raft.log.last_index or progress.state is State.PROBE:
            _maybe_send_append(raft, message.from_, progress, send_if_empty=True)
        _read_acknowledged(raft, message)
    elif kind is MessageType.SNAP_STATUS:
        if progress.state is State.SNAPSHOT:
            if message.reject:
                progress.pending_snapshot = 0
            progress.become_probe()
            # Wait for the member to answer before sending anything more.
            progress.flow_paused = True
    elif kind is MessageType.UNREACHABLE:
        if progress.state is State.REPLICATE:
            progress.become_probe()
    elif kind is MessageType.TRANSFER_LEADER:
        _transfer(raft, message.from_, progress)


# Appending


def append_entries(raft: Raft, entries: Sequence[Entry]) -> bool:
    """Give the entries their places in the log; False when too much waits to be committed."""
    size = sum(map(entry_size, entries))
    if raft.uncommitted_size and raft.uncommitted_size + size > raft.options.max_uncommitted_size:
        return False
    raft.uncommitted_size += size
    term, index = raft.term, raft.log.last_index
    raft.log.append([Entry(term, index + place, entry.data, entry.type) for place, entry in enumerate(entries, 1)])
    return True


def _propose(raft: Raft, message: Message) -> None:
    if raft.id not in raft.tracker.progress:
        raise ProposalDropped("removed from the configuration")
    if raft.lead_transferee != NO_NODE:
        raise ProposalDropped(f"transfer of leadership to {raft.lead_transferee:x} is in progress")
    entries = list(message.entries)
    pending = raft.pending_conf_index
    for place, entry in enumerate(entries, 1):
        if entry.type is EntryType.NORMAL:
            continue
        leaves = entry.type is EntryType.CONF_CHANGE_V2 and not entry.data
        if pending > raft.log.applied or raft.tracker.config.joint != leaves:
            # One change at a time: the entry keeps its place, but changes nothing.
            raft.note(f"{raft.id:x} ignoring conf change: pending at index {pending}, applied {raft.log.applied}, joint {raft.tracker.config.joint}")
            entries[place - 1] = Entry(0, 0)
        else:
            pending = raft.log.last_index + place
    if not append_entries(raft, entries):
        raise ProposalDropped("too much is uncommitted")
    raft.pending_conf_index = pending
    broadcast_append(raft)


def persisted(raft: Raft) -> None:
    """The own log is on disk up to `stable`."""
    own = raft.tracker.progress.get(raft.id)
    if own is not None and own.maybe_update(raft.log.stable) and _maybe_commit(raft):
        broadcast_append(raft)


def _maybe_commit(raft: Raft) -> bool:
    if not raft.log.maybe_commit(min(raft.tracker.committed(), raft.log.last_index), raft.term):
        return False
    if raft.pending_reads and committed_in_term(raft):
        pending, raft.pending_reads = raft.pending_reads, []
        for message in pending:
            _read_index(raft, message)
    return True


def committed_in_term(raft: Raft) -> bool:
    """Whether the leader has committed an entry of its own term, and so knows what is committed (diss. §6.4)."""
    return raft.log.term(raft.log.committed) == raft.term


# Replicating


def broadcast_append(raft: Raft) -> None:
    for node, progress in raft.tracker.progress.items():
        if node != raft.id:
            _maybe_send_append(raft, node, progress, send_if_empty=True)


def _maybe_send_append(raft: Raft, node: int, progress: Progress, send_if_empty: bool) -> bool:
    """Send what the member lacks, if it may be sent to; answers whether anything was."""
    if progress.is_paused():
        return False
    previous = progress.next - 1
    previous_term = raft.log.term(previous)
    if previous_term is None:
        return _maybe_send_snapshot(raft, node, progress)
    entries: tuple[Entry, ...] = ()
    if progress.next <= raft.log.last_index and not (progress.state is State.REPLICATE and progress.inflights.full()):
        entries = raft.log.slice(progress.next, raft.log.last_index + 1, raft.options.max_size_per_message)
    if not entries and not send_if_empty:
        return False
    raft.send(Message(MessageType.APP, to=node, index=previous, log_term=previous_term, entries=entries, commit=raft.log.committed))
    progress.sent_entries(len(entries), sum(map(entry_size, entries)))
    return True


def _maybe_send_snapshot(raft: Raft, node: int, progress: Progress) -> bool:
    if not progress.recent_active:
        return False
    snapshot = raft.log.snapshot
    assert snapshot.index >= raft.log.offset, f"snapshot {snapshot.index} is older than the log's start {raft.log.offset}"
    raft.send(Message(MessageType.SNAP, to=node, snapshot=snapshot))
    progress.become_snapshot(snapshot.index)
    raft.note(f"{raft.id:x} sent snapshot [index: {snapshot.index}, term: {snapshot.term}] to {node:x}")
    return True


def _append_accepted(raft: Raft, node: int, index: int, progress: Progress) -> None:
    was_paused = progress.is_paused()
    if not progress.maybe_update(index) and not (progress.match == index and progress.state is State.PROBE):
        return
    if progress.state is State.PROBE:
        progress.become_replicate()
    elif progress.state is State.SNAPSHOT:
        if progress.match + 1 >= raft.log.first_index:
            progress.become_probe()
            progress.become_replicate()
    else:
        progress.inflights.free_le(index)
    if _maybe_commit(raft):
        broadcast_append(raft)
    elif was_paused:
        _maybe_send_append(raft, node, progress, send_if_empty=True)
    # The window may be open again: fill it.
    while _maybe_send_append(raft, node, progress, send_if_empty=False):
        pass
    if node == raft.lead_transferee and progress.match == raft.log.last_index:
        raft.send(Message(MessageType.TIMEOUT_NOW, to=node))


def _append_rejected(raft: Raft, message: Message, progress: Progress) -> None:
    hint = message.reject_hint
    if message.log_term > 0:
        # Skip every position of ours whose term the member cannot have.
        hint, _ = raft.log.find_conflict_by_term(message.reject_hint, message.log_term)
    if progress.maybe_decr_to(message.index, hint):
        if progress.state is State.REPLICATE:
            progress.become_probe()
        _maybe_send_append(raft, message.from_, progress, send_if_empty=True)


def _broadcast_heartbeat(raft: Raft, context: bytes) -> None:
    for node, progress in raft.tracker.progress.items():
        if node != raft.id:
            # Never commit beyond what the member is known to have: its log may differ there.
            commit = min(progress.match, raft.log.committed)
            raft.send(Message(MessageType.HEARTBEAT, to=node, commit=commit, context=context))


# Reading


def _read_index(raft: Raft, message: Message) -> None:
    if not committed_in_term(raft):
        # Until then the leader does not know the commit index: wait (diss. §6.4).
        if len(raft.pending_reads) < MAX_PENDING:
            raft.pending_reads.append(message)
        return
    if raft.tracker.is_singleton() and raft.id in raft.tracker.config.voters:
        _answer_read(raft, message, raft.log.committed)
        return
    if raft.read_only.add_request(raft.log.committed, message):
        raft.read_only.recv_ack(raft.id, message.context)
        _broadcast_heartbeat(raft, message.context)


def _read_acknowledged(raft: Raft, message: Message) -> None:
    if not message.context:
        return
    acks = raft.read_only.recv_ack(message.from_, message.context)
    config = raft.tracker.config
    if not acks or joint_vote_result(config.voters, config.outgoing, acks) is not VoteResult.WON:
        return
    for pending in raft.read_only.advance(message.context):
        _answer_read(raft, pending.request, pending.index)


def _answer_read(raft: Raft, request: Message, index: int) -> None:
    if request.from_ in (NO_NODE, raft.id):
        raft.out.read_states.append(ReadState(index, request.context))
    else:
        raft.send(Message(MessageType.READ_INDEX_RESP, to=request.from_, index=index, context=request.context))


# Handing over, and changes of the configuration


def _transfer(raft: Raft, target: int, progress: Progress) -> None:
    if progress.is_learner or target in (raft.lead_transferee, raft.id):
        return
    raft.election_elapsed = 0
    raft.lead_transferee = target
    if progress.match == raft.log.last_index:
        raft.send(Message(MessageType.TIMEOUT_NOW, to=target))
    else:
        _maybe_send_append(raft, target, progress, send_if_empty=True)


def config_changed(raft: Raft) -> None:
    """The configuration in force changed under this leader."""
    own = raft.tracker.progress.get(raft.id)
    if own is None or own.is_learner:
        # Removed or demoted: it led until the change was committed, and now it stops (diss. §4.2.2). Not at once: in a cluster of
        # two the other must learn that the change is committed, or it would need the vote of a member that is gone.
        raft.election_elapsed = 0
    if _maybe_commit(raft):
        broadcast_append(raft)
    else:
        for node, progress in raft.tracker.progress.items():
            if node != raft.id:
                _maybe_send_append(raft, node, progress, send_if_empty=False)
    if raft.lead_transferee not in raft.tracker.config.all_voters():
        raft.lead_transferee = NO_NODE


def maybe_leave_joint(raft: Raft) -> None:
    """A joint configuration that was entered with auto-leave ends as soon as it is applied."""
    if raft.tracker.config.auto_leave and raft.log.applied >= raft.pending_conf_index:
        if append_entries(raft, (Entry(0, 0, b"", EntryType.CONF_CHANGE_V2),)):
            raft.pending_conf_index = raft.log.last_index
            broadcast_append(raft)
