"""Event loops under one virtual clock: one thread runs the asyncio code of many processes, always in the same order.

Every process has a loop of its own. What it waits for is in the scheduler's heap, ordered by time; a step is one thing that was
due, and everything that the process does in consequence without waiting. A process that crashes loses its loop: its tasks end
where they stand. One that is paused (SIGSTOP) takes up later what was due meanwhile.
"""

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

MAX_CALLS = 100_000  # in one step: beyond that something runs in circles


class Scheduler:
    """The clock and what is due."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, ProcessLoop | None, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, when: float, loop: "ProcessLoop | None", call: Callable[..., object], *args: Any) -> None:
        """Call it then, as the process of `loop` (None: as the world)."""
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, loop, call, args))

    def after(self, delay: float, call: Callable[..., object], *args: Any) -> None:
        """As the world."""
        self.at(self.now + delay, None, call, *args)

    def step(self, until: float) -> "ProcessLoop | bool | None":
        """The next thing that is due before `until`: answers the loop it belonged to (None: the world), False when there is none."""
        heap = self._heap
        while heap:
            if heap[0][0] > until:
                break
            when, _, loop, call, args = heapq.heappop(heap)
            if when > self.now:
                self.now = when
            if loop is None:
                call(*args)
                return None
            if loop.closed:
                continue
            if loop.paused_until > self.now:
                self.at(loop.paused_until, loop, call, *args)
                continue
            loop.run(call, args)
            return loop
        self.now = max(self.now, until)
        return False


class _Timer(asyncio.TimerHandle):
    """Calls as long as it is not cancelled."""

    __slots__ = ()

    def fire(self) -> None:
        if not self._cancelled:
            self._loop._soon.append(self)  # type: ignore[attr-defined]


class ProcessLoop(asyncio.AbstractEventLoop):
    """What asyncio needs of a loop, without files and threads: an executor's work is a step like any other."""

    def __init__(self, scheduler: Scheduler, disk_latency_s: Callable[[], float]) -> None:
        self.scheduler = scheduler
        self.closed = False
        self.paused_until = 0.0
        self.failures: list[BaseException] = []  # of tasks, callbacks: nobody looks at those otherwise
        self._latency = disk_latency_s
        self._soon: deque[asyncio.Handle] = deque()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._busy_until: dict[Executor | None, float] = {}

    # Running

    def run(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Call, and everything that follows at once."""
        asyncio._set_running_loop(self)
        try:
            call(*args)
            soon = self._soon
            for _ in range(MAX_CALLS):
                if not soon or self.closed:
                    return
                handle = soon.popleft()
                if not handle._cancelled:  # type: ignore[attr-defined]
                    handle._context.run(handle._callback, *handle._args)  # type: ignore[attr-defined]
            raise AssertionError("the process runs in circles")
        finally:
            asyncio._set_running_loop(None)

    def kill(self) -> None:
        """Nothing of it runs any more."""
        self.closed = True
        self._soon.clear()
        tasks, self._tasks = self._tasks, {}
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task.get_coro().close()  # type: ignore[union-attr]

    # What asyncio calls

    def time(self) -> float:
        return self.scheduler.now

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.closed:
            self._soon.append(handle)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:
        return self.call_at(self.scheduler.now + max(delay, 0.0), callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:
        handle = _Timer(when, callback, args, self, context)
        self.scheduler.at(when, self, handle.fire)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It finds out itself."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> Any:
        task = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Done by another thread: one after the other in each pool, somewhat later."""
        future = self.create_future()
        start = max(self.scheduler.now, self._busy_until.get(executor, 0.0))
        done = self._busy_until[executor] = start + self._latency()
        self.scheduler.at(done, self, self._work, future, func, args)
        return future

    def _work(self, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            result = func(*args)
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self.failures.append(error)  # the process is dead
        else:
            if not future.done():
                future.set_result(result)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        # An answer that nobody waits for any more may be an error.
        if not self.closed and "never retrieved" not in context["message"]:
            self.failures.append(context.get("exception") or AssertionError(context["message"]))

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.closed

    def is_closed(self) -> bool:
        return self.closed
