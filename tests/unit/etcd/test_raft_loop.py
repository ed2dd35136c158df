"""The loop that drives Raft: what a member that has just started is asked to propose reaches the leader."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

from kubette.etcd.raft_loop import RaftLoop
from kubette.etcd.server import Limits, Server, empty_state
from kubette.etcd.wal import Wal
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

    def apply(self, entries: Sequence[Entry]) -> None: ...

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
