"""Clients of a simulated etcd: they read, write, watch and lease while it is hurt; every answer is compared with the model, and recorded."""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from harness.linearizability import Operation
from harness.watch_checks import Event, Record, Response, Segment
from kubette.etcd_api import errors
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.errors import RpcError
from simulation.etcd_machine import Machine, ServerStream, _finish, peer_url
from simulation.etcd_model import Model
from simulation.invariants import Violation
from simulation.virtual_network import VirtualNetwork
from simulation.virtual_time import ProcessLoop, Scheduler

TIMEOUTS_S = (0.3, 1.0, 3.0)
WITNESS_S = 0.08
OPERATIONS_PER_KEY = 60  # then the next keys: what is unknown about one does not burden the checker for ever
ACCOUNTS = [b"account%d" % each for each in range(3)]
PREFIX_END = {b"k": b"l", b"account": b"accounu", b"lease": b"leasf"}
# Answers of the log itself: the operation did not happen, and will not.
REFUSALS = {spec[1] for spec in (errors.COMPACTED, errors.FUTURE_REV, errors.NO_SPACE, errors.LEASE_NOT_FOUND, errors.KEY_NOT_FOUND)}


class Refused(Exception):
    """It did not reach the member."""


class Unknown(Exception):
    """Nobody knows whether it happened."""


class Lab(Protocol):
    """What clients share."""

    scheduler: Scheduler
    network: VirtualNetwork
    model: Model
    client_loop: ProcessLoop
    machines: list[Machine]
    history: list[Operation]
    under_way: dict[Operation, None]
    floor: int  # the highest revision that a linearizable answer has named
    quiet: bool  # faults are over: come to an end
    count: int  # operations so far

    def note(self, text: str) -> None: ...

    def pick(self, rng: random.Random) -> Machine: ...


class Client:
    """One host, one task."""

    def __init__(self, lab: Lab, name: str, rng: random.Random) -> None:
        self.lab = lab
        self.name = name
        self.rng = rng
        self.machine = lab.pick(rng)
        self.timeout_s = rng.choice(TIMEOUTS_S)

    def later(self, call: Any, *args: Any) -> None:
        self.lab.scheduler.at(self.lab.scheduler.now, self.lab.client_loop, call, *args)

    async def call(self, path: str, request: Any, kind: Any, machine: Machine | None = None) -> Any:
        """Raises Refused, Unknown, RpcError."""
        machine, network = machine or self.machine, self.lab.network
        if not machine.alive or network.is_cut(self.name, machine.name):
            raise Refused
        done = self.lab.client_loop.create_future()
        there, back = network.connect(self.name, machine.name), network.connect(machine.name, self.name)
        there.when_broken = back.when_broken = lambda: self.later(_finish, done, None)
        machine.pipes[back] = None
        body, full = request.SerializeToString(), f"/etcdserverpb.{path}".encode()
        there.send(lambda: machine.call(full, body, lambda answer: back.send(lambda: self.later(_finish, done, answer))))
        try:
            async with asyncio.timeout(self.timeout_s):
                answer = await done
        except TimeoutError:
            answer = None
        finally:
            machine.pipes.pop(back, None)
        if answer is None:
            raise Unknown
        if isinstance(answer, RpcError):
            raise answer
        return kind.FromString(answer)

    def stream(self, path: str, slowness_s: float = 0.0) -> "ClientStream":
        """Raises Refused."""
        if not self.machine.alive or self.lab.network.is_cut(self.name, self.machine.name):
            raise Refused
        return ClientStream(self, self.machine, f"/etcdserverpb.{path}".encode(), slowness_s)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.rng.random())

    async def failed(self) -> None:
        """Another member may do better."""
        self.machine = self.lab.pick(self.rng)
        await self.pause(0.3)


