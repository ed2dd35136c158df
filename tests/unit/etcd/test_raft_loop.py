"""The loop that drives Raft: what reaches the leader, and what waits for the disk and what does not."""

import asyncio
import random
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from kubette.etcd.disk import SystemDisk
from kubette.etcd.raft_loop import RaftLoop
from kubette.etcd.server import MAX_QUEUED_BYTES, Limits, Server, empty_state
from kubette.etcd.wal import Wal
from kubette.etcd_api.errors import RpcError
from kubette.etcd_api.raft_internal_pb2 import InternalRaftRequest
from kubette.raft.core import Options
from kubette.raft.log import RaftLog
from kubette.raft.messages import ConfState, Entry, HardState, Message, MessageType, ReadState, Snapshot
from kubette.raft.node import Node
from kubette.stdx.clock import SYSTEM_CLOCK

LEADER = 2


class Machine:
    """Waits for everything; remembers what was handed to a leader."""

    def __init__(self) -> None:
        self.handed: list[int] = []
        self.applied: asyncio.Queue[bytes] = asyncio.Queue()

    def apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.data:
                self.applied.put_nowait(entry.data)

    async def install_snapshot(self, snapshot: Snapshot) -> None: ...

    def leader_changed(self, lead: int, is_leader: bool) -> None: ...

    def read_states(self, states: Sequence[ReadState]) -> None: ...

    def is_waiting(self, request_id: int) -> bool:
        return True

    def proposed(self, request_ids: Sequence[int], term: int) -> None:
        self.handed += request_ids


async def test_a_proposal_waits_until_there_is_a_way_to_the_leader(tmp_path: Path) -> None:
    """The name of a joining member would else be lost, and the member be "unstarted" until a timeout."""
    node = Node(Options(1), RaftLog(), HardState(1, 0, 0), ConfState(voters=(1, LEADER)), random.Random(1))
    node.step(Message(MessageType.HEARTBEAT, to=1, from_=LEADER, term=1))
    node.take_immediate()
    machine, is_connected, sent = Machine(), False, list[Message]()

    def send(messages: Sequence[Message]) -> Sequence[Message]:
        if not is_connected:
            return messages
        sent.extend(messages)
        return ()

    loop = RaftLoop(node, Wal.create(tmp_path / "wal", b""), machine, send, 0.1)
    loop.propose(7, b"name")
    loop._propose_batch()
    assert (machine.handed, loop.queued) == ([], 1)
    is_connected, loop._held = True, False  # as a tick does
    loop._propose_batch()
    assert (machine.handed, loop.queued) == ([7], 0)
    proposals = [message for message in sent if message.type is MessageType.PROP]
    assert [[entry.data for entry in message.entries] for message in proposals] == [[b"name"]]
    loop.close()


async def test_a_deposed_leader_revokes_no_lease_by_way_of_its_successor(tmp_path: Path) -> None:
    """INV-L1: the successor has extended the lease, and may have renewed it; it alone can tell when it is over."""
    state, now = empty_state(min_ttl=1), SYSTEM_CLOCK.monotonic()
    server = Server(1, 1, state, tmp_path, Limits(), SYSTEM_CLOCK, election_s=1.0)
    node = Node(Options(1), RaftLog(), HardState(1, 0, 0), ConfState(voters=(1, LEADER)), random.Random(1))
    sent: list[Message] = []

    def send(messages: Sequence[Message]) -> Sequence[Message]:
        sent.extend(messages)
        return ()

    loop = RaftLoop(node, Wal.create(tmp_path / "wal", b""), server, send, 0.1)
    server.attach(loop)
    node.campaign()
    for kind in (MessageType.PRE_VOTE_RESP, MessageType.VOTE_RESP):
        await loop._carry_out()
        node.step(Message(kind, to=1, from_=LEADER, term=2))
    await loop._carry_out()
    assert server.is_leader
    state.lessor.grant(7, 5, now - 60)
    revoking = asyncio.create_task(server.revoke_expired())
    await asyncio.sleep(0)
    assert loop.queued == 1
    # Before the loop comes to it, another one leads.
    node.step(Message(MessageType.HEARTBEAT, to=1, from_=LEADER, term=3))
    loop._propose_batch()
    revoking.cancel()
    assert loop.queued == 0
    proposed = [InternalRaftRequest.FromString(entry.data) for message in sent if message.type is MessageType.PROP for entry in message.entries]
    assert proposed == []
    # What a client has asked for is passed on.
    loop._held = False
    server.propose(9, b"\x08\x07")
    loop._propose_batch()
    (forwarded,) = [InternalRaftRequest.FromString(message.entries[0].data) for message in sent if message.type is MessageType.PROP]
    assert forwarded.lease_revoke.ID == 7
    loop.close()


class HeldDisk(SystemDisk):
    """A sync waits until it is let go."""

    def __init__(self) -> None:
        self.waiting, self.let_go = threading.Semaphore(0), threading.Semaphore(1)  # the first belongs to the log's creation

    def sync_data(self, fd: int) -> None:
        self.waiting.release()
        assert self.let_go.acquire(timeout=30)
        super().sync_data(fd)


async def test_what_is_durable_is_applied_while_the_next_batch_is_being_synced(tmp_path: Path) -> None:
    disk, machine = HeldDisk(), Machine()
    node = Node(Options(1), RaftLog(), HardState(1, 0, 0), ConfState(voters=(1,)), random.Random(1))
    loop = RaftLoop(node, Wal.create(tmp_path / "wal", b"", disk=disk), machine, lambda messages: (), 0.1)
    assert disk.waiting.acquire(timeout=1)
    running = asyncio.create_task(loop.run())

    async def syncing() -> None:
        assert await asyncio.to_thread(disk.waiting.acquire, timeout=30)

    loop.begin(0)
    for _ in range(2):  # the vote for itself, and the first entry of the term
        await syncing()
        disk.let_go.release()
    loop.propose(1, b"first")
    await syncing()
    loop.propose(2, b"second")
    assert machine.applied.empty()
    disk.let_go.release()
    await syncing()  # the second one's
    assert await asyncio.wait_for(machine.applied.get(), 30) == b"first"
    await asyncio.sleep(0)
    assert machine.applied.empty()
    disk.let_go.release()
    assert await asyncio.wait_for(machine.applied.get(), 30) == b"second"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    loop.close()


async def test_requests_that_wait_for_a_leader_are_bounded_by_their_bytes(tmp_path: Path) -> None:
    state = empty_state(min_ttl=1)
    server = Server(1, 1, state, tmp_path, Limits(), SYSTEM_CLOCK, election_s=1.0)
    node = Node(Options(1), RaftLog(), HardState(1, 0, 0), ConfState(voters=(1, LEADER)), random.Random(1))
    loop = RaftLoop(node, Wal.create(tmp_path / "wal", b""), server, lambda messages: (), 0.1)
    server.attach(loop)
    body = bytes(1 << 20)

    def fill() -> None:
        while loop.queued_bytes <= 2 * MAX_QUEUED_BYTES:
            server.propose(4, body)

    with pytest.raises(RpcError, match="too many requests"):
        fill()
    assert MAX_QUEUED_BYTES < loop.queued_bytes < MAX_QUEUED_BYTES + 2 * len(body)
    # There is one: they leave, and others are taken.
    node.step(Message(MessageType.HEARTBEAT, to=1, from_=LEADER, term=2))
    while loop.queued:
        loop._propose_batch()
    assert loop.queued_bytes == 0
    server.propose(4, body)
    loop.close()
