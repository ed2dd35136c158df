"""The server between the API and Raft: propose and wait, read index, limits, leases of the leader, snapshots.

Counterpart of etcd's EtcdServer. It owns the state; the Raft loop calls it to apply.
"""

import asyncio
import errno
import heapq
import json
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import Message

from kubette.component_base import logs
from kubette.etcd import membership, passwords, raft_codec, snapshotter, v2_apply
from kubette.etcd.apply import Applier, State
from kubette.etcd.auth import READ, ROOT, Caller
from kubette.etcd.disk import SYSTEM_DISK, Disk
from kubette.etcd.jwt_tokens import JwtTokens
from kubette.etcd.lessor import Lessor
from kubette.etcd.measures import Measures
from kubette.etcd.mvcc.store import Store
from kubette.etcd.mvcc.watchers import WatcherHub
from kubette.etcd.raft_loop import RaftLoop
from kubette.etcd.wire import bytes_field, int_field, varint
from kubette.etcd_api import errors
from kubette.etcd_api.errors import RpcError
from kubette.etcd_api.metadata_pb2 import Request as V2Request
from kubette.etcd_api.raft_internal_pb2 import InternalRaftRequest
from kubette.raft.confchange import ConfChangeError
from kubette.raft.messages import NO_NODE, ConfChange, Entry, EntryType, ProposalDropped, ReadState, Snapshot
from kubette.raft.node import Node
from kubette.stdx.clock import Clock

log = logs.logger(__name__)

