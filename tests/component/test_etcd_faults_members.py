"""RELIABILITY F01, F03, F05, F06, F08, F09, F11, F13, F15, F17, F18, F29 by process: members die, stop, are cut off; what every client saw has one order, and all members end with the same keys."""

import asyncio
import contextlib
import itertools
import json
import random
import shutil
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest

from harness.etcd_calls import CallError, Calls
from harness.etcd_clients import Clients
from harness.etcd_cluster import ELECTION_S, LOOK_S, WAIT_S, Cluster
from harness.fault_proxy import Link
from kubette.etcd_api import rpc_pb2 as pb

pytestmark = pytest.mark.slow


async def check(cluster: Cluster, clients: Clients) -> None:
    """What holds at the end of everything."""
    clients.check()
    await cluster.wait_equal()
    cluster.logs_are_clean()


async def test_f01_the_leader_dies_under_eight_clients(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        async with Clients(cluster.urls, 8) as clients:
            await clients.wait_acked(50)
            leader, term = await cluster.wait_leader(), await cluster.term()
            cluster.kill(leader)
            await clients.wait_acked(50)
            assert term < await cluster.term() <= term + 2
            cluster.start(leader)
            await cluster.wait_serving([leader])
            await clients.wait_acked(20, cluster.url(leader))
        await check(cluster, clients)


async def test_f03_all_members_die_at_once(tmp_path: Path, is_long: bool) -> None:
    rng = random.Random(3)
    async with Cluster(tmp_path, 3) as cluster:
        async with Clients(cluster.urls, 6) as clients:
            revision = 1
            for _ in range(100 if is_long else 3):
                await clients.wait_acked(40)
                for index in range(3):
                    cluster.pause(index)
                for index in range(3):
                    cluster.kill(index)
                for index in rng.sample(range(3), 3):
                    cluster.start(index)
                await cluster.wait_serving()
                status = await cluster.status(0)
                assert status is not None
                assert status.header.revision > revision
                revision = status.header.revision
        await check(cluster, clients)


async def test_f05_a_paused_leader_answers_nothing_from_memory(tmp_path: Path, is_long: bool) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        async with Clients(cluster.urls, 6) as clients:
            for pause in (0.5, 1, 3, *((10,) if is_long else ())) * (20 if is_long else 1):
                await clients.wait_acked(20)
                leader = await cluster.wait_leader()
                async with Calls(cluster.url(leader)) as calls:
                    await calls.put(b"newest", b"before")  # the connection stands
                    cluster.pause(leader)
                    await asyncio.sleep(pause * ELECTION_S)  # the fault itself
                    async with Calls(cluster.url((leader + 1) % 3)) as other:
                        written = pause > 2 and bool(await _wrote(other, b"newest", b"after"))
                    read = asyncio.ensure_future(calls.get(b"newest"))
                    await asyncio.sleep(0)  # it is on its way before the leader goes on
                    cluster.resume(leader)
                    (answer,) = await asyncio.gather(read, return_exceptions=True)
                    if isinstance(answer, CallError):
                        assert answer.code() is grpc.StatusCode.UNAVAILABLE, answer.details()
                    else:
                        assert not isinstance(answer, BaseException)
                        assert answer.kvs[0].value == b"after" or not written
        await check(cluster, clients)


async def _wrote(calls: Calls, key: bytes, value: bytes) -> bool:
    """A write that is repeated until it is acknowledged."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await calls.put(key, value, timeout_s=2.0)
                return True
            except CallError:
                await asyncio.sleep(LOOK_S)


async def test_f06_a_paused_follower_reads_nothing_old(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        leader = await cluster.wait_leader()
        follower, other = (index for index in range(3) if index != leader)
        async with Clients(cluster.urls, 6) as clients, Calls(cluster.url(follower)) as behind, Calls(cluster.url(other)) as ahead:
            for turn in range(4):
                value = b"%d" % turn
                await behind.get(b"newest")
                cluster.pause(follower)
                await ahead.put(b"newest", value)
                await clients.wait_acked(20, cluster.url(other))
                read = asyncio.ensure_future(behind.get(b"newest"))
                await asyncio.sleep(0)
                cluster.resume(follower)
                assert (await read).kvs[0].value == value
        await check(cluster, clients)


async def test_f08_a_leader_alone_acknowledges_nothing(tmp_path: Path, is_long: bool) -> None:
    async with Cluster(tmp_path, 3) as cluster:
        async with Clients(cluster.urls, 6) as clients:
            for _ in range(50 if is_long else 2):
                await clients.wait_acked(20)
                leader = await cluster.wait_leader()
                others = [index for index in range(3) if index != leader]
                cluster.network.partition([leader], others)
                await cluster.wait_leader(among=others)
                await _wait_without_leader(cluster, leader)
                acked = clients.acked[cluster.url(leader)]
                await clients.wait_acked(30, *(cluster.url(index) for index in others))
                await clients.wait_failed(2, cluster.url(leader))
                assert clients.acked[cluster.url(leader)] == acked
                cluster.network.heal()
                await clients.wait_acked(5, cluster.url(leader))
        await check(cluster, clients)


async def _wait_without_leader(cluster: Cluster, index: int) -> None:
    """Until a member that was the leader has stepped down (INV-R11)."""
    async with asyncio.timeout(WAIT_S):
        while (status := await cluster.status(index)) is None or status.leader:  # noqa: ASYNC110  # another process's state
            await asyncio.sleep(LOOK_S)


async def test_f09_a_leader_that_hears_nobody_steps_down(tmp_path: Path) -> None:
    """One way only: it can still send, and its heartbeats must not keep the others quiet for ever."""
    async with Cluster(tmp_path, 3) as cluster:
        async with Clients(cluster.urls, 6) as clients:
            await clients.wait_acked(20)
            leader = await cluster.wait_leader()
            others = [index for index in range(3) if index != leader]
            for other in others:
                cluster.network.cut(other, leader)
            await cluster.wait_leader(among=others)
            await _wait_without_leader(cluster, leader)
            await clients.wait_acked(30, *(cluster.url(index) for index in others))
            cluster.network.heal()
            await clients.wait_acked(5, cluster.url(leader))
        await check(cluster, clients)


async def test_f11_a_follower_that_was_cut_off_disturbs_nobody(tmp_path: Path, is_long: bool) -> None:
    """Pre-vote: the term is what it was, and no write fails when it comes back (INV-R10)."""
    async with Cluster(tmp_path, 3) as cluster:
        leader = await cluster.wait_leader()
        follower, other = (index for index in range(3) if index != leader)
        async with Clients([cluster.url(leader), cluster.url(other)], 4) as clients:
            await clients.wait_acked(20)
            term = await cluster.term()
            cluster.network.partition([follower], [leader, other])
            await _wait_without_leader(cluster, follower)  # it has asked for votes by then
            await asyncio.sleep(60 if is_long else 3 * ELECTION_S)  # the fault itself: several campaigns
            await clients.wait_acked(20)
            cluster.network.heal()
            await cluster.wait_serving([follower])
            await clients.wait_acked(20)
        assert await cluster.term() == term
        assert sum(clients.failed.values()) == 0
        await check(cluster, clients)


class _Twins:
    """Two keys that are always written together, and a reader of one member's own state, which must never see one without the other."""

    def __init__(self, written: str, read: str) -> None:
        self._written, self._read = written, read

    async def __aenter__(self) -> None:
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._look())]

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), result

    async def _write(self) -> None:
        async with Calls(self._written) as calls:
            for number in itertools.count():
                puts = [pb.RequestOp(request_put=pb.PutRequest(key=key, value=b"%d" % number)) for key in (b"twin a", b"twin z")]
                with contextlib.suppress(CallError):
                    await calls.txn([], puts, timeout_s=2.0)
                await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        async with Calls(self._read) as calls:
            while True:
                with contextlib.suppress(CallError):
                    found = (await calls.range(b"twin ", b"twin~", serializable=True, timeout_s=2.0)).kvs
                    assert len({pair.value for pair in found}) <= 1, found
                    assert len(found) in (0, 2), found
                await asyncio.sleep(LOOK_S)


