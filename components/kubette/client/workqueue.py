"""Pure: the queue of keys between informers and reconcilers (client-go's workqueue).

- Stingy: a key added many times before it is processed is processed once (`dirty`).
- Fair: keys come out in the order they were added.
- Never concurrent: a key added while it is processed comes out again only after `done` (`processing`).
- Delayed and rate-limited additions are driven by the `now` they are given; `advance(now)` moves what is due.
"""

import heapq
from collections import deque

from kubette.stdx.backoff import Backoff

DEFAULT_BACKOFF = Backoff(base_s=0.005, cap_s=1000.0)  # upstream's DefaultControllerRateLimiter


class WorkQueue:
    """Keys waiting, being processed, or due later."""

    def __init__(self, backoff: Backoff = DEFAULT_BACKOFF) -> None:
        self._backoff = backoff
        self._queue: deque[str] = deque()  # invariant: every key of it is dirty and not processing
        self._dirty: set[str] = set()
        self._processing: set[str] = set()
        self._failures: dict[str, int] = {}
        self._due: dict[str, float] = {}  # the earliest time per key; heap entries that differ are stale
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        """Keys ready to be taken."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Nothing ready, nothing in work (delayed keys do not count)."""
        return not self._queue and not self._processing

    def add(self, key: str) -> None:
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._queue.append(key)

    def add_after(self, key: str, delay_s: float, now: float) -> None:
        """Add at `now + delay_s`; an earlier time already set for the key stays."""
        if delay_s <= 0:
            self.add(key)
            return
        due = now + delay_s
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))

    def add_rate_limited(self, key: str, now: float) -> float:
        """Add after the back-off for one more failure; answers the delay in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay_s = self._backoff.delay(failures)
        self.add_after(key, delay_s, now)
        return delay_s

    def failures(self, key: str) -> int:
        return self._failures.get(key, 0)

    def forget(self, key: str) -> None:
        """The key is well again: its next failure backs off from the start."""
        self._failures.pop(key, None)

    def advance(self, now: float) -> None:
        """Add the keys whose time has come."""
        while self._heap and self._heap[0][0] <= now:
            due, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)

    def next_due(self) -> float | None:
        """When `advance` will next have something to do."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def get_nowait(self) -> str | None:
        """Take the next key, or None. The taker must call `done`."""
        if not self._queue:
            return None
        key = self._queue.popleft()
        self._processing.add(key)
        self._dirty.discard(key)
        return key

    def done(self, key: str) -> None:
        """Processing ended; if the key was added meanwhile it is ready again."""
        self._processing.discard(key)
        if key in self._dirty:
            self._queue.append(key)
