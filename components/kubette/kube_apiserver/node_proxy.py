"""Connections to kubelets, pods and services on behalf of a client: whole answers streamed, upgraded connections passed through as bytes.

An upgrade (exec, attach, port-forward; WebSocket and SPDY alike) is authorized, admitted and located here, and from then on is two sockets joined:
whatever client and kubelet agree on works.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from typing import Any, Protocol

import orjson
from aiohttp import web

from kubette.apimachinery import status
from kubette.component_base import logs, tls
from kubette.kube_apiserver.audit import auditor as audit
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.subresources.kubelet_location import Location
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)

DIAL_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 4 * 3600.0  # upstream's streaming-connection-idle-timeout
CHUNK = 64 * 1024
HEAD_BYTES_MAX = 64 * 1024
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection"}
)
Headers = Sequence[tuple[str, str]]
# Credentials are for this server, never for what is behind it.
PRIVATE = frozenset({"authorization", "impersonate-user", "impersonate-group", "impersonate-uid", "host", "accept-encoding"})


class Dialer:
    """Opens connections: to kubelets with the API server's client certificate, to others without."""

    def __init__(self, options: Any) -> None:
        self._options = options
        self._kubelet: ssl.SSLContext | None = None
        self._plain: ssl.SSLContext | None = None

    def _context(self, kubelet: bool) -> ssl.SSLContext:
        options = self._options
        if kubelet:
            if self._kubelet is None:
                ca = options.kubelet_certificate_authority
                self._kubelet = tls.client_context(ca, options.kubelet_client_certificate, options.kubelet_client_key, verify=bool(ca))
            return self._kubelet
        if self._plain is None:
            self._plain = tls.client_context(verify=False)
        return self._plain

    async def open(self, location: Location, kubelet: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises ServiceUnavailable-like errors in Go's words."""
        context = self._context(kubelet) if location.scheme == "https" else None
        return await connect(location, context, location.host, float(self._options.kubelet_timeout) if kubelet else DIAL_TIMEOUT_S)


class Opener(Protocol):
    """Anything that opens connections as a Dialer does."""

    async def open(self, location: Location, kubelet: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...


async def connect(
    location: Location, context: ssl.SSLContext | None, server_name: str, timeout_s: float = DIAL_TIMEOUT_S
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """One connection. Raises an ApiError in Go's words."""
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.open_connection(
                location.host, location.port, ssl=context, server_hostname=server_name if context else None, limit=HEAD_BYTES_MAX
            )
    except TimeoutError:
        raise _cannot_dial(location, "i/o timeout") from None
    except ssl.SSLError as error:
        raise _cannot_dial(location, f"tls: {error.reason or error}") from error
    except OSError as error:
        raise _cannot_dial(location, (error.strerror or str(error)).lower()) from error


def _cannot_dial(location: Location, why: str) -> status.ApiError:
    address = f"{location.host}:{location.port}"
    if location.port == 10250:
        url = f"{location.scheme}://{address}{location.target}"
        return status.ApiError(500, "", f'Get "{url}": dial tcp {address}: connect: {why}')
    return status.service_unavailable(f"error trying to reach service: dial tcp {address}: connect: {why}")


def _request_head(request: web.BaseRequest, location: Location, upgrade: bool, method: str = "", extra: Headers = ()) -> bytes:
    lines = [f"{method or request.method} {location.target} HTTP/1.1", f"Host: {location.host}:{location.port}"]
    for name, value in request.headers.items():
        lowered = name.lower()
        if lowered in PRIVATE or lowered.startswith(("impersonate-extra-", "x-remote-")):
            continue
        if lowered in HOP_BY_HOP and not (upgrade and lowered in ("connection", "upgrade")):
            continue
        if lowered == "content-length" and request.headers.get("Transfer-Encoding"):
            continue
        if "\r" in value or "\n" in value:
            continue
        lines.append(f"{name}: {value}")
    lines += [f"{name}: {value}" for name, value in extra]
    if not upgrade:
        lines.append("Connection: close")
        if request.can_read_body and "content-length" not in {n.lower() for n in request.headers}:
            lines.append("Transfer-Encoding: chunked")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _read_head(reader: asyncio.StreamReader) -> tuple[bytes, int, list[tuple[str, str]]]:
    """(raw head, status, headers) of an answer."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise status.service_unavailable("error trying to reach service: EOF") from error
    first, *rest = raw.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) < 2 or not parts[1].isdigit():
        raise status.service_unavailable("error trying to reach service: malformed HTTP response")
    headers = []
    for line in rest:
        name, colon, value = line.partition(":")
        if colon:
            headers.append((name.strip(), value.strip()))
    return raw, int(parts[1]), headers


class _Body:
    """The body of an answer, whichever way its end is told."""

    def __init__(self, reader: asyncio.StreamReader, code: int, headers: list[tuple[str, str]]) -> None:
        self._reader = reader
        lowered = {name.lower(): value for name, value in headers}
        self._chunked = "chunked" in lowered.get("transfer-encoding", "").lower()
        length = lowered.get("content-length")
        self._left = 0 if code in (204, 304) else int(length) if length is not None and length.isdigit() and not self._chunked else None

    async def read(self) -> bytes:
        """The next piece; empty at the end."""
        reader = self._reader
        if self._chunked:
            line = await reader.readline()
            size = int(line.split(b";")[0].strip() or b"0", 16)
            if size == 0:
                return b""
            data = await reader.readexactly(size)
            await reader.readexactly(2)
            return data
        if self._left is None:
            return await reader.read(CHUNK)
        if self._left == 0:
            return b""
        data = await reader.read(min(CHUNK, self._left))
        self._left -= len(data)
        return data


async def stream(
    dialer: Opener, request: web.BaseRequest, location: Location, *, kubelet: bool, method: str = "", extra: Headers = (), checked: bool = False
) -> Answer | web.StreamResponse:
    """Forward the request and stream the answer (logs, proxies). When `checked`, a refusal becomes a Status (upstream's GenericHttpResponseChecker)."""
    reader, writer = await dialer.open(location, kubelet)
    try:
        writer.write(_request_head(request, location, upgrade=False, method=method, extra=extra))
        await _send_body(request, writer)
        _, code, headers = await _read_head(reader)
        body = _Body(reader, code, headers)
        if checked and not 200 <= code <= 206:
            return _refusal(code, await _short(body))
        response = web.StreamResponse(status=code)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP and name.lower() not in ("content-length", "date"):
                response.headers.add(name, value)
        response.enable_chunked_encoding()
        await response.prepare(request)
        audit.started(request, code)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            while data := await body.read():
                await response.write(data)
        await response.write_eof()
        return response
    finally:
        writer.close()


async def _short(body: _Body) -> bytes:
    """All of the body of a refusal; a few lines, as a rule."""
    parts: list[bytes] = []
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
        while len(parts) < 64 and (data := await body.read()):
            parts.append(data)
    return b"".join(parts)


async def _send_body(request: web.BaseRequest, writer: asyncio.StreamWriter) -> None:
    if not request.can_read_body:
        return
    chunked = "Content-Length" not in request.headers
    async for data in request.content.iter_chunked(CHUNK):
        writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


class _Tunnel(asyncio.Protocol):
    """Takes the client's connection over from the HTTP server: bytes go to the backend, with back-pressure both ways."""

    def __init__(self, client: asyncio.Transport, backend: asyncio.StreamWriter) -> None:
        self._client, self._backend = client, backend
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writable = asyncio.Event()
        self._writable.set()
        self._pumping: asyncio.Event = asyncio.Event()
        self._buffer: list[bytes] = []
        self._eof = False

    def data_received(self, data: bytes) -> None:
        self._buffer.append(data)
        self._pumping.set()
        if sum(map(len, self._buffer)) > 4 * CHUNK:
            self._client.pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        self._pumping.set()
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self._eof = True
        self._pumping.set()
        self._writable.set()
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def to_backend(self) -> None:
        while True:
            await self._pumping.wait()
            self._pumping.clear()
            data, self._buffer = b"".join(self._buffer), []
            if data:
                self._backend.write(data)
                await self._backend.drain()
                if not self._client.is_closing():
                    self._client.resume_reading()
            if self._eof and not self._buffer:
                return

    async def to_client(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK):
            await self._writable.wait()
            if self._client.is_closing():
                return
            self._client.write(data)


async def upgrade(dialer: Opener, request: web.BaseRequest, location: Location, *, kubelet: bool, extra: Headers = ()) -> Answer | web.StreamResponse:
    """Join the client's connection with one to `location`. Returns an answer only when the backend refuses the upgrade."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    reader, writer = await dialer.open(location, kubelet)
    try:
        writer.write(_request_head(request, location, upgrade=True, extra=extra))
        await writer.drain()
        raw, code, headers = await _read_head(reader)
        if code != 101:
            return _refusal(code, await _short(_Body(reader, code, headers)))
        tunnel, original = _Tunnel(transport, writer), transport.get_protocol()
        # From here on the HTTP server sees nothing of this connection; bytes it had already read follow the handshake.
        early = bytes(getattr(original, "_message_tail", b""))
        transport.set_protocol(tunnel)
        try:
            transport.write(raw)
            audit.started(request, code)
            if early:
                tunnel.data_received(early)
            await _join(tunnel, reader)
        finally:
            if not transport.is_closing():
                transport.close()
            # The server that accepted the connection must forget it.
            original.connection_lost(None)
    finally:
        writer.close()
    # There is nothing to answer on a connection that is gone: this ends the handler without a word in the log.
    raise asyncio.CancelledError


async def _join(tunnel: _Tunnel, reader: asyncio.StreamReader) -> None:
    """Until either side ends."""
    with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):
        async with asyncio.timeout(IDLE_TIMEOUT_S):
            async with Scope() as scope:
                ways = [scope.start(tunnel.to_backend()), scope.start(tunnel.to_client(reader))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)


def _refusal(code: int, body: bytes) -> Answer:
    """A kubelet says no in plain text; clients want a Status."""
    try:
        if isinstance(orjson.loads(body), dict):
            return Answer(body, code)
    except orjson.JSONDecodeError:
        pass
    text = body.decode(errors="replace").strip() or f"unable to upgrade connection: {code}"
    return Answer(orjson.dumps(status.ApiError(code, _REASONS.get(code, ""), text).to_status()), code)


_REASONS = {400: "BadRequest", 403: "Forbidden", 404: "NotFound", 500: "InternalError"}
