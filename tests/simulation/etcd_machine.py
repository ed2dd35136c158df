"""A machine with one member on it: the disk outlives the process; the process is etcd's own classes, on a virtual loop, clock, disk and network.

What stands at the rim is replaced: the listeners by direct calls of the services' methods, the peer transport by datagrams of encoded messages.
"""

import asyncio
import io
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from kubette.component_base.metrics import Registry
from kubette.etcd import bootstrap, config, flag_table, housekeeping, membership, raft_codec, snapshotter, wal
from kubette.etcd.raft_loop import RaftLoop
from kubette.etcd.rim.http1 import Request
from kubette.etcd.server import Limits, Server
from kubette.etcd.services import watch as watch_service
from kubette.etcd.services.cluster import Cluster
from kubette.etcd.services.http import Health, Questions
from kubette.etcd.services.kv import KV
from kubette.etcd.services.lease import Lease
from kubette.etcd.services.maintenance import Maintenance
from kubette.etcd.services.watch import Watch
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.errors import RpcError
from kubette.raft import describe
from kubette.raft.messages import Entry, HardState, Message, MessageType, ReadState, Snapshot
from kubette.stdx.tasks import Scope
from simulation.invariants import Violation
from simulation.virtual_disk import VirtualDisk
from simulation.virtual_network import Pipe, VirtualNetwork
from simulation.virtual_time import ProcessLoop, Scheduler

TOKEN = "simulation"
VERSION, CLUSTER_VERSION = "3.6.0", "3.6.0"
WALL_AT_START = 1_700_000_000.0
WAKING_S = 0.02
REMOVED_DELAY_S = 1.0  # a removed member goes on helping for this long
SNAPSHOT_S = 0.05  # a transfer, at least
Answer = Callable[[bytes | RpcError], object]


class World(Protocol):
    """What a machine needs to know of the others, and who looks at what it does."""

    scheduler: Scheduler
    network: VirtualNetwork

    def note(self, text: str) -> None: ...

    def machine_of(self, member_id: int) -> "Machine | None": ...

    def started(self, machine: "Machine", before: "WatchedWal | None") -> None: ...

    def sends(self, machine: "Machine", message: Message) -> None: ...

    def takes(self, machine: "Machine", message: Message) -> Callable[[], None]: ...

    def applied(self, machine: "Machine", entries: Sequence[Entry]) -> None: ...

    def installed(self, machine: "Machine") -> None: ...


class Clock:
    """Of one machine. Its wall clock may jump."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.jump_s = 0.0

    def monotonic(self) -> float:
        return self._scheduler.now

    def wall(self) -> float:
        return WALL_AT_START + self._scheduler.now + self.jump_s


class Removed(Exception):
    """The member is none any more; its process ends."""


class WatchedWal:
    """The log, and what of it a power cut could not take away."""

    def __init__(self, log: wal.Wal, disk: VirtualDisk, node: Any) -> None:
        self._log = log
        self._disk = disk
        self.state = HardState(node.raft.term, node.raft.vote, node.raft.log.committed)
        self.last = node.raft.log.last_index
        self._pending: tuple[HardState, int] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def save(self, state: HardState | None, entries: Sequence[Entry]) -> None:
        self._log.save(state, entries)
        before = self._pending or (self.state, self.last)
        self._pending = state or before[0], entries[-1].index if entries else before[1]

    def save_snapshot(self, index: int, term: int) -> None:
        self._log.save_snapshot(index, term)
        before = self._pending or (self.state, self.last)
        self._pending = before[0], max(before[1], index)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is on its way to the disk."""
        return self._pending is None

    def sync(self) -> None:
        self._log.sync()
        if self._pending is not None and self._disk.is_synced(self._log._fd):
            (self.state, self.last), self._pending = self._pending, None