MAX_GAP = 5000  # entries waiting to be applied, beyond which requests are refused (upstream's maxGapBetweenApplyAndCommitIndex)
MAX_QUEUED_BYTES = 64 << 20  # of requests that wait to be proposed: there is no leader, or the disk is slow
READ_RETRY_S = 0.5
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)  # the log goes on in its segment, and the next snapshot may find room
LEASE_REVOKE_BATCH = 500  # upstream revokes at most 1000 leases a second
REQUEST_OVERHEAD_BYTES = 512 * 1024  # gRPC's allowance beyond --max-request-bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """What a member accepts."""

    max_request_bytes: int = 1536 * 1024
    max_txn_ops: int = 128
    quota_bytes: int = 2 << 30
    snapshot_count: int = 10000
    catch_up_entries: int = 5000  # kept behind a snapshot for slow members
    max_snapshots: int = 5
    token_ttl_s: float = 300.0  # of a token that is not used
    request_timeout_s: float = 7.0  # 5 s for the disk, and two election timeouts
    slow_apply_s: float = 0.1  # entries that take longer to apply are told of


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a call came with."""

    token: str = ""
    common_name: str = ""  # of the client's certificate, where those are asked for


class Server:
    """One member. `start` after the Raft loop is attached."""

    def __init__(
        self,
        member_id: int,
        cluster_id: int,
        state: State,
        snap_directory: Path,
        limits: Limits,
        clock: Clock,
        election_s: float,
        disk: Disk = SYSTEM_DISK,
        rng: random.Random | None = None,
    ) -> None:
        self.member_id = member_id
        self.cluster_id = cluster_id
        self.state = state
        self.limits = limits
        self.clock = clock
        self._election_s = election_s
        self._snap_directory = snap_directory
        self._disk = disk
        self._header_prefix = int_field(1, cluster_id) + int_field(2, member_id)
        self.jwt: JwtTokens | None = None
        self._credentials: ContextVar[Credentials | None] = ContextVar("credentials", default=None)
        self._prepare_auth()
        self.applier = Applier(state, self.header, clock.wall)
        self.raft: RaftLoop
        self.node: Node
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._deadlines: deque[tuple[float, int]] = deque()
        self._proposed: deque[tuple[int, Sequence[int]]] = deque()  # (term of the leader they went to, request ids)
        self._request_id = (member_id & 0xFFFF) << 48 | (rng or random.SystemRandom()).getrandbits(40) << 8
        self._read_queue: list[asyncio.Future[None]] = []
        self._read_flight: tuple[bytes, float, list[asyncio.Future[None]]] | None = None
        self._read_blocked_since = 0.0  # when the oldest read that is still waiting began; 0 when none is
        self._read_applied: list[tuple[int, int, list[asyncio.Future[None]]]] = []  # a heap, by index
        self._snapshot_running: asyncio.Future[None] | None = None
        self._snapshot_index = state.applied_index
        self.lead = NO_NODE
        self.is_leader = False
        self._term_led = 0  # the last one that this member knew itself to lead in
        self.leader_changes = 0
        self.proposals_failed = 0
        self.reads_failed = 0
        self.leases_expired = 0
        self.leases_renewed = 0
        self.slow_applies = 0
        self.installing = False  # a snapshot of the leader's
        self.measures = Measures(clock.monotonic)
        self.on_members_changed: list[Callable[[], None]] = []
        self.removed = asyncio.Event()  # this member is no longer one
        self.sync_watchers = asyncio.Event()
        self.lease_wake = asyncio.Event()
        self.ready = asyncio.Event()  # there is a leader, and this member has caught up to where it found the log

    def _prepare_auth(self) -> None:
        self.state.auth.hash_password = passwords.hash_password
        self.state.auth.token_ttl_s = self.limits.token_ttl_s

    def attach(self, raft: RaftLoop) -> None:
        self.raft = raft
        self.node = raft.node

    # Facts

    @property
    def term(self) -> int:
        return self.node.raft.term

    @property
    def applied_index(self) -> int:
        return self.state.applied_index

    @property
    def pending(self) -> int:
        """Requests that wait for their answer from the log."""
        return len(self._waiting)

    @property
    def is_learner(self) -> bool:
        return self.node.raft.is_learner

    def header(self, revision: int) -> bytes:
        """The bytes of an answer's ResponseHeader."""
        return self._header_prefix + int_field(3, revision) + int_field(4, self.node.raft.term)

    def header_now(self) -> bytes:
        return self.header(self.state.store.current)

    # Who asks

    def identify(self, credentials: Credentials) -> None:
        """What the task of this call, and the tasks it starts, come with."""
        self._credentials.set(credentials)

    def caller(self) -> Caller | None:
        """Who makes the call under way; None when nobody said. Raises RpcError for a token that is not valid (any more)."""
        credentials, auth = self._credentials.get(), self.state.auth
        if credentials is None or not auth.enabled:
            return None
        if credentials.token and self.jwt is not None:
            return self.jwt.caller_of(credentials.token)
        if credentials.token:
            return auth.caller_of(credentials.token, self.clock.monotonic())
        return Caller(credentials.common_name, auth.revision) if credentials.common_name else None

    def check_readable(self, key: bytes, range_end: bytes = b"") -> None:
        """Raises RpcError unless the call under way may read the range."""
        if self.state.auth.enabled:
            self.state.auth.check(self.caller(), key, range_end, READ)

    def check_admin(self) -> None:
        """Raises RpcError unless the call under way is made with root's role."""
        if self.state.auth.enabled:
            self.state.auth.check_admin(self.caller())

    # Proposing

    def propose(self, number: int, body: bytes, as_root: bool = False, as_leader_of: int = 0) -> "asyncio.Future[bytes]":
        """Put a request (field `number` of InternalRaftRequest, encoded) into the log; the future is its answer, applied. Raises RpcError.

        With `as_leader_of` a term it is void once this member leads no more in that term.
        """
        if len(body) > self.limits.max_request_bytes:
            raise errors.error(errors.REQUEST_TOO_LARGE)
        raft_log = self.node.raft.log
        if raft_log.committed > self.state.applied_index + MAX_GAP or self.raft.queued > MAX_GAP or self.raft.queued_bytes > MAX_QUEUED_BYTES:
            raise errors.error(errors.TOO_MANY_REQUESTS)
        request_id = self._next_id()
        header = int_field(1, request_id)
        if self.state.auth.enabled:
            caller = Caller(ROOT, self.state.auth.revision) if as_root else self.caller()
            if caller is not None:
                header += bytes_field(2, caller.name.encode()) + int_field(3, caller.revision)
        data = bytes_field(number, body) + _HEADER_TAG + varint(len(header)) + header
        return self._enqueue(request_id, data, as_leader_of)

    def propose_message(self, number: int, kind: type[Message], body: bytes) -> "asyncio.Future[bytes]":
        """The same for a request that came encoded and goes on so: what cannot be read must not get into the log. Raises DecodeError as well."""
        kind.FromString(body)
        return self.propose(number, body)

    def _next_id(self) -> int:
        self._request_id += 1
        return self._request_id

    def _enqueue(self, request_id: int, data: bytes, as_leader_of: int = 0) -> "asyncio.Future[bytes]":
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        self._deadlines.append((self.clock.monotonic() + self.limits.request_timeout_s, request_id))
        self.raft.propose(request_id, data, as_leader_of)
        return future

    def is_waiting(self, request_id: int) -> bool:
        return request_id in self._waiting

    def proposed(self, request_ids: Sequence[int], term: int) -> None:
        self._proposed.append((term, request_ids))
        while self._proposed and not any(each in self._waiting for each in self._proposed[0][1]):
            self._proposed.popleft()

    def _fail_lost(self, term: int) -> None:
        """The first entry of `term` is applied: what went to an earlier leader and is not applied by now is lost with it.

        Or nearly so (a deposed leader may pass it on): the error is not definite. Upstream lets the client wait for its timeout.
        """
        while self._proposed and self._proposed[0][0] < term:
            for request_id in self._proposed.popleft()[1]:
                future = self._waiting.pop(request_id, None)
                if future is not None and not future.done():
                    self.proposals_failed += 1
                    future.set_exception(errors.error(errors.LEADER_CHANGED))

    async def propose_conf_change(self, change: ConfChange, data: bytes, change_id: int) -> None:
        """Propose a configuration change and wait until it is in force. Raises RpcError."""
        if not self.lead:
            raise errors.error(errors.NO_LEADER)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[change_id] = future
        self._deadlines.append((self.clock.monotonic() + self.limits.request_timeout_s, change_id))
        try:
            self.node.propose_conf_change(data, EntryType.CONF_CHANGE)
        except ProposalDropped:
            self._waiting.pop(change_id, None)
            raise errors.error(errors.NO_LEADER) from None
        self.raft.nudge()
        await future

    def new_change_id(self) -> int:
        return self._next_id()

    def expire_requests(self) -> None:
        """Answer those whose time is over; called every tick or so."""
        now = self.clock.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, request_id = self._deadlines.popleft()
            future = self._waiting.pop(request_id, None)
            if future is not None and not future.done():
                self.proposals_failed += 1
                future.set_exception(errors.error(errors.TIMEOUT if self.lead else errors.TIMEOUT_LEADER_FAIL))

    # Reading

    def linearizable(self) -> "asyncio.Future[None]":
        """Done when a read from the state sees everything acknowledged before this call."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._read_queue.append(future)
        self._read_blocked_since = self._read_blocked_since or self.clock.monotonic()
        if self._read_flight is None:
            # One round of heartbeats serves all reads that came before it began.
            asyncio.get_running_loop().call_soon(self._begin_reads)
            self._read_flight = (b"", self.clock.monotonic(), [])
        return future

    def _begin_reads(self) -> None:
        futures = [future for future in self._read_queue if not future.done()]
        self._read_queue = []
        self._ask(futures)

    def _ask(self, futures: list["asyncio.Future[None]"]) -> None:
        if not futures and not self._read_queue:
            self._read_flight = None
            return
        context = self._next_id().to_bytes(8, "big")
        self._read_flight = (context, self.clock.monotonic(), futures)
        self.raft.read_index(context)

    def retry_reads(self) -> None:
        """A request for a read index may get lost; called every tick or so. A read that waits too long fails."""
        if self._read_flight is None:
            return
        context, asked, futures = self._read_flight
        now = self.clock.monotonic()
        if now - self._read_blocked_since > self.limits.request_timeout_s:
            failure = errors.TIMEOUT if self.lead else errors.NO_LEADER
            self.reads_failed += 1
            for future in (*futures, *self._read_queue):
                if not future.done():
                    future.set_exception(errors.error(failure))
            self._read_flight, self._read_queue, self._read_blocked_since = None, [], 0.0
            return
        if context and now - asked > READ_RETRY_S:
            self.measures.counts["slow_read_indexes"] += 1
            self._read_queue = futures + self._read_queue
            self._begin_reads()

    def read_states(self, states: Sequence[ReadState]) -> None:
        for state in states:
            flight = self._read_flight
            if flight is None or flight[0] != state.context:
                continue
            self._read_blocked_since = self.clock.monotonic() if self._read_queue else 0.0
            if self.state.applied_index >= state.index:
                _resolve(flight[2])
            else:
                heapq.heappush(self._read_applied, (state.index, self._next_id(), flight[2]))
            if self._read_queue:
                asyncio.get_running_loop().call_soon(self._begin_reads)
                self._read_flight = (b"", self.clock.monotonic(), [])
            else:
                self._read_flight = None

    # Applying (called by the Raft loop)

    def apply(self, entries: Sequence[Entry]) -> None:
        state = self.state
        now = self.clock.monotonic()
        for entry in entries:
            if entry.type is not EntryType.NORMAL:
                self._apply_conf_change(entry)
            elif entry.data and entry.index > state.applied_index:
                self._apply_normal(entry.data, now)
            elif entry.data:
                self.applier.replay_v2(request_of(entry.data))
            else:
                self._fail_lost(entry.term)
            if entry.index > state.applied_index:
                state.applied_index, state.applied_term = entry.index, entry.term
        while self._read_applied and self._read_applied[0][0] <= state.applied_index:
            _resolve(heapq.heappop(self._read_applied)[2])
        if state.hub.has_unsynced():
            self.sync_watchers.set()
        self._check_ready()
        took = self.clock.monotonic() - now
        if took > self.limits.slow_apply_s:
            self.slow_applies += 1
            log.warning(
                "apply request took too long", took=f"{took * 1000:.3f}ms", expected_duration=f"{self.limits.slow_apply_s:g}s", requests=len(entries)
            )
        if state.applied_index - self._snapshot_index >= self.limits.snapshot_count:
            self._start_snapshot()

    def _check_ready(self) -> None:
        if not self.ready.is_set() and self.lead and self.state.applied_index >= self.node.raft.log.committed:
            self.ready.set()

    def _apply_normal(self, data: bytes, now: float) -> None:
        request = request_of(data)
        if request.HasField("compaction"):
            began = self.clock.monotonic()
            result = self.applier.apply(request, now)
            self.measures.compacted(self.clock.monotonic() - began)
        else:
            result = self.applier.apply(request, now)
        future = self._waiting.pop(request.header.ID, None)
        if future is not None and not future.done():
            if isinstance(result, RpcError):
                future.set_exception(result)
            else:
                future.set_result(result)
        if request.HasField("lease_grant"):
            self.lease_wake.set()
            self.measures.observe("lease_ttl", request.lease_grant.TTL)

    def _apply_conf_change(self, entry: Entry) -> None:
        change, context, change_id = raft_codec.conf_change_of(entry)
        result: RpcError | None = None
        members = self.state.membership
        fresh = entry.index > self.state.applied_index
        try:
            if fresh:
                members.check_change(change, context)
            self.node.apply_conf_change(change)
        except membership.MembershipError as error:
            result = errors.error(getattr(errors, error.kind))
        except ConfChangeError as error:
            result = RpcError(errors.Code.FAILED_PRECONDITION, f"etcdserver: {error}")
        else:
            if fresh:
                members.apply_change(change, context)
            v2_apply.record_change(self.state.v2, change, members.members.get)
            self._members_changed()
        future = self._waiting.pop(change_id, None)
        if future is not None and not future.done():
            if result is not None:
                future.set_exception(result)
            else:
                future.set_result(b"")

    def _members_changed(self) -> None:
        for callback in self.on_members_changed:
            callback()
        if self.member_id in self.state.membership.removed:
            self.removed.set()

    def leader_changed(self, lead: int, is_leader: bool) -> None:
        if lead != self.lead and lead:
            self.leader_changes += 1
        if is_leader and not self.is_leader:
            self._term_led = self.node.raft.term
            self.state.lessor.promote(self.clock.monotonic(), self._election_s)
        elif self.is_leader and not is_leader:
            self.state.lessor.demote()
        self.lead, self.is_leader = lead, is_leader
        self._check_ready()
        self.lease_wake.set()

    # Leases of the leader

    async def revoke_expired(self) -> None:
        """Propose the end of leases whose time is over, as long as this member leads."""
        while True:
            self.lease_wake.clear()
            now = self.clock.monotonic()
            if self.is_leader:
                for lease_id in self.state.lessor.expired(now, LEASE_REVOKE_BATCH):
                    try:
                        # Never by way of another leader, which has extended the lease (INV-L1).
                        future = self.propose(9, int_field(1, lease_id), as_root=True, as_leader_of=self._term_led)
                    except RpcError:
                        break
                    self.leases_expired += 1
                    future.add_done_callback(_forget)
            pause = min(max(self.state.lessor.next_expiry() - now, 0.05), 3600.0) if self.is_leader else 3600.0
            try:
                async with asyncio.timeout(pause):
                    await self.lease_wake.wait()
            except TimeoutError:
                pass

    def expire_v2(self) -> None:
        """As leader, let the nodes of the v2 store expire whose time is over; called every tick or so."""
        due = self.state.v2.next_expiration
        now = int(self.clock.wall() * 1e9)
        if self.is_leader and due and due <= now:
            try:
                self.propose(2, V2Request(Method="SYNC", Time=now).SerializeToString()).add_done_callback(_forget)
            except RpcError as error:
                log.v(1, "Could not expire keys of the v2 store yet", err=error)

    # Watchers that lag

    async def feed_watchers(self) -> None:
        """Give unsynced watchers what they missed, in turns with everything else."""
        while True:
            await self.sync_watchers.wait()
            self.sync_watchers.clear()
            if self.state.hub.has_unsynced() and self.state.hub.sync():
                # More may be left: after everything else that is waiting has had its turn.
                self.sync_watchers.set()
                await asyncio.sleep(0)

    # Snapshots

    def _start_snapshot(self) -> None:
        if self._snapshot_running is not None and not self._snapshot_running.done():
            return
        self._snapshot_index = self.state.applied_index
        image = snapshotter.capture(self.state, self.node.raft.tracker.config.conf_state())
        began = self.clock.monotonic()
        running = asyncio.get_running_loop().run_in_executor(None, snapshotter.save, self._snap_directory, image, self._disk)
        running.add_done_callback(lambda done: self._snapshot_done(image.snapshot, began, done))
        self._snapshot_running = running

    def _snapshot_done(self, snapshot: Snapshot, began: float, done: "asyncio.Future[None]") -> None:
        error = done.exception()
        if error is not None:
            log.error("Failed to save a snapshot", err=error, index=snapshot.index)
            if not (isinstance(error, OSError) and error.errno in FULL_DISK):
                # What the disk has lost, a second attempt would not find.
                self.raft.fail(error)
            return
        for short in ("commit", "commit_write", "snap_save", "snap_marshal"):  # the database is written with each snapshot, and only then
            self.measures.observe(short, self.clock.monotonic() - began)
        log.info("Saved snapshot", index=snapshot.index, term=snapshot.term)
        compact_to = max(snapshot.index - self.limits.catch_up_entries, 0)
        self.raft.snapshot_saved(snapshot, compact_to, lambda: snapshotter.purge(self._snap_directory, self.limits.max_snapshots, self._disk))

    def capture(self) -> snapshotter.Image:
        """The state now, for a member that needs it or a backup."""
        return snapshotter.capture(self.state, self.node.raft.tracker.config.conf_state())

    def received_path(self, index: int) -> Path:
        """Where the transport puts the database of a snapshot on its way."""
        return self._snap_directory / f"{index:016x}.snap.db"

    async def install_snapshot(self, snapshot: Snapshot) -> None:
        received = self.received_path(snapshot.index)
        if self._snapshot_running is not None:
            # One writer of the database at a time, or the older could replace the newer.
            await asyncio.wait([self._snapshot_running])
        self.installing = True
        try:
            fresh = await asyncio.get_running_loop().run_in_executor(None, self._load_received, received, snapshot)
        finally:
            self.installing = False
        state = self.state
        primary = state.lessor.primary
        state.store, state.lessor.leases, state.membership.members = fresh.store, fresh.lessor.leases, fresh.membership.members
        state.lessor._lease_of, state.lessor._expiries = fresh.lessor._lease_of, []
        state.lessor.primary = primary
        state.membership.removed, state.membership.version = fresh.membership.removed, fresh.membership.version
        state.alarms, state.applied_index, state.applied_term = fresh.alarms, snapshot.index, snapshot.term
        state.auth = fresh.auth
        self._prepare_auth()
        snapshotter.load_v2(state, snapshot.data)
        state.hub.replace_store(state.store)
        self.sync_watchers.set()
        self._snapshot_index = snapshot.index
        self._members_changed()
        self._check_ready()
        log.info("Installed snapshot", index=snapshot.index, term=snapshot.term)

    def _load_received(self, received: Path, snapshot: Snapshot) -> State:
        fresh = empty_state(self.state.lessor.min_ttl)
        snapshotter.load_database(received, fresh, self._disk)
        assert fresh.applied_index == snapshot.index, f"database at {fresh.applied_index}, snapshot at {snapshot.index}"
        self._disk.rename(received, self._snap_directory / "db")
        snapshotter.save_snap(self._snap_directory, snapshot, self._disk)
        return fresh

    # Members

    async def publish(self, name: str, client_urls: Sequence[str]) -> None:
        """Tell the cluster this member's name and client URLs, until it is heard (in the form that etcd 3.4 understands too)."""
        value = json.dumps({"name": name, "clientURLs": list(client_urls)}, separators=(",", ":"))
        request = V2Request(Method="PUT", Path=f"/0/members/{self.member_id:x}/attributes", Val=value)
        while True:
            known = self.state.membership.members.get(self.member_id)
            if known is not None and known.name == name and known.client_urls == tuple(client_urls):
                return
            try:
                await self.propose(2, request.SerializeToString())
            except RpcError as error:
                log.v(1, "Could not publish the member's attributes yet", err=error)
                await asyncio.sleep(self._election_s)

    async def set_cluster_version(self, version: str) -> None:
        """The leader of a cluster that has no version yet sets it."""
        while not self.state.membership.version:
            if self.is_leader:
                try:
                    await self.propose(2, V2Request(Method="PUT", Path="/0/version", Val=version).SerializeToString())
                    continue
                except RpcError as error:
                    log.v(1, "Could not set the cluster's version yet", err=error)
            await asyncio.sleep(self._election_s)


def request_of(data: bytes) -> InternalRaftRequest:
    """What a normal entry asks for."""
    try:
        return InternalRaftRequest.FromString(data)
    except Exception:
        # etcd up to 3.4 writes some v2 requests without the envelope.
        return InternalRaftRequest(v2=V2Request.FromString(data))


def empty_state(min_ttl: int) -> State:
    """The state before the first entry."""
    store = Store()
    return State(store, WatcherHub(store), Lessor(min_ttl), membership.Membership())


def _resolve(futures: Sequence["asyncio.Future[None]"]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _forget(future: "asyncio.Future[bytes]") -> None:
    if not future.cancelled():
        future.exception()  # the lease is named again if this failed


_HEADER_TAG = varint(100 << 3 | 2)
