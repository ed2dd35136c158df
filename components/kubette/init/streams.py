"""The output of units: pipes (or a terminal) that init holds, and where what comes out of them goes.

    process ──pipe──► Reader ──► Sink: journal lines, or a CRI log file
                            └──► whoever is attached

A reader takes at most one chunk a turn of the loop, so that one chatty unit does not starve the others; the pipe pushes back on its writer.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from kubette.init import cri_log, journal_text
from kubette.init.journal import Journal
from kubette.stdx.clock import Clock

CHUNK_BYTES = 64 * 1024
# After a unit is down somebody may still hold its pipe; what is in it is taken, but not for ever.
DRAIN_CHUNKS_MAX = 64


class Sink(Protocol):
    def feed(self, stream: str, data: bytes) -> None: ...

    def finish(self, stream: str) -> None: ...


class JournalSink:
    """Lines of one process to the journal."""

    def __init__(self, journal: Journal, unit: str, identifier: str, priority: int) -> None:
        self.pid = 0
        self._journal, self._unit, self._identifier, self._priority = journal, unit, identifier, priority
        self._pending: dict[str, bytes] = {}

    def feed(self, stream: str, data: bytes) -> None:
        *lines, rest = (self._pending.get(stream, b"") + data).split(b"\n")
        for line in lines:
            self._line(line)
        while len(rest) >= journal_text.MESSAGE_BYTES_MAX:
            self._line(rest[: journal_text.MESSAGE_BYTES_MAX])
            rest = rest[journal_text.MESSAGE_BYTES_MAX :]
        self._pending[stream] = rest

    def finish(self, stream: str) -> None:
        rest = self._pending.pop(stream, b"")
        if rest:
            self._line(rest)

    def _line(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            priority, message = journal_text.split_priority(text, self._priority)
            self._journal.write(self._unit, self._identifier, self.pid, priority, message)


class CriLogSink:
    """A container's log file in CRI's format; `reopen` follows a rotation."""

    def __init__(self, path: str, clock: Clock) -> None:
        self._path = path
        self._wall = clock.wall
        self._formatters = {stream: cri_log.LineFormatter(stream) for stream in ("stdout", "stderr")}
        self._fd = -1
        self.reopen()

    def reopen(self) -> None:
        """Open the path anew. Raises OSError (and goes on with the old file) when that is impossible."""
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self.close()
        self._fd = fd

    def feed(self, stream: str, data: bytes) -> None:
        self._write(self._formatters[stream].feed(data, self._now_ns()))

    def finish(self, stream: str) -> None:
        self._write(self._formatters[stream].finish(self._now_ns()))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _now_ns(self) -> int:
        return int(self._wall() * 1e9)

    def _write(self, lines: bytes) -> None:
        try:
            if lines and self._fd >= 0:
                os.write(self._fd, lines)
        except OSError:
            return  # a full disk costs log lines, never the container


class Reader:
    """One read end. `ended` is called once, at the end of the file or at `close`."""

    def __init__(self, fd: int, stream: str, sink: Sink, tap: Callable[[str, bytes], None], ended: Callable[["Reader"], None]) -> None:
        self.stream = stream
        self.fd = fd
        self.sink, self._tap, self._ended = sink, tap, ended
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._readable)

    def _readable(self) -> bool:
        """Take one chunk; False when there is none."""
        try:
            data = os.read(self.fd, CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # EIO: the last process has closed the terminal
        if not data:
            self.close()
            return False
        self.sink.feed(self.stream, data)
        self._tap(self.stream, data)
        return True

    def drain(self) -> None:
        """Take what is in the pipe now, so that an exit is told after the output before it."""
        for _ in range(DRAIN_CHUNKS_MAX):
            if self.fd < 0 or not self._readable():
                return

    def close(self) -> None:
        if self.fd < 0:
            return
        asyncio.get_running_loop().remove_reader(self.fd)
        os.close(self.fd)
        self.fd = -1
        self.sink.finish(self.stream)
        self._ended(self)


class Input:
    """The write end of a unit's standard input (a pipe, or its terminal's master side)."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.set_blocking(fd, False)

    async def write(self, data: bytes) -> None:
        """Write all of it, at the pace of the reader. Raises BrokenPipeError when nobody reads any more."""
        loop = asyncio.get_running_loop()
        view = memoryview(data)
        while view:
            if self.fd < 0:
                raise BrokenPipeError("standard input is closed")
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                writable: asyncio.Future[None] = loop.create_future()
                loop.add_writer(self.fd, lambda w=writable: w.done() or w.set_result(None))  # type: ignore[misc]
                try:
                    await writable
                finally:
                    if self.fd >= 0:
                        loop.remove_writer(self.fd)

    def close(self) -> None:
        if self.fd >= 0:
            asyncio.get_running_loop().remove_writer(self.fd)
            os.close(self.fd)
            self.fd = -1
