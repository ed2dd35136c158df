"""A client of HTTP/2 that does only what it is told: it answers no pings, opens no windows, reads when it likes."""

import asyncio
import struct

from kubette.etcd.rim import hpack, http2

WAIT_S = 30.0


class RawClient:
    """A client of HTTP/2 that answers nothing by itself."""

    def __init__(self, port: int, window: int | None = None) -> None:
        """`window`: how much may be sent to it on a stream that it has not opened further."""
        self._port = port
        self._settings = b"" if window is None else struct.pack(">HI", 4, window)
        self._initial = http2.DEFAULT_WINDOW
        self._windows = {0: http2.DEFAULT_WINDOW}  # what may be sent, by stream; 0 is the connection

    async def __aenter__(self) -> "RawClient":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, self._settings))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def call(self, path: bytes, stream: int) -> None:
        """Begin one."""
        block = hpack.encode([(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b"content-type", b"application/grpc")])
        self.send(http2.HEADERS, http2.END_HEADERS, stream, block)

    def send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self._writer.write(http2.frame(kind, flags, stream, payload))

    async def frames(self) -> list[tuple[int, int, bytes]]:
        """(kind, stream, payload) of everything until the server closes."""
        found = []
        try:
            while True:
                found.append(await self.frame())
        except (asyncio.IncompleteReadError, ConnectionError):
            return found

    async def next_of(self, *kinds: int) -> tuple[int, int, bytes]:
        """The next frame of one of these kinds."""
        while (found := await self.frame())[0] not in kinds:
            pass
        return found

    async def frame(self) -> tuple[int, int, bytes]:
        async with asyncio.timeout(WAIT_S):
            high, low, kind, _, stream = struct.unpack(">BHBBI", await self._reader.readexactly(9))
            payload = await self._reader.readexactly(high << 16 | low)
        if kind == http2.WINDOW_UPDATE:
            self._windows[stream] = self._windows.get(stream, self._initial) + struct.unpack(">I", payload)[0]
        elif kind == http2.SETTINGS:
            self._initial = dict(struct.iter_unpack(">HI", payload)).get(4, self._initial)
        return kind, stream, payload

    def message(self, stream: int, body: bytes, flags: int = 0) -> None:
        self.send(http2.DATA, flags, stream, b"\0" + len(body).to_bytes(4, "big") + body)

    async def large_message(self, stream: int, body: bytes) -> None:
        """In the sizes and at the pace that the server allows."""
        data = b"\0" + len(body).to_bytes(4, "big") + body
        for at in range(0, len(data), http2.MAX_FRAME):
            part = data[at : at + http2.MAX_FRAME]
            while min(self._windows.setdefault(stream, self._initial), self._windows[0]) < len(part):
                await self.frame()
            for each in (stream, 0):
                self._windows[each] -= len(part)
            self.send(http2.DATA, 0, stream, part)
        await self.drain()

    def open_window(self, stream: int, size: int) -> None:
        self.send(http2.WINDOW_UPDATE, 0, stream, struct.pack(">I", size))

    async def drain(self) -> None:
        await self._writer.drain()
