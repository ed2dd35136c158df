"""Progress as kind shows it: one line a phase, with its time."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    """Prints to `out`; on a terminal the running phase is shown too."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._is_terminal = self._out.isatty()

    def say(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """` ✓ title  1.2s`, or ` ✗ …` when it raises."""
        if self._is_terminal:
            print(f" • {title} …", end="", file=self._out, flush=True)
        started = time.monotonic()
        mark = "✗"
        try:
            yield
            mark = "✓"
        finally:
            clear = "\r\x1b[K" if self._is_terminal else ""
            print(f"{clear} {mark} {title}  {time.monotonic() - started:.1f}s", file=self._out, flush=True)
