"""Pure: SPDY/3.1 as the streaming endpoints of Kubernetes speak it (the server's side of moby/spdystream).

`Connection.feed` takes bytes and answers events; its methods answer the bytes to send. Flow control is announced by neither side of spdystream and ignored
by both; so it is here. Header blocks are compressed with the dictionary of SPDY/3 (draft-mbelshe-httpbis-spdy-00, 2.6.10.1), one zlib stream a direction.
"""

import struct
import zlib
from dataclasses import dataclass, field

_VERSION = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
_FIN = 1
FRAME_BYTES_MAX = 1 << 20  # the length field allows 16 MiB, no client of ours sends more than 32 KiB
DATA_BYTES = 32 << 10
HEADER_BYTES_MAX = 64 << 10
STREAMS_MAX = 1000

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization cache-control "
    "connection content-base content-encoding content-language content-length content-location content-md5 content-range content-type date etag expect "
    "expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning "
    "www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information204 No Content301 Moved "
    "Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr "
    "May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack("!I", len(w)) + w.replace("_", " ").encode() for w in _WORDS.split()) + _TAIL.encode()


class ProtocolError(Exception):
    """The peer broke the protocol: the connection ends."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    stream: int
    headers: dict[str, str] = field(default_factory=dict)
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    stream: int
    data: bytes
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Reset:
    stream: int


@dataclass(frozen=True, slots=True)
class Ping:
    reply: bytes


@dataclass(frozen=True, slots=True)
class GoAway:
    pass


Event = StreamOpened | Data | Reset | Ping | GoAway


class Connection:
    """One connection's framing. The caller owns streams and their life; this class only knows how they are written."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    # -- what arrives

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes; answer what happened. Raises ProtocolError."""
        self._buffer += data
        events: list[Event] = []
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from("!II", self._buffer)
            length = second & 0xFFFFFF
            if length > FRAME_BYTES_MAX:
                raise ProtocolError(f"frame of {length} bytes")
            if len(self._buffer) < 8 + length:
                break
            payload = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            if first >> 31:
                event = self._control(first & 0xFFFF, second >> 24, payload)
                if event is not None:
                    events.append(event)
            else:
                events.append(Data(first, payload, bool(second >> 24 & _FIN)))
        return events

    def _control(self, kind: int, flags: int, payload: bytes) -> Event | None:
        try:
            if kind == SYN_STREAM:
                stream = struct.unpack_from("!I", payload)[0] & 0x7FFFFFFF
                return StreamOpened(stream, self._headers(payload[10:]), bool(flags & _FIN))
            if kind in (SYN_REPLY, HEADERS):
                self._headers(payload[4:])  # read for the sake of the compressor's state
                stream = struct.unpack_from("!I", payload)[0] & 0x7FFFFFFF
                return Data(stream, b"", True) if flags & _FIN else None
            if kind == RST_STREAM:
                return Reset(struct.unpack_from("!I", payload)[0] & 0x7FFFFFFF)
            if kind == PING:
                return Ping(_control(PING, 0, payload)) if struct.unpack_from("!I", payload)[0] & 1 else None
        except (struct.error, zlib.error, UnicodeDecodeError) as error:
            raise ProtocolError(f"malformed frame: {error}") from error
        return GoAway() if kind == GOAWAY else None

    def _headers(self, block: bytes) -> dict[str, str]:
        raw = self._inflate.decompress(block, HEADER_BYTES_MAX)
        if self._inflate.unconsumed_tail:
            raise ProtocolError("header block too large")
        (count,) = struct.unpack_from("!I", raw)
        position, pairs = 4, {}
        for _ in range(count):
            words = []
            for _ in range(2):
                (length,) = struct.unpack_from("!I", raw, position)
                words.append(raw[position + 4 : position + 4 + length].decode())
                position += 4 + length
            pairs[words[0].lower()] = words[1].partition("\0")[0]
        return pairs

    # -- what is sent

    def reply(self, stream: int) -> bytes:
        """Accept a stream the client opened."""
        block = self._deflate.compress(struct.pack("!I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control(SYN_REPLY, 0, struct.pack("!I", stream) + block)

    def data(self, stream: int, data: bytes, finished: bool = False) -> bytes:
        """Data of a stream, in frames of moderate size."""
        frames = []
        for start in range(0, max(len(data), 1), DATA_BYTES):
            part = data[start : start + DATA_BYTES]
            last = finished and start + DATA_BYTES >= len(data)
            frames.append(struct.pack("!II", stream, (_FIN if last else 0) << 24 | len(part)) + part)
        return b"".join(frames)

    def reset(self, stream: int, status: int = 5) -> bytes:
        """End a stream at once; 5 is CANCEL."""
        return _control(RST_STREAM, 0, struct.pack("!II", stream, status))


def _control(kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack("!HHI", 0x8000 | _VERSION, kind, flags << 24 | len(payload)) + payload
