"""A disk that keeps what was synced, and of the rest what a power cut happens to leave.

A file's content survives as far as it was synced; of the writes since then a crash keeps the first few, the last of them perhaps
torn between sectors. A name made, changed or removed survives once its directory was synced; of the changes since then a crash
keeps the first few as well (a journal's order). An armed disk kills its member at a call, before or after it took effect, or fails
a sync, after which what was written is gone although the next sync succeeds. A full one takes nothing that has no room reserved.
"""

import contextlib
import errno
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kubette.etcd.disk import Buffer

SECTOR_BYTES = 512
SPARE_BYTES = 4096  # of zeros that a preallocated file shows behind its content


class PowerCut(BaseException):
    """The member died in the middle of a call."""


class _File:
    """One inode: what a reader sees, what is durable, and the writes that are between the two."""

    __slots__ = ("content", "durable", "pending", "reserved")

    def __init__(self) -> None:
        self.content = bytearray()
        self.durable = bytearray()
        self.pending: list[tuple[int, bytes]] = []  # (offset, data); (size, b"") cuts or extends
        self.reserved = False

    def write(self, offset: int, data: bytes) -> None:
        _write(self.content, offset, data)
        self.pending.append((offset, data))

    def resize(self, size: int) -> None:
        _resize(self.content, size)
        self.pending.append((size, b""))

    def sync(self) -> None:
        for offset, data in self.pending:
            _apply(self.durable, offset, data)
        self.pending.clear()

    def forget(self) -> None:
        """A failed sync: the pages are dropped, and read again from the disk."""
        self.content = bytearray(self.durable)
        self.pending.clear()

    def lose(self, rng: random.Random, torn: float) -> None:
        """Power is gone."""
        if not self.pending:
            return
        kept = rng.randrange(len(self.pending) + 1)
        for offset, data in self.pending[:kept]:
            _apply(self.durable, offset, data)
        if kept < len(self.pending) and rng.random() < torn:
            offset, data = self.pending[kept]
            first = SECTOR_BYTES - offset % SECTOR_BYTES
            if len(data) > first:
                sectors = (len(data) - first - 1) // SECTOR_BYTES + 1
                _apply(self.durable, offset, data[: first + rng.randrange(sectors) * SECTOR_BYTES])
        self.forget()

    def shown(self) -> bytes:
        return bytes(self.content) + bytes(SPARE_BYTES) if self.reserved else bytes(self.content)


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


def _apply(content: bytearray, offset: int, data: bytes) -> None:
    if data:
        _write(content, offset, data)
    else:
        _resize(content, offset)


