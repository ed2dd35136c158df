"""Forwarding of TCP connections and UDP datagrams to machines: one forwarder a listening socket.

Fail-over is at the connection: the candidates are tried in order until one accepts. A connection belongs to the machine it was forwarded to and is cut when that
machine loses power, as no packet from it would say so.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import cast

from kubette.component_base import logs
from kubette.stdx import tasks

log = logs.logger(__name__)

CONNECT_TIMEOUT_S = 1.0
CONNECTIONS_MAX = 4096  # a forwarder; the next one is refused
UDP_SESSIONS_MAX = 1024  # a forwarder; the oldest session makes room
UDP_IDLE_S = 60.0

Candidate = tuple[str, str, int]  # machine, address, port
Candidates = Callable[[], Sequence[Candidate]]


class _End(asyncio.Protocol):
    """One end of a forwarded connection; what it receives, its peer sends.

    With `half_close` an end of input is passed on and the other direction stays open until it ends too. TLS has no use for that, and a TLS client
    would wait long for the farewell of a server that was killed: there the end of one direction ends both.
    """

    def __init__(self, half_close: bool) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: _End | None = None
        self._half_close = half_close
        self._has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        self._has_ended = True
        peer = self.peer
        if peer is None or peer.transport is None or not self._half_close or peer._has_ended:
            return False  # the transport closes, and `connection_lost` closes the peer's
        if peer.transport.can_write_eof():
            peer.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        transport = self.peer.transport if self.peer is not None else None
        if transport is not None and not transport.is_closing():
            transport.abort() if exc is not None else transport.close()


class _Inbound(_End):
    """The client's end."""

    def __init__(self, forwarder: "TcpForwarder") -> None:
        super().__init__(forwarder.half_close)
        self._forwarder = forwarder
        self.machine = ""
        self._early = b""  # what the client said before there was somebody to tell

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._forwarder.admit(self)

    def data_received(self, data: bytes) -> None:
        if self.peer is None and self.transport is not None:
            self._early += data
            self.transport.pause_reading()  # here and not in connection_made, where a loop may not have begun to read
            return
        super().data_received(data)

    def eof_received(self) -> bool:
        if self.peer is None and self._half_close:
            self._has_ended = True
            return True  # told to the machine by `link`
        return super().eof_received()

    def link(self, machine: str, outbound: _End) -> None:
        """There is a machine: pass on what came early, and go on."""
        assert self.transport is not None
        assert outbound.transport is not None
        self.machine, self.peer = machine, outbound
        if self._early:
            outbound.transport.write(self._early)
            self._early = b""
        if self._has_ended:
            outbound.transport.write_eof()
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forwarder.connections.discard(self)


class TcpForwarder:
    """Accepts on one listening socket and forwards each connection to the first candidate that takes it."""

    def __init__(self, scope: tasks.Scope, candidates: Candidates, half_close: bool = True) -> None:
        self._scope, self._candidates, self.half_close = scope, candidates, half_close
        self._server: asyncio.Server | None = None
        self.connections: set[_Inbound] = set()

    async def start(self, listener: socket.socket) -> None:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Inbound(self), sock=listener)

    def admit(self, inbound: _Inbound) -> None:
        assert inbound.transport is not None
        if len(self.connections) >= CONNECTIONS_MAX:
            inbound.transport.abort()
            return
        self.connections.add(inbound)
        self._scope.start(self._connect(inbound))

    async def _connect(self, inbound: _Inbound) -> None:
        loop = asyncio.get_running_loop()
        for machine, address, port in self._candidates():
            outbound = _End(self.half_close)
            outbound.peer = inbound
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await loop.create_connection(lambda end=outbound: end, address, port)  # type: ignore[misc]
            except (OSError, TimeoutError):
                continue
            assert inbound.transport is not None
            if inbound.transport.is_closing():
                assert outbound.transport is not None
                outbound.transport.abort()
                return
            if outbound.transport is None or outbound.transport.is_closing():
                break  # it accepted and hung up
            inbound.link(machine, outbound)
            return
        if inbound.transport is not None:
            inbound.transport.abort()  # nobody is there: the client sees a reset, as from a closed port

    def cut(self, machine: str) -> None:
        """End the connections that go to a machine."""
        for inbound in [c for c in self.connections if c.machine == machine]:
            for end in (inbound, inbound.peer):
                if end is not None and end.transport is not None:
                    end.transport.abort()

    async def close(self) -> None:
        """Close the listening socket and every connection."""
        if self._server is not None:
            self._server.close()
        for inbound in list(self.connections):
            if inbound.transport is not None:
                inbound.transport.abort()


class _Session(asyncio.DatagramProtocol):
    """The machine's side of one UDP client."""

    def __init__(self, forwarder: "UdpForwarder", client: tuple[str, int], machine: str) -> None:
        self._forwarder, self.client, self.machine = forwarder, client, machine
        self.transport: asyncio.DatagramTransport | None = None
        self.used = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._forwarder.answer(self, data)

    def error_received(self, exc: Exception) -> None:
        self._forwarder.drop(self)  # port unreachable: the next datagram chooses again


class UdpForwarder(asyncio.DatagramProtocol):
    """Forwards datagrams; a client keeps its machine while it keeps talking."""

    def __init__(self, scope: tasks.Scope, candidates: Candidates) -> None:
        self._scope, self._candidates = scope, candidates
        self._transport: asyncio.DatagramTransport | None = None
        self._sessions: dict[tuple[str, int], _Session] = {}
        self._loop = asyncio.get_running_loop()

    async def start(self, listener: socket.socket) -> None:
        await self._loop.create_datagram_endpoint(lambda: self, sock=listener)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        session = self._sessions.get(addr)
        if session is not None and session.transport is not None:
            session.used = self._loop.time()
            session.transport.sendto(data)
            return
        if session is None:
            self._scope.start(self._open(addr, data))

    async def _open(self, client: tuple[str, int], data: bytes) -> None:
        candidates = self._candidates()
        if not candidates or self._transport is None:
            return
        now = self._loop.time()
        for session in [s for s in self._sessions.values() if now - s.used > UDP_IDLE_S]:
            self.drop(session)
        if len(self._sessions) >= UDP_SESSIONS_MAX:
            self.drop(min(self._sessions.values(), key=lambda s: s.used))
        machine, address, port = candidates[0]
        session = _Session(self, client, machine)
        session.used = now
        self._sessions[client] = session
        try:
            await self._loop.create_datagram_endpoint(lambda: session, remote_addr=(address, port))
        except OSError:
            self._sessions.pop(client, None)
            return
        if session.transport is not None:
            session.transport.sendto(data)

    def answer(self, session: _Session, data: bytes) -> None:
        session.used = self._loop.time()
        if self._transport is not None:
            self._transport.sendto(data, session.client)

    def drop(self, session: _Session) -> None:
        if self._sessions.get(session.client) is session:
            del self._sessions[session.client]
        if session.transport is not None:
            session.transport.close()

    def cut(self, machine: str) -> None:
        for session in [s for s in self._sessions.values() if s.machine == machine]:
            self.drop(session)

    async def close(self) -> None:
        for session in list(self._sessions.values()):
            self.drop(session)
        if self._transport is not None:
            self._transport.close()
