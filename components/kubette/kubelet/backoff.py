"""Pure: back-off by key (client-go's flowcontrol.Backoff): 10 s, doubled at each failure up to 5 min, forgotten after twice the maximum."""

from dataclasses import dataclass

INITIAL_S = 10.0
MAX_S = 300.0


@dataclass(slots=True)
class _Entry:
    delay_s: float
    updated_at: float


class KeyedBackoff:
    """Delays by key. `event_at` is when the failure happened, `now` the present; both of one clock."""

    def __init__(self, initial_s: float = INITIAL_S, max_s: float = MAX_S) -> None:
        self._initial_s, self._max_s = initial_s, max_s
        self._entries: dict[str, _Entry] = {}

    def delay_s(self, key: str) -> float:
        """The present delay of the key, 0 if it has none."""
        entry = self._entries.get(key)
        return entry.delay_s if entry else 0.0

    def next(self, key: str, event_at: float, now: float) -> None:
        """Count a failure."""
        entry = self._entries.get(key)
        if entry is None or event_at - entry.updated_at > 2 * self._max_s:
            self._entries[key] = _Entry(self._initial_s, now)
        else:
            entry.delay_s = min(entry.delay_s * 2, self._max_s)
            entry.updated_at = now

    def remaining_s(self, key: str, event_at: float, now: float) -> float:
        """How long to wait still, counted from the failure; 0 when one may go on."""
        entry = self._entries.get(key)
        if entry is None or event_at - entry.updated_at > 2 * self._max_s:
            return 0.0
        return max(0.0, event_at + entry.delay_s - now)

    def remaining_since_update_s(self, key: str, now: float) -> float:
        """Likewise, counted from the last `next` (image pulls)."""
        entry = self._entries.get(key)
        return self.remaining_s(key, entry.updated_at, now) if entry else 0.0

    def forget(self, prefix: str) -> None:
        """Drop every key that begins so (the pod's uid)."""
        for key in [k for k in self._entries if k.startswith(prefix)]:
            del self._entries[key]
