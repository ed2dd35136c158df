"""The sockets: DNS over UDP and TCP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from kubette.cluster_dns.resolver import Resolver
from kubette.component_base.run import StartupError
from kubette.stdx.tasks import Scope

_TCP_IDLE_S = 10.0
_IN_FLIGHT_MAX = 4096  # queries beyond are dropped: the client asks again


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, resolver: Resolver, scope: Scope) -> None:
        self._resolver, self._scope, self._in_flight = resolver, scope, 0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self._in_flight < _IN_FLIGHT_MAX:
            self._in_flight += 1
            self._scope.start(self._answer(data, addr), "dns query")

    async def _answer(self, data: bytes, addr: Any) -> None:
        try:
            reply = await self._resolver.resolve(data, tcp=False)
            if reply is not None:
                self._transport.sendto(reply, addr)
        finally:
            self._in_flight -= 1


async def _serve_tcp(resolver: Resolver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            async with asyncio.timeout(_TCP_IDLE_S):
                length = int.from_bytes(await reader.readexactly(2), "big")
                reply = await resolver.resolve(await reader.readexactly(length), tcp=True)
            if reply is None:
                break
            writer.write(len(reply).to_bytes(2, "big") + reply)
            await writer.drain()
    except (asyncio.IncompleteReadError, OSError, TimeoutError):
        pass
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def serving(resolver: Resolver, scope: Scope, host: str, port: int) -> AsyncIterator[None]:
    """Answer on UDP and TCP while the block runs."""
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(resolver, scope), local_addr=(host, port))
        server = await asyncio.start_server(lambda r, w: _serve_tcp(resolver, r, w), host, port)
    except OSError as error:
        raise StartupError(f"listen tcp {host}:{port}: bind: {(error.strerror or str(error)).lower()}") from error
    try:
        yield
    finally:
        transport.close()
        server.close()
