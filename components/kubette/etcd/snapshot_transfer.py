"""Snapshots on their way between members: what is there already survives an interruption, and the next attempt goes on behind it.

The sender keeps the file that it has begun to send (`Outgoing`), and asks before a second attempt how much of it has arrived. The receiver keeps what has
arrived (`Arrivals`), of one snapshot at a time, under a name of its own. Only the very same file may be continued: two members, or one at two times, may write
different bytes for the same index, so each file has a name (`transfer`) that its sender has made up. A member that does not know of this (upstream's have
no such thing) is sent, and sends, the whole.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from kubette.raft.messages import Snapshot

KEPT_S = 300.0  # what nobody goes on with for so long is given up, by either side
CHUNK_BYTES = 1 << 20
TRANSFER_HEADER, OFFSET_HEADER = "X-Raft-Snapshot-Transfer", "X-Raft-Snapshot-Offset"
_PARTIAL = ".snap.db.part"


@dataclass(slots=True)
class Outgoing:
    """A snapshot's database in a file of its own, without a name on the disk: gone with the process, or when it is closed."""

    snapshot: Snapshot
    transfer: str
    file: BinaryIO
    size: int
    began_s: float

    def chunks(self, offset: int) -> Iterator[bytes]:
        self.file.seek(offset)
        while chunk := self.file.read(CHUNK_BYTES):
            yield chunk


class Identity(NamedTuple):
    """Which file it is."""

    sender: int
    transfer: str  # empty if the sender has no name for it: then it is never continued


class OffsetError(Exception):
    """The sender would go on elsewhere than where the file ends."""


@dataclass(slots=True)
class _Arrival:
    identity: Identity
    index: int
    path: Path
    touched_s: float
    size: int = 0
    reader: object | None = None  # whoever is writing it: a later connection takes over from one that has not noticed yet that it is dead


class Arrivals:
    """The snapshots that are arriving, in `directory`. At most one is kept that nobody is sending."""

    def __init__(self, directory: Path, now: Callable[[], float]) -> None:
        self._directory = directory
        self._now = now
        self._numbers = itertools.count(1)
        self._newest: _Arrival | None = None
        # Of an earlier life: its last bytes may not have reached the disk.
        for path in directory.glob(f"*{_PARTIAL}*"):
            path.unlink()

    def resume(self, identity: Identity) -> int:
        """How much of it is there. Whoever asks has given up the connection by which it came: nothing of that is taken any more."""
        newest = self._newest
        if newest is None or newest.identity != identity or not identity.transfer:
            return 0
        newest.reader, newest.touched_s = None, self._now()
        return newest.size

    async def receive(self, reader: asyncio.StreamReader, length: int, identity: Identity, index: int, offset: int, timeout_s: float) -> Path:
        """Read the rest of the file, `length` bytes; answers where it is, whole, not yet durable. Raises OffsetError, ConnectionError, TimeoutError, OSError."""
        arrival = self._begin(identity, index, offset)
        me = arrival.reader = object()
        try:
            # Unbuffered: whoever takes over must not find later what this one has still in hand.
            with arrival.path.open("r+b", buffering=0) as file:
                file.seek(offset)
                while length:
                    async with asyncio.timeout(timeout_s):
                        chunk = await reader.read(min(length, CHUNK_BYTES))
                    if arrival.reader is not me:
                        raise ConnectionError("the transfer goes on in another connection")
                    if not chunk:
                        raise ConnectionError("the snapshot ended early")
                    self._write(arrival, file, chunk)
                    length -= len(chunk)
            self._newest = None if arrival is self._newest else self._newest
            return arrival.path
        except BaseException:
            if arrival.reader is me:
                arrival.reader, arrival.touched_s = None, self._now()
                if arrival is not self._newest:
                    arrival.path.unlink(missing_ok=True)
            raise

    def _write(self, arrival: _Arrival, file: BinaryIO, chunk: bytes) -> None:
        try:
            _write_all(file, chunk)
        except OSError:
            # A full disk gets its space back; the next attempt begins anew.
            self._newest = None if arrival is self._newest else self._newest
            raise
        arrival.size += len(chunk)

    def _begin(self, identity: Identity, index: int, offset: int) -> _Arrival:
        newest = self._newest
        if newest is not None and offset and identity.transfer and (newest.identity, newest.index, newest.size) == (identity, index, offset):
            return newest
        if offset:
            raise OffsetError(f"this snapshot does not go on at {offset} here")
        # What nobody writes any more goes now; what somebody does, when that ends.
        if newest is not None:
            self._drop(newest)
        path = self._directory / f"{index:016x}{_PARTIAL}{next(self._numbers)}"
        path.touch(mode=0o600)
        self._newest = _Arrival(identity, index, path, self._now())
        return self._newest

    def _drop(self, arrival: _Arrival) -> None:
        if arrival.reader is None:
            arrival.path.unlink(missing_ok=True)
        if arrival is self._newest:
            self._newest = None

    def tidy(self, applied_index: int) -> None:
        """Drop what is not needed any more: the member has got so far by other means, or nobody has gone on with it."""
        newest = self._newest
        if newest is not None and newest.reader is None and (newest.index <= applied_index or self._now() - newest.touched_s > KEPT_S):
            self._drop(newest)
        for path in self._directory.glob("*.snap.db"):
            # Arrived whole, and Raft did not want it any more.
            if int(path.name.partition(".")[0], 16) <= applied_index:
                path.unlink()


def _write_all(file: BinaryIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def make_durable(path: Path) -> None:
    """A file that has arrived; without the promise of the disk it is as if it had not."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(fd)
