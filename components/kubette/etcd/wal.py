"""The write-ahead log, in etcd's own format: `member/wal/<sequence>-<first index>.wal`.

A segment is a preallocated file of 64 MiB of records. A record is an 8-byte little-endian length word (the top byte says how
many bytes of padding follow, with the sign bit set if any), a `walpb.Record`, and padding to 8 bytes. Each record carries the
CRC32C of all data so far, chained over records and segments; a segment begins with that checksum and the metadata.

`save` followed by `sync` makes what it was given durable. An fsync error is final: the process must die and read the disk
again, for a second fsync may succeed although the data is gone (RELIABILITY, lesson 5).

Reading: a torn last record is what a crash leaves, and is cut off (a copy of the file is kept); a wrong checksum anywhere else
is corruption, and is refused with file and offset.
"""

import contextlib
import itertools
import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
from google.protobuf.message import DecodeError

from kubette.etcd import raft_codec
from kubette.etcd.disk import SYSTEM_DISK, Disk
from kubette.etcd_api.raft_pb2 import Entry as EntryMessage
from kubette.etcd_api.raft_pb2 import HardState as HardStateMessage
from kubette.etcd_api.wal_pb2 import Record, Snapshot
from kubette.raft.messages import Entry, HardState

SEGMENT_BYTES = 64 * 1024 * 1024
METADATA, ENTRY, STATE, CRC, SNAPSHOT = 1, 2, 3, 4, 5
MAX_RECORD_BYTES = 128 << 20  # far beyond any entry the server accepts
SECTOR_BYTES = 512
_WORD = struct.Struct("<Q")


class WalError(Exception):
    """The log on disk cannot be used; the text names file and offset."""


class TornTailError(WalError):
    """The last record is incomplete: a crash cut it off."""

    def __init__(self, path: Path, offset: int) -> None:
        super().__init__(f"wal: torn record at the end of {path}, offset {offset}")
        self.path = path
        self.offset = offset


@dataclass(slots=True)
class Contents:
    """What the log holds after a snapshot."""

    metadata: bytes = b""
    hard_state: HardState = field(default_factory=HardState)
    entries: list[Entry] = field(default_factory=list)
    snapshots: list[tuple[int, int]] = field(default_factory=list)  # (index, term) of every snapshot recorded


def segment_name(sequence: int, index: int) -> str:
    return f"{sequence:016x}-{index:016x}.wal"


def _parse_name(path: Path) -> tuple[int, int]:
    sequence, _, index = path.name.removesuffix(".wal").partition("-")
    return int(sequence, 16), int(index, 16)


def segments(directory: Path, disk: Disk = SYSTEM_DISK) -> list[Path]:
    """The segments in order. Raises WalError when one is missing in between."""
    paths = [directory / name for name in disk.names(directory) if name.endswith(".wal")]
    for before, after in itertools.pairwise(paths):
        if _parse_name(after)[0] != _parse_name(before)[0] + 1:
            raise WalError(f"wal: segments are not continuous: {before.name}, {after.name}")
    return paths


@dataclass(slots=True)
class _Position:
    crc: int = 0
    offset: int = 0
    start: int = 0  # of the last record


def _records(disk: Disk, path: Path, position: _Position, last: bool) -> Iterator[Record]:
    """The records of one segment; `position` follows. A CRC record starts the chain anew."""
    position.offset = 0
    with disk.mapped(path) as content:
        size = len(content)
        while (record := _next_record(path, content, size, position, last)) is not None:
            yield record


