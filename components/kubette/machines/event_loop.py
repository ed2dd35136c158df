"""A small single-threaded event loop for the supervisor: descriptors, timers, signals.

Not asyncio: the supervisor forks machines out of itself, and a child that carries a running event loop inside it cannot start one of its own.
"""

import heapq
import itertools
import os
import selectors
import signal
from collections.abc import Callable

from kubette.stdx.clock import Clock

Callback = Callable[[], None]


class Timer:
    """A callback at a time; `cancel` makes it nothing."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class EventLoop:
    """`run` until `stop`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._stopped = False
        self._signals: dict[int, Callback] = {}
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)

    def on_readable(self, fd: int, callback: Callback) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def forget(self, fd: int) -> None:
        self._selector.unregister(fd)

    def call_later(self, delay_s: float, callback: Callback) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (self._clock.monotonic() + delay_s, next(self._order), timer))
        return timer

    def on_signal(self, which: signal.Signals, callback: Callback) -> None:
        if not self._signals:
            signal.set_wakeup_fd(self._wake_write)
            self.on_readable(self._wake_read, self._deliver_signals)
        self._signals[which] = callback
        signal.signal(which, lambda *_: None)

    def _deliver_signals(self) -> None:
        for which in sorted(set(os.read(self._wake_read, 4096))):
            if which in self._signals:
                self._signals[which]()

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        while not self._stopped:
            timeout = max(0.0, self._timers[0][0] - self._clock.monotonic()) if self._timers else None
            for key, _ in self._selector.select(timeout):
                # An earlier callback of this round may have closed the descriptor.
                if self._selector.get_map().get(key.fd) is key:
                    key.data()
            while self._timers and self._timers[0][0] <= self._clock.monotonic():
                timer = heapq.heappop(self._timers)[2]
                if timer.callback is not None:
                    timer.callback()
