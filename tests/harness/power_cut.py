"""A disk that loses what was not synced: put in the place of etcd's own, it remembers how to undo every change that is not durable yet, and undoes it when the power goes.

As with real disks some of it may have reached the platter: of each file a prefix of the changed sectors (the last may be torn off in the middle of a record), of
the names that were made, changed and removed those that came first. Content of a file is durable after `sync` or `sync_data`, a name after `sync_directory`.
"""

import contextlib
import errno
import itertools
import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from kubette.etcd.disk import SYSTEM_DISK, Buffer, SystemDisk

SECTOR_BYTES = 512


@dataclass(slots=True)
class _File:
    """What of one file is not synced."""

    fd: int  # our own
    size: int  # as synced
    sectors: dict[int, bytes] = field(default_factory=dict)  # as synced


class _Journal:
    def __init__(self, directory: Path, seed: str) -> None:
        self.lock = threading.RLock()
        self.files: dict[tuple[int, int], _File] = {}  # by device and inode
        self.names: list[tuple[Path, Callable[[], None]]] = []  # the directory that has to be synced, and what undoes the change
        self._directory = directory
        self._numbers = itertools.count()
        self._rng = None if seed == "all" else random.Random(seed)
        directory.mkdir(exist_ok=True)

    def file(self, fd: int) -> _File:
        """Before its first change."""
        status = os.fstat(fd)
        key = status.st_dev, status.st_ino
        if key not in self.files:
            self.files[key] = _File(os.open(f"/proc/self/fd/{fd}", os.O_RDWR), status.st_size)
        return self.files[key]

    def will_change(self, fd: int, start: int, end: int) -> None:
        file = self.file(fd)
        for sector in range(start // SECTOR_BYTES, -(-end // SECTOR_BYTES)):
            if sector not in file.sectors:
                file.sectors[sector] = os.pread(file.fd, SECTOR_BYTES, sector * SECTOR_BYTES)

    def synced(self, fd: int) -> None:
        status = os.fstat(fd)
        file = self.files.pop((status.st_dev, status.st_ino), None)
        if file is not None:
            os.close(file.fd)

    def keep(self, path: Path) -> Path:
        """Another name for a file that is about to lose this one."""
        kept = self._directory / f"{os.getpid()}-{next(self._numbers)}"
        os.link(path, kept)
        return kept

    def _survive(self, count: int) -> int:
        return 0 if self._rng is None else self._rng.randint(0, count)

    def cut(self) -> None:
        """The power goes. Whoever else is about to change the disk waits, for ever."""
        self.lock.acquire()
        for file in self.files.values():
            changed = sorted(file.sectors)
            lost = changed[self._survive(len(changed)) :]
            for sector in lost:
                os.pwrite(file.fd, file.sectors[sector].ljust(SECTOR_BYTES, b"\0"), sector * SECTOR_BYTES)
            if lost or not changed:
                kept = [(sector + 1) * SECTOR_BYTES for sector in changed if sector not in lost]
                os.ftruncate(file.fd, max([file.size, *kept]))
        for _, undo in reversed(self.names[self._survive(len(self.names)) :]):
            undo()


_journal: _Journal


class LosingDisk(SystemDisk):
    """etcd's disk, with a journal of what is not durable."""

    @contextlib.contextmanager
    def create(self, path: Path) -> Iterator[BinaryIO]:
        with _journal.lock:
            made = not path.exists()
            file = path.open("w+b")
            _journal.file(file.fileno())
            if made:
                _journal.names.append((path.parent, lambda: path.unlink(missing_ok=True)))
        with file:
            yield file

    def make_directory(self, path: Path) -> None:
        with _journal.lock:
            made = [each for each in (path, *path.parents) if not each.exists()]
            for each in reversed(made):
                each.mkdir(mode=0o700)
                _journal.names.append((each.parent, lambda each=each: SystemDisk.remove_tree(self, each)))  # type: ignore[misc]
            for each in reversed(made):
                self.sync_directory(each.parent)

    def open_locked(self, path: Path) -> int:
        with _journal.lock:
            made = not path.exists()
            fd = super().open_locked(path)
            if made:
                _journal.names.append((path.parent, lambda: path.unlink(missing_ok=True)))
            return fd

    def write_at(self, fd: int, data: Buffer, offset: int) -> int:
        with _journal.lock:
            _journal.will_change(fd, offset, offset + len(data))
            return super().write_at(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        with _journal.lock:
            _journal.will_change(fd, size, os.fstat(fd).st_size)
            super().truncate(fd, size)

    def allocate(self, fd: int, size: int) -> None:
        with _journal.lock:
            _journal.file(fd)
            super().allocate(fd, size)

    def sync_data(self, fd: int) -> None:
        with _journal.lock:
            super().sync_data(fd)
            _journal.synced(fd)

    def sync(self, fd: int) -> None:
        with _journal.lock:
            super().sync(fd)
            _journal.synced(fd)

    def sync_directory(self, path: Path) -> None:
        with _journal.lock:
            super().sync_directory(path)
            _journal.names = [each for each in _journal.names if each[0] != path]

    def rename(self, source: Path, target: Path) -> None:
        with _journal.lock:
            kept = _journal.keep(target) if target.is_file() else None

            def undo() -> None:
                os.rename(target, source)
                if kept is not None:
                    os.rename(kept, target)

            super().rename(source, target)
            _journal.names.append((target.parent, undo))

    def remove(self, path: Path) -> None:
        with _journal.lock:
            try:
                kept = _journal.keep(path)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
                return
            super().remove(path)
            _journal.names.append((path.parent, lambda: os.rename(kept, path)))


def install(directory: Path, seed: str) -> Callable[[], None]:
    """From now on; the answer cuts the power. With the seed `all` everything that is not synced is lost."""
    global _journal
    _journal = _Journal(directory, seed)
    SYSTEM_DISK.__class__ = LosingDisk
    return lambda: _journal.cut()
