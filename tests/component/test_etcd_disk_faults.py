"""Disks that fail: fsync errors, a full disk, directories that may not be written, death at every step; by process, and what is acknowledged stays."""

import asyncio
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import etcd_processes as etcd
from harness import faulty_etcd
from harness.etcd_calls import CallError, Calls
from harness.etcd_clients import Clients
from harness.etcd_cluster import Cluster
from harness.etcd_processes import OURS, Member
from harness.eventually import eventually
from kubette.etcd import wal
from kubette.etcd.disk import SYSTEM_DISK

pytestmark = pytest.mark.slow


def faulty(directory: Path, ports: list[int], *faults: str, more: tuple[str, ...] = ()) -> Member:
    variables = {**etcd.harness_path(), "ARM": str(directory / "arm")}
    return Member(OURS, directory / "data", ports[0], ports[1], *more, command=etcd.with_faults(*faults), variables=variables)


async def put(url: str, key: bytes, value: bytes) -> bool:
    """Whether it was acknowledged."""
    async with Calls(url) as calls:
        try:
            await calls.put(key, value)
        except CallError:
            return False
    return True


async def value_of(url: str, key: bytes) -> bytes | None:
    async with Calls(url) as calls:
        found = (await calls.get(key)).kvs
    return found[0].value if found else None


@pytest.mark.parametrize(("call", "number"), [("fdatasync", "EIO"), ("pwrite", "ENOSPC"), ("pwrite", "EIO")])
async def test_f35_a_log_that_cannot_be_written_ends_the_process_at_once(call: str, number: str, tmp_path: Path) -> None:
    """The call works again afterwards, and must not be made."""
    ports = etcd.free_ports(2)
    member = faulty(tmp_path, ports, f"error:{call}:{number}")
    try:
        member.wait_serving()
        assert await put(member.url, b"before", b"1")
        (tmp_path / "arm").touch()
        assert not await put(member.url, b"after", b"2")
        assert member.wait_exit(5) == 1
    finally:
        member.stop()
    said = member.log.splitlines()
    assert "Traceback" not in member.log
    assert "failed to save Raft hard state and entries: wal: cannot" in said[-1]
    assert ".wal, offset " in said[-1]
    with etcd.serving(OURS, tmp_path / "data", ports) as again:
        assert await value_of(again.url, b"before") == b"1"
        assert await put(again.url, b"after", b"3")


async def test_f35_a_snapshot_that_cannot_be_synced_ends_the_process(tmp_path: Path) -> None:
    ports = etcd.free_ports(2)
    member = faulty(tmp_path, ports, "error:fsync:EIO", more=("--snapshot-count=10",))
    try:
        member.wait_serving()
        (tmp_path / "arm").touch()
        acked = [key for key in (b"%d" % n for n in range(40)) if await put(member.url, key, key)]
        assert member.wait_exit(5) == 1
    finally:
        member.stop()
    assert "Failed to save a snapshot" in member.log
    assert "Traceback" not in member.log
    with etcd.serving(OURS, tmp_path / "data", ports) as again:
        for key in acked:
            assert await value_of(again.url, key) == key


SINGLE = ("log write", "log fsync", "log release", "snapshot recorded", "apply", "answer", "snapshot capture", "database write", "snap write")
SINGLE += ("log cut", "snap purge", "compaction", "defragment", "lease revoke", "conf change")
PLACES = [f"{when} {name}" for name in SINGLE for when in ("before", "after")] + [f"os.{call}" for call in faulty_etcd.DISK_CALLS]


async def test_f02_f07_f26_f27_a_power_cut_at_any_step_loses_nothing_that_was_acknowledged(tmp_path: Path, is_long: bool) -> None:
    """On one member: each life goes on with what the one before left, and ends at another step; what was not synced is gone then, or some of it is."""
    for seed in range(20 if is_long else 1):
        directory = tmp_path / str(seed)
        directory.mkdir()
        await _lives(directory, seed)


