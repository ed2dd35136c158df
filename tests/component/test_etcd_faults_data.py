"""RELIABILITY F19, F20, F23, F24, F25, F28, F30 by process: watches, leases, transactions, backups and clocks, while members die and revisions are compacted away."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import etcd_processes as etcd
from harness import watch_checks
from harness.etcd_calls import CallError, Calls
from harness.etcd_clients import Bank, Clients, Watcher, history_by_reads
from harness.etcd_cluster import ELECTION_S, LOOK_S, WAIT_S, Cluster
from harness.etcd_processes import OURS
from harness.watch_checks import Event
from kubette.etcd_api import rpc_pb2 as pb

pytestmark = pytest.mark.slow
FIRST, LAST = b"w", b"x"  # the range that is watched


# Watches


class _Writer:
    """Alone: so that it knows what happened at every revision. Puts, deletes and transactions of both."""

    def __init__(self, calls: Calls, rng: random.Random) -> None:
        self.history: dict[int, list[Event]] = {}
        self._calls, self._rng = calls, rng
        self._now: dict[bytes, tuple[bytes, int]] = {}  # value and create revision
        self._number = 0

    async def write(self) -> int:
        """Answers the revision."""
        keys = self._rng.sample([b"w%d" % number for number in range(6)], self._rng.choice((1, 1, 2)))
        requests, changes = [], dict[bytes, bytes | None]()
        for key in keys:
            self._number += 1
            if key in self._now and self._rng.random() < 0.3:
                changes[key] = None
                requests.append(pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key)))
            else:
                changes[key] = b"%d" % self._number
                requests.append(pb.RequestOp(request_put=pb.PutRequest(key=key, value=changes[key])))
        revision = (await self._calls.txn([], requests)).header.revision
        events = []
        for key, value in sorted(changes.items()):
            previous, created = self._now.get(key, (None, revision))
            events.append(Event(revision, key, value, 0 if value is None else created, previous))
            if value is None:
                del self._now[key]
            else:
                self._now[key] = value, created
        self.history[revision] = events
        return revision


async def test_f19_watches_that_begin_anywhere_around_compactions_show_everything_or_say_that_they_cannot(tmp_path: Path, is_long: bool) -> None:
    """They begin at revisions 100 before to 100 after the newest, also at the very one that is compacted."""
    rng = random.Random(19)
    async with Cluster(tmp_path, 3) as cluster, Calls(cluster.url(0)) as calls, contextlib.AsyncExitStack() as stack:
        writer = _Writer(calls, rng)
        compacted = 0

        async def compact() -> None:
            nonlocal compacted
            async with Calls(cluster.url(1)) as compacting:
                while True:
                    await asyncio.sleep(0.1)
                    if (revision := max(writer.history, default=0) - 30) > max(compacted, 1):
                        await compacting.compact(revision)
                        compacted = revision

        compacting = asyncio.create_task(compact())
        watchers: list[Watcher] = []
        for turn in range(2000 if is_long else 500):
            now = await writer.write()
            if turn > 100 and turn % (10 if is_long else 20) == 0:
                start = compacted if turn % 60 == 0 else max(1, now + rng.randint(-100, 100))
                watchers.append(await stack.enter_async_context(Watcher(cluster.urls, FIRST, LAST, start, seed=turn)))
        for _ in range(101):
            now = await writer.write()
        compacting.cancel()
        for watcher in watchers:
            await watcher.wait_seen(now)
            watcher.record.compacted = compacted
            assert watch_checks.check(writer.history, watcher.record) == []
            if watcher.refused_below is not None:
                assert watcher.refused_below > watcher.record.segments[-1].start
        refused = sum(watcher.refused_below is not None for watcher in watchers)
        assert 0 < refused < len(watchers)
        await cluster.wait_equal()
        cluster.logs_are_clean()


async def test_f20_bookmarks_promise_nothing_that_is_still_to_come(tmp_path: Path, is_long: bool) -> None:
    """Every 10 ms, while leaders die; the watches go on at other members."""
    async with Cluster(tmp_path, 3, "--watch-progress-notify-interval=10ms") as cluster, contextlib.AsyncExitStack() as stack:
        watchers = [await stack.enter_async_context(Watcher(cluster.urls, b"r", b"s", seed=number)) for number in range(20 if is_long else 6)]
        async with Clients(cluster.urls, 6) as clients:
            for _ in range(50 if is_long else 2):
                await clients.wait_acked(60)
                leader = await cluster.wait_leader()
                cluster.kill(leader)
                await clients.wait_acked(30)
                cluster.start(leader)
                await cluster.wait_serving([leader])
        clients.check()
        revision = await cluster.wait_equal()
        history = await history_by_reads(cluster.url(0), revision)
        for watcher in watchers:
            await watcher.wait_seen(revision)
            assert watch_checks.check(history, watcher.record) == []
            bookmarks = sum(not response.events for segment in watcher.record.segments for response in segment.responses)
            assert bookmarks > 10
        cluster.logs_are_clean()


# Leases


async def test_f23_f24_leases_outlive_their_leader_and_end_once(tmp_path: Path, is_long: bool) -> None:
    """No key goes before its time, whoever leads; all of a lease's keys go in one revision; a client that slept too long hears that its lease is gone."""
    ttl, leases, keys = (5, 1000, 10) if is_long else (3, 20, 10)
    clock = asyncio.get_running_loop().time
    async with Cluster(tmp_path, 3) as cluster:
        leader = await cluster.wait_leader()
        followers = [index for index in range(3) if index != leader]
        async with Watcher([cluster.url(index) for index in followers], b"l", b"m") as watcher, Calls(cluster.url(followers[0])) as calls:
            # F24: a client that keeps its lease alive, is stopped for longer than that, and goes on.
            lease = await calls.grant(2)
            created = (await calls.put(b"lock", b"held", lease=lease)).header.revision
            words = [*etcd.program(OURS, "etcdctl"), f"--endpoints={cluster.url(followers[0])}", "lease", "keep-alive", f"{lease:x}"]
            holder = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, env=etcd.environment())
            try:
                assert holder.stdout is not None
                line = (await holder.stdout.readline()).decode()
                assert line == f"lease {lease:016x} keepalived with TTL(2)\n"
                os.kill(holder.pid, signal.SIGSTOP)
                async with asyncio.timeout(WAIT_S):
                    while (await calls.get(b"lock")).kvs:  # noqa: ASYNC110  # another process's state
                        await asyncio.sleep(LOOK_S)
                guard = pb.Compare(key=b"lock", target=pb.Compare.CREATE, result=pb.Compare.EQUAL, create_revision=created)
                guarded = await calls.txn([guard], [pb.RequestOp(request_put=pb.PutRequest(key=b"of the holder", value=b"1"))])
                assert not guarded.succeeded
                os.kill(holder.pid, signal.SIGCONT)
                async with asyncio.timeout(WAIT_S):
                    said = (await holder.stdout.read()).decode().splitlines()
                assert said[-1] == f"lease {lease:016x} expired or revoked."
            finally:
                with contextlib.suppress(ProcessLookupError):
                    holder.kill()
                await holder.wait()
            assert await calls.keep_alive(lease) == 0
            with pytest.raises(CallError, match="requested lease not found"):
                await calls.revoke(lease)
            # F23: the leader dies before the leases end.
            began = clock()
            granted = await asyncio.gather(*(calls.grant(ttl) for _ in range(leases)))
            hung = [[pb.PutRequest(key=b"l%d-%d" % (number, key), lease=lease) for key in range(keys)] for number, lease in enumerate(granted)]
            await asyncio.gather(*(calls.txn([], [pb.RequestOp(request_put=put) for put in puts]) for puts in hung))
            await asyncio.sleep(max(0.0, began + ttl - 1 - clock()))  # what makes the moment interesting
            killed = clock()
            cluster.kill(leader)
            in_time = clock() < began + ttl  # unless this machine stood still
            first_gone: list[float] = []

            def gone(watcher: Watcher) -> bool:
                count = sum(event.value is None and event.key.startswith(b"l") and event.key != b"lock" for event in watcher.record.events())
                if count and not first_gone:
                    first_gone.append(clock())
                return count == leases * keys

            await watcher.wait_for(gone)
            # A new leader does not know when they were renewed, and gives them their whole time (INV-L1).
            assert first_gone[0] >= (killed if in_time else began) + ttl
            ended = [event for event in watcher.record.events() if event.value is None and event.key != b"lock"]
            by_lease: dict[bytes, set[int]] = {}
            for event in ended:
                by_lease.setdefault(event.key.partition(b"-")[0], set()).add(event.revision)
            assert all(len(revisions) == 1 for revisions in by_lease.values()), by_lease
            assert len({next(iter(revisions)) for revisions in by_lease.values()}) == leases
            cluster.start(leader)
            await cluster.wait_serving()
        await cluster.wait_equal()
        cluster.logs_are_clean()


