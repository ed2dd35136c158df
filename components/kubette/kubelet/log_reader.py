"""Reads a container's log file for `kubectl logs`: tail, since, timestamps, limits, following (kuberuntime/logs).

Following waits for the kernel's word about the file, and once a second makes sure that the container still runs.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO

from kubette.kubelet import cri_logs
from kubette.stdx import inotify

BLOCK = 64 * 1024
CHECK_S = 1.0  # upstream's logForceCheckPeriod


@dataclass(frozen=True, slots=True)
class Options:
    """PodLogOptions as the reader needs them."""

    follow: bool = False
    tail: int | None = None
    since: float = 0.0  # Unix seconds
    timestamps: bool = False
    limit_bytes: int | None = None
    stream: str = ""  # stdout or stderr alone


def tail_position(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` records of the file begin, reading from its end."""
    end = file.seek(0, os.SEEK_END)
    position, tail = end, b""
    while position > 0:
        step = min(BLOCK, position)
        position -= step
        file.seek(position)
        tail = file.read(step) + tail
        # The first line of the piece may be cut: only whole lines are counted.
        cut = 0 if position == 0 else tail.find(b"\n") + 1
        offset = cri_logs.tail_offset(tail[cut:], lines)
        if offset > 0 or position == 0:
            return position + cut + offset
    return 0


async def read(path: str, options: Options, is_running: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
    """The text of the log, piece by piece. Raises FileNotFoundError."""
    left = options.limit_bytes
    with open(path, "rb") as opened, contextlib.ExitStack() as stack:
        file: BinaryIO = opened
        watcher: inotify.Watcher | None = None
        if options.follow:
            watcher = stack.enter_context(inotify.Watcher())
            watcher.add(path, inotify.CHANGES_OF_FILE)
        file.seek(tail_position(file, options.tail) if options.tail is not None else 0)
        rest, stopped = b"", False
        while True:
            block = file.read(BLOCK)
            if block:
                *lines, rest = (rest + block).split(b"\n")
                out = b"".join(_render(line, options) for line in lines)
                if left is not None:
                    out, left = out[:left], left - len(out)
                if out:
                    yield out
                if left is not None and left <= 0:
                    return
                continue
            if watcher is None or stopped:
                return
            renewed = _rotated(file, path)
            if renewed is not None:
                file = stack.enter_context(renewed)
                rest = b""
                watcher.add(path, inotify.CHANGES_OF_FILE)
                continue
            if not await watcher.wait(CHECK_S) and not await is_running():
                # One more look: the last lines may have been written just before the end.
                stopped = True


def _rotated(file: BinaryIO, path: str) -> BinaryIO | None:
    """The new file, if the log was rotated under us."""
    try:
        if os.stat(path).st_ino == os.fstat(file.fileno()).st_ino:
            return None
        return open(path, "rb")
    except OSError:
        return None


def _render(raw: bytes, options: Options) -> bytes:
    line = cri_logs.parse(raw)
    if line is None or (options.stream and line.stream != options.stream):
        return b""
    if options.since and line.seconds < options.since:
        return b""
    return line.timestamp + b" " + line.text if options.timestamps else line.text
