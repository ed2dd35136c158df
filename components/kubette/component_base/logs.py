"""Structured logs in klog's text format.

    log = logs.logger(__name__)
    log.info("Started pod worker", pod="default/web", restarts=1)

The message is constant, past tense, no full stop; what varies are key=value pairs. `-v` sets how much is written.
"""

import os
import sys
import time
import traceback
from typing import Any, Protocol

from kubette.stdx.clock import SYSTEM_CLOCK

_threshold = 0
_sink: "Sink | None" = None


class Sink(Protocol):
    """Another form than klog's, and another place than standard error. `severity` is D, I, W or E; `depth` frames up is who logs."""

    def write(self, severity: str, name: str, message: str, pairs: dict[str, Any], depth: int) -> None: ...


def set_sink(sink: Sink | None) -> None:
    """Lines of this process go there from now on (None: klog's text on standard error)."""
    global _sink
    _sink = sink


def set_verbosity(level: int) -> None:
    """What `-v` means: `log.v(n, ...)` is written when n <= level."""
    global _threshold
    _threshold = level


def _quote(value: Any) -> str:
    if isinstance(value, BaseException):
        value = str(value) or type(value).__name__
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class Logger:
    """Writes one line to standard error per call; never raises."""

    __slots__ = ("_bound", "_name")

    def __init__(self, name: str, bound: dict[str, Any] | None = None) -> None:
        self._name = name
        self._bound = bound or {}

    def bind(self, **pairs: Any) -> "Logger":
        """A logger that adds these pairs to every line."""
        return Logger(self._name, {**self._bound, **pairs})

    def info(self, message: str, **pairs: Any) -> None:
        self._write("I", message, pairs)

    def v(self, level: int, message: str, **pairs: Any) -> None:
        if level <= _threshold:
            self._write("D", message, pairs)

    def warning(self, message: str, **pairs: Any) -> None:
        self._write("W", message, pairs)

    def error(self, message: str, err: BaseException | str | None = None, **pairs: Any) -> None:
        """`err` is shown as klog shows it; at -v=6 its traceback follows."""
        self._write("E", message, {"err": err, **pairs} if err is not None else pairs)
        if isinstance(err, BaseException) and _threshold >= 6:
            traceback.print_exception(err, file=sys.stderr)

    def _write(self, severity: str, message: str, pairs: dict[str, Any]) -> None:
        if self._bound:
            pairs = {**self._bound, **pairs}
        if _sink is not None:
            _sink.write(severity, self._name, message, pairs, 3)
            return
        severity = "I" if severity == "D" else severity
        now = SYSTEM_CLOCK.wall()
        stamp = time.strftime("%m%d %H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1e6):06d}"
        source = self._name.rsplit(".", 1)[-1]
        text = "".join(f" {k}={_quote(v)}" for k, v in pairs.items())
        try:
            sys.stderr.write(f'{severity}{stamp} {os.getpid():7d} {source}.py] "{message}"{text}\n')
            sys.stderr.flush()
        except (OSError, ValueError):
            return


def logger(name: str) -> Logger:
    """The logger of a module; pass `__name__`."""
    return Logger(name)
