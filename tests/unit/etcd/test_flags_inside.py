"""Flags whose effect needs minutes, or a look inside, to be seen: what they set in the parts that they are for."""

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from kubette.etcd import compactor, config, flag_table
from kubette.etcd.membership import Member
from kubette.etcd.raft_loop import RaftLoop
from kubette.etcd.server import Limits, Server, empty_state
from kubette.etcd.snapshot_transfer import Arrivals
from kubette.etcd.transport import Transport
from kubette.etcd.wal import Wal
from kubette.etcd_api import rpc_pb2 as pb
from kubette.raft.core import Options, Role
from kubette.raft.log import RaftLog
from kubette.raft.messages import ConfState, HardState, Message, MessageType, Snapshot
from kubette.raft.node import Node
from kubette.stdx.clock import SYSTEM_CLOCK
from kubette.stdx.tasks import Scope

flag = pytest.mark.flag
OTHER = 2


def checked(*words: str) -> config.Config:
    return config.check(flag_table.flag_set().parse(words))


@flag("auto-compaction-mode")
async def test_compaction_by_revision_keeps_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream looks every five minutes."""
    monkeypatch.setattr(compactor, "REVISION_CHECK_S", 0.0)
    compacted = asyncio.get_running_loop().create_future()

    class KV:
        async def compact(self, body: bytes) -> bytes:
            compacted.set_result(pb.CompactionRequest.FromString(body).revision)
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    server = SimpleNamespace(is_leader=True, state=SimpleNamespace(store=SimpleNamespace(current=1500, compacted=-1)))
    said = checked("--auto-compaction-mode=revision", "--auto-compaction-retention=1000")
    running = asyncio.create_task(compactor.run(server, KV(), said))  # type: ignore[arg-type]
    assert await compacted == 500
    running.cancel()


@pytest.mark.slow
@flag("initial-election-tick-advance")
def test_the_first_election_is_early_unless_told_otherwise(tmp_path: Path) -> None:
    """A member that starts has waited long enough: only the random part of the timeout is left."""

    def ticks(*words: str) -> list[int]:
        found = []
        for seed in range(20):
            said = checked(*words)
            node = Node(Options(1), RaftLog(), HardState(1, 0, 0), ConfState(voters=(1, OTHER, 3)), random.Random(seed))
            loop = RaftLoop(node, Wal.create(tmp_path / f"{words}{seed}", b""), None, lambda messages: (), 0.1)  # type: ignore[arg-type]
            loop.begin(said.election_ticks if said.tick_advance else 0)
            count = 0
            while node.raft.role is Role.FOLLOWER:
                node.tick()
                count += 1
            found.append(count)
            loop.close()
        return found

    assert min(ticks()) == 1
    assert min(ticks("--initial-election-tick-advance=false")) >= 10


def transport(said: config.Config, scope: Scope, directory: Path) -> tuple[Transport, Server]:
    state = empty_state(1)
    server = Server(1, 1, state, directory, Limits(), SYSTEM_CLOCK, election_s=1.0)
    node = Node(Options(1), RaftLog(), HardState(1, 0, 0), ConfState(voters=(1, OTHER)), random.Random(1))
    server.attach(RaftLoop(node, Wal.create(directory / "wal", b""), server, lambda messages: (), 0.1))
    arrivals = Arrivals(directory, SYSTEM_CLOCK.monotonic)
    return Transport(server, "3.6.5", ("http://127.0.0.1:1",), None, scope, arrivals, said.peer_read_timeout_s, said.peer_write_timeout_s), server


@pytest.mark.slow
@flag("raft-read-timeout")
async def test_a_link_on_which_nothing_comes_is_given_up_after_the_read_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "MIN_PEER_TIMEOUT_S", 0.0)
    called = asyncio.Semaphore(0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")  # and then nothing
        called.release()
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with silent, Scope() as scope, asyncio.timeout(30):
        peers, server = transport(checked("--raft-read-timeout=50ms"), scope, tmp_path)
        server.state.membership.members[OTHER] = Member(OTHER, (f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}",))
        peers.update()
        for _ in range(3):
            await called.acquire()
        assert peers.counts("disconnects") == {("2",): 2.0}
        server.raft.close()


@flag("raft-write-timeout")
async def test_a_snapshot_that_nobody_takes_is_given_up_after_the_write_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "MIN_PEER_TIMEOUT_S", 0.0)
    done = asyncio.Event()

    async def take_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await done.wait()
        writer.close()

    full = await asyncio.start_server(take_nothing, "127.0.0.1", 0, limit=1)
    async with full, Scope() as scope, asyncio.timeout(30):
        peers, server = transport(checked("--raft-write-timeout=50ms"), scope, tmp_path)
        transaction = server.state.store.begin()
        for number in range(16):
            transaction.put(b"key%d" % number, bytes(1 << 20))
        transaction.end()
        peers.add(Member(OTHER, (f"http://127.0.0.1:{full.sockets[0].getsockname()[1]}",)))
        snapshot = Message(MessageType.SNAP, to=OTHER, from_=1, term=1, snapshot=Snapshot(1, 1, ConfState(voters=(1, OTHER))))
        assert peers.send([snapshot]) == []
        while not peers.counts("snapshots_failed"):  # noqa: ASYNC110  # a counter
            await asyncio.sleep(0.01)
        done.set()
        server.raft.close()