class ClientStream:
    """The client's end."""

    def __init__(self, client: Client, machine: Machine, path: bytes, slowness_s: float) -> None:
        self._client = client
        network = client.lab.network
        self._there, self._back = network.connect(client.name, machine.name), network.connect(machine.name, client.name)
        self._there.when_broken = self._back.when_broken = lambda: client.later(self._take, None)
        self._queue: deque[bytes | None] = deque()
        self._waiter: asyncio.Future[None] | None = None
        rng = client.rng
        self._server = ServerStream(machine, self._back, lambda message: client.later(self._take, message), lambda: slowness_s * rng.random())
        self._there.send(lambda: machine.open_stream(path, self._server))

    def _take(self, message: bytes | None) -> None:
        self._queue.append(message)
        if self._waiter is not None:
            _finish(self._waiter, None)

    def send(self, request: Any) -> None:
        body = request.SerializeToString()
        self._there.send(lambda: self._server.feed(body))

    async def receive(self, kind: Any, timeout_s: float) -> Any:
        """None when the stream is broken, or silent for so long."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._queue:
                    self._waiter = asyncio.get_running_loop().create_future()
                    await self._waiter
        except TimeoutError:
            return None
        message = self._queue.popleft()
        return None if message is None else kind.FromString(message)

    def close(self) -> None:
        self._there.broken = self._back.broken = True
        self._server.close()


class KvClient(Client):
    """Reads and writes: single keys that the linearizability checker looks at, and money that moves between accounts."""

    async def run(self) -> None:
        kinds = (self.put, self.get, self.cas, self.delete, self.list, self.transfer, self.read_past, self.compact)
        while not self.lab.quiet:
            (kind,) = self.rng.choices(kinds, (30, 30, 15, 8, 10, 8, 6, 2))
            try:
                await kind()
            except (Refused, Unknown):
                await self.failed()
            except RpcError as error:
                self.lab.note(f"{self.name} {error.message}")
                await self.failed()
            await self.pause(0.2)

    def _key(self) -> bytes:
        self.lab.count += 1
        return b"k%d-%d" % (self.lab.count // (3 * OPERATIONS_PER_KEY), self.rng.randrange(3))

    def _value(self) -> bytes:
        """One of its own kind; some fill sectors, so that writes are torn inside of them."""
        return b"%s.%d" % (self.name.encode(), self.lab.count) + b"." * self.rng.choice((0, 0, 0, 0, 400, 1500))

    def done(self, revision: int, floor: int, changed: bool) -> None:
        """Answers must be at least as new as what was answered before the call (INV-M2)."""
        if revision < floor + changed:
            raise Violation(f"INV-M2: {self.name} got an answer at revision {revision}, {floor} was acknowledged before it asked")
        self.lab.floor = max(self.lab.floor, revision)

    async def _recorded(self, key: bytes, kind: str, argument: Any, call: Any) -> None:
        """`call` answers the operation's result."""
        began = self.lab.scheduler.now
        operation = Operation(self.name, key, kind, argument, None, began, None)
        self.lab.under_way[operation] = None
        self.lab.note(f"{self.name} {kind} {key!r} {argument!r:.50} at {self.machine.name}")
        try:
            result = await call
        except Refused:
            raise
        except (Unknown, RpcError) as error:
            if kind != "get" and not (isinstance(error, RpcError) and error.message in REFUSALS):
                self.lab.history.append(operation)
            raise
        finally:
            del self.lab.under_way[operation]
        self.lab.note(f"{self.name} answered {result!r:.24}")
        self.lab.history.append(operation._replace(result=result, ret=self.lab.scheduler.now))

    async def put(self) -> None:
        key, value, floor = self._key(), self._value(), self.lab.floor

        async def put() -> None:
            request = pb.PutRequest(key=key, value=value)
            answer = await self.call("KV/Put", request, pb.PutResponse)
            self.lab.model.check_put(request, answer)
            self.done(answer.header.revision, floor, True)

        await self._recorded(key, "put", value, put())

    async def get(self) -> None:
        key = self._key()

        async def get() -> bytes | None:
            answer = await self._range(pb.RangeRequest(key=key))
            return answer.kvs[0].value if answer.kvs else None  # type: ignore[no-any-return]

        await self._recorded(key, "get", None, get())

    async def _range(self, request: pb.RangeRequest) -> Any:
        floor = self.lab.floor
        answer = await self.call("KV/Range", request, pb.RangeResponse)
        self.lab.model.check_range(request, answer)
        if not request.serializable:
            self.done(answer.header.revision, floor, False)
        return answer

    async def delete(self) -> None:
        key, floor = self._key(), self.lab.floor

        async def delete() -> int:
            request = pb.DeleteRangeRequest(key=key)
            answer = await self.call("KV/DeleteRange", request, pb.DeleteRangeResponse)
            self.lab.model.check_delete(request, answer)
            self.done(answer.header.revision, floor, bool(answer.deleted))
            return answer.deleted  # type: ignore[no-any-return]

        await self._recorded(key, "delete", None, delete())

    async def cas(self) -> None:
        """Of what the newest state has, or of something else."""
        key, value = self._key(), self._value()
        pair = self.lab.model.at(key, self.lab.model.revision)
        expected = pair.value if pair and self.rng.random() < 0.8 else None
        if expected is None:
            compare = pb.Compare(key=key, target=pb.Compare.CREATE, create_revision=0)
        else:
            compare = pb.Compare(key=key, target=pb.Compare.VALUE, value=expected)
        put = pb.RequestOp(request_put=pb.PutRequest(key=key, value=value))
        read = pb.RequestOp(request_range=pb.RangeRequest(key=key))

        async def cas() -> bool:
            answer = await self._txn(pb.TxnRequest(compare=[compare], success=[put], failure=[read]))
            return answer.succeeded  # type: ignore[no-any-return]

        await self._recorded(key, "cas", (expected, value), cas())

    async def _txn(self, request: pb.TxnRequest) -> Any:
        floor = self.lab.floor
        answer = await self.call("KV/Txn", request, pb.TxnResponse)
        changed = self.lab.model.check_txn(request, answer)
        self.done(answer.header.revision, floor, changed)
        return answer

    async def list(self) -> None:
        """All keys, from the newest state or from what this member has."""
        self.lab.count += 1
        prefix = self.rng.choice((b"k", b"account"))
        await self._range(pb.RangeRequest(key=prefix, range_end=PREFIX_END[prefix], serializable=self.rng.random() < 0.4))

    async def transfer(self) -> None:
        """Some money from one account to another, if nobody has touched them meanwhile; the sum stays."""
        self.lab.count += 1
        accounts = (await self._range(pb.RangeRequest(key=b"account", range_end=PREFIX_END[b"account"]))).kvs
        if not accounts:
            compare = [pb.Compare(key=key, target=pb.Compare.CREATE, create_revision=0) for key in ACCOUNTS]
            puts = [(key, 100) for key in ACCOUNTS]
        else:
            if sum(int(each.value) for each in accounts) != 100 * len(ACCOUNTS):
                raise Violation(f"INV-M4: the accounts hold {[each.value for each in accounts]}")
            one, other = self.rng.sample(list(accounts), 2)
            amount = self.rng.randrange(1, 20)
            compare = [pb.Compare(key=each.key, target=pb.Compare.MOD, mod_revision=each.mod_revision) for each in (one, other)]
            puts = [(one.key, int(one.value) - amount), (other.key, int(other.value) + amount)]
        success = [pb.RequestOp(request_put=pb.PutRequest(key=key, value=b"%d" % value)) for key, value in puts]
        failure = [pb.RequestOp(request_range=pb.RangeRequest(key=b"account", range_end=PREFIX_END[b"account"]))]
        await self._txn(pb.TxnRequest(compare=compare, success=success, failure=failure))

    async def read_past(self) -> None:
        """At an old revision: the same answer as ever, or compacted."""
        self.lab.count += 1
        floor = self.lab.floor
        at = max(1, floor - self.rng.randrange(40))
        try:
            await self._range(pb.RangeRequest(key=b"k", range_end=PREFIX_END[b"k"], revision=at))
        except RpcError as error:
            if error.message == errors.FUTURE_REV[1] or (error.message == errors.COMPACTED[1] and self.lab.model.compacted <= at):
                raise Violation(f"INV-M6: a read at revision {at} is refused ({error.message}), compacted is {self.lab.model.compacted}") from error

    async def compact(self) -> None:
        floor = self.lab.floor
        at = max(1, floor - self.rng.randrange(25))
        self.lab.note(f"{self.name} compact {at}")
        try:
            await self.call("KV/Compact", pb.CompactionRequest(revision=at), pb.CompactionResponse)
        except RpcError as error:
            if error.message == errors.FUTURE_REV[1] or (error.message == errors.COMPACTED[1] and self.lab.model.compacted < at):
                raise Violation(f"INV-M6: a compaction at {at} is refused ({error.message}), compacted is {self.lab.model.compacted}") from error
            raise


