"""Tasks that live in scopes: the sole user of `create_task`.

`Scope` is a TaskGroup for long-lived parts: started in `__aenter__`, cancelled and awaited in `__aexit__`.
`guard` keeps an eternal activity alive: what it raises is reported and it is started again after a pause.
"""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


class Scope:
    """Owns tasks. Leaving the scope cancels all of them and waits until they are gone.

    A task that fails ends the scope: `wait` re-raises its exception, so that a process never runs on half of its parts.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failure: asyncio.Future[None] | None = None

    async def __aenter__(self) -> "Scope":
        self._failure = asyncio.get_running_loop().create_future()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cancel()
        if self._failure is not None:
            if self._failure.done() and not self._failure.cancelled():
                self._failure.exception()
            else:
                self._failure.cancel()

    def start(self, work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        """Start `work` as a task of this scope; the scope keeps the only strong reference that is needed."""
        task = asyncio.get_running_loop().create_task(work, name=name or None)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or self._failure is None or self._failure.done():
            return
        error = task.exception()
        if error is not None:
            self._failure.set_exception(error)

    async def cancel(self) -> None:
        """Cancel every task and wait for all of them."""
        tasks = [t for t in self._tasks if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)

    async def wait(self) -> None:
        """Block until a task of the scope fails, and raise what it raised."""
        assert self._failure is not None, "wait before enter"
        await asyncio.shield(self._failure)


async def guard(work: Callable[[], Awaitable[None]], report: Callable[[BaseException], None], pause_s: float = 1.0) -> None:
    """Run `work` for ever: report what it raises, pause, start it again."""
    while True:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            report(error)
        await asyncio.sleep(pause_s)


async def until_signal(*signals: signal.Signals) -> signal.Signals:
    """Wait for the first of the signals (SIGTERM and SIGINT when none is named)."""
    loop = asyncio.get_running_loop()
    received: asyncio.Future[signal.Signals] = loop.create_future()

    def deliver(which: signal.Signals) -> None:
        if not received.done():
            received.set_result(which)

    chosen = signals or (signal.SIGTERM, signal.SIGINT)
    for which in chosen:
        loop.add_signal_handler(which, deliver, which)
    try:
        return await received
    finally:
        for which in chosen:
            with contextlib.suppress(RuntimeError):
                loop.remove_signal_handler(which)
