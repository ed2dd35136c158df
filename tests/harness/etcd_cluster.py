"""A cluster of etcd processes that can be hurt: killed, paused, cut off, made to fail at a named step; and what must hold after it."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from harness import etcd_processes as etcd
from harness.etcd_calls import CallError, Calls
from harness.etcd_processes import OURS, Member
from harness.fault_proxy import Network
from kubette.etcd_api import rpc_pb2 as pb

HEARTBEAT_MS = 50
ELECTION_MS = 500
ELECTION_S = ELECTION_MS / 1000
TIMERS = (f"--heartbeat-interval={HEARTBEAT_MS}", f"--election-timeout={ELECTION_MS}")
WAIT_S = 30.0  # until something has to have happened, on a machine that is busy
LOOK_S = 0.02


class Cluster:
    """Members by index, all behind fault proxies. An async context manager: they serve when it is entered, and none outlives it."""

    def __init__(
        self,
        directory: Path,
        count: int,
        *flags: str,
        token: str = "etcd-cluster",
        faults: Callable[[int], Sequence[str]] = lambda index: (),
        prepare: Callable[["Cluster"], None] = lambda cluster: None,
    ) -> None:
        self.directory = directory
        self.network = Network()
        self.flags = (*TIMERS, f"--initial-cluster-token={token}", *flags)
        self.members: dict[int, Member] = {}
        self.ids: dict[int, int] = {}
        self._ports = etcd.free_ports(2 * count)
        self._count = count
        self._faults = faults  # of each member's first life
        self._prepare = prepare  # before the first life, when all URLs are known
        self._paused: set[int] = set()

    async def __aenter__(self) -> "Cluster":
        try:
            await self.network.__aenter__()
            for index in range(self._count):
                await self.network.add(self._ports[2 * index + 1])
            self._prepare(self)
            for index in range(self._count):
                self.start(index, faults=self._faults(index))
            await self.wait_serving()
            return self
        except BaseException:
            await self.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        for index in list(self.members):
            self.kill(index)
        await self.network.__aexit__()

    # Processes

    def url(self, index: int) -> str:
        return f"http://127.0.0.1:{self._ports[2 * index]}"

    @property
    def urls(self) -> list[str]:
        """Of all, running or not."""
        return [self.url(index) for index in range(len(self.network.urls))]

    def data(self, index: int) -> Path:
        return self.directory / f"m{index}"

    def arm(self, index: int) -> None:
        """From now on the faults that a member was started with happen."""
        self._armed(index).touch()

    def _armed(self, index: int) -> Path:
        return self.directory / f"arm{index}"

    def initial_cluster(self, indices: Iterable[int]) -> str:
        return ",".join(f"m{index}={self.network.urls[index]}" for index in indices)

    def start(self, index: int, *more: str, faults: Sequence[str] = (), wrap: Sequence[str] = ()) -> Member:
        self._armed(index).unlink(missing_ok=True)
        flags = (
            *(f"--initial-advertise-peer-urls={self.network.urls[index]}", f"--initial-cluster={self.initial_cluster(range(self._count))}"),
            *self.flags,
            *more,
        )
        client, peer = self._ports[2 * index : 2 * index + 2]
        command = [*wrap, *(etcd.with_faults(*faults) if faults else etcd.program(OURS, "etcd"))]
        variables = {**etcd.harness_path(), "ARM": str(self._armed(index))} if faults else None
        self.members[index] = Member(OURS, self.data(index), client, peer, *flags, name=f"m{index}", command=command, variables=variables)
        return self.members[index]

    def kill(self, index: int) -> None:
        self._paused.discard(index)
        self.members.pop(index).kill()

    def pause(self, index: int) -> None:
        os.kill(self.members[index].pid, signal.SIGSTOP)
        self._paused.add(index)

    def resume(self, index: int) -> None:
        self._paused.discard(index)
        os.kill(self.members[index].pid, signal.SIGCONT)

    async def restart(self, index: int, *more: str, faults: Sequence[str] = ()) -> None:
        self.kill(index)
        self.start(index, *more, faults=faults)
        await self.wait_serving([index])

    async def wait_exit(self, index: int) -> int:
        """The exit code of a process that ends by itself (a signal's is negative)."""
        member = self.members.pop(index)
        try:
            return await asyncio.to_thread(member.wait_exit, WAIT_S)
        finally:
            member.kill()

    # Facts

    def alive(self) -> list[int]:
        return [index for index in self.members if index not in self._paused]

    async def status(self, index: int) -> pb.StatusResponse | None:
        """What a member says of itself; None when it cannot."""
        async with Calls(self.url(index)) as calls:
            try:
                answer: pb.StatusResponse = await calls.call("Maintenance/Status", pb.StatusRequest(), pb.StatusResponse, timeout_s=1.0)
            except CallError:
                return None
        self.ids[index] = answer.header.member_id
        return answer

    async def wait_serving(self, indices: Iterable[int] | None = None) -> None:
        """Until each answers a linearizable read."""

        async def one(index: int) -> None:
            async with asyncio.timeout(WAIT_S), Calls(self.url(index)) as calls:
                while True:
                    member = self.members[index]
                    assert member.is_running(), member.log[-3000:]
                    try:
                        self.ids[index] = (await calls.get(b"x", timeout_s=2.0)).header.member_id
                        return
                    except CallError:
                        await asyncio.sleep(LOOK_S)

        await asyncio.gather(*(one(index) for index in (self.alive() if indices is None else indices)))

    async def wait_leader(self, *but: int, among: Iterable[int] | None = None) -> int:
        """The leader that a majority of the living agree on, and that is none of `but`."""
        async with asyncio.timeout(WAIT_S):
            while True:
                asked = [index for index in (self.alive() if among is None else among) if index not in but]
                said = [each for each in await asyncio.gather(*(self.status(index) for index in asked)) if each is not None]
                for index in asked:
                    votes = sum(each.leader == self.ids.get(index) for each in said)
                    if votes == len(asked):
                        return index
                await asyncio.sleep(LOOK_S)

    async def term(self) -> int:
        """The highest term that anybody alive has heard of."""
        return max(each.raftTerm for each in await asyncio.gather(*(self.status(index) for index in self.alive())) if each is not None)

    async def wait_equal(self) -> int:
        """Until the living are at one revision; then all have the same keys (INV-M7), or the test fails. Answers the revision."""
        await self.wait_serving()
        async with asyncio.timeout(WAIT_S):
            while True:
                said = await asyncio.gather(*(self.status(index) for index in self.alive()))
                revisions = {each.header.revision if each is not None else None for each in said}
                applied = {each.raftAppliedIndex if each is not None else None for each in said}
                if len(revisions) == len(applied) == 1 and None not in revisions:
                    break
                await asyncio.sleep(LOOK_S)
        (revision,) = revisions
        hashes = await asyncio.gather(*(self.hash_kv(index, revision or 0) for index in self.alive()))
        assert len(set(hashes)) == 1, f"members differ at revision {revision}: {hashes}"
        return revision or 0

    async def hash_kv(self, index: int, revision: int) -> tuple[int, int]:
        async with Calls(self.url(index)) as calls:
            answer = await calls.call("Maintenance/HashKV", pb.HashKVRequest(revision=revision), pb.HashKVResponse)
        return answer.hash, answer.compact_revision

    def logs_are_clean(self) -> None:
        """Nobody met anything unforeseen."""
        for path in self.directory.glob("m*.log"):
            assert "Traceback" not in path.read_text(), path.read_text()[-4000:]
