"""Pure: the multi-version store: every change gets a revision, reads may look at any revision that is not compacted.

Records are encoded `mvccpb.KeyValue`s, made once at the put and shared by every answer and event. A tombstone's record holds
the key alone, as in etcd's files. The whole store is in memory; what makes it durable is elsewhere (log and snapshots).
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import google_crc32c
from sortedcontainers import SortedList

from kubette.etcd.mvcc import key_index, revision
from kubette.etcd.mvcc.key_index import KeyIndex, Known
from kubette.etcd_api.kv_pb2 import KeyValue

FROM_KEY = b"\0"  # as range_end: every key from `key` on


class CompactedError(Exception):
    """The revision is compacted."""


class FutureRevisionError(Exception):
    """The revision is not there yet."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a transaction. `record` is a KeyValue (of a put), `previous` the one it replaced or deleted."""

    revision: int
    key: bytes
    record: bytes
    deleted: bool
    previous: bytes | None


@dataclass(slots=True)
class RangeResult:
    """Records in the order of keys; `count` is how many there are in the range, whatever the limit."""

    records: list[bytes]
    count: int
    revision: int


@dataclass(slots=True)
class Store:
    """The keys and their history. `current` is the revision of the last transaction; an empty store is at 1."""

    current: int = 1
    compacted: int = -1
    _records: dict[int, bytes] = field(default_factory=dict)
    _order: list[int] = field(default_factory=list)  # the revisions of _records, ascending
    _tombstones: set[int] = field(default_factory=set)  # those of them that are deletions
    _index: dict[bytes, Known] = field(default_factory=dict)
    _keys: SortedList = field(default_factory=SortedList)
    _garbage: deque[tuple[int, bytes]] = field(default_factory=deque)  # (when it was superseded, key), ascending
    size: int = 0  # bytes of all records

    @property
    def key_count(self) -> int:
        """Keys known, also deleted ones that are not compacted yet."""
        return len(self._index)

    @property
    def record_count(self) -> int:
        return len(self._records)

    # Reading

    def check_revision(self, at: int) -> None:
        """Raises CompactedError or FutureRevisionError when a read at `at` cannot be served."""
        if at > self.current:
            raise FutureRevisionError
        if 0 < at < self.compacted:
            raise CompactedError

    def keys_in(self, key: bytes, range_end: bytes) -> Iterable[bytes]:
        """Every known key of the range, also deleted ones, ascending. An empty range_end is the key alone."""
        if not range_end:
            return (key,) if key in self._index else ()
        if range_end == FROM_KEY:
            found: Iterator[bytes] = self._keys.irange(key)
            return found
        if range_end <= key:
            return ()
        inside: Iterator[bytes] = self._keys.irange(key, range_end, inclusive=(True, False))
        return inside

    def range(self, key: bytes, range_end: bytes = b"", at: int = 0, limit: int = 0, count_only: bool = False) -> RangeResult:
        """The records of a range at revision `at` (0: now). Raises CompactedError, FutureRevisionError."""
        self.check_revision(at)
        index, records = self._index, self._records
        if 0 < at < self.current:
            before = revision.end_of(at)
            revisions = [found for name in self.keys_in(key, range_end) if (found := key_index.get(index[name], before))]
        elif not range_end:
            known = index.get(key)
            revisions = [live] if known is not None and (live := key_index.live(known)) else []
        else:
            in_range = map(index.__getitem__, self.keys_in(key, range_end))
            revisions = [live for known in in_range if (live := known if isinstance(known, int) else known.live)]
        count = len(revisions)
        if count_only:
            return RangeResult([], count, self.current)
        if limit > 0:
            revisions = revisions[:limit]
        return RangeResult([records[found] for found in revisions], count, self.current)

    def live_record(self, key: bytes) -> bytes | None:
        """The current KeyValue of a key."""
        known = self._index.get(key)
        return self._records[live] if known is not None and (live := key_index.live(known)) else None

    # Writing

    def begin(self) -> "Transaction":
        """A transaction; its changes are visible at once, its revision is taken by `end`."""
        return Transaction(self)

    def _put(self, at: int, key: bytes, value: bytes, lease: int) -> Change:
        known = self._index.get(key)
        previous = None
        created, version = at, 1
        main = revision.main_of(at)
        if known is None:
            self._index[key] = at
            self._keys.add(key)
        else:
            entry = self._widen(key, known)
            if live := entry.live:
                previous = self._records[live]
                self._garbage.append((main, key))
            generation = entry.put(at)
            created, version = generation.created, generation.version
        record = KeyValue(
            key=key, create_revision=revision.main_of(created), mod_revision=main, version=version, value=value, lease=lease
        ).SerializeToString()
        self._add_record(at, record)
        return Change(at, key, record, False, previous)

    def _delete(self, at: int, key: bytes) -> Change:
        entry = self._widen(key, self._index[key])
        previous = self._records[entry.live]
        entry.tombstone(at)
        record = KeyValue(key=key).SerializeToString()
        self._add_record(at, record)
        self._tombstones.add(at)
        self._garbage.append((revision.main_of(at), key))
        return Change(at, key, record, True, previous)

    def _widen(self, key: bytes, known: Known) -> KeyIndex:
        entry = key_index.widened(known)
        if entry is not known:
            self._index[key] = entry
        return entry

    def _add_record(self, at: int, record: bytes) -> None:
        self._records[at] = record
        self._order.append(at)
        self.size += len(record)

    # History

    def changes_since(self, main: int, limit: int) -> tuple[list[Change], int]:
        """Up to about `limit` changes from revision `main` on, whole revisions only, and the revision to go on from.

        Raises CompactedError; the compacted revision itself is still there. A previous value that is compacted is None.
        """
        if main < self.compacted:
            raise CompactedError
        changes: list[Change] = []
        place = bisect_left(self._order, revision.pack(main))
        while place < len(self._order):
            at = self._order[place]
            if len(changes) >= limit and revision.main_of(at) != revision.main_of(changes[-1].revision):
                return changes, revision.main_of(at)
            changes.append(self._change(at))
            place += 1
        return changes, self.current + 1

    def _change(self, at: int) -> Change:
        record = self._records[at]
        key = KeyValue.FromString(record).key
        previous = key_index.get(self._index[key], at)
        return Change(at, key, record, at in self._tombstones, self._records.get(previous) if previous else None)

    # Compaction

    def check_compaction(self, main: int) -> None:
        """Raises CompactedError, FutureRevisionError when compacting to `main` is not possible."""
        if main <= self.compacted:
            raise CompactedError
        if main > self.current:
            raise FutureRevisionError

    def compact(self, main: int) -> int:
        """Forget what no read at `main` or later can see; answers how many records went."""
        self.check_compaction(main)
        self.compacted = main
        keys: dict[bytes, None] = {}
        while self._garbage and self._garbage[0][0] <= main:
            keys[self._garbage.popleft()[1]] = None
        count = 0
        kept: list[bytes] = []
        for key in keys:
            known = self._index.get(key)
            if known is None or isinstance(known, int):
                continue
            for dropped in known.compact(main):
                self.size -= len(self._records.pop(dropped))
                self._tombstones.discard(dropped)
                count += 1
            if not known.generations:
                del self._index[key]
                self._keys.remove(key)
                continue
            if known.generations[0].ended and len(known.generations[0].revisions) == 1:
                kept.append(key)
            self._index[key] = key_index.narrowed(known)
        # A tombstone exactly at the compaction is garbage for the next one.
        self._garbage.extendleft((main + 1, key) for key in reversed(kept))
        if count:
            records = self._records
            self._order = [at for at in self._order if at in records]
        return count

    # Comparing members, and files

    def hash_kv(self, main: int = 0) -> int:
        """The checksum of everything up to revision `main` (0: now), defined as upstream's HashKV so that members can be compared."""
        self.check_revision(main)
        if 0 < main < self.compacted:
            raise CompactedError
        until = revision.end_of(main or self.current)
        # What a compaction is about to remove does not count: only some of the members may have done so already.
        compacted = revision.end_of(max(0, self.compacted))
        kept = {seen for known in self._index.values() if (seen := key_index.get(known, until))} if self.compacted > 0 else set()
        crc: int = google_crc32c.value(b"key")
        for key, record in self.items():
            at = revision.from_key(key)[0]
            if at >= until:
                break
            if kept and at < compacted and at not in kept:
                continue
            crc = google_crc32c.extend(google_crc32c.extend(crc, key), record)
        return crc

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Bucket keys and records, ascending: the content of etcd's `key` bucket."""
        for at in self._order:
            yield revision.to_key(at, at in self._tombstones), self._records[at]

    def capture(self) -> tuple[list[int], dict[int, bytes], set[int]]:
        """What `items` needs, copied, so that another thread may write it down."""
        return list(self._order), dict(self._records), set(self._tombstones)

    def restore(self, items: Iterable[tuple[bytes, bytes]], compacted: int) -> list[tuple[bytes, int]]:
        """Fill an empty store from a `key` bucket; answers (key, lease) of every live key that hangs on a lease."""
        leases: dict[bytes, int] = {}
        self.compacted = compacted
        current = max(1, compacted)
        index, records, order, decode, size = self._index, self._records, self._order, KeyValue.FromString, 0
        for bucket_key, record in items:
            at, tombstone = revision.from_key(bucket_key)
            main = revision.main_of(at)
            if main > current:
                current = main
            pair = decode(record)
            key = pair.key
            known = index.get(key)
            if tombstone:
                leases.pop(key, None)
                entry = index[key] = KeyIndex() if known is None else key_index.widened(known)
                if not entry.generations or entry.generations[-1].ended:
                    # All that a compaction at this very revision left of a generation.
                    entry.put(at).revisions.clear()
                entry.tombstone(at)
                self._tombstones.add(at)
                self._garbage.append((main, key))
            else:
                created, version = pair.create_revision, pair.version
                if known is None and version == 1 and created == main:
                    index[key] = at
                else:
                    entry = index[key] = KeyIndex() if known is None else key_index.widened(known)
                    if entry.generations and entry.live:
                        self._garbage.append((main, key))
                    entry.restore(at, created, version)
                if lease := pair.lease:
                    leases[key] = lease
                elif leases:
                    leases.pop(key, None)
            records[at] = record
            order.append(at)
            size += len(record)
        self.size += size
        self._keys = SortedList(index)
        self.current = current
        return list(leases.items())


