"""The one loop that drives Raft: tick, step, propose; then persist, send, apply, advance, in this order.

Everything that waits for the disk waits here, and only here: while one batch is being synced, the one before it is applied and answered,
and proposals and messages collect and make the next (group commit). Proposals wait while there is no leader; whoever made them times out.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from kubette.component_base import logs
from kubette.etcd.wal import Wal
from kubette.raft.core import Role
from kubette.raft.messages import Entry, HardState, Message, MessageType, ProposalDropped, ReadState, Snapshot
from kubette.raft.node import Node

log = logs.logger(__name__)
MAX_BATCH_BYTES = 4 << 20  # of proposals in one step: bounds the size of a single write


class StateMachine(Protocol):
    """What the loop needs from the server."""

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply committed entries, in order."""

    async def install_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the state by a snapshot received, durably (its files are on disk when this returns)."""

    def leader_changed(self, lead: int, is_leader: bool) -> None: ...

    def read_states(self, states: Sequence[ReadState]) -> None: ...

    def is_waiting(self, request_id: int) -> bool:
        """Whether anyone still waits for a proposal that has not been made yet."""

    def proposed(self, request_ids: Sequence[int], term: int) -> None:
        """These have been handed to the leader of `term`."""


class RaftLoop:
    """Runs a node on a log. `send` hands messages to the transport and answers those it had to drop."""

    def __init__(self, node: Node, wal: Wal, machine: StateMachine, send: Callable[[Sequence[Message]], Sequence[Message]], tick_s: float) -> None:
        self.node = node
        self._wal = wal
        self._machine = machine
        self._send = send
        self._tick_s = tick_s
        self._wake = asyncio.Event()
        self.on_synced: Callable[[float, float], None] = lambda write, fsync: None  # after each: how long both took
        self.late_heartbeats = 0  # as leader, a tick came too late: the machine is overloaded
        self._proposals: deque[tuple[int, bytes, int]] = deque()  # (request id, data, term or 0)
        self._queued_bytes = 0  # of them
        self._campaign_alone = False
        self._held = False  # the last attempt to propose was dropped: wait for a tick
        self._deferred_state: HardState | None = None
        self._finished_snapshot: tuple[Snapshot, int, Callable[[], None]] | None = None
        self._failure: BaseException | None = None
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wal")

    def begin(self, advance_ticks: int) -> None:
        """Start right away: apply what is committed, and let the first election come soon.

        A member that starts has waited long enough: its first election timeout is cut to the random part, and a single voter
        needs none at all.
        """
        self.node.raft.election_elapsed = max(0, advance_ticks - 1)
        self._campaign_alone = True
        self._wake.set()

    # Inputs

    @property
    def queued(self) -> int:
        return len(self._proposals)

    @property
    def queued_bytes(self) -> int:
        return self._queued_bytes

    def propose(self, request_id: int, data: bytes, as_leader_of: int = 0) -> None:
        """What a leader decided (`as_leader_of` its term) is for this member alone to append, in that term: else it is dropped, not passed on."""
        self._proposals.append((request_id, data, as_leader_of))
        self._queued_bytes += len(data)
        self._wake.set()

    def step(self, messages: Sequence[Message]) -> None:
        """Messages from other members."""
        for message in messages:
            try:
                self.node.step(message)
            except ProposalDropped as error:
                log.v(2, "Dropped a forwarded proposal", err=error)
        self._after_input()

    def read_index(self, context: bytes) -> None:
        self.node.read_index(context)
        self._after_input()

    def nudge(self) -> None:
        """Something was fed to the node directly."""
        self._after_input()

    def snapshot_saved(self, snapshot: Snapshot, compact_to: int, purge: Callable[[], None]) -> None:
        """A snapshot is on disk: record it in the log, forget entries up to `compact_to`, then `purge` older snapshots (in a thread)."""
        self._finished_snapshot = (snapshot, compact_to, purge)
        self._wake.set()

    def fail(self, error: BaseException) -> None:
        """Something on the disk cannot be trusted any more: `run` raises it."""
        self._failure = error
        self._wake.set()

    def _after_input(self) -> None:
        # What depends on no disk leaves at once, also while a batch is being synced.
        messages, states = self.node.take_immediate()
        if messages:
            self._send(messages)
        if states:
            self._machine.read_states(states)
        if self.node.has_ready():
            self._wake.set()

    # The loop

    async def tick_forever(self) -> None:
        """Time, for the node. A late tick is one tick: a pause must not make an election certain."""
        loop = asyncio.get_running_loop()
        following = loop.time()
        while True:
            following = max(following + self._tick_s, loop.time())
            await asyncio.sleep(following - loop.time())
            if loop.time() - following > self._tick_s and self.node.raft.role is Role.LEADER:
                self.late_heartbeats += 1
            self.node.tick()
            self._held = False
            self._after_input()
            if self._proposals or self._deferred_state is not None:
                self._wake.set()

    async def run(self) -> None:
        """Until cancelled, or until the disk fails: an OSError from here must end the process."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._failure is not None:
                    raise self._failure
                self._propose_batch()
                while self.node.has_ready():
                    await self._carry_out()
                    self._propose_batch()
                if self._campaign_alone and self.node.raft.log.applied == self.node.raft.log.committed:
                    self._campaign_alone = False
                    if self.node.raft.tracker.is_singleton():
                        self.node.campaign()
                        self._wake.set()
                if self._finished_snapshot is not None:
                    await self._record_snapshot()
                if self._deferred_state is not None and not self._proposals:
                    # A commit index alone can be learnt again: written, but not synced.
                    self._wal.save(self._deferred_state, ())
                    self._wal.flush()
                    self._deferred_state = None
        finally:
            self._disk.shutdown(wait=True)

    def _propose_batch(self) -> None:
        if not self._proposals or self._held or not self.node.raft.lead:
            return
        datas: list[bytes] = []
        taken: list[tuple[int, bytes, int]] = []
        size = 0
        while self._proposals and size < MAX_BATCH_BYTES:
            request_id, data, term = self._proposals.popleft()
            self._queued_bytes -= len(data)
            if term and not self._leads(term):
                continue
            if self._machine.is_waiting(request_id):
                taken.append((request_id, data, term))
                datas.append(data)
                size += len(data)
        if not datas:
            return
        try:
            self.node.propose(datas)
            messages, _ = self.node.take_immediate()
            dropped = self._send(messages) if messages else ()
            is_lost = any(message.type is MessageType.PROP for message in dropped)
        except ProposalDropped:
            is_lost = True
        if is_lost:
            # No leader, or no way to it yet (a member that has just started): the leader has not seen these.
            self._proposals.extendleft(reversed(taken))
            self._queued_bytes += size
            self._held = True
            return
        self._machine.proposed([request_id for request_id, _, _ in taken], self.node.raft.term)

    def _leads(self, term: int) -> bool:
        return self.node.raft.role is Role.LEADER and self.node.raft.term == term

    async def _carry_out(self) -> None:
        ready = self.node.ready()
        committed: Sequence[Entry] = ready.committed_entries
        for note in ready.notes:
            log.info("Raft: " + note)
        if ready.soft_state is not None:
            self._machine.leader_changed(ready.soft_state.lead, ready.soft_state.role is Role.LEADER)
        # A leader writes its own log while the others write theirs (diss. §10.2.1).
        if ready.messages:
            self._send(ready.messages)
        if ready.snapshot is not None:
            await self._machine.install_snapshot(ready.snapshot)
            self._wal.save_snapshot(ready.snapshot.index, ready.snapshot.term)
        if ready.must_sync or ready.snapshot is not None:
            self._wal.save(ready.hard_state or self._deferred_state, ready.entries)
            self._deferred_state = None
            syncing = self._sync()
            # What is committed and on disk already need not wait for what is only now being written.
            durable = self.node.raft.log.stable
            self._apply([entry for entry in committed if entry.index <= durable])
            committed = [entry for entry in committed if entry.index > durable]
            # fsync before any promise leaves: a vote, an acknowledgement must survive a crash.
            self.on_synced(*await syncing)
        elif ready.hard_state is not None:
            self._deferred_state = ready.hard_state
        if ready.messages_after_persist:
            self._send(ready.messages_after_persist)
        if ready.read_states:
            self._machine.read_states(ready.read_states)
        self._apply(committed)
        self.node.advance()
        # Reads and messages that the advance released (a first commit of the term, for one).
        self._after_input()

    def _apply(self, entries: Sequence[Entry]) -> None:
        if entries:
            self._machine.apply(entries)

    def _sync(self) -> "asyncio.Future[tuple[float, float]]":
        """Under way when this returns; done, with the times of writing and syncing, when everything saved so far is durable."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._disk, self._timed_sync, loop.time)

    @property
    def written_bytes(self) -> int:
        """Of the log, since the start."""
        return self._wal.written_bytes

    def _timed_sync(self, now: Callable[[], float]) -> tuple[float, float]:
        began = now()
        self._wal.flush()
        written = now()
        self._wal.sync()
        return written - began, now() - written

    async def _record_snapshot(self) -> None:
        assert self._finished_snapshot is not None
        (snapshot, compact_to, purge), self._finished_snapshot = self._finished_snapshot, None
        # A snapshot is believed only when the log says that its index is committed.
        self._wal.save(self._deferred_state, ())
        self._deferred_state = None
        self._wal.save_snapshot(snapshot.index, snapshot.term)
        # Only what a snapshot covers that is durable, and known to the log, may be forgotten.
        self.on_synced(*await self._sync())
        if snapshot.index < self.node.raft.log.snapshot.index:
            return  # the leader has sent a newer one meanwhile, also while the disk was busy
        self.node.compact(max(compact_to, self.node.raft.log.offset), snapshot)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._disk, self._wal.release_to, snapshot.index)
        await loop.run_in_executor(self._disk, purge)

    def close(self) -> None:
        self._wal.close()
