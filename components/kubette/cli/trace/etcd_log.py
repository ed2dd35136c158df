"""What etcd's write-ahead log on disk says of a few keys: at which index each was written. Read beside the member that writes it, which is not asked.

The format is etcd's (wal/encoder.go): an 8-byte word of length and padding before each record. A record that is not whole yet ends what is read.
"""

import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import orjson

from kubette.cli.trace.story import Write

ENTRY, STATE = 2, 3  # types of records
_WORD = struct.Struct("<Q")


def writes(directory: Path, keys: Collection[str]) -> list[Write]:
    """Conditional writes of `keys` that are committed and in the log still; none where there is no log to be read."""
    from google.protobuf.message import DecodeError

    from kubette.etcd_api import raft_internal_pb2, raft_pb2, wal_pb2

    wanted, commit, last = [key.encode() for key in keys], 0, 0
    found: dict[int, tuple[int, bytes]] = {}
    try:
        for segment in sorted(directory.glob("*.wal")):
            for frame in _frames(segment.read_bytes()):
                record = wal_pb2.Record.FromString(frame)
                if record.type == STATE:
                    commit = raft_pb2.HardState.FromString(record.data).commit
                elif record.type == ENTRY:
                    entry = raft_pb2.Entry.FromString(record.data)
                    if entry.Index <= last:  # it replaces the one that was there and all that followed (Raft §5.3)
                        found = {index: value for index, value in found.items() if index < entry.Index}
                    last = entry.Index
                    if any(key in entry.Data for key in wanted):
                        found[last] = entry.Term, entry.Data
    except (OSError, DecodeError):
        return []
    made: list[Write] = []
    for index, (term, data) in sorted(found.items()):
        try:
            request = raft_internal_pb2.InternalRaftRequest.FromString(data)
        except DecodeError:  # a change of members, say, with the key's bytes in it
            continue
        if index <= commit and (write := _read(index, term, request, keys)) is not None:
            made.append(write)
    return made


def _frames(content: bytes) -> Iterator[bytes]:
    offset = 0
    while offset + 8 <= len(content):
        (word,) = _WORD.unpack_from(content, offset)
        length = word & 0x00FFFFFFFFFFFFFF
        end = offset + 8 + length + ((word >> 56) & 0x7 if word >> 63 else 0)
        if not length or end > len(content):
            return
        yield content[offset + 8 : offset + 8 + length]
        offset = end


def _read(index: int, term: int, request: Any, keys: Collection[str]) -> Write | None:
    if not request.HasField("txn") or len(request.txn.compare) != 1 or len(request.txn.success) != 1:
        return None
    put = request.txn.success[0].request_put
    key = put.key.decode(errors="replace")
    try:
        return Write(index, term, key, request.txn.compare[0].mod_revision, orjson.loads(put.value)) if key in keys else None
    except orjson.JSONDecodeError:
        return None
