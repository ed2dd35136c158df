"""The pod lifecycle event generator: tells which pods' containers changed (upstream's evented PLEG).

It follows the runtime's event stream and, because a stream may break or an event get lost, compares lists: once after each (re)connect
and then every five minutes. While there is no stream it lists once a second, as upstream's generic PLEG does.
"""

import asyncio
from collections.abc import Callable

from kubette.component_base import logs
from kubette.kubelet.cri_client import POD_UID_LABEL, CriClient, CriError
from kubette.stdx.clock import Clock
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)

RELIST_S = 1.0
EVENTED_RELIST_S = 300.0
UNHEALTHY_AFTER_S = 180.0  # upstream's relistThreshold


class Pleg:
    """`changed(uid)` is called for every pod that may have changed."""

    def __init__(self, cri: CriClient, clock: Clock, changed: Callable[[str], None]) -> None:
        self._cri, self._clock, self._changed = cri, clock, changed
        self._seen: dict[str, tuple[tuple[str, int], ...]] = {}
        self._relisted_at: float | None = None
        self._streaming = False
        self.last_error = ""

    def healthy(self) -> str:
        """Empty, or why the node is not ready, in upstream's words."""
        if self._relisted_at is None:
            return "pleg has yet to be successful"
        elapsed = self._clock.monotonic() - self._relisted_at
        limit = EVENTED_RELIST_S + UNHEALTHY_AFTER_S if self._streaming else UNHEALTHY_AFTER_S
        return f"pleg was last seen active {elapsed:.0f}s ago; threshold is {limit:.0f}s" if elapsed > limit else ""

    async def relist(self) -> None:
        """Compare what runs with what ran at the last look."""
        sandboxes, containers = await asyncio.gather(self._cri.list_sandboxes(), self._cri.list_containers())
        seen: dict[str, list[tuple[str, int]]] = {}
        for sandbox in sandboxes:
            seen.setdefault(sandbox.metadata.uid, []).append((sandbox.id, sandbox.state))
        for container in containers:
            seen.setdefault(container.labels.get(POD_UID_LABEL, ""), []).append((container.id, container.state))
        present = {uid: tuple(sorted(items)) for uid, items in seen.items() if uid}
        before, self._seen = self._seen, present
        self._relisted_at = self._clock.monotonic()
        for uid in sorted(before.keys() | present.keys()):
            if before.get(uid) != present.get(uid):
                self._changed(uid)

    async def run(self) -> None:
        """Follow the runtime until cancelled."""
        while True:
            try:
                await self.relist()
                self.last_error = ""
                await self._follow()
            except CriError as error:
                if str(error) != self.last_error:
                    log.error("Container runtime events are not available, listing instead", err=error)
                self.last_error = str(error)
            self._streaming = False
            await asyncio.sleep(RELIST_S)

    async def _follow(self) -> None:
        async with Scope() as scope:
            self._streaming = True
            scope.start(self._relist_now_and_then())
            async for event in self._cri.events():
                if uid := event.pod_sandbox_status.metadata.uid:
                    self._changed(uid)
                else:
                    await self.relist()

    async def _relist_now_and_then(self) -> None:
        # The second list covers what happened between the first one and the beginning of the stream.
        delay_s = RELIST_S
        while True:
            await asyncio.sleep(delay_s)
            delay_s = EVENTED_RELIST_S
            try:
                await self.relist()
            except CriError as error:
                log.error("Failed to list the runtime's pods", err=error)
