"""Upgraded connections: the HTTP head by hand, then messages of a WebSocket or the bytes of a SPDY connection.

`upgrade` answers 101 and gives a `Bytes` (SPDY, plain or tunnelled in a WebSocket) or a `Messages` (WebSocket); both have back-pressure by `drain`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from kubette.runtime import spdy, websocket

READ_BYTES = 64 << 10
_REASONS = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}
PROTOCOL_ERRORS = (websocket.ProtocolError, spdy.ProtocolError, ValueError)


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head. Header names are lower case; repeated ones are joined by commas."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)

    def listed(self, name: str) -> list[str]:
        return [part.strip() for part in self.headers.get(name, "").split(",") if part.strip()]

    @property
    def is_websocket(self) -> bool:
        return "websocket" in [v.lower() for v in self.listed("upgrade")]

    @property
    def is_spdy(self) -> bool:
        return "spdy/3.1" in [v.lower() for v in self.listed("upgrade")]


def parse_head(head: bytes) -> Request:
    """A request head up to its empty line. Raises ValueError."""
    lines = head.decode("latin-1").split("\r\n")
    method, target, version = lines[0].split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(f"not HTTP/1: {version}")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        if line:
            name, _, value = line.partition(":")
            key = name.strip().lower()
            headers[key] = f"{headers[key]},{value.strip()}" if key in headers else value.strip()
    return Request(method, target, headers)


async def refuse(writer: asyncio.StreamWriter, status: int, text: str) -> None:
    """An ordinary answer instead of an upgrade."""
    body = text.encode() + b"\n"
    head = f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


def choose(offered: Sequence[str], supported: Sequence[str]) -> str | None:
    """The client's first choice that is supported; nothing offered means the oldest, the empty name."""
    if not offered:
        return "" if "" in supported else None
    return next((name for name in offered if name in supported), None)


async def _switch(writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
    writer.write(f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{lines}\r\n".encode())
    await writer.drain()


async def accept_websocket(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: str) -> "Messages":
    """101 for a WebSocket with a sub-protocol."""
    key = websocket.accept_key(request.headers.get("sec-websocket-key", ""))
    await _switch(writer, {"Upgrade": "websocket", "Sec-WebSocket-Accept": key, "Sec-WebSocket-Protocol": protocol})
    return Messages(reader, writer)


async def accept_spdy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: str) -> "Bytes":
    """101 for SPDY/3.1 with a stream protocol version."""
    await _switch(writer, {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": protocol})
    return Bytes(reader, writer)


class Messages:
    """A WebSocket's messages. Pings are answered, a close ends the iteration."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = websocket.Decoder()
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._reader.read(READ_BYTES):
            try:
                messages = self._decoder.feed(data)
            except websocket.ProtocolError as error:
                await self.close(error.code, str(error))
                return
            for message in messages:
                if message.opcode == websocket.CLOSE:
                    await self.close()
                    return
                if message.opcode == websocket.PING:
                    self._writer.write(websocket.encode(websocket.PONG, message.data))
                elif message.opcode in (websocket.TEXT, websocket.BINARY):
                    yield message.data

    async def send(self, data: bytes, text: bool = False) -> None:
        if not self._closed:
            self._writer.write(websocket.encode(websocket.TEXT if text else websocket.BINARY, data))
            await self._writer.drain()

    async def close(self, code: int = websocket.NORMAL_CLOSURE, reason: str = "") -> None:
        """Send the close frame, once."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(ConnectionError):
                self._writer.write(websocket.encode_close(code, reason))
                await self._writer.drain()


class Bytes:
    """A connection's raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._reader.read(READ_BYTES):
            yield data

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()


class SpdyStream:
    """One stream of a SPDY connection: what it brings is queued, what is sent goes out at once."""

    # Frames waiting for a slow consumer; beyond it the whole connection waits (there is no flow control per stream).
    FRAMES_MAX = 64

    def __init__(self, connection: "SpdyServer", number: int, headers: dict[str, str]) -> None:
        self._connection = connection
        self.number = number
        self.headers = headers
        self.incoming: asyncio.Queue[bytes | None] = asyncio.Queue(self.FRAMES_MAX)
        self._ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (data := await self.incoming.get()) is not None:
            yield data

    async def send(self, data: bytes) -> None:
        if not self._ended and data:
            await self._connection.send_data(self.number, data)

    async def close(self) -> None:
        """Half-close: nothing more comes from us."""
        if not self._ended:
            self._ended = True
            await self._connection.send_data(self.number, b"", finished=True)

    async def reset(self) -> None:
        self._ended = True
        await self._connection.reset(self.number)


class SpdyServer:
    """The server's end of a SPDY connection over raw or tunnelled bytes. Iterating reads the connection and yields the streams the client opens."""

    def __init__(self, transport: Bytes | Messages) -> None:
        self._transport = transport
        self._codec = spdy.Connection()
        self._streams: dict[int, SpdyStream] = {}

    async def send_data(self, stream: int, data: bytes, finished: bool = False) -> None:
        await self._transport.send(self._codec.data(stream, data, finished))

    async def reset(self, stream: int) -> None:
        await self._transport.send(self._codec.reset(stream))

    async def close(self) -> None:
        await self._transport.close()

    async def __aiter__(self) -> AsyncIterator[SpdyStream]:
        try:
            async for data in self._transport:
                for event in self._codec.feed(data):
                    opened = await self._handle(event)
                    if opened is not None:
                        yield opened
        finally:
            for stream in self._streams.values():
                _end(stream)

    async def _handle(self, event: spdy.Event) -> SpdyStream | None:
        match event:
            case spdy.StreamOpened():
                if len(self._streams) >= spdy.STREAMS_MAX:
                    await self.reset(event.stream)
                    return None
                stream = SpdyStream(self, event.stream, event.headers)
                self._streams[event.stream] = stream
                await self._transport.send(self._codec.reply(event.stream))
                if event.finished:
                    _end(stream)
                return stream
            case spdy.Data():
                known = self._streams.get(event.stream)
                if known is not None:
                    if event.data:
                        await known.incoming.put(event.data)
                    if event.finished:
                        _end(known)
            case spdy.Reset():
                known = self._streams.pop(event.stream, None)
                if known is not None:
                    _end(known)
            case spdy.Ping():
                await self._transport.send(event.reply)
            case spdy.GoAway():
                pass
        return None

    def forget(self, stream: SpdyStream) -> None:
        """A stream that both sides have ended."""
        self._streams.pop(stream.number, None)


def _end(stream: SpdyStream) -> None:
    if stream.incoming.full():
        stream.incoming.get_nowait()
    stream.incoming.put_nowait(None)