class Machine:
    """`name` is the host's and the member's."""

    def __init__(self, world: World, name: str, base: config.Config, limits: Limits, rng: random.Random) -> None:
        self.world = world
        self.name = name
        self.rng = rng
        self.disk = VirtualDisk(random.Random(rng.random()))
        self.clock = Clock(world.scheduler)
        self.limits = limits
        self.config = replace(base, name=name, data_dir=f"/{name}", wal_dir=f"/{name}/member/wal", advertise_peer_urls=(peer_url(name),))
        self.disk_latency_s = 0.001
        self.loop: ProcessLoop | None = None
        self.server: Server
        self.wal: WatchedWal | None = None
        self.joins: tuple[int, int] | None = None  # as which member, which cluster
        self.methods: dict[bytes, Any] = {}
        self.member_id = 0
        self.calls: dict[asyncio.Future[Any], None] = {}
        self.pipes: dict[Pipe, None] = {}  # connections that end with the process

    @property
    def alive(self) -> bool:
        return self.loop is not None

    # The process

    def start(self) -> None:
        """Raises PowerCut, WalError, StartupError, OSError."""
        self.disk.restart()
        loop = ProcessLoop(self.world.scheduler, lambda: self.disk_latency_s * (0.5 + self.rng.random()))
        failure: list[BaseException] = []

        def run() -> None:
            try:
                self._open()
            except BaseException as error:  # the caller's, whatever it is
                failure.append(error)

        self.loop = loop
        loop.run(run, ())
        if failure:
            self.stop()
            raise failure[0]

    def _open(self) -> None:
        disk, options = self.disk, self.config
        snap_directory = Path(options.data_dir) / "member" / "snap"
        disk.make_directory(snap_directory)
        fresh = not wal.segments(Path(options.wal_dir), disk)
        if fresh and self.joins is not None:
            bootstrap.write_log(Path(options.wal_dir), *self.joins, HardState(), [], disk)
        elif fresh:
            bootstrap.write_first_log(options, membership.parse_initial_cluster(options.initial_cluster), disk)
        booted = bootstrap.open_files(options, fresh, [], disk, random.Random(self.rng.random()))
        self.member_id = booted.member_id
        before, self.wal = self.wal, WatchedWal(booted.wal, disk, booted.node)
        server = self.server = Server(
            booted.member_id,
            booted.cluster_id,
            booted.state,
            booted.snap_directory,
            self.limits,
            self.clock,
            options.election_s,
            disk,
            random.Random(self.rng.random()),
        )
        scope = self._scope = Scope()
        self._snapshots_to: dict[int, None] = {}
        raft = RaftLoop(booted.node, self.wal, self, self.send, options.heartbeat_s)  # type: ignore[arg-type]
        server.attach(raft)
        kv, lease = KV(server), Lease(server, self.ask_leader)
        watch = self.watch = Watch(server, options.progress_notify_s)
        cluster = Cluster(server, TOKEN, self.ask_leader, options.strict_reconfig)
        services = (kv, lease, watch, cluster, Maintenance(server, VERSION, CLUSTER_VERSION))
        self.methods = {path: method for service in services for path, method in service.methods().items()}
        self.questions = Questions(server, lease, cluster, Health(server, VERSION, Registry()))
        self.world.started(self, before)
        for name, work in (
            ("raft", raft.run()),
            ("tick", raft.tick_forever()),
            ("leases", server.revoke_expired()),
            ("watchers", server.feed_watchers()),
            ("progress", watch.notify_progress()),
            ("housekeeping", housekeeping.run(server, watch, options.election_s)),
            ("publish", server.publish(self.name, (f"http://{self.name}:2379",))),
            ("cluster version", server.set_cluster_version(CLUSTER_VERSION)),
            ("removal", self._end_when_removed()),
        ):
            scope.start(work, name=name)
        raft.begin(options.election_ticks)

    async def _end_when_removed(self) -> None:
        await self.server.removed.wait()
        await asyncio.sleep(REMOVED_DELAY_S)
        raise Removed

    def stop(self) -> None:
        """SIGKILL: what was written stays, synced or not."""
        loop, self.loop = self.loop, None
        if loop is not None:
            loop.kill()
        self.calls.clear()
        pipes, self.pipes = self.pipes, {}
        for pipe in pipes:
            pipe.break_off()

    def cut_power(self) -> None:
        """What was not synced is lost, or some of it."""
        self.stop()
        if self.disk.alive:
            self.disk.power_cut()

    # What Raft's loop calls: the server, watched

    def apply(self, entries: Sequence[Entry]) -> None:
        self.server.apply(entries)
        self.world.applied(self, entries)

    async def install_snapshot(self, snapshot: Snapshot) -> None:
        await self.server.install_snapshot(snapshot)
        self.world.installed(self)

    def leader_changed(self, lead: int, is_leader: bool) -> None:
        self.server.leader_changed(lead, is_leader)

    def read_states(self, states: Sequence[ReadState]) -> None:
        self.server.read_states(states)

    def is_waiting(self, request_id: int) -> bool:
        return self.server.is_waiting(request_id)

    def proposed(self, request_ids: Sequence[int], term: int) -> None:
        self.server.proposed(request_ids, term)

    # Other members

    def send(self, messages: Sequence[Message]) -> list[Message]:
        dropped = []
        network = self.world.network
        for message in messages:
            if not self.disk.alive:
                return dropped
            self.world.sends(self, message)
            other = self.world.machine_of(message.to)
            if other is None or message.to in self.server.state.membership.removed:
                dropped.append(message)
            elif message.type is MessageType.SNAP:
                if message.to not in self._snapshots_to:
                    self._snapshots_to[message.to] = None
                    self._scope.start(self._send_snapshot(other, message))
            elif not other.alive or network.is_cut(self.name, other.name):
                assert self.loop is not None
                self.loop.call_soon(self.server.node.report_unreachable, message.to)
                dropped.append(message)
            else:
                data = raft_codec.message_bytes(message)
                # A forwarded proposal that arrived twice would be made twice: that it does not is what a stream promises.
                once = message.type is MessageType.PROP
                network.datagram(self.name, other.name, lambda other=other, data=data: other.take(data), once)  # type: ignore[misc]
        return dropped

    def take(self, data: bytes) -> None:
        """A message arrives. A process that wakes from a pause reads its sockets in any order: clients' before this one, for instance."""
        if self.loop is not None:
            wake = self.loop.paused_until
            when = wake + self.rng.random() * WAKING_S if wake > self.world.scheduler.now else self.world.scheduler.now
            self.world.scheduler.at(when, self.loop, self._step, raft_codec.message_from(data))

    def _step(self, message: Message) -> None:
        if message.from_ in self.server.state.membership.removed:
            sender = self.world.machine_of(message.from_)
            if sender is not None:
                sender._later(lambda: sender.server.removed.set())  # as the transport's 410 does
            return
        self.world.note(_told(message))
        taken = self.world.takes(self, message)
        self.server.raft.step([message])
        taken()

    async def _send_snapshot(self, other: "Machine", message: Message) -> None:
        """The state as of now, in one piece: it arrives or it does not, and the sender hears how."""
        assert self.loop is not None
        image = self.server.capture()
        file = io.BytesIO()
        snapshotter.stream_database(file, image)
        data = raft_codec.message_bytes(message._replace(snapshot=image.snapshot))
        done = self.loop.create_future()
        pipe = self.world.network.connect(self.name, other.name)
        pipe.when_broken = lambda: self._later(_finish, done, False)
        self.pipes[pipe] = None
        pipe.send(lambda: other.receive_snapshot(data, file.getvalue(), pipe, done, self), SNAPSHOT_S + self.rng.random() * 4 * SNAPSHOT_S)
        arrived = await done
        self.pipes.pop(pipe, None)
        del self._snapshots_to[message.to]
        self.world.note(f"{self.name} snapshot {image.snapshot.index} to {other.name}: {arrived}")
        self.server.node.report_snapshot(message.to, not arrived)
        self.server.raft.nudge()

    def _later(self, call: Callable[..., object], *args: Any) -> None:
        if self.loop is not None:
            self.world.scheduler.at(self.world.scheduler.now, self.loop, call, *args)

    def receive_snapshot(self, data: bytes, database: bytes, pipe: Pipe, done: "asyncio.Future[bool]", sender: "Machine") -> None:
        if self.loop is None:
            pipe.break_off()
            return
        self.pipes[pipe] = None
        message = raft_codec.message_from(data)
        assert message.snapshot is not None
        path = self.server.received_path(message.snapshot.index)

        def write() -> None:
            temporary = path.with_name(path.name + ".tmp")
            with self.disk.create(temporary) as file:
                file.write(database)
                self.disk.sync(file.fileno())
            self.disk.rename(temporary, path)

        async def take() -> None:
            try:
                await asyncio.get_running_loop().run_in_executor(None, write)
            except OSError:
                pipe.break_off()
                return
            self._step(message)
            sender._later(_finish, done, True)

        self._later(lambda: self._scope.start(take()))

    async def ask_leader(self, path: str, body: bytes) -> bytes:
        """As the transport does. Raises OSError, RpcError."""
        assert self.loop is not None
        leader = self.world.machine_of(self.server.lead)
        network = self.world.network
        if leader is None or leader is self or not leader.alive or network.is_cut(self.name, leader.name):
            raise ConnectionError("no leader")
        done = self.loop.create_future()
        there, back = network.connect(self.name, leader.name), network.connect(leader.name, self.name)
        there.send(lambda: leader.question(path, body, lambda status, answer: back.send(lambda: self._later(_finish, done, (status, answer)))))
        async with asyncio.timeout(5.0):
            status, answer = await done
        if status != 200:
            raise ConnectionError(f"the leader answered {status}: {answer.decode()}")
        return answer

    def question(self, path: str, body: bytes, answer: Callable[[int, bytes], object]) -> None:
        async def run() -> None:
            response = await self.questions.handle(Request("POST", path, "", {}, None, len(body), body))  # type: ignore[arg-type]
            assert response is not None
            answer(response.status, response.body)

        self._later(lambda: self._scope.start(run()))

    # Clients

    def call(self, path: bytes, body: bytes, answer: Answer) -> None:
        """A unary call arrives."""
        self._later(self._call, path, body, answer)

    def _call(self, path: bytes, body: bytes, answer: Answer) -> None:
        try:
            result = self.methods[path].unary(body)
        except RpcError as error:
            answer(error)
            return
        if isinstance(result, bytes):
            answer(result)
            return
        future = result if isinstance(result, asyncio.Future) else self._scope.start(self._caught(result))
        self.calls[future] = None
        future.add_done_callback(lambda done: self._answered(done, answer))

    async def _caught(self, work: Any) -> bytes | RpcError:
        try:
            return await work  # type: ignore[no-any-return]
        except RpcError as error:
            return error

    def _answered(self, done: "asyncio.Future[Any]", answer: Answer) -> None:
        self.calls.pop(done, None)
        if done.cancelled() or not self.disk.alive:
            return
        error = done.exception()
        if error is None:
            answer(done.result())
        elif isinstance(error, RpcError):
            answer(error)

    def open_stream(self, path: bytes, stream: "ServerStream") -> None:
        """A streaming call arrives."""

        def begin() -> None:
            if not stream.closed:
                stream.task = self._scope.start(stream.run(self.methods[path].streaming))

        if self.loop is None:
            stream.back.break_off()
        else:
            self._later(begin)


