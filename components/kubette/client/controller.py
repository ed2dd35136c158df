"""The reconcile loop: keys in, `reconcile(key)` until it is content (controller-runtime's Controller).

Level-triggered: a reconciler gets a key only, reads the world from caches, and says whether it wants to be called again. One key is
never reconciled twice at once; different keys are, up to `workers`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kubette.apimachinery.status import ApiError
from kubette.client import informer as informers
from kubette.client.store import key_of
from kubette.client.transport import TransportError
from kubette.client.workqueue import DEFAULT_BACKOFF, WorkQueue
from kubette.component_base import logs
from kubette.stdx.backoff import Backoff
from kubette.stdx.clock import SYSTEM_CLOCK, Clock
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """What a reconcile wants: nothing more (the default), or another call after some seconds."""

    requeue_after_s: float | None = None


DONE = Result()
Reconcile = Callable[[str], Awaitable[Result | None]]


class Controller:
    """Owns a queue and the tasks that empty it. `run` waits for the caches, then works until cancelled."""

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        caches: Iterable[informers.Informer] = (),
        workers: int = 5,
        backoff: Backoff = DEFAULT_BACKOFF,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self._reconcile = reconcile
        self._caches = list(caches)
        self._workers = workers
        self._clock = clock
        self.queue = WorkQueue(backoff)
        self._wake = asyncio.Event()
        self._active = 0
        self._counts = {"success": 0, "error": 0}

    def enqueue_key(self, key: str) -> None:
        self.queue.add(key)
        self._wake.set()

    def enqueue(self, obj: dict[str, Any]) -> None:
        """Have the object reconciled."""
        self.enqueue_key(key_of(obj))

    def enqueue_after(self, key: str, delay_s: float) -> None:
        self.queue.add_after(key, delay_s, self._clock.monotonic())
        self._wake.set()

    def statistics(self) -> dict[str, int]:
        """For metrics and debugging."""
        return {"depth": len(self.queue), "active": self._active, **self._counts}

    async def run(self) -> None:
        """Work until cancelled; running reconciles are cancelled with it."""
        await informers.wait_synced(self._caches)
        log.v(2, "Started controller", controller=self.name)
        async with Scope() as scope:
            while True:
                self._wake.clear()
                self.queue.advance(self._clock.monotonic())
                while self._active < self._workers and (key := self.queue.get_nowait()) is not None:
                    self._active += 1
                    scope.start(self._process(key), f"{self.name} {key}")
                await self._wait()

    async def _wait(self) -> None:
        due = self.queue.next_due()
        if due is None:
            await self._wake.wait()
            return
        try:
            async with asyncio.timeout(max(0.0, due - self._clock.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _process(self, key: str) -> None:
        try:
            result = await self._reconcile(key)
        except Exception as error:
            self._counts["error"] += 1
            delay_s = self.queue.add_rate_limited(key, self._clock.monotonic())
            self._report(key, error, delay_s)
        else:
            self._counts["success"] += 1
            self.queue.forget(key)
            if result is not None and result.requeue_after_s is not None:
                self.queue.add_after(key, result.requeue_after_s, self._clock.monotonic())
        finally:
            self.queue.done(key)
            self._active -= 1
            self._wake.set()

    def _report(self, key: str, error: Exception, delay_s: float) -> None:
        # A conflict means that the cache was behind: normal life. What is neither an answer nor a network failure is a bug.
        # So is a namespace that goes away while its objects are still being looked after.
        if isinstance(error, ApiError) and (error.code in (404, 409) or _is_namespace_terminating(error)):
            log.v(2, "Reconcile met a newer object", controller=self.name, key=key, err=error)
        elif isinstance(error, (ApiError, TransportError)):
            log.error("Reconcile failed", err=error, controller=self.name, key=key, retry_after_s=round(delay_s, 3))
        else:
            import traceback

            log.error(
                "Reconcile failed", err="".join(traceback.format_exception(error)), controller=self.name, key=key, retry_after_s=round(delay_s, 3)
            )


def _is_namespace_terminating(error: ApiError) -> bool:
    return any(cause.get("reason") == "NamespaceTerminating" for cause in error.details.get("causes") or ())