class WatchClient(Client):
    """Keeps one watch, at another member whenever it breaks."""

    def __init__(self, lab: Lab, name: str, rng: random.Random) -> None:
        super().__init__(lab, name, rng)
        self.records: list[Record] = []
        self.next_revision = 0  # the first that it has not been told of
        self.finished = False

    async def run(self) -> None:
        """Until `finish`."""
        self.key = self.rng.choice((b"k", b"account", b"lease", b"\0"))
        self.range_end = PREFIX_END.get(self.key, b"\0")
        self.slowness_s = self.rng.choice((0.0, 0.0, 0.1))
        await self.pause(2.0)
        around = self.lab.floor + self.rng.randrange(-20, 10)
        self._begin(max(1, self.rng.choice((around, self.lab.model.compacted))))
        while not self.finished:
            try:
                await self._watch()
            except Refused:
                pass
            await self.failed()

    def _begin(self, at: int) -> None:
        self.records.append(Record(self.key, self.range_end, with_previous=True))
        self.next_revision = at

    async def _watch(self) -> None:
        lab, record = self.lab, self.records[-1]
        stream = self.stream("Watch/Watch", 0.0 if lab.quiet else self.slowness_s)
        segment = Segment(self.next_revision)
        record.segments.append(segment)
        lab.note(f"{self.name} watches {self.key!r} from {self.next_revision} at {self.machine.name}")
        create = pb.WatchCreateRequest(
            key=self.key, range_end=self.range_end, start_revision=self.next_revision, prev_kv=True, progress_notify=self.rng.random() < 0.5
        )
        stream.send(pb.WatchRequest(create_request=create))
        try:
            while not self.finished:
                if self.rng.random() < 0.1:
                    stream.send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
                answer = await stream.receive(pb.WatchResponse, 1.0 + self.rng.random() * 4.0)
                if answer is None or (not lab.quiet and self.rng.random() < 0.02):
                    return
                if answer.canceled:
                    self._cancelled(answer)
                    return
                if not answer.created:
                    self._take(segment, answer)
        finally:
            stream.close()

    def _cancelled(self, answer: pb.WatchResponse) -> None:
        at = answer.compact_revision
        self.lab.note(f"{self.name} cancelled, compacted {at}")
        if not self.next_revision < at <= self.lab.model.compacted:
            raise Violation(f"INV-W5: a watch from {self.next_revision} is cancelled, compacted at {at}; it is {self.lab.model.compacted}")
        self._begin(at)

    def _take(self, segment: Segment, answer: pb.WatchResponse) -> None:
        events = tuple(
            Event(
                each.kv.mod_revision,
                each.kv.key,
                each.kv.value if each.type == 0 else None,
                each.kv.create_revision,
                each.prev_kv.value if each.HasField("prev_kv") else None,
            )
            for each in answer.events
        )
        segment.responses.append(Response(events, answer.header.revision))
        self.lab.note(f"{self.name} is told {[(event.revision, event.key) for event in events]} at {answer.header.revision}")
        last = events[-1].revision if events else answer.header.revision
        self.next_revision = max(self.next_revision, last + 1)


