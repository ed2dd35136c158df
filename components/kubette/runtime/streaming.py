"""The streaming server: where exec, attach and port-forward go after CRI has handed out an address.

It listens on 127.0.0.1 only. An address carries a token that is good for one connection within a minute (upstream's streaming request cache); kubelet and API
server pass the upgraded connection through as bytes, so that this module meets the user's own client: WebSocket (v5, v4 and older sub-protocols), SPDY/3.1,
and SPDY tunnelled in a WebSocket. One request head is read here by hand: after it, the connection is no HTTP any more.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kubette.component_base import logs
from kubette.runtime import port_forward, remote_command, sessions, wire
from kubette.runtime.errors import CriError
from kubette.stdx import clock, tasks

log = logs.logger(__name__)

TOKENS_MAX = 1000
TOKEN_S = 60.0
HEAD_BYTES_MAX = 64 << 10
HEAD_TIMEOUT_S = 10.0
# kubelet's streamingConnectionIdleTimeout.
IDLE_TIMEOUT_S = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class ExecTicket:
    container_id: str
    command: sessions.Command


@dataclass(frozen=True, slots=True)
class AttachTicket:
    container_id: str
    command: sessions.Command


@dataclass(frozen=True, slots=True)
class PortForwardTicket:
    sandbox_id: str
    ports: tuple[int, ...]


Ticket = ExecTicket | AttachTicket | PortForwardTicket


class Backend:
    """What the server needs of the rest: sessions of containers, connections into sandboxes."""

    def session(self, ticket: ExecTicket | AttachTicket) -> contextlib.AbstractAsyncContextManager[sessions.Session]:
        raise NotImplementedError

    async def dial(self, sandbox_id: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise NotImplementedError


class Server:
    """Hands out addresses and serves them. `serving` must run."""

    def __init__(self, backend: Backend, now: clock.Clock) -> None:
        self._backend = backend
        self._clock = now
        self._tokens: dict[str, tuple[Ticket, float]] = {}
        self.port = 0

    def url(self, kind: str, ticket: Ticket) -> str:
        """An address for one connection."""
        now = self._clock.monotonic()
        self._tokens = {token: entry for token, entry in self._tokens.items() if entry[1] > now}
        if len(self._tokens) >= TOKENS_MAX:
            raise CriError("RESOURCE_EXHAUSTED", "maximum number of in-flight requests exceeded")
        token = secrets.token_urlsafe(8)
        self._tokens[token] = (ticket, now + TOKEN_S)
        return f"http://127.0.0.1:{self.port}/{kind}/{token}"

    def _redeem(self, path: str) -> Ticket | None:
        token = path.strip("/").rpartition("/")[2]
        ticket, until = self._tokens.pop(token, (None, 0.0))
        return ticket if until > self._clock.monotonic() else None

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[None]:
        """Listen while the block runs."""
        async with tasks.Scope() as scope:

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                scope.start(self._connection(reader, writer), name="streaming")

            server = await asyncio.start_server(connected, "127.0.0.1", port, limit=HEAD_BYTES_MAX)
            self.port = server.sockets[0].getsockname()[1]
            try:
                yield
            finally:
                server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                request = wire.parse_head(await reader.readuntil(b"\r\n\r\n"))
            async with asyncio.timeout(IDLE_TIMEOUT_S):
                await self._serve(request, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, *wire.PROTOCOL_ERRORS) as error:
            log.v(2, "Streaming connection ended", err=error)
        except Exception as error:
            log.error("Streaming connection failed", err=error)
        finally:
            with contextlib.suppress(ConnectionError):
                writer.close()

    async def _serve(self, request: wire.Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ticket = self._redeem(urlsplit(request.target).path)
        if ticket is None:
            await wire.refuse(writer, 404, "page not found")
            return
        if isinstance(ticket, PortForwardTicket):
            dial: Callable[[int], Awaitable[Any]] = lambda port: self._backend.dial(ticket.sandbox_id, port)  # noqa: E731
            await port_forward.serve(request, reader, writer, dial, ticket.ports)
        else:
            await remote_command.serve(request, reader, writer, lambda: self._backend.session(ticket), ticket.command, isinstance(ticket, ExecTicket))
