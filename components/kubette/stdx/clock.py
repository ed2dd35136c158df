"""The one place where the program asks what time it is.

Timeouts and periods use `monotonic` (a wall clock may jump); timestamps shown to people use `wall`.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds. `monotonic` never goes back; `wall` is the Unix time."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


SYSTEM_CLOCK = SystemClock()
