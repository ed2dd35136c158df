"""bbolt files: etcd's database format, written whole and read whole.

A file is pages of 4096 bytes: two meta pages (the one with the higher transaction id and a good checksum counts), a free
list, and B+ trees of buckets. This writes what bbolt's `Compact` would: every page full, nothing free, one transaction. The
real etcd and `etcdctl snapshot status` read it.

bbolt's pages carry no checksums. Behind the entries of our free list, of which there are none, stand the CRCs of all pages, where
bbolt does not look: a file that nobody else has written to since is read whole and right, or not at all.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

import google_crc32c

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
_SEAL = struct.Struct("<16sII")  # magic, how many CRCs follow, CRC of them
_SEAL_MAGIC = b"kubette page crc"
_RUN_PAGES = 16  # with one CRC
_MAX_DEPTH = 64
_LAST_OWN_TRANSACTION = 1  # we write 0 and 1; whoever writes to the file afterwards counts on

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
        self._crcs: list[int] = []  # of each run of pages from 2 on
        self._crc = 0
        self._run_left = _RUN_PAGES * PAGE_BYTES

    def page(self, flags: int, count: int, body: bytes) -> int:
        """Write one page (with overflow pages if need be); answers its id."""
        page_id = self.next_page
        pages = -(-(_PAGE.size + len(body)) // PAGE_BYTES)
        data = _PAGE.pack(page_id, flags, count, pages - 1) + body + bytes(pages * PAGE_BYTES - _PAGE.size - len(body))
        self._file.write(data)
        if not flags & (META | FREELIST):
            self._sum(data)
        self.next_page += pages
        return page_id

    def _sum(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            part = data[at : at + self._run_left]
            self._crc = google_crc32c.extend(self._crc, part)
            self._run_left -= len(part)
            at += len(part)
            if not self._run_left:
                self._crcs.append(self._crc)
                self._crc, self._run_left = 0, _RUN_PAGES * PAGE_BYTES

    def freelist(self) -> int:
        """The empty free list, with the CRCs of all that was written; answers its page."""
        if self._run_left != _RUN_PAGES * PAGE_BYTES:
            self._crcs.append(self._crc)
        crcs = struct.pack(f"<{len(self._crcs)}I", *self._crcs)
        return self.page(FREELIST, 0, _SEAL.pack(_SEAL_MAGIC, len(self._crcs), google_crc32c.value(crcs)) + crcs)

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
    roots = []
    for name in sorted(buckets):
        root = writer.tree((0, key, value) for key, value in buckets[name])
        roots.append((BUCKET_LEAF, name, _BUCKET.pack(root, 0)))
    root = writer.tree(roots)
    freelist = writer.freelist()
    for transaction in range(_LAST_OWN_TRANSACTION + 1):
        meta = _META.pack(MAGIC, VERSION, PAGE_BYTES, 0, root, 0, freelist, writer.next_page, transaction)
        file.seek(transaction * PAGE_BYTES)
        file.write(_PAGE.pack(transaction, META, 0, 0) + meta + _U64.pack(fnv64a(meta)))
    file.seek(0, os.SEEK_END)
    return writer.next_page * PAGE_BYTES


class Database:
    """A database read into memory. Raises BboltError on anything that cannot be right."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        _, self._page_bytes, self._root, self.size = self._meta()  # size: of all pages, what follows them does not count

    def _meta(self) -> tuple[int, int, int, int]:
        """Transaction, size of a page, root, and size of all pages."""
        best: tuple[int, int, int, int] | None = None
        freelist = 0
        for start in (0, PAGE_BYTES):
            meta = self._content[start + _PAGE.size : start + _PAGE.size + _META.size + _U64.size]
            if len(meta) < _META.size + _U64.size:
                continue
            magic, version, page_bytes, _, root, _, listed, high_water, transaction = _META.unpack_from(meta)
            (checksum,) = _U64.unpack_from(meta, _META.size)
            if magic != MAGIC or version != VERSION or checksum != fnv64a(meta[: _META.size]):
                continue
            if high_water * page_bytes > len(self._content):
                raise BboltError(f"bbolt: file is shorter ({len(self._content)}) than its pages ({high_water * page_bytes})")
            if best is None or transaction > best[0]:
                best = (transaction, page_bytes, root, high_water * page_bytes)
                freelist = listed
        if best is None:
            raise BboltError("bbolt: invalid database")
        if best[0] <= _LAST_OWN_TRANSACTION and best[1] == PAGE_BYTES:
            self._check_seal(freelist * PAGE_BYTES)
        return best

    def _check_seal(self, at: int) -> None:
        """Compare the pages with the CRCs behind the free list, if there are any (a file of bbolt's own has none)."""
        content = self._content
        body = at + _PAGE.size
        if content[body : body + len(_SEAL_MAGIC)] != _SEAL_MAGIC:
            return
        _, count, crc = _SEAL.unpack_from(content, body)
        start = body + _SEAL.size
        crcs = content[start : start + 4 * count]
        if len(crcs) != 4 * count or google_crc32c.value(crcs) != crc:
            raise BboltError(f"bbolt: crc mismatch at offset {body}")
        view = memoryview(content)
        for run, expected in enumerate(struct.unpack(f"<{count}I", crcs)):
            first = (2 + run * _RUN_PAGES) * PAGE_BYTES
            if google_crc32c.value(bytes(view[first : min(first + _RUN_PAGES * PAGE_BYTES, at)])) != expected:
                raise BboltError(f"bbolt: crc mismatch in the pages from offset {first} on")

    def buckets(self) -> dict[bytes, int]:
        """The root page of each top-level bucket; an empty inline bucket has root 0."""
        return {key: _BUCKET.unpack_from(value)[0] or -1 for flags, key, value in self._elements(self._root) if flags & BUCKET_LEAF}

    def items(self, bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The items of a top-level bucket, ascending; nothing when there is no such bucket."""
        for flags, name, header in self._elements(self._root):
            if name == bucket and flags & BUCKET_LEAF:
                root = _BUCKET.unpack_from(header)[0]
                # A small bucket stands inline behind its header.
                elements = self._elements(root) if root else _leaf(header, _BUCKET.size, *_page(header, _BUCKET.size))
                for _, key, value in elements:
                    yield key, value

    def _elements(self, root: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Of a tree: flags, key, value."""
        left = self.size // self._page_bytes + 1
        levels = [iter((root,))]  # the pages still to visit, from the root down
        while levels:
            page_id = next(levels[-1], None)
            if page_id is None:
                levels.pop()
                continue
            left -= 1
            if left < 0:
                raise BboltError(f"bbolt: page at {page_id * self._page_bytes} belongs to two trees")
            start = page_id * self._page_bytes
            flags, count = _page(self._content, start)
            if flags & LEAF:
                yield from _leaf(self._content, start, flags, count)
            elif flags & BRANCH and len(levels) <= _MAX_DEPTH:
                at = start + _PAGE.size
                levels.append(iter([child for _, _, child in _BRANCH.iter_unpack(self._content[at : at + count * _BRANCH.size])]))
            else:
                raise BboltError(f"bbolt: page at {start} has type {flags:#x}")


def _page(content: bytes, start: int) -> tuple[int, int]:
    """Flags and count of the page at `start`, whose elements are all there."""
    if start + _PAGE.size > len(content):
        raise BboltError(f"bbolt: invalid page at {start}")
    _, flags, count, _ = _PAGE.unpack_from(content, start)
    if start + _PAGE.size + count * _LEAF.size > len(content):
        raise BboltError(f"bbolt: invalid page at {start}: {count} elements")
    return flags, count


def _leaf(content: bytes, start: int, flags: int, count: int) -> list[tuple[int, bytes, bytes]]:
    """The elements of a leaf page."""
    if not flags & LEAF:
        raise BboltError(f"bbolt: page at {start} has type {flags:#x}")
    elements: list[tuple[int, bytes, bytes]] = []
    size = len(content)
    at = start + _PAGE.size
    for kind, position, key_size, value_size in _LEAF.iter_unpack(content[at : at + count * _LEAF.size]):
        key = at + position
        value = key + key_size
        end = value + value_size
        if end > size:
            raise BboltError(f"bbolt: element beyond the end at {at}")
        elements.append((kind, content[key:value], content[value:end]))
        at += _LEAF.size
    return elements
