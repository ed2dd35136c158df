"""Leader election on a Lease: of several replicas one acts (client-go's leaderelection with the Lease lock).

It is an optimisation, not mutual exclusion: a paused leader may still act for a moment (RELIABILITY, lesson 8), so every write of the
led work must be safe beside another leader's. Times of others are never compared with our clock: a lease is stale when *we* have not
seen it change for its duration.
"""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import status, timestamps
from kubette.client import resources
from kubette.client.rest import FAILURES, Client
from kubette.component_base import logs
from kubette.stdx.clock import SYSTEM_CLOCK, Clock
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)

RETRY_JITTER = 1.2  # upstream's JitterFactor, so that waiting candidates do not ask in step


class LeadershipLost(Exception):
    """The lease could not be renewed in time: the process must end, its supervisor starts it as a candidate again."""


def new_identity(hostname: str) -> str:
    """Upstream's `host_uuid`."""
    return f"{hostname}_{uuid.uuid4()}"


@dataclass(frozen=True, slots=True)
class Config:
    """Which lease, who we are, and upstream's defaults for the times."""

    name: str
    identity: str
    namespace: str = "kube-system"
    lease_duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_period_s: float = 2.0

    def validate(self) -> None:
        """Raises ValueError in upstream's words."""
        if self.lease_duration_s <= self.renew_deadline_s:
            raise ValueError("leaseDuration must be greater than renewDeadline")
        if self.renew_deadline_s <= RETRY_JITTER * self.retry_period_s:
            raise ValueError("renewDeadline must be greater than retryPeriod*JitterFactor")
        if min(self.lease_duration_s, self.renew_deadline_s, self.retry_period_s) < 0:
            raise ValueError("leaseDuration, renewDeadline and retryPeriod must be greater than zero")


@dataclass(slots=True)
class Observation:
    """Pure part: the lease as last seen, and when we saw it change."""

    spec: dict[str, Any] = field(default_factory=dict)
    changed_at: float = float("-inf")

    def see(self, spec: dict[str, Any], now: float) -> None:
        if spec != self.spec:
            self.spec, self.changed_at = dict(spec), now

    @property
    def holder(self) -> str:
        return str(self.spec.get("holderIdentity") or "")

    def may_take(self, identity: str, now: float) -> bool:
        """Whether `identity` holds it already, nobody does, or its holder was silent for the whole duration."""
        duration_s = float(self.spec.get("leaseDurationSeconds") or 0)
        return self.holder in ("", identity) or self.changed_at + duration_s <= now


def next_spec(old: dict[str, Any] | None, config: Config, wall: float) -> dict[str, Any]:
    """The lease's spec when `config.identity` takes or renews it."""
    now = timestamps.format_micro_time(wall)
    spec: dict[str, Any] = {
        "holderIdentity": config.identity,
        "leaseDurationSeconds": int(config.lease_duration_s),
        "acquireTime": now,
        "renewTime": now,
        "leaseTransitions": 0,
    }
    if old is not None:
        transitions = int(old.get("leaseTransitions") or 0)
        if old.get("holderIdentity") == config.identity:
            spec["acquireTime"] = old.get("acquireTime") or now
            spec["leaseTransitions"] = transitions
        else:
            spec["leaseTransitions"] = transitions + 1
    return spec


