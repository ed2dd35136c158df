"""bbolt files: etcd's database format, written whole and read whole.

A file is pages of 4096 bytes: two meta pages (the one with the higher transaction id and a good checksum counts), a free
list, and B+ trees of buckets. This writes what bbolt's `Compact` would: every page full, nothing free, one transaction. The
real etcd and `etcdctl snapshot status` read it.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

PAGE_BYTES = 4096
MAGIC = 0xED0CDAED
VERSION = 2
BRANCH, LEAF, META, FREELIST = 0x01, 0x02, 0x04, 0x10
BUCKET_LEAF = 0x01
_PAGE = struct.Struct("<QHHI")  # id, flags, count, overflow
_LEAF = struct.Struct("<IIII")  # flags, position (from this element), key size, value size
_BRANCH = struct.Struct("<IIQ")  # position, key size, page id
_META = struct.Struct("<IIIIQQQQQ")  # magic, version, page size, flags, root page, root sequence, free list, high water mark, transaction
_BUCKET = struct.Struct("<QQ")  # root page, sequence
_U64 = struct.Struct("<Q")

Buckets = Mapping[bytes, Iterable[tuple[bytes, bytes]]]


class BboltError(Exception):
    """The file is no usable bbolt database."""


def fnv64a(data: bytes) -> int:
    """FNV-1a, the checksum of a meta page."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


