"""Pure: what becomes of an event before it is sent: dropped as spam, merged with similar ones, counted onto an earlier one (client-go's record package).

Three stages with upstream's numbers: a token bucket per source and object (25 at once, then one in five minutes); ten different
messages of one reason within ten minutes become one "(combined from similar events)"; the same event again becomes a higher count.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from kubette.apimachinery import timestamps

Object = dict[str, Any]
V = TypeVar("V")

CACHE_ENTRIES = 4096
SPAM_BURST = 25
SPAM_REFILL_S = 300.0
AGGREGATE_MESSAGES = 10
AGGREGATE_INTERVAL_S = 600.0


class _Recent(Generic[V]):
    """The most recently used entries, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[tuple[str, ...], V] = OrderedDict()

    def get(self, key: tuple[str, ...]) -> V | None:
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: tuple[str, ...], value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def drop(self, key: tuple[str, ...]) -> None:
        self._entries.pop(key, None)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


@dataclass(slots=True)
class _Similar:
    messages: set[str] = field(default_factory=set)
    last_at: float = float("-inf")


@dataclass(slots=True)
class _Sent:
    name: str
    count: int
    first_timestamp: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Create `event`, or (when `patch` is set) patch the existing event of that name. `key` is for `forget`."""

    event: Object
    patch: Object | None
    key: tuple[str, ...]


class Correlator:
    """Remembers what was sent; `correlate` answers what to do with a new core/v1 Event, None for nothing."""

    def __init__(self, entries: int = CACHE_ENTRIES) -> None:
        self._buckets: _Recent[_Bucket] = _Recent(entries)
        self._similar: _Recent[_Similar] = _Recent(entries)
        self._sent: _Recent[_Sent] = _Recent(entries)

    def correlate(self, event: Object, now: float) -> Decision | None:
        """`now` is the wall time of the event."""
        if self._is_spam(event, now):
            return None
        event, key = self._aggregate(event, now)
        sent = self._sent.get(key)
        if sent is None:
            self._sent.put(key, _Sent(event["metadata"]["name"], 1, event["firstTimestamp"]))
            return Decision(event, None, key)
        sent.count += 1
        event = {**event, "metadata": {**event["metadata"], "name": sent.name}, "count": sent.count, "firstTimestamp": sent.first_timestamp}
        patch = {"count": sent.count, "lastTimestamp": event["lastTimestamp"], "message": event["message"]}
        return Decision(event, patch, key)

    def forget(self, key: tuple[str, ...]) -> None:
        """The event that was counted onto is gone from the server: the next one is a new one."""
        self._sent.drop(key)

    def _is_spam(self, event: Object, now: float) -> bool:
        key = (*_source(event), *_involved(event))
        bucket = self._buckets.get(key) or _Bucket(SPAM_BURST, now)
        bucket.tokens = min(SPAM_BURST, bucket.tokens + max(0.0, now - bucket.filled_at) / SPAM_REFILL_S)
        bucket.filled_at = now
        self._buckets.put(key, bucket)
        if bucket.tokens < 1:
            return True
        bucket.tokens -= 1
        return False

    def _aggregate(self, event: Object, now: float) -> tuple[Object, tuple[str, ...]]:
        group = (*_source(event), *_involved(event), event["type"], event["reason"])
        similar = self._similar.get(group)
        if similar is None or now - similar.last_at > AGGREGATE_INTERVAL_S:
            similar = _Similar()
        similar.messages.add(event["message"])
        similar.last_at = now
        self._similar.put(group, similar)
        if len(similar.messages) < AGGREGATE_MESSAGES:
            return event, (*group, event["message"])
        if len(similar.messages) > AGGREGATE_MESSAGES:
            similar.messages.discard(min(similar.messages - {event["message"]}))
        stamp = timestamps.format_time(now)
        combined = {**event, "message": f"(combined from similar events): {event['message']}", "firstTimestamp": stamp, "lastTimestamp": stamp}
        return combined, group


def _source(event: Object) -> tuple[str, str]:
    source = event.get("source") or {}
    return source.get("component", ""), source.get("host", "")


def _involved(event: Object) -> tuple[str, ...]:
    involved = event["involvedObject"]
    return tuple(str(involved.get(f, "")) for f in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath"))