# Transactions


async def test_f25_money_is_neither_lost_nor_made_while_members_die(tmp_path: Path, is_long: bool) -> None:
    rng = random.Random(25)
    async with Cluster(tmp_path, 3) as cluster:
        async with Bank(cluster.urls, 8) as bank:
            for turn in range(50 if is_long else 3):
                await bank.wait_moved(60)
                victim = rng.randrange(3) if turn % 2 else await cluster.wait_leader()
                cluster.kill(victim)
                await bank.wait_moved(30)
                cluster.start(victim)
                await cluster.wait_serving([victim])
        revision = await cluster.wait_equal()
        bank.check(await history_by_reads(cluster.url(0), revision))
        cluster.logs_are_clean()


# Backups


async def test_f28_a_backup_taken_under_load_is_the_state_at_its_revision_and_a_cluster_of_its_own(tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    (tmp_path / "old").mkdir()
    async with Cluster(tmp_path / "old", 3) as cluster:
        async with Clients(cluster.urls, 6) as clients:
            await clients.wait_acked(100)
            async with Calls(cluster.url(await cluster.wait_leader())) as calls:
                backup.write_bytes(await calls.snapshot())
                await clients.wait_acked(100)
                said = etcd.run(OURS, ["snapshot", "status", str(backup), "-w", "json"], name="etcdutl")
                revision = json.loads(said.stdout)["revision"]
                expected = await _state(calls, revision)
        clients.check()
        old_cluster = (await _status(cluster, 0)).header.cluster_id
        old_data = cluster.data(0)
    assert expected

    def restore(cluster: Cluster) -> None:
        for index in range(3):
            words = ["snapshot", "restore", str(backup), "--data-dir", str(cluster.data(index)), "--name", f"m{index}"]
            words += ["--initial-cluster", cluster.initial_cluster(range(3)), "--initial-cluster-token", "restored"]
            done = etcd.run(OURS, [*words, "--initial-advertise-peer-urls", cluster.network.urls[index]], name="etcdutl")
            assert done.code == 0, done.stderr

    (tmp_path / "new").mkdir()
    async with Cluster(tmp_path / "new", 3, token="restored", prepare=restore) as cluster:
        for index in range(3):
            async with Calls(cluster.url(index)) as calls:
                assert await _state(calls, revision) == expected
        assert (await _status(cluster, 0)).header.cluster_id != old_cluster
        leader = await cluster.wait_leader()
        victim, other = (index for index in range(3) if index != leader)
        async with Calls(cluster.url(leader)) as calls:
            await calls.delete(b"r", b"s")  # clients believe that nothing is there yet
        async with Clients([cluster.url(leader), cluster.url(other)], 4) as clients:
            await clients.wait_acked(20)
            # An old member, at the place of a new one.
            cluster.kill(victim)
            shutil.move(cluster.data(victim), tmp_path / "kept")
            shutil.copytree(old_data, cluster.data(victim))
            stranger = cluster.start(victim)
            async with asyncio.timeout(WAIT_S):
                while "request cluster ID mismatch" not in stranger.log:  # noqa: ASYNC110  # another process
                    await asyncio.sleep(LOOK_S)
            await clients.wait_acked(20)
            cluster.kill(victim)
            shutil.rmtree(cluster.data(victim))
            shutil.move(tmp_path / "kept", cluster.data(victim))
            cluster.start(victim)
            await cluster.wait_serving()
        clients.check()
        assert sum(clients.failed.values()) == 0
        await cluster.wait_equal()
        cluster.logs_are_clean()


async def _state(calls: Calls, revision: int) -> Mapping[bytes, Any]:
    pairs = (await calls.range(b"\0", b"\0", revision=revision)).kvs
    return {pair.key: (pair.value, pair.create_revision, pair.mod_revision, pair.version) for pair in pairs}


async def _status(cluster: Cluster, index: int) -> pb.StatusResponse:
    status = await cluster.status(index)
    assert status is not None
    return status


# Clocks


async def test_f30_jumps_of_the_wall_clock_move_nothing(tmp_path: Path, is_long: bool) -> None:
    """An hour ahead, an hour back, to and fro; on one, two, all members: no election, no lease lost."""

    def clock_of(index: int) -> Path:
        return tmp_path / f"clock{index}"

    async with Cluster(tmp_path, 3, faults=lambda index: (f"clock:{clock_of(index)}",)) as cluster, Calls(cluster.url(0)) as calls:
        async with Clients(cluster.urls, 6) as clients:
            await clients.wait_acked(20)
            leader, term = await cluster.wait_leader(), await cluster.term()
            lease = await calls.grant(1200)
            await calls.put(b"leased", b"", lease=lease)
            order = [leader, *(index for index in range(3) if index != leader)]
            for count in (1, 2, 3):
                jumps = [3600.0, -3600.0, *(0.3, -0.3) * (50 if is_long else 3), 0.0]
                for offset in jumps:
                    for index in order[:count]:
                        clock_of(index).write_text(str(offset))
                    await clients.wait_acked(10)
                    assert (await calls.get(b"leased")).kvs
            # The clocks did jump: this member's own time of day says so.
            clock_of(leader).write_text("86400")
            answer = await asyncio.to_thread(_probe, cluster.members[leader].peer_url)
            ahead = float(answer["ahead_s"])
            assert 86000 < ahead < 87000
            await asyncio.sleep(2 * ELECTION_S)  # in which an election would have been
            assert (await cluster.wait_leader(), await cluster.term()) == (leader, term)
            left = await calls.call("Lease/LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=lease), pb.LeaseTimeToLiveResponse)
            assert 1000 < left.TTL <= 1200
        assert sum(clients.failed.values()) == 0
        clients.check()
        await cluster.wait_equal()
        cluster.logs_are_clean()


def _probe(url: str) -> dict[str, float]:
    """How far a member's time of day is ahead of ours, as its peer port tells it."""
    import datetime
    import urllib.request

    with urllib.request.urlopen(f"{url}/raft/probing", timeout=WAIT_S) as answer:
        now = datetime.datetime.fromisoformat(json.loads(answer.read())["Now"])
    return {"ahead_s": (now - datetime.datetime.now(datetime.UTC)).total_seconds()}
