"""The journal on disk: append-only files of JSON lines in /var/log/journal, written by PID 1 alone and read by everyone.

`system.jsonl` is the active file; at FILE_BYTES_MAX it becomes `system@<number>.jsonl` and the oldest beyond FILES_MAX are deleted. A record is one write(2) in
append mode, so a reader sees whole lines or the beginning of the last one. Not synced: a power cut may lose the last seconds of log, as with journald.
"""

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from kubette.init.journal_text import Filter, Record, decode
from kubette.stdx.clock import Clock

DIRECTORY = "/var/log/journal"
FILE_BYTES_MAX = 8 << 20
FILES_MAX = 8
_ACTIVE = "system.jsonl"
_ARCHIVED = re.compile(r"system@(\d{8})\.jsonl")


class Journal:
    """The writer. Never raises after construction: a full disk must not stop PID 1, it costs log lines."""

    def __init__(self, directory: str, clock: Clock, hostname: str) -> None:
        self.directory = Path(directory)
        self.boot_id = uuid.uuid4().hex
        self.hostname = hostname
        self.lost = 0
        self._clock = clock
        self._fd = -1
        self._size = 0

    def write(self, unit: str, identifier: str, pid: int, priority: int, message: str) -> None:
        """Append one record, stamped now."""
        record = Record(int(self._clock.wall() * 1e6), self.boot_id, self.hostname, unit, identifier, pid, priority, message)
        line = record.encode()
        try:
            if self._fd < 0 or self._size + len(line) > FILE_BYTES_MAX:
                self._open()
            self._size += os.write(self._fd, line)
        except OSError:
            self.lost += 1

    def manager(self, priority: int, message: str, unit: str = "") -> None:
        """A message of PID 1 itself."""
        self.write(unit, "systemd", 1, priority, message)

    def _open(self) -> None:
        """Open the active file; archive it first when it is full."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / _ACTIVE
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if path.exists() and path.stat().st_size >= FILE_BYTES_MAX - 64 * 1024:
            archived = _archived(self.directory)
            following = (int(_ARCHIVED.fullmatch(archived[-1].name)[1]) if archived else 0) + 1  # type: ignore[index]
            os.replace(path, self.directory / f"system@{following:08d}.jsonl")
            for old in archived[: max(0, len(archived) + 2 - FILES_MAX)]:
                old.unlink(missing_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
            self._size += os.write(self._fd, b"\n")  # a crash tore the last line: let it not swallow the next


def _archived(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if _ARCHIVED.fullmatch(path.name))
    except OSError:
        return []


def files(directory: str = DIRECTORY) -> list[Path]:
    """The journal's files, oldest first."""
    active = Path(directory, _ACTIVE)
    return [*_archived(Path(directory)), *([active] if active.exists() else [])]


def read_file(path: Path, accept: Filter) -> list[Record]:
    """The wanted records of one file, oldest first."""
    import orjson

    found = []
    with open(path, "rb") as file:
        for line in file:
            try:
                record = decode(orjson.loads(line))
            except ValueError:
                continue  # torn by a crash, or being written
            if record is not None and accept.accepts(record):
                found.append(record)
    return found


def read(accept: Filter, directory: str = DIRECTORY) -> Iterator[Record]:
    """The wanted records, oldest first, a file at a time."""
    for path in files(directory):
        yield from read_file(path, accept)


def tail(accept: Filter, count: int, directory: str = DIRECTORY) -> list[Record]:
    """The last `count` wanted records, oldest first; files are read from the newest back, only as far as needed."""
    found: list[Record] = []
    for path in reversed(files(directory)):
        if len(found) >= count:
            break
        found = read_file(path, accept) + found
    return found[-count:] if count else []


def boots(directory: str = DIRECTORY) -> list[tuple[str, int, int]]:
    """(boot id, first record, last record), oldest first."""
    found: dict[str, tuple[int, int]] = {}
    for record in read(Filter(), directory):
        first, _ = found.get(record.boot_id, (record.time_us, 0))
        found[record.boot_id] = (first, record.time_us)
    return [(boot_id, first, last) for boot_id, (first, last) in found.items()]
