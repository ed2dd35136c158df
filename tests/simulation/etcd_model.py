"""What etcd's state must be, from the committed entries alone: a second, naive implementation that keeps every revision.

It takes each entry when the first member applies it; members and answers are then compared with it (RELIABILITY 2.2: INV-M, INV-L).
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.watch_checks import Event
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.kv_pb2 import KeyValue
from kubette.etcd_api.raft_internal_pb2 import InternalRaftRequest
from kubette.raft.messages import Entry, EntryType
from simulation.invariants import Violation

NOSPACE = pb.NOSPACE


class Pair(NamedTuple):
    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int

    @classmethod
    def of(cls, message: KeyValue) -> "Pair":
        return cls(message.key, message.value, message.create_revision, message.mod_revision, message.version, message.lease)


@dataclass(slots=True)
class Lease:
    ttl: int
    granted: float
    keys: dict[bytes, None] = field(default_factory=dict)


def inside(key: bytes, start: bytes, end: bytes) -> bool:
    return key == start if not end else start <= key and (end == b"\0" or key < end)


class View:
    """The keys at one revision; changes of a transaction are made on top."""

    def __init__(self, model: "Model", at: int) -> None:
        self._model = model
        self.at = at
        self.changes: dict[bytes, Pair | None] = {}
        self.events: list[Event] = []

    def get(self, key: bytes) -> Pair | None:
        return self.changes[key] if key in self.changes else self._model.at(key, self.at)

    def range(self, start: bytes, end: bytes) -> list[Pair]:
        return [pair for key in self._model.keys(start, end, self.changes) if (pair := self.get(key)) is not None]

    def put(self, key: bytes, value: bytes, lease: int) -> None:
        before, main = self.get(key), self.at + 1
        pair = Pair(key, value, before.create_revision if before else main, main, before.version + 1 if before else 1, lease)
        self.changes[key] = pair
        self.events.append(Event(main, key, value, pair.create_revision, before.value if before else None))

    def delete(self, start: bytes, end: bytes) -> int:
        gone = self.range(start, end)
        for pair in gone:
            self.changes[pair.key] = None
            self.events.append(Event(self.at + 1, pair.key, None, 0, pair.value))
        return len(gone)


class Model:
    """All revisions of all keys."""

    def __init__(self, min_ttl: int) -> None:
        self.min_ttl = min_ttl
        self.revision = 1
        self.compacted = -1
        self.index = 0
        self.entries: dict[int, Entry] = {}
        self.positions: dict[int, tuple[int, int]] = {0: (1, -1)}  # by index: revision, compacted
        self.events: dict[int, list[Event]] = {}
        self.leases: dict[int, Lease] = {}
        self.alarms: dict[tuple[int, int], None] = {}
        self.revoked_at: dict[int, float] = {}  # when a lease's end was applied first
        self.safe_until: dict[int, float] = {}  # as far as clients know: a lease holds at least until then
        self.given_up: dict[int, None] = {}  # clients may have asked to revoke these
        self._versions: dict[bytes, tuple[list[int], list[Pair | None]]] = {}

    # Looking

    def at(self, key: bytes, revision: int) -> Pair | None:
        known = self._versions.get(key)
        if known is None:
            return None
        place = bisect_right(known[0], revision)
        return known[1][place - 1] if place else None

    def keys(self, start: bytes, end: bytes, more: Any = ()) -> list[bytes]:
        return sorted({key for key in (*self._versions, *more) if inside(key, start, end)})

    def live(self, revision: int) -> list[Pair]:
        return [pair for key in sorted(self._versions) if (pair := self.at(key, revision)) is not None]

    # Applying

    def apply(self, entry: Entry, now: float) -> bool:
        """The next committed entry, or one that is known: then it must be the same (INV-R5). Answers whether it is new."""
        known = self.entries.get(entry.index)
        if known is not None:
            if known != entry:
                raise Violation(f"INV-R5: another entry at {entry.index}: {entry} after {known}")
            return False
        if entry.index != self.index + 1:
            raise Violation(f"INV-R5: entry {entry.index} is applied, {self.index} was the last")
        self.index = entry.index
        self.entries[entry.index] = entry
        if entry.type is EntryType.NORMAL and entry.data:
            self._take(InternalRaftRequest.FromString(entry.data), now)
        self.positions[entry.index] = (self.revision, self.compacted)
        return True

    def _take(self, request: InternalRaftRequest, now: float) -> None:
        view = View(self, self.revision)
        if request.HasField("put"):
            if not self._is_full() and self._may_put(view, request.put):
                self._put(view, request.put)
        elif request.HasField("delete_range"):
            view.delete(request.delete_range.key, request.delete_range.range_end)
        elif request.HasField("txn"):
            self._txn(view, request.txn)
        elif request.HasField("compaction"):
            if self.compacted < request.compaction.revision <= self.revision:
                self.compacted = request.compaction.revision
        elif request.HasField("lease_grant"):
            grant = request.lease_grant
            if grant.ID not in self.leases and not self._is_full():
                self.leases[grant.ID] = Lease(max(grant.TTL, self.min_ttl), now)
        elif request.HasField("lease_revoke"):
            self._revoke(view, request.lease_revoke.ID, now)
        elif request.HasField("alarm"):
            self._alarm(request.alarm)
        self._commit(view)

    def _is_full(self) -> bool:
        return any(kind == NOSPACE for kind, _ in self.alarms)

    def _alarm(self, request: pb.AlarmRequest) -> None:
        if request.action == pb.AlarmRequest.ACTIVATE:
            self.alarms[(request.alarm, request.memberID)] = None
        elif request.action == pb.AlarmRequest.DEACTIVATE:
            for kind, member in list(self.alarms):
                if request.alarm in (pb.NONE, kind) and request.memberID in (0, member):
                    del self.alarms[(kind, member)]

    def _may_put(self, view: View, request: pb.PutRequest) -> bool:
        return not request.lease or request.lease in self.leases

    def _put(self, view: View, request: pb.PutRequest) -> None:
        view.put(request.key, request.value, request.lease)

    def _txn(self, view: View, request: pb.TxnRequest) -> None:
        operations = request.success if self.holds(view, request) else request.failure
        puts = [each.request_put for each in operations if each.HasField("request_put")]
        if (puts and self._is_full()) or not all(self._may_put(view, put) for put in puts):
            return
        for operation in operations:
            if operation.HasField("request_put"):
                self._put(view, operation.request_put)
            elif operation.HasField("request_delete_range"):
                view.delete(operation.request_delete_range.key, operation.request_delete_range.range_end)

    @staticmethod
    def holds(view: View, request: pb.TxnRequest) -> bool:
        """Whether the comparisons hold (those that the clients use: a value or a revision is what it is)."""
        for compare in request.compare:
            assert compare.result == pb.Compare.EQUAL
            pair = view.get(compare.key)
            if compare.target == pb.Compare.VALUE:
                holds = pair is not None and pair.value == compare.value
            elif compare.target == pb.Compare.CREATE:
                holds = (pair.create_revision if pair else 0) == compare.create_revision
            else:
                assert compare.target == pb.Compare.MOD
                holds = (pair.mod_revision if pair else 0) == compare.mod_revision
            if not holds:
                return False
        return True

    def _revoke(self, view: View, lease_id: int, now: float) -> None:
        lease = self.leases.pop(lease_id, None)
        if lease is None:
            return
        self.revoked_at[lease_id] = now
        for key in sorted(lease.keys):
            view.delete(key, b"")
        if lease_id not in self.given_up and now < max(self.safe_until.get(lease_id, 0.0), lease.granted + lease.ttl):
            self._expired_early(lease_id, now)

    def _expired_early(self, lease_id: int, now: float) -> None:
        raise Violation(f"INV-L1: lease {lease_id:x} ended at {now:.3f}, it holds until {self.safe_until.get(lease_id, 0.0):.3f}")

    def _commit(self, view: View) -> None:
        if not view.events:
            return
        self.revision += 1
        self.events[self.revision] = view.events
        for key, pair in view.changes.items():
            before = self.at(key, self.revision)
            if before is not None and before.lease in self.leases:
                self.leases[before.lease].keys.pop(key, None)
            if pair is not None and pair.lease in self.leases:
                self.leases[pair.lease].keys[key] = None
            revisions, pairs = self._versions.setdefault(key, ([], []))
            revisions.append(self.revision)
            pairs.append(pair)

    # What clients know of leases

    def renewed(self, lease_id: int, until: float) -> None:
        """A client was told that the lease holds until then."""
        self.safe_until[lease_id] = max(self.safe_until.get(lease_id, 0.0), until)
        ended = self.revoked_at.get(lease_id)
        if ended is not None and ended < until and lease_id not in self.given_up:
            self._expired_early(lease_id, ended)

    # Comparing

    def check_store(self, who: str, index: int, store: Any) -> None:
        """A member's whole store, at the entry it has applied (INV-M1, M4, M5, M6)."""
        self.check_position(who, index, store)
        found = [Pair.of(KeyValue.FromString(record)) for record in store.range(b"\0", b"\0").records]
        expected = self.live(self.positions[index][0])
        if found != expected:
            raise Violation(f"INV-M5: {who} at entry {index} has {_difference(found, expected)}")

    def check_position(self, who: str, index: int, store: Any) -> None:
        if (store.current, store.compacted) != self.positions[index]:
            raise Violation(
                f"INV-M1: {who} at entry {index} is at revision {store.current}, compacted {store.compacted}; not {self.positions[index]}"
            )

    def check_changed(self, who: str, before: int, index: int, store: Any) -> None:
        """Only what entries after `before` changed."""
        self.check_position(who, index, store)
        first, last = self.positions[before][0], self.positions[index][0]
        for key in {event.key: None for revision in range(first + 1, last + 1) for event in self.events[revision]}:
            record = store.live_record(key)
            found = Pair.of(KeyValue.FromString(record)) if record is not None else None
            if found != self.at(key, last):
                raise Violation(f"INV-M5: {who} at revision {last} has {found}, not {self.at(key, last)}")

    def check_range(self, request: pb.RangeRequest, answer: pb.RangeResponse, within: View | None = None) -> None:
        """An answer names the revision that it belongs to."""
        view = within or View(self, request.revision or answer.header.revision)
        expected = view.range(request.key, request.range_end)
        found = [Pair.of(each) for each in answer.kvs]
        if found != expected or answer.count != len(expected):
            raise Violation(f"INV-M2: a read of {request.key!r} at revision {view.at} is answered {_difference(found, expected)}")

    def check_put(self, request: pb.PutRequest, answer: pb.PutResponse) -> None:
        self._check_events(answer.header.revision, [(request.key, request.value)])

    def check_delete(self, request: pb.DeleteRangeRequest, answer: pb.DeleteRangeResponse) -> None:
        at = answer.header.revision
        gone = View(self, at - 1 if answer.deleted else at).range(request.key, request.range_end)
        if answer.deleted != len(gone):
            raise Violation(f"INV-M4: a deletion at revision {at} says {answer.deleted}, not {len(gone)}")
        if gone:
            self._check_events(at, [(pair.key, None) for pair in gone])

    def check_txn(self, request: pb.TxnRequest, answer: pb.TxnResponse) -> bool:
        """Answers whether it changed anything."""
        at = answer.header.revision
        operations = request.success if answer.succeeded else request.failure
        changes = any(each.HasField("request_put") for each in operations) or any(
            each.HasField("response_delete_range") and each.response_delete_range.deleted for each in answer.responses
        )
        view = View(self, at - 1 if changes else at)
        if self.holds(view, request) != answer.succeeded:
            raise Violation(f"INV-M4: a transaction at revision {at} says succeeded: {answer.succeeded}")
        for operation, part in zip(operations, answer.responses, strict=True):
            if operation.HasField("request_put"):
                view.put(operation.request_put.key, operation.request_put.value, operation.request_put.lease)
            elif operation.HasField("request_delete_range"):
                if view.delete(operation.request_delete_range.key, operation.request_delete_range.range_end) != part.response_delete_range.deleted:
                    raise Violation(f"INV-M4: a transaction at revision {at} deleted {part.response_delete_range.deleted}")
            else:
                self.check_range(operation.request_range, part.response_range, view)
        if changes and self.events.get(at) != view.events:
            raise Violation(f"INV-M4: a transaction at revision {at} made {self.events.get(at)}, not {view.events}")
        return changes

    def _check_events(self, at: int, expected: Sequence[tuple[bytes, bytes | None]]) -> None:
        found = [(event.key, event.value) for event in self.events.get(at, ())]
        if found != list(expected):
            raise Violation(f"INV-M2: what was acknowledged at revision {at} is not there: {found}, not {list(expected)}")


def _difference(found: Sequence[Pair], expected: Sequence[Pair]) -> str:
    return f"{[each for each in found if each not in expected]}, not {[each for each in expected if each not in found]}"
