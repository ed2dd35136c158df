"""The network between members, with faults: one TCP proxy before each member's peer port, which knows by the request's headers who is calling.

A link is what one member says to another, in whichever connection (the answer to a request is as much of it as a request). Each can be cut, which holds its bytes
back until it heals as lost packets do, be slow, be reset in the middle of a message, or lose its connections.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

HEAD_BYTES_MAX = 64 * 1024
UNKNOWN = -1  # a caller that does not say who it is


@dataclass(slots=True)
class Link:
    """From one member to another."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    delay_s: float = 0.0
    reset_after: int | None = None  # bytes; then both ends see a reset, once
    passed: int = 0  # bytes

    def __post_init__(self) -> None:
        self.open.set()


class Network:
    """Proxies by member's index. An async context manager; `urls` are what members advertise."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self._links: dict[tuple[int, int], Link] = {}
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: dict[asyncio.StreamWriter, tuple[int, int]] = {}

    async def __aenter__(self) -> "Network":
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def add(self, peer_port: int) -> str:
        """A proxy for the next member, who listens there."""
        target = len(self.urls)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._serve(reader, writer, target, peer_port)
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
                pass  # cancelled by the end of the test alone; asyncio's streams would report that as an error
            finally:
                self._tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
        self._servers.append(server)
        self.urls.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        return self.urls[-1]

    def link(self, source: int, target: int) -> Link:
        return self._links.setdefault((source, target), Link())

    # Faults

    def cut(self, source: int, target: int) -> None:
        """One way; what is said is heard after it heals, if anybody still listens."""
        self.link(source, target).open.clear()

    def partition(self, side: Iterable[int], other: Iterable[int]) -> None:
        for one in side:
            for another in other:
                self.cut(one, another)
                self.cut(another, one)

    def heal(self) -> None:
        """Every link is as new; connections go on where they were, as TCP's do."""
        for link in self._links.values():
            link.open.set()
            link.delay_s, link.reset_after = 0.0, None

    def reset(self, source: int, target: int) -> None:
        """Cut every connection that carries what one says to the other."""
        for writer, ends in list(self._connections.items()):
            if ends in ((source, target), (target, source)):
                _abort(writer)

    # Connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int, port: int) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        source = self._source(head)
        await self.link(source, target).open.wait()
        onward_reader, onward = await asyncio.open_connection("127.0.0.1", port)
        for each in (writer, onward):
            self._connections[each] = (source, target)
        try:
            onward.write(head)
            self.link(source, target).passed += len(head)
            ways = [(reader, onward, (source, target)), (onward_reader, writer, (target, source))]
            pumps = [asyncio.ensure_future(self._pump(*way, ends=(writer, onward))) for way in ways]
            try:
                # Half-closed connections do not occur: whoever ends one end is done with both.
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            for each in (writer, onward):
                del self._connections[each]
            onward.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: tuple[int, int],
        ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        link = self.link(*way)
        while data := await reader.read(1 << 16):
            if link.delay_s:
                await asyncio.sleep(link.delay_s)
            await link.open.wait()
            if link.reset_after is not None and len(data) >= link.reset_after:
                writer.write(data[: link.reset_after])
                link.reset_after = None
                with contextlib.suppress(OSError):
                    await writer.drain()
                for each in ends:
                    _abort(each)
                return
            if link.reset_after is not None:
                link.reset_after -= len(data)
            writer.write(data)
            link.passed += len(data)
            await writer.drain()

    def _source(self, head: bytes) -> int:
        """By the URLs that a member names as its own."""
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "x-peerurls":
                return next((index for index, url in enumerate(self.urls) if url in value.strip().split(",")), UNKNOWN)
        return UNKNOWN


def _abort(writer: asyncio.StreamWriter) -> None:
    """RST, not FIN."""
    connected = writer.get_extra_info("socket")
    if connected is not None:
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
