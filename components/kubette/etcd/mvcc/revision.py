"""Pure: revisions, packed into one integer so that ordering and hashing are those of an int.

`main` counts the transactions that changed something, `sub` the changes inside one.
"""

import struct

SUB_BITS = 32
_SUB_MASK = (1 << SUB_BITS) - 1
_STRUCT = struct.Struct(">QcQ")
TOMBSTONE_MARK = b"t"


def pack(main: int, sub: int = 0) -> int:
    return main << SUB_BITS | sub


def main_of(revision: int) -> int:
    return revision >> SUB_BITS


def end_of(main: int) -> int:
    """The packed revision after every change of transaction `main`."""
    return (main + 1) << SUB_BITS


def to_key(revision: int, tombstone: bool) -> bytes:
    """The key of a revision in etcd's `key` bucket."""
    key = _STRUCT.pack(revision >> SUB_BITS, b"_", revision & _SUB_MASK)
    return key + TOMBSTONE_MARK if tombstone else key


def from_key(key: bytes) -> tuple[int, bool]:
    """The revision of a bucket key, and whether it is a tombstone's. Raises ValueError."""
    tombstone = len(key) == 18 and key[17:] == TOMBSTONE_MARK
    if len(key) != 17 and not tombstone:
        raise ValueError(f"invalid revision key {key.hex()}")
    main, mark, sub = _STRUCT.unpack_from(key)
    if mark != b"_":
        raise ValueError(f"invalid revision key {key.hex()}")
    return main << SUB_BITS | sub, tombstone
