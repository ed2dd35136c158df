"""Pure: HPACK (RFC 7541): the header compression of HTTP/2. Decoding in full; encoding without indexing, which is all a server needs."""

from collections import deque

from hpack.huffman_table import decode_huffman

Header = tuple[bytes, bytes]

_STATIC_TEXT = """:authority|
:method|GET
:method|POST
:path|/
:path|/index.html
:scheme|http
:scheme|https
:status|200
:status|204
:status|206
:status|304
:status|400
:status|404
:status|500
accept-charset|
accept-encoding|gzip, deflate
accept-language|
accept-ranges|
accept|
access-control-allow-origin|
age|
allow|
authorization|
cache-control|
content-disposition|
content-encoding|
content-language|
content-length|
content-location|
content-range|
content-type|
cookie|
date|
etag|
expect|
expires|
from|
host|
if-match|
if-modified-since|
if-none-match|
if-range|
if-unmodified-since|
last-modified|
link|
location|
max-forwards|
proxy-authenticate|
proxy-authorization|
range|
referer|
refresh|
retry-after|
server|
set-cookie|
strict-transport-security|
transfer-encoding|
user-agent|
vary|
via|
www-authenticate|"""
STATIC_TABLE: tuple[Header, ...] = tuple(
    (name.encode(), value.encode()) for name, _, value in (line.partition("|") for line in _STATIC_TEXT.splitlines())
)
TABLE_BYTES = 4096  # what we let the peer use; the protocol's default
MAX_HEADER_LIST_BYTES = 64 * 1024
_ENTRY_OVERHEAD = 32


class HpackError(Exception):
    """The header block breaks the rules: the connection is lost."""


def encode(headers: list[Header]) -> bytes:
    """A header block that changes no table: literals without indexing (§6.2.2)."""
    parts = bytearray()
    for name, value in headers:
        parts.append(0)
        for text in (name, value):
            parts += _encode_int(len(text), 7)
            parts += text
    return bytes(parts)


def _encode_int(value: int, prefix: int) -> bytes:
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes([value])
    out = bytearray([limit])
    value -= limit
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Decoder:
    """One connection's direction towards us."""

    __slots__ = ("_dynamic", "_max_size", "_size")

    def __init__(self) -> None:
        self._dynamic: deque[Header] = deque()
        self._size = 0
        self._max_size = TABLE_BYTES

    def decode(self, block: bytes) -> list[Header]:
        """The headers in order. Raises HpackError."""
        try:
            return self._decode(block)
        except IndexError:
            raise HpackError("header block ends early") from None

    def _decode(self, block: bytes) -> list[Header]:
        headers: list[Header] = []
        at, end, total = 0, len(block), 0
        while at < end:
            byte = block[at]
            if byte & 0x80:  # indexed
                if byte == 0xFF:
                    index, at = _decode_int(block, at, 7)
                else:
                    index, at = byte & 0x7F, at + 1
                header = self._lookup(index)
            elif byte & 0xE0 == 0x20:  # the table's new size
                size, at = _decode_int(block, at, 5)
                if size > TABLE_BYTES:
                    raise HpackError(f"table size {size} is above the limit")
                self._max_size = size
                self._evict()
                continue
            else:
                indexed = byte & 0x40
                index, at = _decode_int(block, at, 6 if indexed else 4)
                if index:
                    name = self._lookup(index)[0]
                else:
                    name, at = _decode_string(block, at)
                value, at = _decode_string(block, at)
                header = (name, value)
                if indexed:
                    self._dynamic.appendleft(header)
                    self._size += len(name) + len(value) + _ENTRY_OVERHEAD
                    self._evict()
            total += len(header[0]) + len(header[1]) + _ENTRY_OVERHEAD
            if total > MAX_HEADER_LIST_BYTES:
                raise HpackError("header list is too large")
            headers.append(header)
        return headers

    def _lookup(self, index: int) -> Header:
        if index <= 61:
            if index == 0:
                raise HpackError("index 0")
            return STATIC_TABLE[index - 1]
        if index - 62 >= len(self._dynamic):
            raise HpackError(f"index {index} is beyond the table")
        return self._dynamic[index - 62]

    def _evict(self) -> None:
        while self._size > self._max_size:
            name, value = self._dynamic.pop()
            self._size -= len(name) + len(value) + _ENTRY_OVERHEAD


def _decode_int(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    limit = (1 << prefix) - 1
    value = block[at] & limit
    at += 1
    if value < limit:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at
        if shift > 28:
            raise HpackError("integer is too large")


def _decode_string(block: bytes, at: int) -> tuple[bytes, int]:
    huffman = block[at] & 0x80
    length, at = _decode_int(block, at, 7)
    end = at + length
    if end > len(block):
        raise HpackError("string ends early")
    text = block[at:end]
    if huffman:
        try:
            return bytes(decode_huffman(text)), end
        except Exception as error:
            raise HpackError("broken huffman string") from error
    return text, end
