"""Pure: what the leader knows about one member's log, and how fast it may send to it.

PROBE: at most one message a heartbeat, until the member's log is found. REPLICATE: optimistic, a window of messages in
flight. SNAPSHOT: nothing until the snapshot has arrived.

    PROBE ──match found──► REPLICATE ──reject, unreachable──► PROBE ──log too short──► SNAPSHOT ──applied, failed──► PROBE
"""

from collections import deque
from enum import Enum


class State(Enum):
    PROBE = "StateProbe"
    REPLICATE = "StateReplicate"
    SNAPSHOT = "StateSnapshot"


class Inflights:
    """The window of APP messages sent and not yet acknowledged: their last indexes and sizes."""

    __slots__ = ("_window", "bytes", "max_bytes", "max_messages")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.bytes = 0
        self._window: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._window)

    def add(self, last_index: int, size: int) -> None:
        assert not self.full(), "cannot add into a full window"
        self._window.append((last_index, size))
        self.bytes += size

    def free_le(self, index: int) -> None:
        """Forget every message whose last index is at most `index`."""
        while self._window and self._window[0][0] <= index:
            self.bytes -= self._window.popleft()[1]

    def full(self) -> bool:
        return len(self._window) >= self.max_messages or (self.max_bytes > 0 and self.bytes >= self.max_bytes)

    def reset(self) -> None:
        self._window.clear()
        self.bytes = 0


class Progress:
    """`match` is known to be in the member's log, `next` is what to send next; match < next."""

    __slots__ = ("flow_paused", "inflights", "is_learner", "match", "next", "pending_snapshot", "recent_active", "state")

    def __init__(self, next_index: int, inflights: Inflights, match: int = 0, is_learner: bool = False) -> None:
        self.match = match
        self.next = next_index
        self.state = State.PROBE
        self.pending_snapshot = 0
        self.recent_active = False
        self.flow_paused = False  # one probe is out, or the window is full: wait for an answer or a heartbeat's
        self.inflights = inflights
        self.is_learner = is_learner

    def _reset(self, state: State) -> None:
        self.flow_paused = False
        self.pending_snapshot = 0
        self.state = state
        self.inflights.reset()

    def become_probe(self) -> None:
        if self.state is State.SNAPSHOT:
            # The snapshot has arrived (or not): go on right after it if it did.
            pending = self.pending_snapshot
            self._reset(State.PROBE)
            self.next = max(self.match + 1, pending + 1)
        else:
            self._reset(State.PROBE)
            self.next = self.match + 1

    def become_replicate(self) -> None:
        self._reset(State.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        self._reset(State.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1

    def sent_entries(self, count: int, size: int) -> None:
        """An APP message with `count` entries left."""
        if self.state is State.REPLICATE:
            if count:
                self.next += count
                self.inflights.add(self.next - 1, size)
            self.flow_paused = self.inflights.full()
        elif self.state is State.PROBE:
            if count:
                self.flow_paused = True
        else:
            raise AssertionError(f"sending entries in state {self.state}")

    def maybe_update(self, index: int) -> bool:
        """The member acknowledged everything up to `index`; answers whether that is news."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.flow_paused = False
        return True

    def maybe_decr_to(self, rejected: int, hint: int) -> bool:
        """The member refused the entries after `rejected`; answers False when the refusal is stale."""
        if self.state is State.REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
            return True
        # In PROBE only the message that is out can be refused: it was sent after next-1.
        if self.next - 1 != rejected:
            return False
        self.next = max(min(rejected, hint + 1), self.match + 1)
        self.flow_paused = False
        return True

    def is_paused(self) -> bool:
        return self.flow_paused if self.state is not State.SNAPSHOT else True
