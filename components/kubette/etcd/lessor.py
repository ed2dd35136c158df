"""Pure: leases, and the keys that hang on them.

Only the leader's lessor is *primary*: it alone lets leases expire, by proposing their revocation. A new leader extends all of
them (it does not know when they were last renewed). Times are the driver's monotonic seconds: wall-clock jumps have no effect.
"""

import heapq
from dataclasses import dataclass, field

NO_LEASE = 0
MAX_TTL_S = 9_000_000_000
FOREVER = float("inf")


class LeaseNotFoundError(Exception):
    """No such lease."""


class LeaseExistsError(Exception):
    """The id is taken."""


class LeaseTtlTooLargeError(Exception):
    """Beyond MAX_TTL_S."""


@dataclass(slots=True)
class Lease:
    """`ttl` in seconds as granted; `expiry` is FOREVER unless the lessor is primary."""

    id: int
    ttl: int
    expiry: float = FOREVER
    keys: dict[bytes, None] = field(default_factory=dict)


class Lessor:
    """All leases. `min_ttl` keeps a lease longer than an election."""

    def __init__(self, min_ttl: int) -> None:
        self.min_ttl = min_ttl
        self.primary = False
        self.leases: dict[int, Lease] = {}
        self._lease_of: dict[bytes, int] = {}
        self._expiries: list[tuple[float, int]] = []  # a heap; may hold old times of leases renewed since

    def grant(self, lease_id: int, ttl: int, now: float) -> Lease:
        if lease_id == NO_LEASE:
            raise LeaseNotFoundError
        if ttl > MAX_TTL_S:
            raise LeaseTtlTooLargeError
        if lease_id in self.leases:
            raise LeaseExistsError
        lease = Lease(lease_id, max(ttl, self.min_ttl))
        self.leases[lease_id] = lease
        if self.primary:
            self._set_expiry(lease, now + lease.ttl)
        return lease

    def revoke(self, lease_id: int) -> list[bytes]:
        """Forget a lease; answers its keys, sorted, which the caller deletes in one revision."""
        lease = self.leases.pop(lease_id, None)
        if lease is None:
            raise LeaseNotFoundError
        for key in lease.keys:
            del self._lease_of[key]
        return sorted(lease.keys)

    def renew(self, lease_id: int, now: float) -> int:
        """Start the time of a lease anew (primary only); answers its TTL. An expired one is gone, even if not yet revoked."""
        assert self.primary, "only the primary lessor renews"
        lease = self.leases.get(lease_id)
        if lease is None or lease.expiry <= now:
            raise LeaseNotFoundError
        self._set_expiry(lease, now + lease.ttl)
        return lease.ttl

    def attach(self, key: bytes, lease_id: int) -> None:
        """Hang a key on a lease, or on none; it leaves the one before."""
        before = self._lease_of.pop(key, NO_LEASE)
        if before:
            self.leases[before].keys.pop(key, None)
        if lease_id:
            self.leases[lease_id].keys[key] = None
            self._lease_of[key] = lease_id

    def lease_of(self, key: bytes) -> int:
        return self._lease_of.get(key, NO_LEASE)

    def remaining(self, lease: Lease, now: float) -> int:
        """Whole seconds left, at least 0."""
        if lease.expiry == FOREVER:
            return lease.ttl
        return max(0, int(lease.expiry - now + 0.999))

    def promote(self, now: float, extend_s: float) -> None:
        """This member leads now: every lease gets its full time from here, plus the time an election may have taken."""
        self.primary = True
        self._expiries = []
        for lease in self.leases.values():
            self._set_expiry(lease, now + lease.ttl + extend_s)

    def demote(self) -> None:
        self.primary = False
        self._expiries = []
        for lease in self.leases.values():
            lease.expiry = FOREVER

    def expired(self, now: float, limit: int) -> list[int]:
        """Up to `limit` leases whose time is over. They are named again after a while, in case their revocation gets lost."""
        found: list[int] = []
        while self.primary and self._expiries and self._expiries[0][0] <= now and len(found) < limit:
            at, lease_id = heapq.heappop(self._expiries)
            lease = self.leases.get(lease_id)
            if lease is None or (lease.expiry > at and lease.expiry > now):
                continue
            found.append(lease_id)
            heapq.heappush(self._expiries, (now + 3.0, lease_id))
        return found

    def next_expiry(self) -> float:
        """When to call `expired` next."""
        return self._expiries[0][0] if self._expiries else FOREVER

    def _set_expiry(self, lease: Lease, expiry: float) -> None:
        lease.expiry = expiry
        heapq.heappush(self._expiries, (expiry, lease.id))
        # Renewals leave old times behind: rebuild before they outnumber the leases.
        if len(self._expiries) > 64 + 4 * len(self.leases):
            self._expiries = [(each.expiry, each.id) for each in self.leases.values()]
            heapq.heapify(self._expiries)
