"""Listening: one socket for two protocols. A connection that begins with HTTP/2's preface is gRPC's, any other HTTP/1.1."""

import asyncio
import errno
import ssl
from collections.abc import Callable

from kubette.component_base.run import StartupError
from kubette.etcd.rim import http1
from kubette.etcd.rim.http2 import PREFACE, Connection, Handler
from kubette.stdx.tasks import Scope

FIRST_BYTES_TIMEOUT_S = 30.0
TLS_HANDSHAKE_TIMEOUT_S = 10.0
_SNIFF = 4  # "PRI " cannot begin an HTTP/1.1 request


class Sniffer(asyncio.Protocol):
    """Decides by the first bytes, then hands the connection over."""

    def __init__(self, grpc: Handler | None, http: http1.Handler, scope: Scope, streams_body: Callable[[str], bool]) -> None:
        self._grpc = grpc
        self._http = http
        self._scope = scope
        self._streams_body = streams_body
        self._transport: asyncio.Transport
        self._target: asyncio.BaseProtocol | None = None
        self._first = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._timer = asyncio.get_running_loop().call_later(FIRST_BYTES_TIMEOUT_S, transport.close)

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
        else:
            reader = asyncio.StreamReader(limit=http1.MAX_HEAD_BYTES)
            protocol = asyncio.StreamReaderProtocol(reader, self._serve_http1)
            self._target = protocol
            self._transport.set_protocol(protocol)
            protocol.connection_made(self._transport)
            protocol.data_received(self._first)
        self._first = b""

    async def _serve_http1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._scope.start(http1.serve(self._http, reader, writer, self._streams_body), name="http/1.1 connection")

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._target is not None:
            self._target.connection_lost(error)

    def eof_received(self) -> None:
        return None


async def listen(
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    grpc: Handler | None,
    http: http1.Handler,
    scope: Scope,
    streams_body: Callable[[str], bool] = lambda _: False,
) -> asyncio.Server:
    """Listen; a port in use is a StartupError in Go's words."""
    try:
        return await asyncio.get_running_loop().create_server(
            lambda: Sniffer(grpc, http, scope, streams_body),
            host,
            port,
            backlog=1024,
            ssl=context,
            ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT_S if context is not None else None,
            reuse_address=True,
        )
    except OSError as error:
        reason = "address already in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error)).lower()
        raise StartupError(f"listen tcp {host}:{port}: bind: {reason}") from error
