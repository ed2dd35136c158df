"""Listening: one socket for two protocols. A connection that begins with HTTP/2's preface is gRPC's, any other HTTP/1.1."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Protocol
from urllib.parse import urlsplit

from kubette.component_base.run import StartupError
from kubette.etcd.rim import http1
from kubette.etcd.rim.http2 import PREFACE, Connection, Handler
from kubette.stdx.tasks import Scope

BACKLOG = 1024
FIRST_BYTES_TIMEOUT_S = 30.0
TLS_HANDSHAKE_TIMEOUT_S = 10.0
_SNIFF = 4  # "PRI " cannot begin an HTTP/1.1 request


class Gatekeeper(Protocol):
    """Looks at who comes, once the handshake is done."""

    def refusal(self, transport: asyncio.BaseTransport) -> str | None:
        """Why not; empty to let in, None when `looked_up` must be asked."""

    def looked_up(self, transport: asyncio.BaseTransport) -> Coroutine[Any, Any, str]: ...

    def refuse(self, transport: asyncio.BaseTransport, reason: str) -> None: ...


class Sniffer(asyncio.Protocol):
    """Decides by the first bytes, then hands the connection over. Without `http` there is gRPC only, and the reverse."""

    def __init__(
        self, grpc: Handler | None, http: http1.Handler | None, scope: Scope, streams_body: Callable[[str], bool], gatekeeper: Gatekeeper | None
    ) -> None:
        self._grpc = grpc
        self._http = http
        self._scope = scope
        self._streams_body = streams_body
        self._gatekeeper = gatekeeper
        self._transport: asyncio.Transport
        self._target: asyncio.BaseProtocol | None = None
        self._first = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._timer = asyncio.get_running_loop().call_later(FIRST_BYTES_TIMEOUT_S, transport.close)
        if self._gatekeeper is None:
            return
        reason = self._gatekeeper.refusal(transport)
        if reason is None:
            self._transport.pause_reading()
            self._scope.start(self._look_up(self._gatekeeper), name="address of a member")
        elif reason:
            self._gatekeeper.refuse(transport, reason)

    async def _look_up(self, gatekeeper: Gatekeeper) -> None:
        reason = await gatekeeper.looked_up(self._transport)
        if reason:
            gatekeeper.refuse(self._transport, reason)
        else:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        target = self._target
        if target is not None:
            target.data_received(data)  # type: ignore[attr-defined]
            return
        self._first += data
        if len(self._first) < _SNIFF and PREFACE.startswith(self._first):
            return
        if self._timer is not None:
            self._timer.cancel()
        if self._grpc is not None and self._first.startswith(PREFACE[:_SNIFF]):
            connection = Connection(self._grpc, self._transport)
            self._target = connection
            self._transport.set_protocol(connection)
            connection.data_received(self._first)
        elif self._http is None:
            self._transport.close()
        else:
            reader = asyncio.StreamReader(limit=http1.MAX_HEAD_BYTES)
            protocol = asyncio.StreamReaderProtocol(reader, self._serve_http1)
            self._target = protocol
            self._transport.set_protocol(protocol)
            protocol.connection_made(self._transport)
            protocol.data_received(self._first)
        self._first = b""

    async def _serve_http1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._http is not None
        self._scope.start(http1.serve(self._http, reader, writer, self._streams_body), name="http/1.1 connection")

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._target is not None:
            self._target.connection_lost(error)

    def eof_received(self) -> None:
        return None


async def listen(
    url: str,
    context: ssl.SSLContext | None,
    grpc: Handler | None,
    http: http1.Handler | None,
    scope: Scope,
    *,
    streams_body: Callable[[str], bool] = lambda _: False,
    gatekeeper: Gatekeeper | None = None,
    reuse_port: bool = False,
) -> asyncio.Server:
    """Listen on a URL; a port in use is a StartupError in Go's words."""
    parts = urlsplit(url)
    secure = parts.scheme in ("https", "unixs")
    if secure and context is None:
        raise StartupError(f"cannot listen on TLS for {url}: KeyFile and CertFile are not presented")
    loop = asyncio.get_running_loop()
    context = context if secure else None
    handshake_s = TLS_HANDSHAKE_TIMEOUT_S if context is not None else None

    def protocol() -> Sniffer:
        return Sniffer(grpc, http, scope, streams_body, gatekeeper)

    if parts.scheme in ("unix", "unixs"):
        path = parts.netloc + parts.path
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # of a process that was killed, as upstream
            return await loop.create_unix_server(protocol, path, backlog=BACKLOG, ssl=context, ssl_handshake_timeout=handshake_s)
        except OSError as error:
            raise StartupError(f"listen unix {path}: bind: {(error.strerror or str(error)).lower()}") from error
    host, port = parts.hostname or "", parts.port or 0
    try:
        return await loop.create_server(
            protocol,
            host,
            port,
            family=socket.AF_UNSPEC,
            backlog=BACKLOG,
            ssl=context,
            ssl_handshake_timeout=handshake_s,
            reuse_address=True,
            reuse_port=reuse_port or None,
        )
    except OSError as error:
        reason = "address already in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error)).lower()
        raise StartupError(f"listen tcp {await _resolved(host)}:{port}: bind: {reason}") from error


async def _resolved(host: str) -> str:
    """The address that a name means, IPv4 before IPv6; what cannot be resolved stays as it is written."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host or "0.0.0.0", 0, type=socket.SOCK_STREAM)
    except OSError:
        return host
    return str(min(found, key=lambda one: one[0] != socket.AF_INET)[4][0])
