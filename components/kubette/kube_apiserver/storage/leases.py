"""etcd leases for objects that expire (events): one lease is shared by all objects written within a minute, as upstream does.

An object lives at least its TTL and at most a minute longer; etcd keeps a few dozen leases instead of one an event.
"""

import asyncio

from kubette.etcd_client import Client
from kubette.stdx.clock import Clock

REUSE_S = 60.0  # upstream's leaseReuseDurationSeconds
ATTACHED_MAX = 1000  # upstream's defaultMaxObjectCount


class Leases:
    """Grants and reuses."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._current: dict[int, tuple[int, float, int]] = {}  # TTL → lease, when it was granted, objects attached
        self._lock = asyncio.Lock()

    def forget(self) -> None:
        """Another etcd does not know them."""
        self._current.clear()

    async def lease_for(self, ttl_s: int) -> int:
        """A lease that outlives `ttl_s`. Raises EtcdError."""
        async with self._lock:
            now = self._clock.monotonic()
            lease, granted, attached = self._current.get(ttl_s, (0, 0.0, 0))
            if not lease or now - granted > min(REUSE_S, ttl_s * 0.05) or attached >= ATTACHED_MAX:
                answer = await self._client.lease_grant(int(ttl_s + min(REUSE_S, max(1.0, ttl_s * 0.05))))
                lease, granted, attached = int(answer.ID), now, 0
            self._current[ttl_s] = (lease, granted, attached + 1)
            return lease
