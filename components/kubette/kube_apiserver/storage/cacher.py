"""The watch cache of one resource: a snapshot, and the ordered log of what changed it lately.

Counterpart of upstream's cacher and watch cache. A watcher is a position in the log, not a queue: it costs nothing while it
waits, cannot hold memory, and one that is slower than the log is long has simply lost its place and is dropped. The log remembers
at least --default-watch-cache-size events and, while changes come fast, those of the last 75 s (up to a limit).

Invariants: `items` is exactly the resource at revision `feed.revision` whenever no code of this class runs; the log holds every event
after `floor`, in order; records are immutable.
"""

import asyncio
import bisect
from collections.abc import Sequence
from typing import Any

from kubette.api.kinds import Kind
from kubette.apimachinery import watch
from kubette.component_base import logs
from kubette.etcd_api import kv_pb2
from kubette.etcd_client import Client
from kubette.kube_apiserver.storage import keys, record
from kubette.kube_apiserver.storage.feed import Feed
from kubette.kube_apiserver.storage.record import Record
from kubette.stdx.clock import Clock

log = logs.logger(__name__)

FRESH_S = 75.0  # upstream's eventFreshDuration: the usual watch bookmark interval and some slack
CAPACITY_MAX = 100 * 1024  # upstream's upper bound
PAGE = 5000  # objects a request while listing from etcd


class Event:
    """One change. `previous` is None for ADDED; `current` of DELETED is the last state under the deletion's revision."""

    __slots__ = ("at", "current", "frames", "previous", "revision", "type")

    def __init__(self, type: str, revision: int, current: Record, previous: Record | None, at: float) -> None:
        self.type = type
        self.revision = revision
        self.current = current
        self.previous = previous
        self.at = at
        self.frames: dict[Any, bytes] = {}  # encoded once for all watchers that see it alike


class LostPlace(Exception):
    """The log no longer reaches back to where the watcher is."""


class HistoryGone(Exception):
    """The cache was reset since the watcher began: what comes now does not continue what it has seen."""


