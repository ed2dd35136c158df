"""Pure: what an entry of the log does to the state: keys, leases, members, alarms.

Every member applies the same entries in the same order, so this must not depend on anything but the entry and the state.
Errors are answers too (the same on every member): they are returned, not raised. Answers are encoded only for the member whose
client waits.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kubette.etcd import auth as auth_rules
from kubette.etcd import v2_apply
from kubette.etcd.auth import AuthStore, Caller
from kubette.etcd.lessor import LeaseExistsError, LeaseNotFoundError, LeaseTtlTooLargeError, Lessor
from kubette.etcd.membership import Membership
from kubette.etcd.mvcc.store import Change, CompactedError, FutureRevisionError, Store, Transaction
from kubette.etcd.mvcc.watchers import WatcherHub
from kubette.etcd.ranges import encode_range
from kubette.etcd.v2_store import Event, V2Error, V2Store
from kubette.etcd.wire import bytes_field, int_field
from kubette.etcd_api import errors
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.errors import RpcError
from kubette.etcd_api.kv_pb2 import KeyValue
from kubette.etcd_api.membership_pb2 import ClusterMemberAttrSetRequest
from kubette.etcd_api.metadata_pb2 import Request as V2Request
from kubette.etcd_api.raft_internal_pb2 import InternalRaftRequest

NOSPACE, CORRUPT = pb.NOSPACE, pb.CORRUPT
_PUT_RECORD_OVERHEAD = 64  # what a page and an index cost beside the record itself
MIN_DB_BYTES = 20480  # an empty bbolt file


@dataclass(slots=True)
class State:
    """All that is replicated, and the position in the log it stands at."""

    store: Store
    hub: WatcherHub
    lessor: Lessor
    membership: Membership
    v2: V2Store = field(default_factory=V2Store)
    auth: AuthStore = field(default_factory=AuthStore)
    alarms: dict[tuple[int, int], None] = field(default_factory=dict)  # (alarm type, member)
    applied_index: int = 0
    applied_term: int = 0
    high_water: int = MIN_DB_BYTES

    @property
    def size_in_use(self) -> int:
        """What the database takes up."""
        return max(MIN_DB_BYTES, self.store.size + _PUT_RECORD_OVERHEAD * self.store.record_count)

    @property
    def size(self) -> int:
        """What the database has taken up since it was last defragmented: deleting frees room inside, not outside."""
        self.high_water = max(self.high_water, self.size_in_use)
        return self.high_water

    def has_alarm(self, alarm: int) -> bool:
        return any(kind == alarm for kind, _ in self.alarms)


class Applier:
    """Applies requests to the state. `header` gives the bytes of an answer's header at a revision, `wall` the time (for answers only)."""

    def __init__(self, state: State, header: Callable[[int], bytes], wall: Callable[[], float] = lambda: 0.0) -> None:
        self._state = state
        self._wall = wall
        self.counts = dict.fromkeys(("put", "delete", "range", "txn", "put_bytes", "compacted", "granted", "revoked"), 0)
        self._header = header
        self._handlers: dict[str, Callable[..., bytes]] = {
            "put": self._put,
            "txn": self._txn,
            "delete_range": self._delete_range,
            "range": self._range,
            "compaction": self._compaction,
            "lease_grant": self._lease_grant,
            "lease_revoke": self._lease_revoke,
            "alarm": self._alarm,
            "cluster_member_attr_set": self._member_attributes,
            "cluster_version_set": self._cluster_version,
            "v2": self._v2,
        }

    def apply(self, request: InternalRaftRequest, now: float) -> bytes | RpcError:
        """The answer's bytes, or the error that is the answer. `now` is monotonic seconds, for leases."""
        for descriptor, value in request.ListFields():
            name = descriptor.name
            handler = self._handlers.get(name)
            if handler is not None:
                try:
                    if self._state.auth.enabled:
                        auth_rules.check_request(self._state.auth, _caller(request), name, value, self.keys_of_lease)
                    return handler(value, now)
                except RpcError as error:
                    return error
                except CompactedError:
                    return errors.error(errors.COMPACTED)
                except FutureRevisionError:
                    return errors.error(errors.FUTURE_REV)
            if name.startswith("auth"):
                return self._auth(name, value, _caller(request), now)
        return errors.RpcError(errors.Code.UNIMPLEMENTED, "etcdserver: unknown request")

    # Users and roles

    def keys_of_lease(self, lease: int) -> list[bytes]:
        known = self._state.lessor.leases.get(lease)
        return list(known.keys) if known is not None else []

    def _auth(self, name: str, request: Any, caller: Caller | None, now: float) -> bytes | RpcError:
        state = self._state
        try:
            if name == "authenticate":
                body = state.auth.authenticate(request.name, request.simple_token, state.applied_index + 1, now)
            else:
                auth_rules.check_request(state.auth, caller, name, request, self.keys_of_lease)
                body = state.auth.apply(name, request)
        except RpcError as error:
            return error
        return bytes_field(1, self._header(state.store.current)) + body

    # Keys

    def _check_space(self, needs: bool) -> None:
        if needs and self._state.has_alarm(NOSPACE):
            raise errors.error(errors.NO_SPACE)
        if needs and self._state.has_alarm(CORRUPT):
            raise errors.error(errors.CORRUPT)

    def _end(self, transaction: Transaction) -> bytes:
        changes = transaction.end()
        if changes:
            self._state.hub.notify(changes)
        return bytes_field(1, self._header(self._state.store.current))

    def _put(self, request: pb.PutRequest, now: float) -> bytes:
        self._check_space(needs=True)
        self._check_put(request, ())
        transaction = self._state.store.begin()
        body = self._put_in(transaction, request)
        return self._end(transaction) + body

    def _check_put(self, request: pb.PutRequest, put_before: Iterable[bytes]) -> None:
        """Raises what makes a put impossible; a transaction checks all its puts before it changes anything."""
        if request.lease and request.lease not in self._state.lessor.leases:
            raise errors.error(errors.LEASE_NOT_FOUND)
        if (request.ignore_value or request.ignore_lease) and request.key not in put_before and self._state.store.live_record(request.key) is None:
            raise errors.error(errors.KEY_NOT_FOUND)

    def _put_in(self, transaction: Transaction, request: pb.PutRequest) -> bytes:
        key, value, lease = request.key, request.value, request.lease
        if request.ignore_value or request.ignore_lease:
            record = self._state.store.live_record(key)
            before = KeyValue.FromString(record) if record is not None else KeyValue()
            value = before.value if request.ignore_value else value
            lease = before.lease if request.ignore_lease else lease
        change = transaction.put(key, value, lease)
        self.counts["put"] += 1
        self.counts["put_bytes"] += len(key) + len(value)
        lessor = self._state.lessor
        if lease or lessor.leases:
            lessor.attach(key, lease)
        return bytes_field(2, change.previous) if request.prev_kv and change.previous is not None else b""

    def _delete_range(self, request: pb.DeleteRangeRequest, now: float) -> bytes:
        transaction = self._state.store.begin()
        body = self._delete_in(transaction, request)
        return self._end(transaction) + body

    def _delete_in(self, transaction: Transaction, request: pb.DeleteRangeRequest) -> bytes:
        changes = transaction.delete_range(request.key, request.range_end)
        self._detach(changes)
        self.counts["delete"] += len(changes)
        parts = [int_field(2, len(changes))]
        if request.prev_kv:
            parts += [bytes_field(3, change.previous) for change in changes if change.previous is not None]
        return b"".join(parts)

    def _detach(self, changes: Iterable[Change]) -> None:
        lessor = self._state.lessor
        if lessor.leases:
            for change in changes:
                lessor.attach(change.key, 0)

    def _range(self, request: pb.RangeRequest, now: float) -> bytes:
        store = self._state.store
        self.counts["range"] += 1
        return bytes_field(1, self._header(store.current)) + encode_range(store.range, request)

    def read(self, request: pb.RangeRequest) -> bytes:
        """A range outside the log. Raises RpcError."""
        try:
            return self._range(request, 0.0)
        except CompactedError:
            raise errors.error(errors.COMPACTED) from None
        except FutureRevisionError:
            raise errors.error(errors.FUTURE_REV) from None

    def read_txn(self, request: pb.TxnRequest) -> bytes:
        """A transaction that only reads, outside the log. Raises RpcError."""
        answer = self._catching(lambda: self._txn(request, 0.0))
        if isinstance(answer, RpcError):
            raise answer
        return answer

    def _catching(self, work: Callable[[], bytes]) -> bytes | RpcError:
        try:
            return work()
        except CompactedError:
            return errors.error(errors.COMPACTED)
        except FutureRevisionError:
            return errors.error(errors.FUTURE_REV)
        except RpcError as error:
            return error

    def _txn(self, request: pb.TxnRequest, now: float) -> bytes:
        # All comparisons first, then all checks, then all changes: a transaction happens whole or not at all.
        plan: list[bool] = []
        self._plan(request, plan)
        operations = list(self._flatten(request, iter(plan)))
        self._check_space(any(each.WhichOneof("request") == "request_put" for each in operations))
        put_before: dict[bytes, None] = {}
        # Of several mistakes the answer tells a put's first, as upstream's does.
        for operation in operations:
            if operation.WhichOneof("request") == "request_put":
                self._check_put(operation.request_put, put_before)
                put_before[operation.request_put.key] = None
        for operation in operations:
            if operation.WhichOneof("request") == "request_range":
                self._state.store.check_revision(operation.request_range.revision)
        self.counts["txn"] += 1
        transaction = self._state.store.begin()
        body = self._txn_in(transaction, request, iter(plan))
        return self._end(transaction) + body

    def _plan(self, request: pb.TxnRequest, plan: list[bool]) -> None:
        """Which branch each transaction takes, depth first, all against the state before."""
        succeeded = all(self._compare(compare) for compare in request.compare)
        plan.append(succeeded)
        for operation in request.success if succeeded else request.failure:
            if operation.WhichOneof("request") == "request_txn":
                self._plan(operation.request_txn, plan)

    def _flatten(self, request: pb.TxnRequest, plan: Iterable[bool]) -> Iterable[pb.RequestOp]:
        branches = iter(plan)
        for operation in request.success if next(branches) else request.failure:
            if operation.WhichOneof("request") == "request_txn":
                yield from self._flatten(operation.request_txn, branches)
            else:
                yield operation

    def _txn_in(self, transaction: Transaction, request: pb.TxnRequest, plan: Iterable[bool]) -> bytes:
        branches = iter(plan)
        succeeded = next(branches)
        parts = [int_field(2, succeeded)]
        for operation in request.success if succeeded else request.failure:
            kind = operation.WhichOneof("request")
            if kind == "request_put":
                number, body = 2, self._put_in(transaction, operation.request_put)
            elif kind == "request_range":
                self.counts["range"] += 1
                number, body = 1, encode_range(transaction.range, operation.request_range)
            elif kind == "request_delete_range":
                number, body = 3, self._delete_in(transaction, operation.request_delete_range)
            elif kind == "request_txn":
                number, body = 4, self._txn_in(transaction, operation.request_txn, branches)
            else:
                continue
            # Inner answers carry the revision alone, and inner transactions not even that, as upstream's do.
            header = bytes_field(1, b"" if kind == "request_txn" else int_field(3, transaction.revision))
            parts.append(bytes_field(3, bytes_field(number, header + body)))
        return b"".join(parts)

    def _compare(self, compare: pb.Compare) -> bool:
        """Whether a comparison holds; over a range, for every key of it (an empty range compares like a missing key)."""
        store = self._state.store
        if compare.range_end:
            records: list[bytes] = store.range(compare.key, compare.range_end).records
            if not records:
                # Nothing has a value; everything else of a missing key is zero.
                return compare.target != pb.Compare.VALUE and self._compare_one(compare, KeyValue())
            return all(self._compare_one(compare, KeyValue.FromString(record)) for record in records)
        record = store.live_record(compare.key)
        if record is None:
            return compare.target != pb.Compare.VALUE and self._compare_one(compare, KeyValue())
        return self._compare_one(compare, KeyValue.FromString(record))

    def _compare_one(self, compare: pb.Compare, pair: KeyValue) -> bool:
        target = compare.target
        ours: int | bytes
        theirs: int | bytes
        if target == pb.Compare.VALUE:
            ours, theirs = pair.value, compare.value
        elif target == pb.Compare.CREATE:
            ours, theirs = pair.create_revision, compare.create_revision
        elif target == pb.Compare.MOD:
            ours, theirs = pair.mod_revision, compare.mod_revision
        elif target == pb.Compare.VERSION:
            ours, theirs = pair.version, compare.version
        else:
            ours, theirs = pair.lease, compare.lease
        result = compare.result
        if result == pb.Compare.EQUAL:
            return ours == theirs
        if result == pb.Compare.NOT_EQUAL:
            return ours != theirs
        if result == pb.Compare.GREATER:
            return ours > theirs  # type: ignore[operator]
        return ours < theirs  # type: ignore[operator]

    def _compaction(self, request: pb.CompactionRequest, now: float) -> bytes:
        store = self._state.store
        self._state.size  # noqa: B018  # remember the high-water mark before records go
        self.counts["compacted"] += store.compact(request.revision)
        return bytes_field(1, self._header(store.current))

    # Leases

    def _lease_grant(self, request: pb.LeaseGrantRequest, now: float) -> bytes:
        self._check_space(needs=True)
        try:
            lease = self._state.lessor.grant(request.ID, request.TTL, now)
        except LeaseExistsError:
            raise errors.error(errors.LEASE_EXIST) from None
        except LeaseTtlTooLargeError:
            raise errors.error(errors.LEASE_TTL_TOO_LARGE) from None
        except LeaseNotFoundError:
            raise errors.error(errors.LEASE_NOT_FOUND) from None
        self.counts["granted"] += 1
        return bytes_field(1, self._header(self._state.store.current)) + int_field(2, lease.id) + int_field(3, lease.ttl)

    def _lease_revoke(self, request: pb.LeaseRevokeRequest, now: float) -> bytes:
        try:
            keys = self._state.lessor.revoke(request.ID)
        except LeaseNotFoundError:
            raise errors.error(errors.LEASE_NOT_FOUND) from None
        self.counts["revoked"] += 1
        transaction = self._state.store.begin()
        for key in keys:
            transaction.delete_range(key)
        return self._end(transaction)

    # Members and alarms

    def _alarm(self, request: pb.AlarmRequest, now: float) -> bytes:
        alarms = self._state.alarms
        listed: list[tuple[int, int]] = []
        if request.action == pb.AlarmRequest.GET:
            listed = [each for each in alarms if request.alarm in (pb.NONE, each[0])]
        elif request.action == pb.AlarmRequest.ACTIVATE:
            alarms[(request.alarm, request.memberID)] = None
            listed = [(request.alarm, request.memberID)]
        else:
            listed = [each for each in alarms if request.alarm in (pb.NONE, each[0]) and request.memberID in (0, each[1])]
            for each in listed:
                del alarms[each]
        answer = [bytes_field(1, self._header(self._state.store.current))]
        answer += [bytes_field(2, int_field(1, member) + int_field(2, kind)) for kind, member in listed]
        return b"".join(answer)

    def _member_attributes(self, request: ClusterMemberAttrSetRequest, now: float) -> bytes:
        attributes = request.member_attributes
        self._set_attributes(request.member_ID, attributes.name, attributes.client_urls)
        return b""

    def _set_attributes(self, member: int, name: str, client_urls: Iterable[str]) -> None:
        members = self._state.membership
        members.set_attributes(member, name, client_urls)
        if member in members.members:
            v2_apply.record_attributes(self._state.v2, members.members[member])

    def _cluster_version(self, request: object, now: float) -> bytes:
        self._set_version(getattr(request, "ver", ""))
        return b""

    def _set_version(self, version: str) -> None:
        self._state.membership.version = version
        v2_apply.record_version(self._state.v2, version)

    # The v2 store

    def _v2(self, request: V2Request, now: float) -> bytes:
        """A request of the v2 API, or what etcd up to 3.5 says by it: a member's attributes, the cluster's version."""
        member = v2_apply.member_path(request)
        if member:
            attributes = json.loads(request.Val)
            self._set_attributes(member, attributes.get("name", ""), attributes.get("clientURLs") or ())
            return b""
        if v2_apply.sets_version(request):
            self._set_version(request.Val)
            return b""
        self._state.v2.now = int(self._wall() * 1e9)
        event = v2_apply.apply(self._state.v2, request)
        return b"" if event is None else encode_event(event)

    def read_v2(self, path: str, recursive: bool, ordered: bool) -> bytes:
        """A read of this member's v2 store, outside the log. Raises V2Error."""
        self._state.v2.now = int(self._wall() * 1e9)
        return encode_event(self._state.v2.get(path, recursive, ordered))

    def replay_v2(self, request: InternalRaftRequest) -> None:
        """An entry that the rest of the state has seen already: the v2 store, which is saved less often, has not."""
        try:
            if request.HasField("v2"):
                v2_apply.apply(self._state.v2, request.v2)
        except V2Error:
            pass  # an answer, of which nobody waits for any more


def _caller(request: InternalRaftRequest) -> Caller | None:
    header = request.header
    return Caller(header.username, header.auth_revision) if header.auth_revision else None


def encode_event(event: Event) -> bytes:
    """What whoever waits for a v2 request gets."""
    return json.dumps({"index": event.index, "created": event.created, "event": event.document}).encode()