async def _lives(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    ports = etcd.free_ports(2)
    acked: dict[bytes, set[bytes]] = {}
    compacted = {False: 0, True: 0}  # the newest revision that a compaction was asked for, and the newest that was acknowledged
    revision = 1
    for life, place in enumerate(PLACES):
        (tmp_path / "arm").unlink(missing_ok=True)
        more = ("--snapshot-count=8", "--snapshot-catchup-entries=1", "--max-wals=2", "--max-snapshots=2")
        cut = f"power:{tmp_path / 'lost'}:{rng.random()}"
        member = faulty(tmp_path, ports, cut, f"kill:{place}:{rng.randint(1, 3)}", "segment:4096", more=more)
        try:
            member.wait_serving()
            revision = await _check(member.url, acked, revision, place)
            await _check_compacted(member.url, compacted, place)
            (tmp_path / "arm").touch()
            await _work(member.url, acked, compacted, life)
            assert member.wait_exit(10) == -9, f"{place} was never reached"
        finally:
            member.stop()
        assert "Traceback" not in member.log, member.log[-3000:]
    with etcd.serving(OURS, tmp_path / "data", ports) as last:
        await _check(last.url, acked, revision, "the end")


@pytest.mark.flag("unsafe-no-fsync")
async def test_f02_what_is_not_synced_is_lost_by_a_power_cut(tmp_path: Path) -> None:
    """The other side of it: with `--unsafe-no-fsync` the same cut does take what was acknowledged."""
    ports = etcd.free_ports(2)
    member = faulty(tmp_path, ports, f"power:{tmp_path / 'lost'}:all", "kill:after answer:20", more=("--unsafe-no-fsync",))
    acked = []
    try:
        member.wait_serving()
        (tmp_path / "arm").touch()
        acked = [key for key in (b"%d" % number for number in range(20)) if await put(member.url, key, key)]
        assert member.wait_exit(10) == -9
    finally:
        member.stop()
    assert acked
    with etcd.serving(OURS, tmp_path / "data", ports) as again:
        assert [await value_of(again.url, key) for key in acked] == [None] * len(acked)


async def _check(url: str, acked: dict[bytes, set[bytes]], revision: int, where: str) -> int:
    """Each key has the last acknowledged value, or one that was under way; revisions do not go back."""
    async with Calls(url) as calls:
        for key, values in acked.items():
            found = (await calls.get(key)).kvs
            assert found or b"" in values, f"{key!r} is lost before {where}"
            value = found[0].value if found else b""
            assert value in values, f"{key!r} before {where}"
            acked[key] = {value}
        now = (await calls.get(b"none")).header.revision
    assert now >= revision
    return int(now)


async def _check_compacted(url: str, compacted: dict[bool, int], where: str) -> None:
    """What was compacted away does not come back, and everything after it is there."""
    async with Calls(url) as calls:
        if compacted[True]:
            with pytest.raises(CallError, match="required revision has been compacted"):
                await calls.range(b"key", b"kez", revision=compacted[True] - 1)
            assert (await calls.range(b"key", b"kez", revision=compacted[False])).kvs, where


async def _work(url: str, acked: dict[bytes, set[bytes]], compacted: dict[bool, int], life: int) -> None:
    """Writes, and everything else that has a step to die at, until the member is gone."""
    async with Calls(url) as calls:
        try:
            for learner in await calls.learners():
                await calls.remove(learner)  # of a life that ended between adding and removing it
            for turn in range(200):
                key, value = b"key%d" % (turn % 5), b"%d-%d" % (life, turn)
                acked.setdefault(key, {b""}).add(value)
                answer = await calls.put(key, value)
                acked[key] = {value}
                if turn % 4 == 3:
                    await calls.revoke(await calls.grant(60))
                    compacted[False] = answer.header.revision
                    await calls.compact(answer.header.revision)
                    compacted[True] = answer.header.revision
                if turn % 8 == 5:
                    await calls.defragment()
                    await calls.remove(await calls.add_learner(f"http://127.0.0.1:{life * 200 + turn + 1}"))
        except CallError:
            return


@pytest.mark.root
@pytest.mark.needs("unshare", "nsenter")
def test_f33_a_full_disk_loses_nothing_and_ends_when_there_is_space(tmp_path: Path) -> None:
    """A snapshot that has no room leaves the log in charge; a log that has none ends the process; with space all of it comes back."""
    ports, data = etcd.free_ports(2), tmp_path / "data"
    data.mkdir(mode=0o700)
    inside = 'mount -t tmpfs -o size="$1",mode=0700 tmpfs "$2"; shift 2; exec "$@"'

    def on_tmpfs(size: str, *command: str) -> list[str]:
        return ["unshare", "-m", "--propagation", "private", "sh", "-ec", inside, "sh", size, str(data), *command]

    small = Member(OURS, data, ports[0], ports[1], command=on_tmpfs("16m", *etcd.program(OURS, "etcd")))
    assert small.wait_exit() == 1
    assert "no space left on device" in small.log
    assert "Traceback" not in small.log

    # 64 MiB of it are the log's segment. The shell stays, so that the file system outlives the process.
    keeper = subprocess.Popen(on_tmpfs("72m", "sleep", "120"))
    try:
        enter = ["nsenter", "-t", str(keeper.pid), "-m"]
        eventually(lambda: subprocess.run([*enter, "mountpoint", "-q", str(data)], check=False).returncode, lambda code: code == 0)
        member = Member(OURS, data, ports[0], ports[1], "--snapshot-count=10", command=[*enter, *etcd.program(OURS, "etcd")])
        try:
            member.wait_serving()
            fill = ["sh", "-c", f"cat /dev/zero > {data}/filler 2>/dev/null; true"]
            subprocess.run([*enter, *fill], check=True)
            for number in range(30):
                assert asyncio.run(put(member.url, b"k%d" % number, bytes(1000)))
            eventually(lambda: member.log, lambda text: "Failed to save a snapshot" in text)
            assert member.is_running()
            number, refused = 30, 0
            while member.is_running() and number < 200:
                if not asyncio.run(put(member.url, b"k%d" % number, bytes(1 << 20))):
                    refused = number
                    break
                number += 1
            assert refused, "the log had room for everything"
            assert member.wait_exit(5) == 1
        finally:
            member.stop()
        assert "Traceback" not in member.log
        assert "failed to save Raft hard state and entries: wal: cannot " in member.log
        subprocess.run([*enter, "rm", f"{data}/filler"], check=True)
        subprocess.run([*enter, "mount", "-o", "remount,size=300m", str(data)], check=True)
        again = Member(OURS, data, ports[0], ports[1], command=[*enter, *etcd.program(OURS, "etcd")])
        try:
            again.wait_serving()
            for each in range(refused):
                assert asyncio.run(value_of(again.url, b"k%d" % each)) is not None, each
        finally:
            again.stop()
    finally:
        keeper.kill()
        keeper.wait()


@pytest.mark.root
@pytest.mark.needs("unshare")
def test_directories_that_may_not_be_written_are_refused_in_upstreams_words(tmp_path: Path) -> None:
    ports = etcd.free_ports(2)

    def refused(data: Path, command: list[str]) -> str:
        member = Member(OURS, data, ports[0], ports[1], command=command)
        assert member.wait_exit() == 1
        assert "Traceback" not in member.log
        return member.log

    file = tmp_path / "file"
    file.write_text("")
    assert f"cannot access data directory: mkdir {file}: not a directory" in refused(file, etcd.program(OURS, "etcd"))
    inside = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"'
    readonly = tmp_path / "readonly"
    readonly.mkdir(mode=0o700)
    command = ["unshare", "-m", "--propagation", "private", "sh", "-ec", inside, "sh", str(readonly), *etcd.program(OURS, "etcd")]
    assert f"cannot access data directory: open {readonly}/.touch: read-only file system" in refused(readonly, command)


@pytest.mark.root
@pytest.mark.needs("setpriv")
def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    """As on a real host: a restored directory that still belongs to root stops an etcd that runs as etcd."""
    ports, data = etcd.free_ports(2), tmp_path / "data"
    with etcd.serving(OURS, data, ports):
        pass
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    as_nobody = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", *etcd.program(OURS, "etcd")]
    for folder in (tmp_path, *tmp_path.parents[:3]):
        os.chmod(folder, 0o755)
    if subprocess.run([*as_nobody, "--version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("another user may not read this checkout")
    member = Member(OURS, data, ports[0], ports[1], command=as_nobody)
    assert member.wait_exit() == 1
    assert f"cannot access data directory: open {data}: permission denied" in member.log
    data.chmod(0o777)
    member = Member(OURS, data, ports[0], ports[1], command=as_nobody)
    assert member.wait_exit() == 1
    assert r"the permission is \"drwxrwxrwx\". The recommended permission is \"-rwx------\"" in member.log
    assert "permission denied" in member.log.splitlines()[-1]
    assert "Traceback" not in member.log


# One member of three


async def test_f33_f35_f36_f37_a_member_whose_disk_fails_falls_out_alone(tmp_path: Path, is_long: bool) -> None:
    """The others go on, nothing acknowledged is lost, and it comes back: unless its files are corrupt, which it says instead."""
    rng = random.Random(33)
    async with Cluster(tmp_path, 3) as cluster:
        async with Clients(cluster.urls, 6) as clients:
            await clients.wait_acked(20)
            # F33 and F35: the log cannot be written or synced, once; on a follower, and on the leader.
            cases = [("pwrite", "ENOSPC", False), ("fdatasync", "EIO", True), ("pwrite", "ENOSPC", True), ("fdatasync", "EIO", False)]
            for call, number, is_leader in cases if is_long else cases[:2]:
                leader = await cluster.wait_leader()
                victim = leader if is_leader else (leader + 1) % 3
                await cluster.restart(victim, faults=(f"error:{call}:{number}",))
                if is_leader:
                    await _lead(cluster, victim)
                member = cluster.members[victim]
                cluster.arm(victim)
                assert await cluster.wait_exit(victim) == 1
                assert "failed to save Raft hard state and entries: wal: cannot" in member.log.splitlines()[-1]
                await clients.wait_acked(20, *(cluster.url(index) for index in range(3) if index != victim))
                cluster.start(victim)
                await cluster.wait_serving([victim])
            victim = ((await cluster.wait_leader()) + 1) % 3
            # F36: the last record is torn, of what it died on before it could be synced: nothing was promised on it.
            for _ in range(20 if is_long else 3):
                await cluster.restart(victim, faults=("kill:before log fsync:5",))
                cluster.arm(victim)
                assert await cluster.wait_exit(victim) == -9
                last, records = _records(cluster, victim)
                start, end = records[-1]
                with last.open("r+b") as file:
                    file.truncate(rng.randrange(start + 9, end))
                member = cluster.start(victim)
                await cluster.wait_serving([victim])
                assert "Repaired the log's torn tail" in member.log
                assert last.with_name(last.name + ".broken").exists()
            # F37: a bit of an older record is not what it was.
            cluster.kill(victim)
            last, records = _records(cluster, victim)
            start, end = records[len(records) // 2]
            whole = last.read_bytes()
            at = rng.randrange(start + 16, end)
            with last.open("r+b") as file:
                file.seek(at)
                file.write(bytes([whole[at] ^ 4]))
            damaged = last.read_bytes()
            member = cluster.start(victim)
            assert await cluster.wait_exit(victim) == 1
            assert f"in {last}, offset {start}" in member.log.splitlines()[-1]
            assert last.read_bytes() == damaged, "it was repaired, or cut off"
            last.write_bytes(whole)
            cluster.start(victim)
            await cluster.wait_serving()
            await clients.wait_acked(20)
        clients.check()
        await cluster.wait_equal()
        cluster.logs_are_clean()


async def _lead(cluster: Cluster, index: int) -> None:
    """Until this member leads."""
    leader = await cluster.wait_leader()
    if leader != index:
        async with Calls(cluster.url(leader)) as calls:
            await calls.move_leader(cluster.ids[index])
        assert await cluster.wait_leader() == index


def _records(cluster: Cluster, index: int) -> tuple[Path, list[tuple[int, int]]]:
    """The last file of a member's log, and where each of its records begins and ends."""
    last = wal.segments(cluster.data(index) / "member" / "wal")[-1]
    position = wal._Position()
    return last, [(position.start, position.offset) for _ in wal._records(SYSTEM_DISK, last, position, last=True)]