class Cacher:
    """Starts when it is first needed; `wait_ready` before use."""

    def __init__(self, kind: Kind, etcd_prefix: str, client: Client, feed: Feed, clock: Clock, capacity: int) -> None:
        self.kind = kind
        self.prefix = keys.resource_prefix(etcd_prefix, kind)
        self.head = record.head_of(kind.api_version, kind.kind)
        self._client, self._feed, self._clock = client, feed, clock
        self._capacity_min = self._capacity = max(capacity, 1)
        self.items: dict[str, Record] = {}
        self.ordered: list[str] = []
        self.floor = 0
        self.changed = 0  # revision of the newest change seen
        self._log: list[Event] = []
        self._base = 0  # position of _log[0]
        self._waiters: set[asyncio.Future[None]] = set()
        self._starting: asyncio.Future[None] | None = None
        self._pending: list[kv_pb2.Event] | None = None
        self.ready = False
        self.incarnation = 0

    # --- life -----------------------------------------------------------------------------------------------------------------

    async def wait_ready(self) -> None:
        """List from etcd if that has not been done. Concurrent callers share one list. Raises EtcdError."""
        while not self.ready:
            if self._starting is None:
                await self._start()
            else:
                await asyncio.wait([self._starting])

    async def _start(self) -> None:
        self._starting = asyncio.get_running_loop().create_future()
        incarnation = self.incarnation
        self._pending = []  # events that arrive while the list is under way
        self._feed.subscribe(self)
        try:
            items, revision = await self._list()
            if self._pending is None:
                return  # reset meanwhile: the caller lists again
            self.items = items
            self.ordered = sorted(items)
            self.floor = self.changed = revision
            self._base += len(self._log)
            self._log = []
            pending, self._pending = self._pending, None
            for event in pending:
                if event.kv.mod_revision > revision:
                    self.apply(event)
            # The list may be newer than the stream: then what the stream still brings up to `floor` is skipped by `apply`.
            await self._feed.wait_for(revision, 10.0)
            if self.incarnation != incarnation:
                return  # reset meanwhile
            self.ready = True
            self.incarnation += 1
            log.v(2, "Started watch cache", resource=self.kind.group_resource, objects=len(items), revision=revision)
        finally:
            if not self.ready:
                self._feed.unsubscribe(self)
                self._pending = None
            starting, self._starting = self._starting, None
            starting.set_result(None)

    async def _list(self) -> tuple[dict[str, Record], int]:
        start = self.prefix.encode()
        end = keys.prefix_end(start)
        skip, revision = len(start), 0
        items: dict[str, Record] = {}
        while True:
            answer = await self._client.range(start, end, limit=PAGE, revision=revision)
            revision = revision or int(answer.header.revision)
            for kv in answer.kvs:
                key = kv.key[skip:].decode()
                items[key] = Record(key, kv.mod_revision, record.with_revision(self.head, kv.value, kv.mod_revision))
            if not answer.more:
                return items, revision
            start = answer.kvs[-1].key + b"\0"

    def reset(self) -> None:
        """History has a gap, or is another one: everything is listed again, and every watcher is told to do the same."""
        self.ready = False
        self._pending = None
        self._feed.unsubscribe(self)
        self.incarnation += 1
        self.wake()

    # --- changes --------------------------------------------------------------------------------------------------------------

    def apply(self, event: kv_pb2.Event) -> None:
        """One event of the stream."""
        if self._pending is not None:
            self._pending.append(event)
            return
        kv = event.kv
        revision = int(kv.mod_revision)
        if revision <= self.floor:
            return
        key = kv.key[len(self.prefix.encode()) :].decode()
        previous = self.items.get(key)
        now = self._clock.monotonic()
        if event.type == kv_pb2.Event.DELETE:
            if previous is None:
                return
            del self.items[key]
            del self.ordered[bisect.bisect_left(self.ordered, key)]
            change = Event(watch.DELETED, revision, previous.at_revision(revision), previous, now)
        else:
            current = Record(key, revision, record.with_revision(self.head, kv.value, revision))
            self.items[key] = current
            if previous is None:
                bisect.insort(self.ordered, key)
            change = Event(watch.MODIFIED if previous is not None else watch.ADDED, revision, current, previous, now)
        self.changed = revision
        self._log.append(change)
        if len(self._log) > self._capacity:
            self._trim(now)

    def _trim(self, now: float) -> None:
        if now - self._log[0].at < FRESH_S and self._capacity < CAPACITY_MAX:
            self._capacity = min(self._capacity * 2, CAPACITY_MAX)
            return
        # A quarter at once: removing from the front of a list costs its length.
        cut = max(1, len(self._log) // 4)
        self.floor = self._log[cut - 1].revision
        del self._log[:cut]
        self._base += cut
        if self._capacity > self._capacity_min and len(self._log) < self._capacity // 4:
            self._capacity = max(self._capacity_min, self._capacity // 2)

    def wake(self) -> None:
        """Let the watchers look."""
        waiters, self._waiters = self._waiters, set()
        for future in waiters:
            if not future.done():
                future.set_result(None)

    # --- reading --------------------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """The revision `items` is at."""
        return max(self._feed.revision, self.floor)

    @property
    def end(self) -> int:
        """The position after the newest event."""
        return self._base + len(self._log)

    def position_after(self, revision: int) -> int | None:
        """The position of the first event after `revision`; None when the log does not reach back that far."""
        if revision < self.floor:
            return None
        return self._base + bisect.bisect_right(self._log, revision, key=lambda event: event.revision)

    def since(self, position: int, incarnation: int) -> Sequence[Event]:
        """The events from `position` on."""
        if incarnation != self.incarnation:
            raise HistoryGone
        if position < self._base:
            raise LostPlace
        return self._log[position - self._base :] if position < self.end else ()

    async def wait_changed(self, position: int, until: float) -> None:
        """Return when there is an event at `position`, the cache was reset, or the loop's time is `until`."""
        if position < self.end:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_at(until, _expire, future)
        self._waiters.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiters.discard(future)

    def select(self, namespace: str) -> Sequence[str]:
        """The relative keys of a namespace in order (all of them without one)."""
        if not namespace:
            return self.ordered
        low, high = keys.namespace_range(namespace)
        return self.ordered[bisect.bisect_left(self.ordered, low) : bisect.bisect_left(self.ordered, high)]

    async def consistent(self) -> int:
        """Make the cache at least as new as every write acknowledged before this call; answers its revision."""
        await self.wait_ready()
        await self._feed.consistent()
        return self.revision

    def statistics(self) -> dict[str, int]:
        return {"objects": len(self.items), "log": len(self._log), "capacity": self._capacity, "watchers": len(self._waiters)}


def _expire(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
