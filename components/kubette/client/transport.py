"""One HTTP connection pool to one API server: TLS, credentials, timeouts, and failures in Go's words.

Credentials that live in files follow their files: a rotated client certificate gives new connections, a rotated token the next
request. A failed exchange is a `TransportError` that knows whether it is definite (nothing was sent) or not.
"""

import asyncio
import os
import socket
import ssl
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from multidict import CIMultiDict

from kubette.client.kubeconfig import ClientConfig
from kubette.component_base import tls, version

# A dead peer (machine without power) is noticed after 15 + 3 * 5 s, as by upstream's HTTP/2 pings.
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 15, 5, 3
CONNECT_TIMEOUT_S = 10.0
IDLE_CONNECTION_S = 60.0  # below the 90 s after which servers close an idle connection
MAX_CONNECTIONS = 512  # watches hold one each; more requests than this wait for a free one


class TransportError(Exception):
    """No answer came. `definite`: the request surely had no effect."""

    def __init__(self, message: str, definite: bool) -> None:
        super().__init__(message)
        self.definite = definite


class _FileCredentials:
    """The TLS context and token of a configuration, renewed when their files change."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._context: ssl.SSLContext | None = None
        self._context_stamp: tuple[int, ...] = ()
        self._token = config.token
        self._token_stamp: tuple[int, ...] = ()

    def context(self) -> ssl.SSLContext:
        config = self._config
        stamp = _stamp(config.ca_file, config.cert_file, config.key_file)
        if self._context is None or (stamp != self._context_stamp and 0 not in stamp):
            self._context = self._new_context()
            self._context_stamp = stamp
        return self._context

    def _new_context(self) -> ssl.SSLContext:
        config = self._config
        verify = not config.insecure_skip_tls_verify
        has_pair_data = bool(config.cert_data and config.key_data)
        files = ("", "") if has_pair_data else (config.cert_file, config.key_file)
        context = tls.client_context(config.ca_file if not config.ca_data else "", *files, verify=verify, ca_data=config.ca_data)
        if has_pair_data:
            _load_pair(context, config.cert_data, config.key_data)
        return context

    def token(self) -> str:
        config = self._config
        if not config.token_file:
            return self._token
        stamp = _stamp(config.token_file)
        if stamp != self._token_stamp and 0 not in stamp:
            self._token = Path(config.token_file).read_text().strip()
            self._token_stamp = stamp
        return self._token


def _stamp(*files: str) -> tuple[int, ...]:
    """Modification times; 0 for a file that is away at the moment."""
    stamps = []
    for file in filter(None, files):
        try:
            stamps.append(os.stat(file).st_mtime_ns)
        except OSError:
            stamps.append(0)
    return tuple(stamps)


def _load_pair(context: ssl.SSLContext, cert: str, key: str) -> None:
    """OpenSSL reads certificates from files only: give it one that exists in memory alone."""
    fd = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, (cert.rstrip("\n") + "\n" + key).encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _open_socket(address: tuple[Any, ...]) -> socket.socket:
    """A TCP socket that notices a peer which vanished without a word."""
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    unacknowledged_ms = (KEEPALIVE_IDLE_S + KEEPALIVE_INTERVAL_S * KEEPALIVE_PROBES) * 1000
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unacknowledged_ms)
    return sock


class Transport:
    """Sends requests to `config.server`; closed by `close`."""

    def __init__(self, config: ClientConfig, user_agent: str = "") -> None:
        self.config = config
        self._credentials = _FileCredentials(config)
        self._secure = config.server.startswith("https://")
        self._host = urllib.parse.urlsplit(config.server).netloc
        self._user_agent = user_agent or f"kubette/{version.git_version()}"
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_CONNECTION_S, socket_factory=_open_socket)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=True, skip_auto_headers=("User-Agent", "Content-Type"))
        return self._session

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(
        self,
        method: str,
        path: str,
        params: Sequence[tuple[str, str]] | Mapping[str, str] = (),
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = 30.0,
        idle_timeout_s: float | None = None,
    ) -> aiohttp.ClientResponse:
        """The response with its body still unread; the caller must release it. Raises TransportError."""
        url = self.config.server + path
        if params:
            url += ("&" if "?" in path else "?") + urllib.parse.urlencode(list(params.items()) if isinstance(params, Mapping) else list(params))
        all_headers: CIMultiDict[str] = CIMultiDict({"Accept": "application/json", "User-Agent": self._user_agent, **(headers or {})})
        if "Authorization" not in all_headers:
            token = self._credentials.token()
            if token:
                all_headers["Authorization"] = f"Bearer {token}"
        if self.config.impersonate:
            all_headers["Impersonate-User"] = self.config.impersonate
            for group in self.config.impersonate_groups:
                all_headers.add("Impersonate-Group", group)
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S, sock_read=idle_timeout_s)
        import yarl

        try:
            return await self._open().request(
                method,
                yarl.URL(url, encoded=True),
                data=body,
                headers=all_headers,
                timeout=timeout,
                ssl=self._credentials.context() if self._secure else False,
                server_hostname=self.config.tls_server_name or None,
                allow_redirects=False,
                read_bufsize=1 << 18,
            )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise TransportError(f'{method.capitalize()} "{url}": {self.describe(error)}', is_definite(error)) from error

    def describe(self, error: BaseException) -> str:
        """An exception of aiohttp in the words of Go's net/http."""
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return f"tls: failed to verify certificate: x509: {error.certificate_error}"
        if isinstance(error, aiohttp.ClientConnectorError):
            number = error.os_error.errno
            if not number and not str(error.os_error):
                return "EOF"  # it was made, and closed during the TLS handshake
            reason = os.strerror(number).lower() if number and number > 0 else str(error.os_error)
            return f"dial tcp {self._host}: connect: {reason}"
        if isinstance(error, aiohttp.ServerDisconnectedError):
            return "EOF"
        if isinstance(error, asyncio.TimeoutError):
            return "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        return str(error) or type(error).__name__


def is_definite(error: BaseException) -> bool:
    """Whether the connection was never made, so that the server cannot have acted."""
    return isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
