"""Joins an upgraded HTTP connection with one to the runtime's streaming server, byte for byte (exec, attach, port-forward; SPDY and WebSocket).

What client and runtime agree on in their handshake is none of the kubelet's business. Both directions have back-pressure.
"""

import asyncio
import contextlib
import urllib.parse
from typing import Any

from aiohttp import web

from kubette.stdx.tasks import Scope

CHUNK = 64 * 1024
HEAD_BYTES_MAX = 64 * 1024
BUFFER_BYTES_MAX = 4 * CHUNK
DIAL_TIMEOUT_S = 10.0
REFUSAL_BYTES_MAX = 64 * 1024
# Credentials are for the kubelet; how this connection is kept is between each two ends.
PRIVATE = frozenset({"authorization", "host", "content-length", "transfer-encoding", "accept-encoding"})


class _Taken(asyncio.Protocol):
    """The client's connection after the HTTP server gave it away."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._buffer = bytearray()
        self._arrived, self._writable = asyncio.Event(), asyncio.Event()
        self._writable.set()
        self._ended = False

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()
        if len(self._buffer) > BUFFER_BYTES_MAX:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        self._arrived.set()
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self._ended = True
        self._arrived.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def to_backend(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._buffer:
                data = bytes(self._buffer)
                self._buffer.clear()
                if not self._transport.is_closing():
                    self._transport.resume_reading()
                writer.write(data)
                await writer.drain()
            if self._ended and not self._buffer:
                return

    async def to_client(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK):
            await self._writable.wait()
            if self._transport.is_closing():
                return
            self._transport.write(data)


async def upgrade(request: web.Request, url: str, idle_timeout_s: float) -> web.StreamResponse:
    """Pass the request's connection on to `url`. Answers a response only if the other side refuses."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    target = urllib.parse.urlsplit(url)
    try:
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(target.hostname, target.port, limit=HEAD_BYTES_MAX)
    except (OSError, TimeoutError) as error:
        return web.Response(status=500, text=f"error dialing the container runtime: {error}")
    original: Any = request.protocol
    taken: _Taken | None = None
    try:
        path = target.path + (f"?{target.query}" if target.query else "")
        lines = [f"{request.method} {path or '/'} HTTP/1.1", f"Host: {target.netloc}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items() if name.lower() not in PRIVATE]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace"))
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return web.Response(status=500, text="error upgrading connection: unexpected EOF from the container runtime")
        words = head.split(b" ", 2)
        code = int(words[1]) if len(words) > 1 and words[1].isdigit() else 500
        if code != 101:
            return await _refusal(code, head, reader)
        taken = _Taken(transport)
        # From here on the HTTP server sees nothing of this connection; what it had already read comes first.
        early = bytes(getattr(original, "_message_tail", b"") or b"")
        transport.set_protocol(taken)
        transport.write(head)
        if early:
            taken.data_received(early)
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(idle_timeout_s), Scope() as scope:
                to_backend = scope.start(taken.to_backend(writer))
                to_client = scope.start(taken.to_client(reader))
                await asyncio.wait({to_backend, to_client}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        writer.close()
        if taken is not None:
            transport.close()
            # The server that accepted the connection must forget it.
            original.connection_lost(None)
    # There is nothing to answer on a connection that is gone: this ends the handler without a word in the log.
    raise asyncio.CancelledError


async def _refusal(code: int, head: bytes, reader: asyncio.StreamReader) -> web.Response:
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and value.strip().isdigit():
            length = min(int(value), REFUSAL_BYTES_MAX)
    body = b""
    with contextlib.suppress(asyncio.IncompleteReadError):
        body = await reader.readexactly(length)
    return web.Response(status=code, body=body, content_type="text/plain")
