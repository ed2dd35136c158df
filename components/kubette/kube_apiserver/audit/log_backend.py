"""Where audit events go: standard output, or a file that is rotated by size and whose old ones are limited in number and age.

Counterparts upstream: plugin/audit/log, plugin/audit/buffered, and the lumberjack library, whose names of old files are kept: `audit-2026-01-02T03-04-05.006.log`.

A `blocking` mode writes before the request goes on; `batch` keeps up to BUFFER_EVENTS lines and writes them a moment later, in one piece. What does not fit is
dropped and counted. A line is written by one write(2): no reader sees half of one unless the disk is full.
"""

import asyncio
import contextlib
import datetime
import os
import re
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from kubette.kube_apiserver.audit.options import BATCH
from kubette.stdx.clock import Clock

BUFFER_EVENTS = 10_000  # upstream's --audit-log-batch-buffer-size
DEFAULT_SIZE_MB = 100  # lumberjack's, for --audit-log-maxsize=0
MEGABYTE = 1024 * 1024
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}")


class Output(Protocol):
    """Takes whole lines. Raises OSError."""

    def write(self, lines: bytes) -> None: ...


class Standard:
    """--audit-log-path=-"""

    def write(self, lines: bytes) -> None:
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()


class RotatedFile:
    """One file at a time; a line that would make it too long begins the next."""

    def __init__(self, path: str, size_mb: int, backups: int, age_days: int, clock: Clock) -> None:
        self._path = Path(path)
        self._limit = (size_mb or DEFAULT_SIZE_MB) * MEGABYTE
        self._backups, self._age_s, self._clock = backups, age_days * 86400, clock
        self._fd, self._size = -1, 0

    def write(self, lines: bytes) -> None:
        if self._fd >= 0 and self._size + len(lines) > self._limit:
            self._rotate()
        if self._fd < 0:
            self._open()
        self._size += len(lines)
        while lines:
            lines = lines[os.write(self._fd, lines) :]

    def _open(self) -> None:
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        os.close(self._fd)
        self._fd = -1
        moment = datetime.datetime.fromtimestamp(self._clock.wall(), datetime.UTC)
        stamp = moment.strftime("%Y-%m-%dT%H-%M-%S.") + f"{moment.microsecond // 1000:03}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._path, self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        self._remove_old()

    def _old(self) -> list[tuple[str, Path]]:
        """Rotated files with their times, the newest first."""
        prefix, suffix = f"{self._path.stem}-", self._path.suffix
        found = []
        for path in self._path.parent.iterdir():
            stamp = path.name.removeprefix(prefix).removesuffix(suffix)
            if path.name == f"{prefix}{stamp}{suffix}" and _STAMP.fullmatch(stamp):
                found.append((stamp, path))
        return sorted(found, reverse=True)

    def _remove_old(self) -> None:
        oldest = self._clock.wall() - self._age_s
        for number, (stamp, path) in enumerate(self._old()):
            made = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H-%M-%S.%f").replace(tzinfo=datetime.UTC).timestamp()
            if (self._backups and number >= self._backups) or (self._age_s and made < oldest):
                path.unlink(missing_ok=True)


class Backend:
    """`put` answers whether the line is written, or will be. `failed` hears of lines that are lost, and why."""

    def __init__(self, output: Output, mode: str, failed: Callable[[int, str], None]) -> None:
        self._output, self._mode, self._failed = output, mode, failed
        self._waiting: deque[bytes] = deque()

    def put(self, line: bytes) -> bool:
        if self._mode != BATCH:
            return self._write(line, 1)
        if len(self._waiting) >= BUFFER_EVENTS:
            self._failed(1, "audit buffer queue blocked")
            return True
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append(line)
        return True

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            count, lines = len(self._waiting), b"".join(self._waiting)
            self._waiting.clear()
            self._write(lines, count)

    def _write(self, lines: bytes, count: int) -> bool:
        try:
            self._output.write(lines)
        except OSError as error:
            self._failed(count, str(error))
            return False
        return True
