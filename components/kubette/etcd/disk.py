"""Every call by which a member reads and writes its files; a simulation hands in a disk that loses and fails as real ones do.

What is written is durable after `sync` (of a file) and `sync_directory` (of a name made, changed or removed), and not before.
Descriptors are ints of the disk's own. Errors are OSErrors.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from kubette.stdx import files

Buffer = bytes | memoryview


class Disk(Protocol):
    """See SystemDisk."""

    def exists(self, path: Path) -> bool: ...

    def names(self, directory: Path) -> list[str]: ...

    def make_directory(self, path: Path) -> None: ...

    def read(self, path: Path) -> bytes: ...

    def mapped(self, path: Path) -> "contextlib.AbstractContextManager[bytes | mmap.mmap]": ...

    def create(self, path: Path) -> "contextlib.AbstractContextManager[BinaryIO]": ...

    def open_locked(self, path: Path) -> int: ...

    def size(self, fd: int) -> int: ...

    def write_at(self, fd: int, data: Buffer, offset: int) -> int: ...

    def sync_data(self, fd: int) -> None: ...

    def sync(self, fd: int) -> None: ...

    def truncate(self, fd: int, size: int) -> None: ...

    def allocate(self, fd: int, size: int) -> None: ...

    def close(self, fd: int) -> None: ...

    def copy(self, source: Path, target: Path) -> None: ...

    def rename(self, source: Path, target: Path) -> None: ...

    def remove(self, path: Path) -> None: ...

    def remove_tree(self, path: Path) -> None: ...

    def sync_directory(self, path: Path) -> None: ...

    def write_atomic(self, path: Path, content: bytes) -> None: ...


class SystemDisk:
    """The machine's own files."""

    def exists(self, path: Path) -> bool:
        return path.exists()

    def names(self, directory: Path) -> list[str]:
        # Not by glob, which takes a directory that may not be read for an empty one.
        return sorted(os.listdir(directory))

    def make_directory(self, path: Path) -> None:
        """With its parents, durably; it may be there."""
        missing = [each for each in (path, *path.parents) if not each.exists()]
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for each in reversed(missing):
            self.sync_directory(each.parent)

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    @contextlib.contextmanager
    def mapped(self, path: Path) -> Iterator[bytes | mmap.mmap]:
        """The whole file, without having to be in memory."""
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                yield b""
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                yield content

    @contextlib.contextmanager
    def create(self, path: Path) -> Iterator[BinaryIO]:
        """An empty file, to be written and read."""
        with path.open("w+b") as file:
            yield file

    def open_locked(self, path: Path) -> int:
        """For writing, made if it is not there. Raises BlockingIOError while another process holds it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise
        return fd

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def write_at(self, fd: int, data: Buffer, offset: int) -> int:
        """Answers how much of it was written."""
        return os.pwrite(fd, data, offset)

    def sync_data(self, fd: int) -> None:
        """Make content durable; what else is known of the file only as far as reading needs it."""
        os.fdatasync(fd)

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def allocate(self, fd: int, size: int) -> None:
        """Reserve room, so that `sync_data` need not write the file's size each time."""
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            # File systems without the call grow as they are written; a full disk is said at once.
            if error.errno == errno.ENOSPC:
                raise
            os.ftruncate(fd, size)

    def close(self, fd: int) -> None:
        os.close(fd)

    def copy(self, source: Path, target: Path) -> None:
        shutil.copyfile(source, target)

    def rename(self, source: Path, target: Path) -> None:
        """`target` is replaced if it is there."""
        os.rename(source, target)

    def remove(self, path: Path) -> None:
        """It may be gone already."""
        path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)

    def sync_directory(self, path: Path) -> None:
        files.fsync_directory(path)

    def write_atomic(self, path: Path, content: bytes) -> None:
        """Whole and durable, or as it was."""
        files.write_atomic(path, content, mode=0o600, durable=True)


SYSTEM_DISK = SystemDisk()
