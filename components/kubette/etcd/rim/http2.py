"""HTTP/2 (RFC 9113), the server's side, as an asyncio protocol; as much of it as gRPC clients use, strictly checked.

A `Connection` reads frames and hands streams to a `Handler`; streams write headers, data and trailers under the peer's flow
control. Output of one turn of the event loop leaves in one write. Limits: frame and header sizes, streams, receive windows, and
resets without work (rapid reset) are bounded; a peer that breaks a rule loses the connection with GOAWAY.
"""

import asyncio
import struct
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from kubette.etcd.rim.hpack import Decoder, Header, HpackError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CALM = (
    0,
    1,
    3,
    5,
    6,
    7,
    8,
    9,
    11,
)
MAX_FRAME = 16384  # the protocol's default, for both directions unless the peer allows more
DEFAULT_WINDOW = 65535
CONNECTION_WINDOW = 16 << 20  # what we let a client send ahead on all streams
STREAM_WINDOW = 4 << 20  # on one stream: a whole request of the largest size
MAX_STREAMS = 1 << 16
MAX_HEADER_BLOCK = 64 * 1024
MAX_RESETS = 10_000  # streams reset before they were answered, in a row without an answered one
MAX_PING_STRIKES = 2  # grpc-go's
IDLE_PING_MIN_S = 7200.0  # between pings of a client that has no call under way
MAX_BUFFER = 64 << 20  # bytes queued for a client that does not read
MAX_BLOCKED = 64 << 20  # bytes that wait for a client's windows, beyond which it may begin no calls
MAX_BLOCKED_AT_ALL = 512 << 20  # and beyond which it is let go: calls that were under way have had such answers

_FRAME = struct.Struct(">BHBBI")  # length (24 bits), type, flags, stream
_SETTING = struct.Struct(">HI")
_U32 = struct.Struct(">I")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    length = len(payload)
    return _FRAME.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + payload


@dataclass(frozen=True, slots=True)
class Settings:
    """What clients may do, and how a silent one is found out (upstream's --max-concurrent-streams and --grpc-keepalive-*)."""

    max_streams: int = MAX_STREAMS
    ping_min_s: float = 5.0  # more pings than this without need end the connection
    ping_interval_s: float = 7200.0  # of ours, to a client that says nothing; 0: none
    ping_timeout_s: float = 20.0  # then it is gone


class Handler(Protocol):
    """What a connection calls. All of it is synchronous."""

    settings: Settings
    received_bytes: int
    sent_bytes: int

    def opened(self, stream: "Stream", headers: list[Header], ended: bool) -> None: ...

    def received(self, stream: "Stream", data: bytes, ended: bool) -> None: ...

    def aborted(self, stream: "Stream") -> None:
        """The client reset the stream, or the connection is gone."""

    def drained(self, stream: "Stream") -> None:
        """What was queued for the stream has left."""


class Stream:
    """One exchange. `context` belongs to the handler, until the stream is over: what points to the stream itself would else be garbage in a circle."""

    __slots__ = ("_connection", "_pending", "_trailers", "_window", "context", "ended_by_peer", "id", "pending_bytes", "receive_window")

    def __init__(self, connection: "Connection", stream_id: int, window: int) -> None:
        self._connection = connection
        self.id = stream_id
        self.context: object = None
        self.ended_by_peer = False
        self._window = window
        self.receive_window = STREAM_WINDOW
        self._pending: deque[memoryview] | None = None
        self.pending_bytes = 0
        self._trailers: bytes | None = None

    @property
    def connection(self) -> "Connection":
        return self._connection

    def send_headers(self, block: bytes, end: bool = False) -> None:
        self._connection.ping_strikes = -1  # a client may well ask after what it got (its bandwidth estimate does)
        self._connection.write(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), self.id, block))
        if end:
            self._connection.finish(self)

    def send_data(self, data: bytes) -> None:
        """Queue data; it leaves as the peer's windows allow."""
        connection = self._connection
        connection.ping_strikes = -1
        length = len(data)
        if self._pending is None and length <= connection.max_frame and length <= self._window and length <= connection.window:
            self._window -= length
            connection.window -= length
            connection.write(frame(DATA, 0, self.id, data))
            return
        if self._pending is None:
            self._pending = deque()
        self._pending.append(memoryview(data))  # cut into frames without a copy of the rest each time
        self.pending_bytes += length
        connection.blocked_bytes += length
        connection.blocked[self.id] = self
        self.pump()
        if connection.blocked_bytes > MAX_BLOCKED_AT_ALL:
            connection.abort()

    def end(self, trailers: bytes) -> None:
        """Trailers after all data; the stream is over."""
        if self._pending is not None:
            self._trailers = trailers
            return
        self.send_headers(trailers, end=True)

    def reset(self, code: int) -> None:
        self._connection.write(frame(RST_STREAM, 0, self.id, _U32.pack(code)))
        self._connection.finish(self)

    def grow(self, increment: int) -> None:
        self._window += increment
        if self._window > 0x7FFFFFFF:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "window is too large")

    def pump(self) -> None:
        """Send what the windows allow."""
        pending, connection = self._pending, self._connection
        if pending is None:
            return
        while pending:
            room = min(self._window, connection.window, connection.max_frame)
            if room <= 0:
                return
            data = pending[0]
            length = len(data)
            if length <= room:
                pending.popleft()
                chunk = data
            else:
                length = room
                chunk = data[:room]
                pending[0] = data[room:]
            self._window -= length
            connection.window -= length
            self.pending_bytes -= length
            connection.blocked_bytes -= length
            connection.ping_strikes = -1
            connection.write(_FRAME.pack(length >> 16, length & 0xFFFF, DATA, 0, self.id))
            connection.write(chunk)
        self._pending = None
        connection.blocked.pop(self.id, None)
        if self._trailers is not None:
            self.send_headers(self._trailers, end=True)
        else:
            connection.handler.drained(self)

    def cancel_pending(self) -> None:
        self._pending = None
        self._trailers = None
        self._connection.blocked_bytes -= self.pending_bytes
        self.pending_bytes = 0