def _finish(future: "asyncio.Future[Any]", result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _told(message: Message) -> str:
    """In one line, without what stands in the entries."""
    entries = f" entries {message.entries[0].index}-{message.entries[-1].index}" if message.entries else ""
    return describe.message(message._replace(entries=())) + entries


class ServerStream:
    """The server's end of a stream (a rim.grpc.MessageStream). What is sent waits until the client has read it."""

    def __init__(self, machine: Machine, back: Pipe, deliver: Callable[[bytes], object], slowness_s: Callable[[], float]) -> None:
        self.machine = machine
        self.back = back
        self.pending = 0
        self.closed = False
        self.when_drained: Callable[[], None] | None = None
        self.task: asyncio.Task[Any] | None = None
        self._deliver = deliver
        self._slowness_s = slowness_s
        self._queue: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        machine.pipes[back] = None

    def header(self, name: bytes) -> bytes:
        return b""

    async def run(self, streaming: Any) -> None:
        try:
            await streaming(self)
        except RpcError as error:
            self.fail(error)

    async def receive(self) -> bytes | None:
        while not self._queue:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._queue.pop(0)

    def feed(self, message: bytes) -> None:
        """The client sends."""

        def take() -> None:
            self._queue.append(message)
            if self._waiter is not None:
                _finish(self._waiter, None)

        self.machine._later(take)

    def send(self, message: bytes) -> None:
        if self.machine.disk.alive and not self.back.broken:
            if self.pending > watch_service.QUEUE_BYTES and pb.WatchResponse.FromString(message).events:
                raise Violation(f"INV-W8: {self.pending} bytes wait for a watcher already, and more is sent")
            self.pending += len(message)
            self.back.send(lambda: self._read(message), self._slowness_s())

    def _read(self, message: bytes) -> None:
        self.pending -= len(message)
        self._deliver(message)
        if not self.pending:
            self.machine._later(self._has_drained)

    def _has_drained(self) -> None:
        if self._drained is not None:
            _finish(self._drained, None)
        if self.when_drained is not None:
            self.when_drained()

    async def wait_drained(self) -> None:
        while self.pending:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def fail(self, error: RpcError) -> None:
        self.back.break_off()

    def close(self) -> None:
        """The client has left."""
        self.closed = True
        self.machine.pipes.pop(self.back, None)
        if self.task is not None:
            self.machine._later(self.task.cancel)


def peer_url(name: str) -> str:
    return f"http://{name}:2380"


def base_config(names: Sequence[str], **changes: Any) -> config.Config:
    """What all members have in common."""
    initial = ",".join(f"{name}={peer_url(name)}" for name in names)
    options = flag_table.flag_set().parse([f"--initial-cluster={initial}", f"--initial-cluster-token={TOKEN}", "--max-wals=1", "--max-snapshots=2"])
    return replace(config.check(options), **changes)
