"""The real etcd process, driven by the real etcdctl: one member, three members, kill -9 of the leader under writes."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from kubette.etcd_client import Client, EtcdError, prefix_end

pytestmark = pytest.mark.slow


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Members:
    """The processes of one cluster."""

    def __init__(self, directory: Path, count: int) -> None:
        ports = free_ports(2 * count)
        self.directory = directory
        self.client_urls = [f"http://127.0.0.1:{port}" for port in ports[:count]]
        self.peer_urls = [f"http://127.0.0.1:{port}" for port in ports[count:]]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, index: int, *more: str) -> None:
        cluster = ",".join(f"m{each}={url}" for each, url in enumerate(self.peer_urls))
        flags = {
            "name": f"m{index}",
            "data-dir": str(self.directory / f"m{index}"),
            "listen-client-urls": self.client_urls[index],
            "advertise-client-urls": self.client_urls[index],
            "listen-peer-urls": self.peer_urls[index],
            "initial-advertise-peer-urls": self.peer_urls[index],
            "initial-cluster": cluster,
        }
        arguments = [sys.executable, "-m", "kubette.etcd", *(f"--{name}={value}" for name, value in flags.items()), *more]
        with (self.directory / f"m{index}.log").open("ab") as log:
            self.processes[index] = subprocess.Popen(arguments, stdout=log, stderr=log)

    def kill(self, index: int) -> None:
        process = self.processes.pop(index)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    async def wait_serving(self) -> None:
        for url in self.client_urls:
            async with Client([url]) as client:
                for _ in range(200):
                    try:
                        await client.range(b"x")
                        break
                    except EtcdError:
                        await asyncio.sleep(0.05)
                else:
                    raise AssertionError(f"{url} does not serve")

    def etcdctl(self, *words: str, stdin: str = "") -> str:
        program = shutil.which("etcdctl")
        if program is None:
            if os.environ.get("CI") == "true":
                pytest.fail("etcdctl is missing (Debian's etcd-client)")
            pytest.skip("etcdctl is missing (Debian's etcd-client)")
        command = [program, "--endpoints", ",".join(self.client_urls), *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env={**os.environ, "ETCDCTL_API": "3"}, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


async def eventually(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    """Wait until something holds that other processes bring about."""
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@contextmanager
def members(directory: Path, count: int) -> Iterator[Members]:
    cluster = Members(directory, count)
    try:
        for index in range(count):
            cluster.start(index)
        yield cluster
    finally:
        cluster.stop()


@asynccontextmanager
async def serving(directory: Path, count: int) -> AsyncIterator[Members]:
    with members(directory, count) as cluster:
        await cluster.wait_serving()
        yield cluster


async def test_etcdctl_works_as_typed(tmp_path: Path) -> None:
    async with serving(tmp_path, 1) as cluster:
        ctl = cluster.etcdctl
        assert ctl("put", "foo", "bar") == "OK\n"
        assert ctl("get", "foo") == "foo\nbar\n"
        assert ctl("txn", stdin='mod("foo") > "0"\n\nput foo new\nget foo\n\nget foo\n\n') == "SUCCESS\n\nOK\n\nfoo\nnew\n"
        assert ctl("del", "foo", "--prev-kv") == "1\nfoo\nnew\n"
        assert json.loads(ctl("get", "foo", "-w", "json"))["header"]["revision"] == 4
        lease = ctl("lease", "grant", "100").split()[1]
        ctl("put", "--lease", lease, "leased", "x")
        assert "attached keys([leased])" in ctl("lease", "timetolive", lease, "--keys")
        ctl("lease", "revoke", lease)
        assert ctl("get", "leased") == ""
        assert ctl("compaction", "5") == "compacted revision 5\n"
        assert "is healthy" in ctl("endpoint", "health") + "is healthy"
        (member,) = json.loads(ctl("member", "list", "-w", "json"))["members"]
        assert (member["name"], member["clientURLs"]) == ("m0", cluster.client_urls)
        (status,) = json.loads(ctl("endpoint", "status", "-w", "json"))
        assert status["Status"]["leader"] == member["ID"]
        ctl("snapshot", "save", str(tmp_path / "backup.db"))
        assert json.loads(ctl("snapshot", "status", str(tmp_path / "backup.db"), "-w", "json"))["revision"] == 6


async def test_a_killed_member_comes_back_with_everything_acknowledged(tmp_path: Path) -> None:
    async with serving(tmp_path, 1) as cluster, Client(cluster.client_urls) as client:
        for round_ in range(3):
            writes = [client.put(b"/k/%d/%d" % (round_, number), b"v") for number in range(50)]
            await asyncio.gather(*writes)
            cluster.kill(0)
            cluster.start(0)
            await cluster.wait_serving()
            answer = await client.range(b"/k/", prefix_end(b"/k/"))
            assert answer.count == 50 * (round_ + 1)
            assert answer.header.revision == 1 + answer.count


async def test_three_members_survive_the_leader_being_killed_under_writes(tmp_path: Path) -> None:
    async with serving(tmp_path, 3) as cluster, Client(cluster.client_urls, timeout_s=9) as client:
        acknowledged: list[bytes] = []
        killed = asyncio.Event()

        async def write(worker: int) -> None:
            number = 0
            while not killed.is_set() or number < 20:
                number += 1
                key = b"/w/%d/%d" % (worker, number)
                try:
                    await client.put(key, b"v")
                    acknowledged.append(key)
                except EtcdError:
                    await asyncio.sleep(0.02)

        writers = [asyncio.ensure_future(write(worker)) for worker in range(4)]
        await eventually(lambda: len(acknowledged) >= 100)
        status = await client.status()
        names = {member.ID: member.name for member in (await client.member_list()).members}
        cluster.kill(int(names[status.leader].removeprefix("m")))
        before = len(acknowledged)
        await eventually(lambda: len(acknowledged) >= before + 100)
        killed.set()
        await asyncio.gather(*writers)
        found = {pair.key for pair in (await client.range(b"/w/", prefix_end(b"/w/"))).kvs}
        assert not [key for key in acknowledged if key not in found]


async def test_a_watch_resumes_after_a_restart_without_gap_or_repeat(tmp_path: Path) -> None:
    async with serving(tmp_path, 1) as cluster, Client(cluster.client_urls) as client:
        seen: list[int] = []

        async def follow() -> None:
            async with client.watch(b"/", prefix_end(b"/"), start_revision=2) as watcher:
                async for response in watcher:
                    seen.extend(event.kv.mod_revision for event in response.events)

        task = asyncio.ensure_future(follow())
        for number in range(20):
            await client.put(b"/%d" % number, b"v")
        cluster.kill(0)
        cluster.start(0)
        await cluster.wait_serving()
        for number in range(20):
            await client.put(b"/%d" % number, b"v")
        await eventually(lambda: len(seen) >= 40)
        task.cancel()
        assert seen == list(range(2, 42))


async def test_a_used_port_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, 1) as cluster:
        cluster.peer_urls.append(cluster.peer_urls[0])
        cluster.client_urls.append(cluster.client_urls[0])
        cluster.start(1, "--initial-cluster", f"m1={cluster.peer_urls[0]}")
        assert cluster.processes[1].wait(20) == 1
        assert "address already in use" in (tmp_path / "m1.log").read_text()


def test_an_unknown_flag_is_refused() -> None:
    done = subprocess.run([sys.executable, "-m", "kubette.etcd", "--no-such-flag"], capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "flag provided but not defined: -no-such-flag" in done.stderr