class ConnectionFault(Exception):
    """The peer broke a rule."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Connection(asyncio.Protocol):
    """One client. `feed` takes bytes after the preface has been recognized (the preface included)."""

    def __init__(self, handler: Handler, transport: asyncio.Transport) -> None:
        self.handler = handler
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._expect_preface = True
        self._out: list[bytes | memoryview] = []
        self._flush_scheduled = False
        self._decoder = Decoder()
        self._streams: dict[int, Stream] = {}
        self.blocked: dict[int, Stream] = {}
        self.blocked_bytes = 0  # that wait in them
        self._last_stream = 0
        self._initial_window = DEFAULT_WINDOW
        self._receive_window = CONNECTION_WINDOW
        self.window = DEFAULT_WINDOW
        self.max_frame = MAX_FRAME
        self._headers: tuple[int, int, list[bytes]] | None = None  # stream, flags, fragments of a block under way
        self._resets = 0
        self.closed = False
        self._settings = handler.settings
        self._max_streams = min(self._settings.max_streams, MAX_STREAMS)
        self.ping_strikes = 0
        self._last_ping = float("-inf")
        self._last_read = self._loop.time()
        self._keepalive: asyncio.TimerHandle | None = None
        self._pinged_at: float | None = None
        self._watch_silence()
        settings = _SETTING.pack(3, self._max_streams) + _SETTING.pack(4, STREAM_WINDOW) + _SETTING.pack(6, MAX_HEADER_BLOCK)
        self.write(frame(SETTINGS, 0, 0, settings))
        self.write(frame(WINDOW_UPDATE, 0, 0, _U32.pack(CONNECTION_WINDOW - DEFAULT_WINDOW)))

    @property
    def common_name(self) -> str:
        """Of the peer's certificate, if it showed one."""
        return common_name(self._transport)

    # Output

    def write(self, data: bytes | memoryview) -> None:
        if self.closed:
            return
        self._out.append(data)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        # Between a reset and `connection_lost`, and after an abort, a write would raise.
        if self._out and not self.closed and not self._transport.is_closing():
            data = b"".join(self._out)
            self._out.clear()
            self._transport.write(data)
            self.handler.sent_bytes += len(data)
            if self._transport.get_write_buffer_size() > MAX_BUFFER:
                self._transport.abort()  # a client that does not read, and does not say so by flow control

    def finish(self, stream: Stream) -> None:
        """Our side of the stream is over. A client that is still sending is told to stop (RFC 9113 §8.1)."""
        self.blocked.pop(stream.id, None)
        if self._streams.pop(stream.id, None) is not None:
            self._resets = 0
            if not stream.ended_by_peer:
                self.write(frame(RST_STREAM, 0, stream.id, _U32.pack(NO_ERROR)))
        stream.cancel_pending()
        stream.context = None

    def _abort(self, stream: Stream) -> None:
        stream.cancel_pending()
        self.handler.aborted(stream)
        stream.context = None

    def goaway(self, code: int = NO_ERROR, text: str = "") -> None:
        self.write(frame(GOAWAY, 0, 0, struct.pack(">II", self._last_stream, code) + text.encode()))

    def abort(self) -> None:
        self._transport.abort()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    # Input

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._keepalive is not None:
            self._keepalive.cancel()
        streams, self._streams = self._streams, {}
        self.blocked.clear()
        for stream in streams.values():
            self._abort(stream)

    def data_received(self, data: bytes) -> None:
        self.handler.received_bytes += len(data)
        self._last_read = self._loop.time()
        try:
            self._feed(data)
        except (ConnectionFault, HpackError) as error:
            self.goaway(error.code if isinstance(error, ConnectionFault) else COMPRESSION_ERROR, str(error))
            self.close()

    def _feed(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at, end = 0, len(buffer)
        if self._expect_preface:
            if end < len(PREFACE):
                self._buffer = buffer
                return
            if not buffer.startswith(PREFACE):
                raise ConnectionFault(PROTOCOL_ERROR, "no preface")
            self._expect_preface = False
            at = len(PREFACE)
        while end - at >= 9:
            high, low, kind, flags, stream_id = _FRAME.unpack_from(buffer, at)
            length = high << 16 | low
            if length > MAX_FRAME:
                raise ConnectionFault(FRAME_SIZE_ERROR, f"frame of {length} bytes")
            stop = at + 9 + length
            if stop > end:
                break
            payload = buffer[at + 9 : stop]
            at = stop
            stream_id &= 0x7FFFFFFF
            if self._headers is not None and kind != CONTINUATION:
                raise ConnectionFault(PROTOCOL_ERROR, "header block interrupted")
            if kind == DATA:
                self._on_data(stream_id, flags, payload)
            elif kind == HEADERS:
                self._on_headers(stream_id, flags, payload)
            elif kind == WINDOW_UPDATE:
                self._on_window_update(stream_id, payload)
            else:
                self._on_other(kind, flags, stream_id, payload)
            if self.closed:
                return
        self._buffer = buffer[at:] if at else buffer

    def _on_data(self, stream_id: int, flags: int, payload: bytes) -> None:
        length = len(payload)
        self._receive_window -= length
        if self._receive_window < 0:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "connection window overrun")
        if self._receive_window < CONNECTION_WINDOW // 2:
            self.write(frame(WINDOW_UPDATE, 0, 0, _U32.pack(CONNECTION_WINDOW - self._receive_window)))
            self._receive_window = CONNECTION_WINDOW
        stream = self._streams.get(stream_id)
        if stream is None:
            if stream_id > self._last_stream or not stream_id & 1:
                raise ConnectionFault(PROTOCOL_ERROR, f"data on idle stream {stream_id}")
            return  # one that we have ended: its client has not heard yet
        if stream.ended_by_peer:
            raise ConnectionFault(STREAM_CLOSED, f"data after the end of stream {stream_id}")
        stream.receive_window -= length
        if stream.receive_window < 0:
            raise ConnectionFault(FLOW_CONTROL_ERROR, f"window of stream {stream_id} overrun")
        ended = bool(flags & END_STREAM)
        if flags & PADDED:
            payload = _unpadded(payload)
        if ended:
            stream.ended_by_peer = True
        elif stream.receive_window < STREAM_WINDOW // 2:
            self.write(frame(WINDOW_UPDATE, 0, stream_id, _U32.pack(STREAM_WINDOW - stream.receive_window)))
            stream.receive_window = STREAM_WINDOW
        self.handler.received(stream, payload, ended)

    def _on_headers(self, stream_id: int, flags: int, payload: bytes) -> None:
        if flags & PADDED:
            payload = _unpadded(payload)
        if flags & HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(FRAME_SIZE_ERROR, "short priority")
            payload = payload[5:]
        if flags & END_HEADERS:
            self._block_complete(stream_id, flags, payload)
        else:
            self._headers = (stream_id, flags, [payload])

    def _block_complete(self, stream_id: int, flags: int, block: bytes) -> None:
        headers = self._decoder.decode(block)  # always: the table must follow
        stream = self._streams.get(stream_id)
        ended = bool(flags & END_STREAM)
        if stream is not None:
            if not ended or stream.ended_by_peer:
                raise ConnectionFault(PROTOCOL_ERROR, "second header block")
            stream.ended_by_peer = True
            self.handler.received(stream, b"", True)
            return
        if not stream_id & 1:
            raise ConnectionFault(PROTOCOL_ERROR, f"client opened stream {stream_id}")
        if stream_id <= self._last_stream:
            return  # trailers of a stream that we have ended
        self._last_stream = stream_id
        if len(self._streams) >= self._max_streams or self.blocked_bytes > MAX_BLOCKED:
            self.write(frame(RST_STREAM, 0, stream_id, _U32.pack(REFUSED_STREAM)))
            return
        stream = Stream(self, stream_id, self._initial_window)
        stream.ended_by_peer = ended
        self._streams[stream_id] = stream
        self.handler.opened(stream, headers, ended)

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(FRAME_SIZE_ERROR, "window update")
        increment = _U32.unpack(payload)[0] & 0x7FFFFFFF
        if increment == 0:
            raise ConnectionFault(PROTOCOL_ERROR, "window update of 0")
        if stream_id:
            stream = self._streams.get(stream_id)
            if stream is not None:
                stream.grow(increment)
                stream.pump()
            return
        self.window += increment
        if self.window > 0x7FFFFFFF:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "window is too large")
        for stream in list(self.blocked.values()):
            stream.pump()
            if self.window <= 0:
                break

    def _on_other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == SETTINGS:
            self._on_settings(flags, payload)
        elif kind == PING:
            if len(payload) != 8:
                raise ConnectionFault(FRAME_SIZE_ERROR, "ping")
            if not flags & ACK:
                self.write(frame(PING, ACK, 0, payload))
                self._judge_ping()
        elif kind == RST_STREAM:
            stream = self._streams.pop(stream_id, None)
            if stream is not None:
                self._resets += 1
                if self._resets > MAX_RESETS:
                    raise ConnectionFault(CALM, "too many resets")
                self.blocked.pop(stream_id, None)
                self._abort(stream)
        elif kind == CONTINUATION:
            if self._headers is None or self._headers[0] != stream_id:
                raise ConnectionFault(PROTOCOL_ERROR, "continuation without headers")
            _, first_flags, fragments = self._headers
            fragments.append(payload)
            if sum(map(len, fragments)) > MAX_HEADER_BLOCK or len(fragments) > 64:
                raise ConnectionFault(CALM, "header block is too large")
            if flags & END_HEADERS:
                self._headers = None
                self._block_complete(stream_id, first_flags, b"".join(fragments))
        elif kind == PUSH_PROMISE:
            raise ConnectionFault(PROTOCOL_ERROR, "push from a client")
        # PRIORITY, GOAWAY and unknown frames need no answer.

    def _judge_ping(self) -> None:
        """A client that pings all the time for nothing is sent away, as grpc-go does it."""
        last, self._last_ping = self._last_ping, self._last_read
        if self.ping_strikes < 0:  # it got something since its last one
            self.ping_strikes = 0
            return
        if self._last_read - last < (self._settings.ping_min_s if self._streams else IDLE_PING_MIN_S):
            self.ping_strikes += 1
            if self.ping_strikes > MAX_PING_STRIKES:
                raise ConnectionFault(CALM, "too_many_pings")

    def _watch_silence(self) -> None:
        """Ping a client that has been silent for long; without any answer it is gone, and its calls with it."""
        interval = self._settings.ping_interval_s
        if not interval or self.closed:
            return
        silence = self._loop.time() - self._last_read
        if self._pinged_at is not None and self._last_read < self._pinged_at:
            self._transport.abort()
            return
        self._pinged_at = None
        if silence < interval:
            self._keepalive = self._loop.call_later(interval - silence, self._watch_silence)
            return
        self._pinged_at = self._loop.time()
        self.write(frame(PING, 0, 0, bytes(8)))
        if self._settings.ping_timeout_s:
            self._keepalive = self._loop.call_later(self._settings.ping_timeout_s, self._watch_silence)

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            return
        if len(payload) % 6:
            raise ConnectionFault(FRAME_SIZE_ERROR, "settings")
        for key, value in _SETTING.iter_unpack(payload):
            if key == 4:
                if value > 0x7FFFFFFF:
                    raise ConnectionFault(FLOW_CONTROL_ERROR, "initial window")
                change, self._initial_window = value - self._initial_window, value
                for stream in list(self._streams.values()):
                    stream.grow(change)
            elif key == 5:
                if not 16384 <= value <= 0xFFFFFF:
                    raise ConnectionFault(PROTOCOL_ERROR, "max frame size")
                self.max_frame = min(value, 1 << 20)
        self.write(frame(SETTINGS, ACK, 0, b""))
        for stream in list(self.blocked.values()):
            stream.pump()


def common_name(transport: asyncio.BaseTransport) -> str:
    """The common name in the peer's certificate; empty without one."""
    certificate = transport.get_extra_info("peercert") or {}
    return next((value for name in certificate.get("subject", ()) for key, value in name if key == "commonName"), "")


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR, "padding")
    return payload[1 : len(payload) - payload[0]]
