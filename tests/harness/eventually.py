"""Waiting for the world to reach a state, with the last thing seen in the failure.

`kubectl wait` and `kubectl get -w` are better where they can say it; this is for the rest (an answer over the network, a file, a process).
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
INTERVAL_S = 0.1


def eventually(look: Callable[[], T], is_reached: Callable[[T], object] = bool, timeout_s: float = 20.0, what: str = "") -> T:
    """Looks until what is seen satisfies `is_reached`, and answers it. What `look` raises as AssertionError or OSError counts as not yet."""
    deadline = time.monotonic() + timeout_s
    while True:
        seen: object
        try:
            seen = value = look()
            if is_reached(value):
                return value
        except (AssertionError, OSError) as error:
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what or is_reached}; last seen: {seen}")
        time.sleep(INTERVAL_S)
