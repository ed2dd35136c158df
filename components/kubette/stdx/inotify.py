"""Being told of changed files by the kernel (Linux inotify), as an awaitable.

One `Watcher` watches any number of paths; `wait` returns when something happened since the last `wait`. What happened is not told:
whoever waits reads the files again (level-triggered), so that a lost or doubled event does no harm.
"""

import asyncio
import contextlib
import ctypes
import os

IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO = 0x2, 0x4, 0x8, 0x40, 0x80
IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF = 0x100, 0x200, 0x400, 0x800
CHANGES_OF_DIRECTORY = IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF
CHANGES_OF_FILE = IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
_READ_BYTES = 65536


class Watcher:
    """Use as a context manager inside a running loop. Raises OSError where inotify is exhausted or forbidden."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._changed = asyncio.Event()

    def __enter__(self) -> "Watcher":
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        asyncio.get_running_loop().add_reader(self._fd, self._readable)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def add(self, path: str, mask: int) -> int:
        """Watch a path; answers the watch's number. Raises OSError."""
        number = int(self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask))
        if number < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
        return number

    def remove(self, number: int) -> None:
        self._libc.inotify_rm_watch(self._fd, number)

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, _READ_BYTES)
            self._changed.set()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Block until something changed; False when the time was over first."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True