SNAPSHOTS_OFTEN = ("--snapshot-count=50", "--snapshot-catchup-entries=5")
RECEIVING = ("before snapshot receive", "after snapshot receive", "before snapshot install", "after received load", "after snapshot recorded")
SENDING = "before snapshot send"


@pytest.mark.flag("snapshot-catchup-entries")
async def test_f13_f07_a_snapshot_arrives_though_sender_and_receiver_die(tmp_path: Path, is_long: bool) -> None:
    """The follower was away for longer than the log reaches back; more snapshots are taken meanwhile. Death in the middle of the transfer, and at each step of it."""
    values, count = (1 << 20, 64) if is_long else (50_000, 40)
    rng = random.Random(13)
    async with Cluster(tmp_path, 3, *SNAPSHOTS_OFTEN, faults=lambda index: (f"kill:{SENDING}:1",)) as cluster:
        async with Calls(cluster.url(0)) as calls:
            for number in range(count):
                await calls.put(b"big%d" % number, rng.randbytes(values))
        leader = await cluster.wait_leader()
        follower, other = (index for index in range(3) if index != leader)
        async with Clients(cluster.urls, 4) as clients, _Twins(cluster.url(other), cluster.url(follower)):

            async def fall_behind() -> None:
                cluster.kill(follower)
                async with Calls(cluster.url(other)) as calls:
                    for number in range(60):
                        await _wrote(calls, b"behind", b"%d" % number)
                await clients.wait_acked(60)

            await fall_behind()
            # The sender dies when it begins; whoever leads then sends again, and is cut and killed in the middle of it.
            cluster.arm(leader)
            cluster.start(follower)
            assert await cluster.wait_exit(leader) == -9
            cluster.start(leader)
            sender = await cluster.wait_leader(among=[leader, other])
            if cluster.members[follower].log.count('"Received snapshot"') == 0:
                link = cluster.network.link(sender, follower)
                link.delay_s = 0.02  # for each 64 KiB
                await _transferring(link, values * count // 4)
                cluster.kill(sender)
                cluster.network.heal()
                cluster.start(sender)
            await cluster.wait_serving()
            received = cluster.members[follower].log.count("Received snapshot")
            assert received, cluster.members[follower].log[-3000:]
            for where in RECEIVING * (20 if is_long else 1):
                await fall_behind()
                cluster.start(follower, faults=(f"kill:{where}:1",))
                cluster.arm(follower)
                assert await cluster.wait_exit(follower) == -9, where
                cluster.start(follower)
                await cluster.wait_serving([follower])
            # The receiver dies in the middle.
            await fall_behind()
            link = cluster.network.link(await cluster.wait_leader(), follower)
            link.delay_s = 0.02
            cluster.start(follower)
            await _transferring(link, values * count // 4)
            cluster.kill(follower)
            cluster.network.heal()
            cluster.start(follower)
            await cluster.wait_serving()
        assert cluster.members[follower].log.count("Received snapshot") > received
        await check(cluster, clients)


async def test_a_snapshot_that_was_cut_goes_on_where_it_was(tmp_path: Path) -> None:
    """Its connection is reset when a third of it has arrived, and once more after another third: the rest comes in further ones, none begins anew."""
    value, count = 100_000, 60
    rng = random.Random(14)
    async with Cluster(tmp_path, 3, *SNAPSHOTS_OFTEN) as cluster:
        leader = await cluster.wait_leader()
        follower = (leader + 1) % 3
        async with Calls(cluster.url(leader)) as calls:
            for number in range(count):
                await calls.put(b"big%d" % number, rng.randbytes(value))
            cluster.kill(follower)
            for number in range(70):
                await calls.put(b"behind", b"%d" % number)
        cluster.network.link(leader, follower).delay_s = 0.02  # for each 64 KiB
        cluster.start(follower)
        directory = cluster.data(follower) / "member" / "snap"
        for turn in (1, 2):
            await _arrived(cluster, follower, directory, turn * value * count // 3)
            cluster.network.reset(leader, follower)
            await _logged(cluster, follower, "Interrupted while receiving a snapshot", turn)
        cluster.network.heal()
        await cluster.wait_serving([follower])
        received, sent = _lines(cluster, follower, "Received snapshot")[0], _lines(cluster, leader, "Sent snapshot")[0]
        assert received["offset"] == sent["offset"] >= 2 * value * count // 3
        assert 0 < sent["bytes"] < value * count // 2
        assert not [*directory.glob("*.snap.db*")]
        await cluster.wait_equal()
        cluster.logs_are_clean()


async def test_a_snapshot_carries_a_large_v2_store(tmp_path: Path) -> None:
    """It travels in the snapshot's message, which once might not be larger than 1 MiB: a member that had fallen behind never came back."""

    def put(leader: int, number: int) -> None:
        form = urllib.parse.urlencode({"value": str(number) * 200_000}).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"{cluster.url(leader)}/v2/keys/big{number}", form, method="PUT"), timeout=WAIT_S
        ) as answer:
            assert answer.status == 201

    async with Cluster(tmp_path, 3, *SNAPSHOTS_OFTEN) as cluster:
        leader = await cluster.wait_leader()
        follower = (leader + 1) % 3
        cluster.kill(follower)
        for number in range(8):
            await asyncio.to_thread(put, leader, number)
        async with Calls(cluster.url(leader)) as calls:
            for number in range(70):
                await calls.put(b"behind", b"%d" % number)
        cluster.start(follower)
        await cluster.wait_serving([follower])
        assert _lines(cluster, follower, "Received snapshot")
        await cluster.wait_equal()


async def _arrived(cluster: Cluster, index: int, directory: Path, size: int) -> None:
    """Until so much of a snapshot is there."""
    async with asyncio.timeout(WAIT_S):
        while max((path.stat().st_size for path in directory.glob("*.snap.db.part*")), default=0) < size:  # another process's file
            assert cluster.members[index].is_running(), cluster.members[index].log[-3000:]
            await asyncio.sleep(LOOK_S)


def _lines(cluster: Cluster, index: int, message: str) -> list[dict[str, Any]]:
    lines = cluster.members[index].log.splitlines()
    return [json.loads(line) for line in lines if f'"{message}"' in line]


async def _logged(cluster: Cluster, index: int, message: str, times: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while len(_lines(cluster, index, message)) < times:  # another process's log
            assert cluster.members[index].is_running(), cluster.members[index].log[-3000:]
            await asyncio.sleep(LOOK_S)


async def _transferring(link: Link, size: int) -> None:
    """Until so much more has passed over a link."""
    before = link.passed
    async with asyncio.timeout(WAIT_S):
        while link.passed < before + size:  # noqa: ASYNC110  # the proxy's tasks change it
            await asyncio.sleep(LOOK_S)


async def test_f15_connections_that_are_reset_inside_a_message(tmp_path: Path, is_long: bool) -> None:
    """After each number of bytes: nothing half is accepted, and the link is there again."""
    async with Cluster(tmp_path, 3) as cluster:
        leader = await cluster.wait_leader()
        follower, other = (index for index in range(3) if index != leader)
        ways = ((leader, follower), (follower, leader))
        # Nothing is written by way of the follower: what it passes on and is lost is not repeated (its client waits for the timeout, as with upstream).
        async with Clients([cluster.url(leader), cluster.url(other)], 4) as clients, Calls(cluster.url(follower)) as calls:
            for turn in range(1, 201 if is_long else 25):
                size = turn if is_long else turn * 8 - turn % 8
                link = cluster.network.link(*ways[turn % 2])
                link.reset_after = size
                async with asyncio.timeout(WAIT_S):
                    while link.reset_after is not None:  # noqa: ASYNC110  # the proxy's tasks change it
                        await asyncio.sleep(LOOK_S)
                await _transferring(link, 1)
            await calls.get(b"through")
            await clients.wait_acked(20)
        assert await cluster.wait_leader() == leader
        await check(cluster, clients)


async def test_f17_f18_who_does_not_belong_to_the_cluster_is_kept_out(tmp_path: Path) -> None:
    """A removed member with its old data, a member that has lost its data, one of another cluster: each is refused, and nothing changes."""
    async with Cluster(tmp_path, 3) as cluster:
        leader = await cluster.wait_leader()
        victim, other = (index for index in range(3) if index != leader)
        async with Clients([cluster.url(leader), cluster.url(other)], 4) as clients:
            await clients.wait_acked(20)
            term, own_id = await cluster.term(), cluster.ids[victim]
            # Its data is gone, its name and its URLs are known.
            cluster.kill(victim)
            shutil.move(cluster.data(victim), tmp_path / "kept")
            for state in ("new", "existing"):
                member = cluster.start(victim, f"--initial-cluster-state={state}")
                assert await cluster.wait_exit(victim) == 1
                assert f"member {own_id:x} has already been bootstrapped" in member.log.splitlines()[-1]
                assert not (cluster.data(victim) / "member" / "wal").exists()
                shutil.rmtree(cluster.data(victim))
            # Of another cluster, at the same place.
            member = cluster.start(victim, "--initial-cluster-token=another")
            receiver = cluster.members[leader]
            async with asyncio.timeout(WAIT_S):
                while not all("request cluster ID mismatch" in each.log for each in (receiver, member)):  # noqa: ASYNC110  # other processes
                    await asyncio.sleep(LOOK_S)
            await clients.wait_acked(20)
            cluster.kill(victim)
            shutil.rmtree(cluster.data(victim))
            shutil.move(tmp_path / "kept", cluster.data(victim))
            # Itself again; then it is removed.
            cluster.start(victim)
            await cluster.wait_serving([victim])
            async with Calls(cluster.url(leader)) as calls:
                await calls.remove(own_id)
                members = await calls.call("Cluster/MemberList", pb.MemberListRequest(), pb.MemberListResponse)
                assert own_id not in {each.ID for each in members.members}
            removed = cluster.members[victim]
            assert await cluster.wait_exit(victim) == 1
            assert "the member has been permanently removed from the cluster" in removed.log.splitlines()[-1]
            removed = cluster.start(victim)
            assert await cluster.wait_exit(victim) == 1
            assert "the member has been permanently removed from the cluster" in removed.log.splitlines()[-1]
            await clients.wait_acked(20)
            assert await cluster.term() == term
        assert sum(clients.failed.values()) == 0
        await check(cluster, clients)


async def test_f29_without_a_majority_nothing_is_written_and_old_values_can_be_read(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 5) as cluster:
        async with Clients(cluster.urls, 5) as clients:
            await clients.wait_acked(50)
            leader = await cluster.wait_leader()
            async with Calls(cluster.url(leader)) as calls:
                await calls.put(b"known", b"1")
            killed = [leader, *[index for index in range(5) if index != leader][:2]]
            left = [index for index in range(5) if index not in killed]
            for index in killed:
                cluster.kill(index)
            for index in left:
                await _wait_without_leader(cluster, index)
            before = sum(clients.acked.values())
            async with Calls(cluster.url(left[0])) as calls:
                with pytest.raises(CallError) as refused:
                    await calls.put(b"known", b"2")
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
                assert "etcdserver: request timed out" in (refused.value.details() or "")
                assert (await calls.get(b"known", serializable=True)).kvs[0].value == b"1"
            assert sum(clients.acked.values()) == before
            cluster.start(killed[0])
            await clients.wait_acked(20)
            for index in killed[1:]:
                cluster.start(index)
            await cluster.wait_serving()
        await check(cluster, clients)
