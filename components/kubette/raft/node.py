"""Pure: the interface of the library: what goes in, and the Ready that comes out (etcd's RawNode)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from kubette.raft.core import Options, Outbox, Raft, Role
from kubette.raft.log import RaftLog
from kubette.raft.messages import (
    LOCAL,
    NO_NODE,
    RESPONSES,
    ConfChange,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ReadState,
    Snapshot,
)


@dataclass(frozen=True, slots=True)
class SoftState:
    """What need not survive: who leads, and what this member is."""

    lead: int
    role: Role


@dataclass(frozen=True, slots=True)
class Ready:
    """What the driver must do now. See the package's docstring for the order."""

    soft_state: SoftState | None  # when it changed
    hard_state: HardState | None  # when it changed
    entries: tuple[Entry, ...]
    snapshot: Snapshot | None
    committed_entries: tuple[Entry, ...]
    messages: Sequence[Message]
    messages_after_persist: Sequence[Message]
    read_states: Sequence[ReadState]
    notes: Sequence[str]
    must_sync: bool  # entries, term or vote changed: a commit index alone can be learnt again


class Node:
    """One member. At most one Ready is under way: `ready`, then `advance`; other inputs may come in between."""

    def __init__(self, options: Options, log: RaftLog, hard_state: HardState, conf_state: ConfState, rng: random.Random) -> None:
        self.raft = Raft(options, log, hard_state, conf_state, rng)
        self._soft_state = SoftState(NO_NODE, Role.FOLLOWER)
        self._hard_state = self.raft.hard_state._replace(term=hard_state.term, vote=hard_state.vote)  # what is on disk
        self._under_way: Ready | None = None
        self._held: Message | None = None

    # Inputs

    def tick(self) -> None:
        self.raft.tick()

    def campaign(self) -> None:
        self.raft.step(Message(MessageType.HUP))

    def step(self, message: Message) -> None:
        """A message from another member."""
        if message.type in LOCAL:
            return
        if message.type in RESPONSES and message.from_ not in self.raft.tracker.progress:
            return
        if message.type is MessageType.SNAP and self._under_way is not None:
            # The Ready under way may still change the configuration that a snapshot replaces: one after the other.
            self._held = message
            return
        self.raft.step(message)

    def propose(self, datas: Sequence[bytes]) -> None:
        """Propose entries, in this order and without others between. Raises ProposalDropped."""
        entries = tuple([Entry(0, 0, data) for data in datas])
        self.raft.step(Message(MessageType.PROP, from_=self.raft.id, entries=entries))

    def propose_conf_change(self, data: bytes, entry_type: EntryType = EntryType.CONF_CHANGE_V2) -> None:
        """Propose a configuration change, encoded by the driver, who calls `apply_conf_change` when it is committed."""
        self.raft.step(Message(MessageType.PROP, from_=self.raft.id, entries=(Entry(0, 0, data, entry_type),)))

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        return self.raft.apply_conf_change(change)

    def read_index(self, context: bytes) -> None:
        """Ask for a ReadState with this (unique) context. It may never come: then ask again."""
        self.raft.step(Message(MessageType.READ_INDEX, from_=self.raft.id, context=context))

    def transfer_leadership(self, target: int) -> None:
        self.raft.step(Message(MessageType.TRANSFER_LEADER, from_=target))

    def report_unreachable(self, node: int) -> None:
        self.raft.step(Message(MessageType.UNREACHABLE, from_=node))

    def report_snapshot(self, node: int, failed: bool) -> None:
        """A snapshot's transfer to `node` ended."""
        self.raft.step(Message(MessageType.SNAP_STATUS, from_=node, reject=failed))

    def compact(self, index: int, snapshot: Snapshot | None = None) -> None:
        """Forget entries up to `index`; `snapshot` (durable, at `index` or later) is for members that need them still."""
        if snapshot is not None:
            assert snapshot.index >= index, f"snapshot {snapshot.index} does not cover {index}"
            self.raft.log.snapshot = snapshot
        assert self.raft.log.snapshot.index >= index, "compacting without a snapshot"
        self.raft.log.compact(index)

    # Outputs

    def take_immediate(self) -> tuple[Sequence[Message], Sequence[ReadState]]:
        """What depends on nothing that is still to be persisted, also while a Ready is under way: requests of a leader, reads."""
        out = self.raft.out
        messages, read_states = out.messages, out.read_states
        out.messages, out.read_states = [], []
        return messages, read_states

    def has_ready(self) -> bool:
        raft, log, out = self.raft, self.raft.log, self.raft.out
        return self._under_way is None and bool(
            out.messages
            or out.messages_after_persist
            or out.read_states
            or out.notes
            or log.stable < log.last_index
            or log.pending_snapshot is not None
            or log.committed > log.applied
            or raft.hard_state != self._hard_state
            or raft.lead != self._soft_state.lead
            or raft.role is not self._soft_state.role
        )

    def ready(self) -> Ready:
        assert self._under_way is None, "the Ready before was not advanced"
        raft, out = self.raft, self.raft.out
        raft.out = Outbox()
        soft_state, hard_state = SoftState(raft.lead, raft.role), raft.hard_state
        entries = raft.log.unstable_entries()
        changed = hard_state != self._hard_state
        ready = Ready(
            soft_state=soft_state if soft_state != self._soft_state else None,
            hard_state=hard_state if changed else None,
            entries=entries,
            snapshot=raft.log.pending_snapshot,
            committed_entries=raft.log.next_committed_entries(raft.options.max_committed_size_per_ready),
            messages=out.messages,
            messages_after_persist=out.messages_after_persist,
            read_states=out.read_states,
            notes=out.notes,
            must_sync=bool(entries) or hard_state[:2] != self._hard_state[:2],
        )
        self._soft_state, self._hard_state = soft_state, hard_state
        self._under_way = ready
        return ready

    def advance(self) -> None:
        """The Ready under way is carried out: persisted, sent, applied."""
        ready, self._under_way = self._under_way, None
        assert ready is not None, "nothing to advance"
        log = self.raft.log
        if ready.snapshot is not None and log.pending_snapshot is ready.snapshot:
            log.pending_snapshot = None
            self.raft.applied_to(ready.snapshot.index, ())
        if ready.entries:
            last = ready.entries[-1]
            self.raft.stable_to(last.index, last.term)
        if ready.committed_entries and log.applied < ready.committed_entries[-1].index:
            self.raft.applied_to(ready.committed_entries[-1].index, ready.committed_entries)
        if self._hard_state[:2] == (self.raft.term, self.raft.id):
            self.raft.vote_persisted()
        if self._held is not None:
            held, self._held = self._held, None
            self.raft.step(held)
