"""Log lines as etcd writes them (`--log-format=json` and `console`), to the outputs of `--log-outputs`.

Counterpart of upstream's zap configuration: one line an event, `level`, `ts`, `caller` and `msg` first, then the pairs.
"""

import contextlib
import json
import sys
import time
from typing import Any, TextIO

from kubette.component_base import logs
from kubette.component_base.run import StartupError
from kubette.etcd.config import Logging
from kubette.stdx.clock import SYSTEM_CLOCK

_LEVELS = {"debug": 0, "info": 1, "warn": 2, "error": 3, "panic": 4, "fatal": 5}
_NAMES = {"D": "debug", "I": "info", "W": "warn", "E": "error"}
DEBUG_VERBOSITY = 4


class ZapSink:
    """Writes lines of a level and above; never raises."""

    def __init__(self, level: str, form: str, outputs: list[TextIO]) -> None:
        self._threshold = _LEVELS[level]
        self._form = form
        self._outputs = outputs

    def write(self, severity: str, name: str, message: str, pairs: dict[str, Any], depth: int) -> None:
        level = _NAMES[severity]
        if _LEVELS[level] < self._threshold:
            return
        caller = "/".join(name.split(".")[-2:]) + f".py:{sys._getframe(depth).f_lineno}"
        fields = {("error" if key == "err" else key.replace("_", "-")): _value(value) for key, value in pairs.items()}
        if self._form == "json":
            line = json.dumps({"level": level, "ts": _stamp(), "caller": caller, "msg": message, **fields}, separators=(",", ":"), ensure_ascii=False)
        else:
            rest = "\t" + json.dumps(fields, ensure_ascii=False) if fields else ""
            line = f"{_stamp()}\t{level}\t{caller}\t{message}{rest}"
        for output in self._outputs:
            with contextlib.suppress(OSError, ValueError):
                output.write(line + "\n")
                output.flush()


def _value(value: Any) -> Any:
    if isinstance(value, BaseException):
        return str(value) or type(value).__name__
    return value if isinstance(value, (bool, int, float, str, list, tuple)) else str(value)


def _stamp() -> str:
    now = SYSTEM_CLOCK.wall()
    zone = time.strftime("%z", time.localtime(now))
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1e6):06d}" + ("Z" if zone == "+0000" else zone)


def install(config: Logging) -> None:
    """Lines of this process take this form from now on. Raises StartupError when a file cannot be opened."""
    outputs: dict[str, TextIO] = {}
    for name in config.outputs:
        if name == "/dev/null":
            outputs = {}
            break
        try:
            outputs[name] = sys.stderr if name in ("default", "stderr") else sys.stdout if name == "stdout" else open(name, "a")  # noqa: SIM115
        except OSError as error:
            raise StartupError(f'couldn\'t open sink "{name}": open {name}: {(error.strerror or str(error)).lower()}') from error
    logs.set_verbosity(DEBUG_VERBOSITY if config.level == "debug" else 0)
    logs.set_sink(ZapSink(config.level, config.format, list(outputs.values())))