class LeaderElector:
    """Waits for the lease, runs the led work while renewing it, gives it back at the end."""

    def __init__(self, client: Client, config: Config, clock: Clock = SYSTEM_CLOCK, rng: random.Random | None = None) -> None:
        config.validate()
        self._client, self._config, self._clock = client, config, clock
        self._rng = rng or random.Random()
        self._observed = Observation()
        self._lease: dict[str, Any] | None = None
        self.is_leader = False
        self.on_new_leader: Callable[[str], None] | None = None

    @property
    def leader(self) -> str:
        """The identity of the holder as last seen."""
        return self._observed.holder

    def healthy(self, tolerance_s: float = 20.0) -> bool:
        """False for a leader whose lease ran out longer ago than the tolerance and that still runs (the `leaderElection` health check)."""
        if not self.is_leader:
            return True
        return self._clock.monotonic() <= self._observed.changed_at + self._config.lease_duration_s + tolerance_s

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Acquire, then run `lead` until cancelled; a lost lease raises LeadershipLost and cancels `lead`."""
        await self._acquire()
        try:
            async with Scope() as scope:
                scope.start(self._keep(), "leader election renewal")
                scope.start(_run(lead), "led work")
                await scope.wait()
        finally:
            await self._release()

    async def _acquire(self) -> None:
        log.info("Attempting to acquire leader lease", lease=f"{self._config.namespace}/{self._config.name}")
        while True:
            if await self._try_acquire_or_renew():
                break
            await asyncio.sleep(self._config.retry_period_s * (1 + RETRY_JITTER * self._rng.random()))
        self.is_leader = True
        log.info("Successfully acquired lease", lease=f"{self._config.namespace}/{self._config.name}")

    async def _keep(self) -> None:
        """Renew every retry period; raise when it did not succeed for a whole renew deadline."""
        config = self._config
        while True:
            await asyncio.sleep(config.retry_period_s)
            try:
                async with asyncio.timeout(config.renew_deadline_s):
                    while True:
                        if await self._try_acquire_or_renew():
                            break
                        await asyncio.sleep(config.retry_period_s)
            except TimeoutError:
                self.is_leader = False
                log.info("Failed to renew lease", lease=f"{config.namespace}/{config.name}", err="timed out waiting for the condition")
                raise LeadershipLost("leaderelection lost") from None

    async def _try_acquire_or_renew(self) -> bool:
        config = self._config
        try:
            return await self._try_once()
        except FAILURES as error:
            self._lease = None  # it may have changed: read it before the next attempt
            if not (status.is_conflict(error) or status.is_already_exists(error)):
                log.error("Error retrieving or updating lease lock", err=error, lease=f"{config.namespace}/{config.name}")
            return False

    async def _try_once(self) -> bool:
        config = self._config
        # The holder's own copy is the newest there is: renewing needs one request, not two (client-go's fast path).
        lease = self._lease if self.is_leader else None
        if lease is None:
            try:
                lease = await self._client.get(resources.LEASES, config.namespace, config.name)
            except status.ApiError as error:
                if not status.is_not_found(error):
                    raise
                body = {"metadata": {"name": config.name, "namespace": config.namespace}, "spec": next_spec(None, config, self._clock.wall())}
                self._saw(await self._client.create(resources.LEASES, config.namespace, body))
                return True
            self._saw(lease)
        if not self._observed.may_take(config.identity, self._clock.monotonic()):
            return False
        if self.is_leader and self._observed.holder != config.identity:
            return False  # someone took it: never take it back, the led work is to end
        spec = {**(lease.get("spec") or {}), **next_spec(lease.get("spec") or {}, config, self._clock.wall())}
        self._saw(await self._client.update(resources.LEASES, {**lease, "spec": spec}))
        return True

    def _saw(self, lease: dict[str, Any]) -> None:
        before = self._observed.holder
        self._lease = lease
        self._observed.see(lease.get("spec") or {}, self._clock.monotonic())
        if self._observed.holder != before:
            log.info("New leader elected", identity=self._observed.holder)
            if self.on_new_leader is not None:
                self.on_new_leader(self._observed.holder)

    async def _release(self) -> None:
        """Give the lease up so that the next candidate need not wait for it to run out."""
        if not self.is_leader or self._lease is None:
            return
        self.is_leader = False
        spec = {**(self._lease.get("spec") or {})}
        if spec.get("holderIdentity") != self._config.identity:
            return
        now = timestamps.format_micro_time(self._clock.wall())
        spec.update(holderIdentity="", leaseDurationSeconds=1, renewTime=now, acquireTime=now)
        try:
            async with asyncio.timeout(self._config.retry_period_s):
                await self._client.update(resources.LEASES, {**self._lease, "spec": spec})
        except (*FAILURES, TimeoutError) as error:
            log.error("Failed to release lock", err=error)


async def _run(lead: Callable[[], Awaitable[None]]) -> None:
    await lead()