def _next_record(path: Path, content: bytes | mmap.mmap, size: int, position: _Position, last: bool) -> Record | None:
    offset = position.offset
    if offset + 8 > size:
        if last and any(content[offset:size]):
            raise TornTailError(path, offset)
        return None
    (word,) = _WORD.unpack_from(content, offset)
    if word == 0:
        # Preallocated and not yet used; unless the rest of the sector is, for a disk writes whole sectors.
        if any(content[offset : min(size, (offset // SECTOR_BYTES + 1) * SECTOR_BYTES)]):
            raise WalError(f"wal: record length 0 in {path}, offset {offset}")
        return None
    length = word & 0x00FFFFFFFFFFFFFF
    end = offset + 8 + length + ((word >> 56) & 0x7 if word >> 63 else 0)
    if length > MAX_RECORD_BYTES or end > size:
        if last and length <= MAX_RECORD_BYTES and _says_length(content, offset + 8, size, length):
            raise TornTailError(path, offset)
        raise WalError(f"wal: record length {length} is beyond the end of {path}, offset {offset}")
    broken = ""
    try:
        record = Record.FromString(content[offset + 8 : offset + 8 + length])
    except Exception as error:
        broken = f"broken record ({error})"
    else:
        if record.type == CRC:
            if position.crc and position.crc != record.crc:
                raise WalError(f"wal: crc mismatch between segments in {path}, offset {offset}")
            position.crc = record.crc
        else:
            crc = google_crc32c.extend(position.crc, record.data)
            if crc == record.crc:
                position.crc = crc
            else:
                broken = "crc mismatch"
    if broken:
        if last and _says_length(content, offset + 8, size, length) and _torn(content, offset, end, size):
            raise TornTailError(path, offset)
        raise WalError(f"wal: {broken} in {path}, offset {offset}")
    position.start, position.offset = offset, end
    return record


def _says_length(content: bytes | mmap.mmap, start: int, size: int, length: int) -> bool:
    """Whether a record that is not whole says the same length inside (as far as it is there): else the length word is corrupt."""
    head = content[start : min(size, start + 24)]
    at = 0
    for tag in (0x08, 0x10, 0x1A):
        if at >= len(head):
            return True
        if head[at] != tag:
            return not any(head[at:])
        at += 1
        value = shift = 0
        while True:
            if at >= len(head):
                return True
            value |= (head[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not head[at - 1] & 0x80:
                break
        if tag == 0x1A:
            # A sector may end right before the length, or inside of it: no length but 0 ends in a zero byte.
            return at + value == length or not any(head[at - 1 :])
    return False


def _torn(content: bytes | mmap.mmap, offset: int, end: int, size: int) -> bool:
    """Whether a broken record was torn: a disk writes sectors, so a torn write leaves a whole sector (or its rest) zero.

    Only the last record can be torn: nothing but zeros follows it.
    """
    if any(content[end : min(size, end + SECTOR_BYTES)]):
        return False
    start = offset
    while start < min(end, size):
        stop = min((start // SECTOR_BYTES + 1) * SECTOR_BYTES, end, size)
        if not any(content[start:stop]):
            return True
        start = stop
    return False


def read(directory: Path, after_index: int, position: _Position | None = None, disk: Disk = SYSTEM_DISK) -> Contents:
    """Everything after the snapshot at `after_index`. Raises WalError, TornTailError."""
    position = position or _Position()
    contents = Contents()
    paths = segments(directory, disk)
    # Start with the last segment that begins at or before the snapshot.
    start = max((place for place, path in enumerate(paths) if _parse_name(path)[1] <= after_index), default=None)
    if start is None:
        raise WalError(f"wal: no segment in {directory} holds index {after_index}")
    for place in range(start, len(paths)):
        for record in _records(disk, paths[place], position, last=place == len(paths) - 1):
            try:
                _take(contents, record, after_index, paths[place], position.start)
            except DecodeError as error:
                raise WalError(f"wal: record of type {record.type} cannot be decoded ({error}) in {paths[place]}, offset {position.start}") from error
    if not contents.metadata:
        raise WalError(f"wal: no metadata in {paths[start]}, offset 0")
    return contents


def _take(contents: Contents, record: Record, after_index: int, path: Path, offset: int) -> None:
    if record.type == ENTRY:
        message = EntryMessage.FromString(record.data)
        if not message.HasField("Type") or (message.Type and not message.HasField("Data")):
            raise WalError(f"wal: record that is no entry in {path}, offset {offset}")
        entry = raft_codec.entry_from(message)
        if entry.index > after_index:
            # An entry at an index seen before replaces it and all that followed (Raft §5.3).
            place = entry.index - after_index - 1
            if place > len(contents.entries):
                raise WalError(f"wal: gap before entry {entry.index} in {path}, offset {offset}")
            if place and entry.term < contents.entries[place - 1].term:
                raise WalError(f"wal: term goes back from {contents.entries[place - 1].term} to {entry.term} in {path}, offset {offset}")
            del contents.entries[place:]
            contents.entries.append(entry)
    elif record.type == STATE:
        state = HardStateMessage.FromString(record.data)
        # A record's type is outside its checksum: what is read as another kind than it was written must not pass.
        if state.term < contents.hard_state.term or _has_unknown_fields(state):
            raise WalError(f"wal: record that is no hard state in {path}, offset {offset}")
        contents.hard_state = HardState(state.term, state.vote, state.commit)
    elif record.type == METADATA:
        if contents.metadata and contents.metadata != record.data:
            raise WalError(f"wal: conflicting metadata in {path}, offset {offset}")
        contents.metadata = record.data
    elif record.type == SNAPSHOT:
        snapshot = Snapshot.FromString(record.data)
        contents.snapshots.append((snapshot.index, snapshot.term))
    elif record.type != CRC:
        raise WalError(f"wal: unexpected record type {record.type} in {path}, offset {offset}")


def _has_unknown_fields(message: HardStateMessage) -> bool:
    size = message.ByteSize()
    message.DiscardUnknownFields()  # type: ignore[attr-defined]
    return message.ByteSize() != size


def snapshot_positions(directory: Path, disk: Disk = SYSTEM_DISK) -> list[tuple[int, int]]:
    """(index, term) of every snapshot the log knows of and that is committed: only these may be loaded."""
    position = _Position()
    found: list[tuple[int, int]] = []
    state = HardState()
    paths = segments(directory, disk)
    for place, path in enumerate(paths):
        try:
            for record in _records(disk, path, position, last=place == len(paths) - 1):
                if record.type == SNAPSHOT:
                    snapshot = Snapshot.FromString(record.data)
                    found.append((snapshot.index, snapshot.term))
                elif record.type == STATE:
                    message = HardStateMessage.FromString(record.data)
                    state = HardState(message.term, message.vote, message.commit)
        except TornTailError:
            break
    return [each for each in found if each[0] <= state.commit]


def repair(torn: TornTailError, disk: Disk = SYSTEM_DISK) -> Path:
    """Cut a torn tail off, keeping a copy of the file; answers the copy's path."""
    copy = torn.path.with_name(torn.path.name + ".broken")
    disk.copy(torn.path, copy)
    fd = disk.open_locked(torn.path)
    try:
        disk.truncate(fd, torn.offset)
        disk.sync(fd)
    finally:
        disk.close(fd)
    return copy


class Wal:
    """The log opened for appending. `save` collects, `flush` writes, `sync` makes durable; the last two may run in a thread."""

    def __init__(self, directory: Path, fd: int, path: Path, offset: int, crc: int, metadata: bytes, disk: Disk) -> None:
        self._disk = disk
        self._directory = directory
        self._fd = fd
        self._path = path
        self._offset = offset
        self._crc = crc
        self._metadata = metadata
        self._state = HardState()
        self._buffer: list[bytes] = []
        self.last_index = 0
        self.written_bytes = 0
        self.fsyncs = True  # `--unsafe-no-fsync` turns it off
        self.max_files = 5  # segments kept although a snapshot covers them (0: all)

    @classmethod
    def create(
        cls, directory: Path, metadata: bytes, state: HardState | None = None, entries: Sequence[Entry] = (), disk: Disk = SYSTEM_DISK
    ) -> "Wal":
        """A new log that begins with these entries: the directory appears whole or not at all."""
        temporary = directory.with_name(directory.name + ".tmp")
        disk.remove_tree(temporary)
        disk.make_directory(temporary)
        path = temporary / segment_name(0, 0)
        wal = cls(temporary, _open_segment(disk, path), path, 0, 0, metadata, disk)
        wal._begin_segment()
        wal.save_snapshot(0, 0)
        wal.save(state, entries)
        wal.sync()
        disk.sync_directory(temporary)
        disk.rename(temporary, directory)
        disk.sync_directory(directory.parent)
        wal._directory = directory
        wal._path = directory / path.name
        return wal

    @classmethod
    def open(cls, directory: Path, after_index: int, disk: Disk = SYSTEM_DISK) -> tuple["Wal", Contents]:
        """Read what follows the snapshot at `after_index`, and go on appending. Raises WalError, TornTailError."""
        position = _Position()
        contents = read(directory, after_index, position, disk)
        path = segments(directory, disk)[-1]
        fd = _open_segment(disk, path)
        wal = cls(directory, fd, path, position.offset, position.crc, contents.metadata, disk)
        # Whatever a torn write left behind the end must not be read as records later.
        disk.truncate(fd, position.offset)
        _preallocate(disk, fd)
        # A process that was killed may have written this (and made or renamed these names) without a sync: it is believed from here on, so it has to be durable.
        disk.sync(fd)
        disk.sync_directory(directory)
        disk.sync_directory(directory.parent)
        wal._state = contents.hard_state
        wal.last_index = contents.entries[-1].index if contents.entries else after_index
        return wal, contents

    @property
    def metadata(self) -> bytes:
        return self._metadata

    def _add(self, kind: int, data: bytes) -> None:
        self._crc = google_crc32c.extend(self._crc, data)
        self._frame(Record(type=kind, crc=self._crc, data=data).SerializeToString())

    def _frame(self, record: bytes) -> None:
        length = len(record)
        padding = -length % 8
        word = length | (0x80 | padding) << 56 if padding else length
        self._buffer.append(_WORD.pack(word) + record + bytes(padding))

    def _begin_segment(self) -> None:
        self._frame(Record(type=CRC, crc=self._crc).SerializeToString())
        self._add(METADATA, self._metadata)

    def save(self, state: HardState | None, entries: Sequence[Entry]) -> None:
        """Collect entries and state; nothing is on disk before `sync`."""
        for entry in entries:
            self._add(ENTRY, raft_codec.entry_bytes(entry))
        if entries:
            self.last_index = entries[-1].index
        if state is not None:
            self._state = state
            self._add(STATE, raft_codec.hard_state_bytes(state))

    def save_snapshot(self, index: int, term: int, conf_state: bytes | None = None) -> None:
        """Record that the snapshot at `index` is on disk (call it after the snapshot is)."""
        snapshot = Snapshot(index=index, term=term)
        if conf_state is not None:
            snapshot.conf_state = conf_state
        self._add(SNAPSHOT, snapshot.SerializeToString())
        self.last_index = max(self.last_index, index)

    def flush(self) -> None:
        """Write what is collected, without making it durable."""
        if not self._buffer:
            return
        data = b"".join(self._buffer)
        self._buffer.clear()
        self.written_bytes += len(data)
        view = memoryview(data)
        try:
            while view:
                written = self._disk.write_at(self._fd, view, self._offset)
                self._offset += written
                view = view[written:]
        except OSError as error:
            raise self._failed("write", error) from error

    def sync(self) -> None:
        """Write and make durable. A WalError from here is final: nothing of this log may be written or synced again."""
        self.flush()
        try:
            if self.fsyncs:
                self._disk.sync_data(self._fd)
        except OSError as error:
            raise self._failed("sync", error) from error
        if self._offset >= SEGMENT_BYTES:
            try:
                self._cut()
            except OSError as error:
                raise self._failed("cut", error) from error

    def _failed(self, what: str, error: OSError) -> WalError:
        self._buffer.clear()
        return WalError(f"wal: cannot {what} {self._path}, offset {self._offset}: {(error.strerror or str(error)).lower()}")

    def _cut(self) -> None:
        """Go on in a new segment: complete under a temporary name first, so that no crash leaves half a head."""
        disk = self._disk
        disk.truncate(self._fd, self._offset)
        disk.sync(self._fd)
        sequence = _parse_name(self._path)[0] + 1
        path = self._directory / segment_name(sequence, self.last_index + 1)
        temporary = self._directory / "0.tmp"
        disk.remove(temporary)
        fd = _open_segment(disk, temporary)
        old = self._fd
        self._fd, self._offset = fd, 0
        self._begin_segment()
        self._add(STATE, raft_codec.hard_state_bytes(self._state))
        self.flush()
        disk.sync(fd)
        disk.rename(temporary, path)
        disk.sync_directory(self._directory)
        self._path = path
        disk.close(old)

    def release_to(self, index: int) -> None:
        """Remove segments that hold nothing after `index` (a snapshot covers them), the oldest ones beyond `max_files`."""
        paths = segments(self._directory, self._disk)
        excess = len(paths) - self.max_files if self.max_files else 0
        for path, following in list(itertools.pairwise(paths))[: max(excess, 0)]:
            if _parse_name(following)[1] > index:
                break
            self._disk.remove(path)

    def close(self) -> None:
        with contextlib.suppress(WalError):
            self.flush()
        self._disk.close(self._fd)


def _open_segment(disk: Disk, path: Path) -> int:
    try:
        fd = disk.open_locked(path)
    except BlockingIOError:
        raise WalError(f"wal: {path} is locked by another process") from None
    _preallocate(disk, fd)
    return fd


def _preallocate(disk: Disk, fd: int) -> None:
    """Reserve the whole segment, so that a sync need not write file metadata each time."""
    if disk.size(fd) < SEGMENT_BYTES:
        disk.allocate(fd, SEGMENT_BYTES)
