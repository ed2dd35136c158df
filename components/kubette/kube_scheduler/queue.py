"""Pure: pods waiting to be scheduled: active (by priority and age), backing off, and unschedulable until something changes.

Counterpart upstream: pkg/scheduler/backend/queue. Given `now` in seconds; `next_due` says when `advance` has work again.
"""

import heapq
from dataclasses import dataclass, field

from kubette.apimachinery.meta import key as key_of
from kubette.kube_scheduler.node_info import Object

INITIAL_BACKOFF_S = 1.0
MAX_BACKOFF_S = 10.0
UNSCHEDULABLE_MAX_S = 300.0  # a pod is tried again after this time even if nothing seems to have changed


@dataclass(slots=True)
class Waiting:
    """One pod and its history of attempts."""

    pod: Object
    since: float
    attempts: int = 0
    failed_at: float = 0.0

    def backoff_s(self) -> float:
        return float(min(MAX_BACKOFF_S, INITIAL_BACKOFF_S * 2.0 ** (max(1, self.attempts) - 1)))


def priority(pod: Object) -> int:
    return int(pod["spec"].get("priority") or 0)


@dataclass(slots=True)
class SchedulingQueue:
    """Three places a pod can be in; `pop` takes from the active one."""

    _known: dict[str, Waiting] = field(default_factory=dict)
    _active: list[tuple[int, float, int, str]] = field(default_factory=list)
    _active_keys: set[str] = field(default_factory=set)
    _backoff: dict[str, float] = field(default_factory=dict)  # key -> when it may be tried
    _unschedulable: dict[str, float] = field(default_factory=dict)  # key -> since when
    _in_flight: dict[str, bool] = field(default_factory=dict)  # key -> whether something changed meanwhile
    _sequence: int = 0

    def add(self, pod: Object, now: float) -> None:
        """A pod without a node appeared."""
        key = key_of(pod)
        self._known[key] = Waiting(pod, now)
        self._activate(key)

    def update(self, pod: Object, now: float) -> None:
        """A waiting pod changed: if its spec or labels did, it may fit now."""
        key = key_of(pod)
        waiting = self._known.get(key)
        if waiting is None:
            self.add(pod, now)
            return
        old, waiting.pod = waiting.pod, pod
        changed = old["spec"] != pod["spec"] or old["metadata"].get("labels") != pod["metadata"].get("labels")
        if not changed:
            return
        if key in self._in_flight:
            self._in_flight[key] = True
        elif key in self._unschedulable:
            self._move(key, now)

    def delete(self, key: str) -> None:
        self._known.pop(key, None)
        for place in (self._backoff, self._unschedulable, self._in_flight):
            place.pop(key, None)
        self._active_keys.discard(key)

    def _activate(self, key: str) -> None:
        if key in self._active_keys:
            return
        self._backoff.pop(key, None)
        self._unschedulable.pop(key, None)
        self._active_keys.add(key)
        self._sequence += 1
        waiting = self._known[key]
        heapq.heappush(self._active, (-priority(waiting.pod), waiting.since, self._sequence, key))

    def pop_nowait(self) -> Waiting | None:
        """The most important pod, or None; it is in flight until `done` or `failed`."""
        while self._active:
            *_, key = heapq.heappop(self._active)
            if key in self._active_keys and key in self._known:
                self._active_keys.discard(key)
                self._in_flight[key] = False
                waiting = self._known[key]
                waiting.attempts += 1
                return waiting
        return None

    def done(self, key: str) -> None:
        """It was bound (or is gone)."""
        self.delete(key)

    def failed(self, key: str, now: float, *, error: bool = False) -> None:
        """No node fits, or an error came between. What changed meanwhile makes it only back off."""
        changed = self._in_flight.pop(key, False)
        waiting = self._known.get(key)
        if waiting is None:
            return
        waiting.failed_at = now
        if error or changed:
            self._backoff[key] = now + waiting.backoff_s()
        else:
            self._unschedulable[key] = now

    def move_all(self, now: float) -> None:
        """Something in the cluster changed that may let unschedulable pods fit."""
        for key in list(self._unschedulable):
            self._move(key, now)
        for key in self._in_flight:
            self._in_flight[key] = True

    def _move(self, key: str, now: float) -> None:
        waiting = self._known[key]
        due = waiting.failed_at + waiting.backoff_s()
        if due <= now:
            self._activate(key)
        else:
            del self._unschedulable[key]
            self._backoff[key] = due

    def advance(self, now: float) -> None:
        """Activate what has backed off, and what has been unschedulable for too long."""
        for key in [k for k, due in self._backoff.items() if due <= now]:
            self._activate(key)
        for key in [k for k, since in self._unschedulable.items() if since + UNSCHEDULABLE_MAX_S <= now]:
            self._activate(key)

    def next_due(self) -> float | None:
        """When `advance` has something to do; None if nothing waits for time."""
        times = [*self._backoff.values(), *(since + UNSCHEDULABLE_MAX_S for since in self._unschedulable.values())]
        return min(times, default=None)

    def pending(self) -> dict[str, int]:
        """For the metric scheduler_pending_pods."""
        return {"active": len(self._active_keys), "backoff": len(self._backoff), "unschedulable": len(self._unschedulable)}