class _Writer:
    """Appends pages to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.next_page = 0

    def page(self, flags: int, count: int, body: bytes) -> int:
        """Write one page (with overflow pages if need be); answers its id."""
        page_id = self.next_page
        pages = -(-(_PAGE.size + len(body)) // PAGE_BYTES)
        self._file.write(_PAGE.pack(page_id, flags, count, pages - 1) + body)
        self._file.write(bytes(pages * PAGE_BYTES - _PAGE.size - len(body)))
        self.next_page += pages
        return page_id

    def leaf(self, items: list[tuple[int, bytes, bytes]]) -> int:
        heads: list[bytes] = []
        data: list[bytes] = []
        position = _LEAF.size * len(items)
        for flags, key, value in items:
            heads.append(_LEAF.pack(flags, position, len(key), len(value)))
            data += (key, value)
            position += len(key) + len(value) - _LEAF.size
        return self.page(LEAF, len(items), b"".join(heads + data))

    def branch(self, children: list[tuple[bytes, int]]) -> int:
        heads: list[bytes] = []
        data: list[bytes] = []
        position = _BRANCH.size * len(children)
        for key, page_id in children:
            heads.append(_BRANCH.pack(position, len(key), page_id))
            data.append(key)
            position += len(key) - _BRANCH.size
        return self.page(BRANCH, len(children), b"".join(heads + data))

    def tree(self, items: Iterable[tuple[int, bytes, bytes]]) -> int:
        """A B+ tree of ascending items; answers its root page."""
        level: list[tuple[bytes, int]] = []
        pending: list[tuple[int, bytes, bytes]] = []
        size = _PAGE.size
        for item in items:
            weight = _LEAF.size + len(item[1]) + len(item[2])
            if pending and size + weight > PAGE_BYTES:
                level.append((pending[0][1], self.leaf(pending)))
                pending, size = [], _PAGE.size
            pending.append(item)
            size += weight
        if pending or not level:
            level.append((pending[0][1] if pending else b"", self.leaf(pending)))
        while len(level) > 1:
            level = self._parents(level)
        return level[0][1]

    def _parents(self, level: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
        parents: list[tuple[bytes, int]] = []
        pending: list[tuple[bytes, int]] = []
        size = _PAGE.size
        for child in level:
            weight = _BRANCH.size + len(child[0])
            # A branch has at least two children, however long the keys are.
            if len(pending) >= 2 and size + weight > PAGE_BYTES:
                parents.append((pending[0][0], self.branch(pending)))
                pending, size = [], _PAGE.size
            pending.append(child)
            size += weight
        parents.append((pending[0][0], self.branch(pending)))
        return parents


def write(file: BinaryIO, buckets: Buckets) -> int:
    """Write a database at the start of an empty seekable file; the items of each bucket must ascend. Answers its size."""
    writer = _Writer(file)
    for _ in range(2):
        writer.page(META, 0, bytes(_META.size + _U64.size))
    freelist = writer.page(FREELIST, 0, b"")
    roots = []
    for name in sorted(buckets):
        root = writer.tree((0, key, value) for key, value in buckets[name])
        roots.append((BUCKET_LEAF, name, _BUCKET.pack(root, 0)))
    root = writer.tree(roots)
    for transaction in (0, 1):
        meta = _META.pack(MAGIC, VERSION, PAGE_BYTES, 0, root, 0, freelist, writer.next_page, transaction)
        file.seek(transaction * PAGE_BYTES)
        file.write(_PAGE.pack(transaction, META, 0, 0) + meta + _U64.pack(fnv64a(meta)))
    file.seek(0, os.SEEK_END)
    return writer.next_page * PAGE_BYTES


class Database:
    """A database read into memory. Raises BboltError on anything that cannot be right."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._page_bytes, self._root, self.size = self._meta()  # size: of all pages, what follows them does not count

    @classmethod
    def open(cls, path: Path) -> "Database":
        return cls(path.read_bytes())

    def _meta(self) -> tuple[int, int, int]:
        best: tuple[int, int, int, int] | None = None
        for start in (0, PAGE_BYTES):
            meta = self._content[start + _PAGE.size : start + _PAGE.size + _META.size + _U64.size]
            if len(meta) < _META.size + _U64.size:
                continue
            magic, version, page_bytes, _, root, _, _, high_water, transaction = _META.unpack_from(meta)
            (checksum,) = _U64.unpack_from(meta, _META.size)
            if magic != MAGIC or version != VERSION or checksum != fnv64a(meta[: _META.size]):
                continue
            if high_water * page_bytes > len(self._content):
                raise BboltError(f"bbolt: file is shorter ({len(self._content)}) than its pages ({high_water * page_bytes})")
            if best is None or transaction > best[0]:
                best = (transaction, page_bytes, root, high_water * page_bytes)
        if best is None:
            raise BboltError("bbolt: invalid database")
        return best[1:]

    def buckets(self) -> dict[bytes, int]:
        """The root page of each top-level bucket; an empty inline bucket has root 0."""
        found = {}
        for flags, key, value in self._walk(self._root):
            if flags & BUCKET_LEAF:
                found[key] = _BUCKET.unpack_from(value)[0] or -1
        return found

    def items(self, bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The items of a top-level bucket, ascending; nothing when there is no such bucket."""
        for flags, key, value in self._walk(self._root):
            if key == bucket and flags & BUCKET_LEAF:
                root = _BUCKET.unpack_from(value)[0]
                # A small bucket stands inline behind its header.
                walk = self._walk(root) if root else self._page_items(value, _BUCKET.size, 0)
                for _, name, content in walk:
                    yield name, content

    def _walk(self, page_id: int, depth: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
        yield from self._page_items(self._content, page_id * self._page_bytes, depth)

    def _page_items(self, content: bytes, start: int, depth: int) -> Iterator[tuple[int, bytes, bytes]]:
        if depth > 64 or start + _PAGE.size > len(content):
            raise BboltError(f"bbolt: invalid page at {start}")
        _, flags, count, _ = _PAGE.unpack_from(content, start)
        at = start + _PAGE.size
        if flags & LEAF:
            for _ in range(count):
                kind, position, key_size, value_size = _LEAF.unpack_from(content, at)
                key = at + position
                if key + key_size + value_size > len(content):
                    raise BboltError(f"bbolt: element beyond the end at {at}")
                yield kind, content[key : key + key_size], content[key + key_size : key + key_size + value_size]
                at += _LEAF.size
        elif flags & BRANCH:
            for _ in range(count):
                _, _, child = _BRANCH.unpack_from(content, at)
                yield from self._walk(child, depth + 1)
                at += _BRANCH.size
        else:
            raise BboltError(f"bbolt: page at {start} has type {flags:#x}")