class VirtualDisk:
    """One machine's. Paths are names only: directories exist when something says so."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._files: dict[str, _File] = {}
        self._directories: dict[str, None] = {}
        self._durable: dict[str, _File] = {}
        self._renames: list[Callable[[dict[str, _File]], None]] = []  # changes of names that no directory sync has covered
        self._open: dict[int, _File] = {}
        self._next_fd = 3
        self.torn = 0.0
        self.alive = True
        self.calls = 0
        self.cut_at: int | None = None  # the call at which the power goes
        self.cut_after_create: int | None = None  # so many calls after the next file was made
        self.failing_syncs = 0
        self.failed = 0  # syncs
        self.full = False

    def power_cut(self) -> None:
        """Whoever uses it is dead; what is durable, and some of the rest, is what the next one finds."""
        self.alive = False
        names = dict(self._durable)
        for change in self._renames[: self._rng.randrange(len(self._renames) + 1)]:
            change(names)
        for file in dict.fromkeys(names.values()):
            file.lose(self._rng, self.torn)
        self._files, self._durable = names, dict(names)
        self._renames, self._open = [], {}

    def restart(self) -> None:
        """Another process opens it; of a killed one (without a power cut) every write is still there."""
        self.alive = True
        self.spare()
        self._open = {}

    def spare(self) -> None:
        """No more faults."""
        self.cut_at, self.cut_after_create, self.failing_syncs, self.full = None, None, 0, False

    def is_synced(self, fd: int) -> bool:
        """Whether nothing that was written to the file could get lost."""
        return not self._open[fd].pending

    def _called(self, file: _File | None = None) -> None:
        if not self.alive:
            raise PowerCut
        if self.full and file is not None and not file.reserved:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.calls += 1
        if self.cut_at is not None and self.calls >= self.cut_at:
            self.power_cut()
            raise PowerCut

    # Reading

    def exists(self, path: Path) -> bool:
        return str(path) in self._files or str(path) in self._directories

    def names(self, directory: Path) -> list[str]:
        prefix = f"{directory}/"
        return sorted(name[len(prefix) :] for name in self._files if name.startswith(prefix) and "/" not in name[len(prefix) :])

    def read(self, path: Path) -> bytes:
        return self._at(path).shown()

    @contextlib.contextmanager
    def mapped(self, path: Path) -> Iterator[bytes]:
        yield self._at(path).shown()

    def _at(self, path: Path) -> _File:
        file = self._files.get(str(path))
        if file is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return file

    # Writing

    def _handle(self, file: _File) -> int:
        self._next_fd += 1
        self._open[self._next_fd] = file
        return self._next_fd

    def _named(self, change: Callable[[dict[str, _File]], None]) -> None:
        change(self._files)
        self._renames.append(change)

    def _new(self, path: Path) -> _File:
        name, file = str(path), _File()

        def change(names: dict[str, _File]) -> None:
            names[name] = file

        self._named(change)
        return file

    def make_directory(self, path: Path) -> None:
        self._directories[str(path)] = None

    @contextlib.contextmanager
    def create(self, path: Path) -> Iterator[BinaryIO]:
        if self.cut_after_create is not None:
            self.cut_at, self.cut_after_create = self.calls + 1 + self.cut_after_create, None
        self._called()
        yield _Stream(self, self._handle(self._new(path)))

    def open_locked(self, path: Path) -> int:
        self._called()
        return self._handle(self._files.get(str(path)) or self._new(path))

    def size(self, fd: int) -> int:
        return len(self._open[fd].content)

    def write_at(self, fd: int, data: Buffer, offset: int) -> int:
        file = self._open[fd]
        self._called(file)
        file.write(offset, bytes(data))
        return len(data)

    def sync_data(self, fd: int) -> None:
        self.sync(fd)

    def sync(self, fd: int) -> None:
        self._called()
        file = self._open[fd]
        if self.failing_syncs:
            self.failing_syncs -= 1
            self.failed += 1
            # The next sync has nothing to do, and says that all is well.
            file.forget()
            raise OSError(errno.EIO, "Input/output error")
        file.sync()

    def truncate(self, fd: int, size: int) -> None:
        self._called()
        self._open[fd].resize(size)

    def allocate(self, fd: int, size: int) -> None:
        file = self._open[fd]
        self._called(file)
        file.reserved = True

    def close(self, fd: int) -> None:
        self._open.pop(fd, None)

    def copy(self, source: Path, target: Path) -> None:
        self._called()
        self._new(target).write(0, bytes(self._at(source).content))

    def rename(self, source: Path, target: Path) -> None:
        self._called()
        old, new = str(source), str(target)

        def change(names: dict[str, _File]) -> None:
            for name in [each for each in names if each == old or each.startswith(old + "/")]:
                names[new + name[len(old) :]] = names.pop(name)

        if not self.exists(source):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", old)
        if self._directories.pop(old, "") is None:
            self._directories[new] = None
        self._named(change)

    def remove(self, path: Path) -> None:
        self._called()
        name = str(path)
        if name in self._files:
            self._named(lambda names: names.pop(name, None) and None)

    def remove_tree(self, path: Path) -> None:
        for name in [each for each in self._files if each.startswith(f"{path}/")]:
            self.remove(Path(name))
        self._directories.pop(str(path), None)

    def sync_directory(self, path: Path) -> None:
        self._called()
        # One journal: what was changed before is durable with it.
        self._durable = dict(self._files)
        self._renames.clear()

    def write_atomic(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f".{path.name}.tmp")
        with self.create(temporary) as file:
            file.write(content)
            self.sync(file.fileno())
        self.rename(temporary, path)
        self.sync_directory(path.parent)


class _Stream(io.RawIOBase):
    """An open file, as far as a database is written with it."""

    def __init__(self, disk: VirtualDisk, fd: int) -> None:
        self._disk = disk
        self._fd = fd
        self._at = 0

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Any) -> int:
        self._disk.write_at(self._fd, data, self._at)
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (self._disk.size(self._fd) if whence == 2 else 0)
        return self._at

    def flush(self) -> None:
        """Nothing is held back."""