class Transaction:
    """Changes that share one revision. Reads through it see them."""

    __slots__ = ("_store", "changes")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.changes: list[Change] = []

    @property
    def revision(self) -> int:
        """What an answer's header says: the revision of this transaction if it changed something."""
        return self._store.current + 1 if self.changes else self._store.current

    def range(self, key: bytes, range_end: bytes = b"", at: int = 0, limit: int = 0, count_only: bool = False) -> RangeResult:
        # Changes made so far are live already; only "now" can see them.
        return self._store.range(key, range_end, at, limit, count_only)

    def put(self, key: bytes, value: bytes, lease: int = 0) -> Change:
        store = self._store
        change = store._put(revision.pack(store.current + 1, len(self.changes)), key, value, lease)
        self.changes.append(change)
        return change

    def delete_range(self, key: bytes, range_end: bytes = b"") -> list[Change]:
        store = self._store
        names = [name for name in store.keys_in(key, range_end) if key_index.live(store._index[name])]
        deleted = []
        for name in names:
            change = store._delete(revision.pack(store.current + 1, len(self.changes)), name)
            self.changes.append(change)
            deleted.append(change)
        return deleted

    def end(self) -> list[Change]:
        """Take the revision; answers the changes, which watchers must hear of."""
        if self.changes:
            self._store.current += 1
        return self.changes
