"""Pure: linearizable reads without a log entry (dissertation §6.4).

The leader notes its commit index, proves by a round of heartbeats that it still leads, and then releases the read. A lease
would save the round, but trusts clocks: it is not offered.
"""

from dataclasses import dataclass, field

from kubette.raft.messages import Message

MAX_PENDING = 4096  # further reads are dropped and time out at their callers


@dataclass(slots=True)
class Pending:
    """One read waiting for a quorum to confirm the leader."""

    request: Message
    index: int
    acks: dict[int, bool] = field(default_factory=dict)


class ReadOnly:
    """The reads in order of arrival, by their context."""

    def __init__(self) -> None:
        self._pending: dict[bytes, Pending] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add_request(self, index: int, request: Message) -> bool:
        """Note a read at commit index `index`; False when the context is already waiting or too many are."""
        if request.context in self._pending or len(self._pending) >= MAX_PENDING:
            return False
        self._pending[request.context] = Pending(request, index)
        return True

    def recv_ack(self, node: int, context: bytes) -> dict[int, bool]:
        """A member confirmed the heartbeat that carried `context`; answers all who did."""
        pending = self._pending.get(context)
        if pending is None:
            return {}
        pending.acks[node] = True
        return pending.acks

    def advance(self, context: bytes) -> list[Pending]:
        """The read with `context` is confirmed, and with it every earlier one."""
        if context not in self._pending:
            return []
        released = []
        for key in list(self._pending):
            released.append(self._pending.pop(key))
            if key == context:
                break
        return released

    def last_context(self) -> bytes:
        """The newest read's context: one heartbeat confirms them all."""
        return next(reversed(self._pending)) if self._pending else b""