class LeaseClient(Client):
    """Grants leases, hangs keys on them, renews them for a while, and revokes them or lets them go."""

    async def run(self) -> None:
        while not self.lab.quiet:
            try:
                await self._one()
            except (Refused, Unknown, RpcError):
                await self.failed()

    async def _one(self) -> None:
        lab, model = self.lab, self.lab.model
        asked = lab.scheduler.now
        granted = await self.call("Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=self.rng.randrange(1, 5)), pb.LeaseGrantResponse)
        lease_id = granted.ID
        model.renewed(lease_id, asked + granted.TTL)
        lab.note(f"{self.name} has lease {lease_id:x} for {granted.TTL} s")
        for number in range(self.rng.randrange(1, 4)):
            request = pb.PutRequest(key=b"lease%d" % self.rng.randrange(6), value=b"%x.%d" % (lease_id, number), lease=lease_id)
            try:
                model.check_put(request, await self.call("KV/Put", request, pb.PutResponse))
            except RpcError as error:
                if error.message == errors.LEASE_NOT_FOUND[1]:
                    self._gone(lease_id)
                    return
                raise
        for _ in range(self.rng.randrange(4)):
            if lab.quiet:
                return
            await asyncio.sleep(granted.TTL * self.rng.random())
            if not await self._keep_alive(lease_id):
                return
        if self.rng.random() < 0.5:
            model.given_up[lease_id] = None
            lab.note(f"{self.name} revokes {lease_id:x}")
            await self.call("Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=lease_id), pb.LeaseRevokeResponse)

    def _gone(self, lease_id: int) -> None:
        until = self.lab.model.safe_until[lease_id]
        if self.lab.scheduler.now < until:
            raise Violation(f"INV-L1: lease {lease_id:x} is said to be gone, it holds until {until:.3f}")

    async def _keep_alive(self, lease_id: int) -> bool:
        asked = self.lab.scheduler.now
        stream = self.stream("Lease/LeaseKeepAlive")
        try:
            stream.send(pb.LeaseKeepAliveRequest(ID=lease_id))
            answer = await stream.receive(pb.LeaseKeepAliveResponse, self.timeout_s)
        finally:
            stream.close()
        self.lab.note(f"{self.name} renews {lease_id:x}: {answer.TTL if answer else None}")
        if answer is None:
            await self.failed()
            return True
        if not answer.TTL:
            self._gone(lease_id)
            return False
        self.lab.model.renewed(lease_id, asked + answer.TTL)
        return True


class Witness(KvClient):
    """Sits on a machine and asks its member all the time; one on the other side of a cut writes there (INV-R11: no stale answer)."""

    def __init__(self, lab: Lab, machine: Machine, rng: random.Random, writes: bool) -> None:
        super().__init__(lab, machine.name, rng)
        self.machine = machine
        self._writes = writes

    def start(self, seconds: float) -> None:
        async def run() -> None:
            until = self.lab.scheduler.now + seconds
            while self.lab.scheduler.now < until and not self.lab.quiet:
                self.lab.client_loop.create_task(self._ask())
                await asyncio.sleep(WITNESS_S)

        self.later(lambda: self.lab.client_loop.create_task(run()))

    async def _ask(self) -> None:
        try:
            if self._writes:
                self.lab.count += 1
                await self.put()
            else:
                await self._range(pb.RangeRequest(key=b"account0"))
        except (Refused, Unknown, RpcError):
            pass


class Operator(Client):
    """Changes who is a member: adds voters and learners, promotes, removes."""

    async def run(self) -> None:
        await self.pause(3.0)
        while not self.lab.quiet:
            await self.pause(2.0)
            try:
                members = (await self.call("Cluster/MemberList", pb.MemberListRequest(linearizable=True), pb.MemberListResponse)).members
                learners = [member for member in members if member.isLearner]
                voters = [member for member in members if not member.isLearner]
                if learners and self.rng.random() < 0.6:
                    await self._change("Cluster/MemberPromote", pb.MemberPromoteRequest(ID=learners[0].ID), pb.MemberPromoteResponse)
                elif len(voters) > 2 and self.rng.random() < 0.5:
                    # Not from two to one: the one needs the other's vote until it knows that the change is committed (known, as in etcd).
                    gone = self.rng.choice([*voters, *learners])
                    await self._change("Cluster/MemberRemove", pb.MemberRemoveRequest(ID=gone.ID), pb.MemberRemoveResponse)
                elif len(members) < 6:
                    self.lab.count += 1
                    request = pb.MemberAddRequest(peerURLs=[peer_url(f"m{100 + self.lab.count}")], isLearner=self.rng.random() < 0.6)
                    await self._change("Cluster/MemberAdd", request, pb.MemberAddResponse)
            except (Refused, Unknown):
                await self.failed()
            except RpcError as error:
                self.lab.note(f"{self.name} {error.message}")
                await self.failed()

    async def _change(self, path: str, request: Any, kind: Any) -> None:
        self.lab.note(f"{self.name} {path} {str(request).split()}")
        await self.call(path, request, kind)


def make_clients(lab: Lab, rng: random.Random, reconfigure: bool) -> Sequence[Client]:
    kinds: list[type[Client]] = [KvClient] * rng.randrange(2, 5)
    kinds += [WatchClient] * rng.randrange(1, 4)
    kinds += [LeaseClient] * rng.randrange(2)
    kinds += [Operator] * 2 * reconfigure
    return [kind(lab, f"c{place}", random.Random(rng.random())) for place, kind in enumerate(kinds)]
