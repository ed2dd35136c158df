"""Memory stays bounded, whoever does not read: a watcher, a client that asks, a member. Each has an outcome that is defined, and nobody else notices (INV-W8, INV-R13)."""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness import etcd_processes as etcd
from harness.etcd_calls import Calls
from harness.etcd_clients import Watcher
from harness.etcd_cluster import WAIT_S, Cluster
from harness.etcd_processes import OURS
from harness.raw_http2 import RawClient
from kubette.etcd.rim import http2
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.reflection_pb2 import ServerReflectionRequest

pytestmark = pytest.mark.slow
BIG = 1 << 20
COUNT = 200  # of such values
BOUND = 120 << 20  # a good half of what they are
SNAPSHOTS_OFTEN = ("--snapshot-count=20", "--snapshot-catchup-entries=5")  # entries are kept in memory until there is one


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


async def write_much(calls: Calls, key: bytes, compact: bool = True) -> int:
    """Much more than may be kept, and nearly all of it compacted away. Answers the last revision."""
    revision = 0
    for number in range(COUNT):
        revision = (await calls.put(key, b"%d" % number + bytes(BIG))).header.revision
        if compact and number % 5 == 4:
            await calls.compact(revision)
    return revision


async def messages(raw: RawClient, stream: int) -> AsyncIterator[bytes]:
    """gRPC messages of a stream, whose windows are opened as they come."""
    buffer = b""
    while True:
        kind, on, payload = await raw.frame()
        if kind != http2.DATA or on != stream:
            continue
        raw.open_window(0, max(1, len(payload)))
        raw.open_window(stream, max(1, len(payload)))
        buffer += payload
        while len(buffer) >= 5 and len(buffer) - 5 >= (length := struct.unpack(">I", buffer[1:5])[0]):
            yield buffer[5 : 5 + length]
            buffer = buffer[5 + length :]


async def test_a_watcher_that_does_not_read_costs_what_one_queue_costs(tmp_path: Path) -> None:
    """It is told later what it missed, as far as that is there; the others are told at once."""
    with etcd.serving(OURS, tmp_path / "data", etcd.free_ports(2), *SNAPSHOTS_OFTEN) as member:
        async with Calls(member.url) as calls, RawClient(int(member.url.rpartition(":")[2])) as slow, Watcher([member.url], b"big", b"bih") as other:
            slow.call(b"/etcdserverpb.Watch/Watch", 1)
            slow.message(1, pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"big")).SerializeToString())
            await write_much(calls, b"big")
            before = resident(member.pid)
            last = await write_much(calls, b"big")
            await other.wait_seen(last)
            assert resident(member.pid) - before < BOUND
            assert other.refused_below is None
            # It reads again: what was queued comes in order, and then that the rest is gone.
            seen: list[int] = []
            async with asyncio.timeout(WAIT_S):
                async for body in messages(slow, 1):
                    response = pb.WatchResponse.FromString(body)
                    seen += [event.kv.mod_revision for event in response.events]
                    if response.canceled:
                        break
            assert response.compact_revision > seen[-1]
            assert seen == list(range(seen[0], seen[0] + len(seen)))
            assert 1 <= len(seen) < 20


async def test_a_client_that_asks_without_reading_is_stopped(tmp_path: Path) -> None:
    """Its window is shut. Answers wait for it: so many that it gets no new calls, and one by one on a stream, which takes only so much ahead."""
    with etcd.serving(OURS, tmp_path / "data", etcd.free_ports(2), *SNAPSHOTS_OFTEN) as member:
        port = int(member.url.rpartition(":")[2])
        async with Calls(member.url) as calls:
            await calls.put(b"big", bytes(BIG))
            before = resident(member.pid)
            async with RawClient(port, window=0) as raw:
                body = pb.RangeRequest(key=b"big").SerializeToString()
                refused = 0
                for stream in range(1, 2 * COUNT, 2):
                    raw.call(b"/etcdserverpb.KV/Range", stream)
                    raw.message(stream, body, http2.END_STREAM)
                    # Headers of the answer, or the refusal.
                    refused += (await raw.next_of(http2.HEADERS, http2.RST_STREAM))[0] == http2.RST_STREAM
                assert COUNT // 2 < refused < COUNT
                assert resident(member.pid) - before < BOUND
            async with RawClient(port, window=0) as raw:
                # It answers with what it was asked.
                asked = ServerReflectionRequest(host="x" * BIG, list_services="").SerializeToString()
                raw.call(b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", 1)
                await raw.next_of(http2.SETTINGS)
                for _ in range(COUNT):
                    await raw.large_message(1, asked)
                assert resident(member.pid) - before < BOUND
            await calls.put(b"still", b"there")


async def test_a_member_that_does_not_read_costs_the_leader_a_bounded_queue(tmp_path: Path) -> None:
    """What it misses is not kept for it: it gets a snapshot when it reads again."""
    async with Cluster(tmp_path, 3, *SNAPSHOTS_OFTEN) as cluster:
        leader = await cluster.wait_leader()
        slow = (leader + 1) % 3
        async with Calls(cluster.url(leader)) as calls:
            cluster.network.cut(leader, slow)  # nothing arrives there any more, and the connection stands
            await write_much(calls, b"big")
            before = resident(cluster.members[leader].pid)
            await write_much(calls, b"big")
            assert resident(cluster.members[leader].pid) - before < BOUND
            cluster.network.heal()
            await cluster.wait_serving([slow])
        await cluster.wait_equal()
        assert "Received snapshot" in cluster.members[slow].log
        cluster.logs_are_clean()
