"""The way to a cluster: one channel an endpoint, unary calls that go to the next endpoint when one cannot be reached, streams, and the auth token.

Synchronous, because a command does one thing after the other. grpc is imported by `Connection` alone: half of the commands need no server.
"""

import os
import re
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcdctl.errors import CommandError, Exit

PAUSE_S = 0.1  # after every endpoint has refused
_NEVER_SENT = ("failed to connect to all addresses", "Failed to pick subchannel", "DNS resolution failed", "empty address list")
_SERVER_TEXTS = ("etcdserver: ", "auth: ")
_BRACKETED_IPV4 = re.compile(r"\[([0-9.]+)\]")
_NAMES = {"CANCELLED": "Canceled"}


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach and whom to be."""

    endpoints: tuple[str, ...]
    cert: str = ""
    key: str = ""
    cacert: str = ""
    server_name: str = ""
    insecure_transport: bool = True
    insecure_skip_tls_verify: bool = False
    user: str = ""
    password: str = ""
    dial_timeout_s: float = 2.0
    command_timeout_s: float = 5.0
    keepalive_time_s: float = 2.0
    keepalive_timeout_s: float = 6.0

    @property
    def secure(self) -> bool:
        return bool(self.cert or self.key or self.cacert or self.server_name) or not self.insecure_transport


class RpcFailure(CommandError):
    """The server's answer was an error, or there was none."""

    def __init__(self, status: str, details: str) -> None:
        known = details.startswith(_SERVER_TEXTS)
        super().__init__(details if known else f"rpc error: code = {status} desc = {details}")
        self.details = details
        self.unavailable = status == "Unavailable" and not known
        self.never_sent = self.unavailable and any(text in details for text in _NEVER_SENT)


def deadline_exceeded() -> CommandError:
    return CommandError("context deadline exceeded")


class Connection:
    """Open connections to the endpoints. Use as a context manager, or let the process end."""

    def __init__(self, settings: Settings) -> None:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what matters is told by the errors
        import grpc

        self._grpc = grpc
        self.settings = settings
        self._channels: dict[str, Any] = {}
        self._current = 0
        self._token = ""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        for channel in self._channels.values():
            channel.close()

    def only(self, endpoint: str) -> "Connection":
        """A connection to one endpoint alone."""
        return Connection(replace(self.settings, endpoints=(endpoint,)))

    # Calls

    def call(self, method: str, request: Any, response: Callable[..., Any], *, timeout_s: float | None = None, endpoint: str = "") -> Any:
        """A unary call, at any endpoint or at this one. Raises RpcFailure, CommandError("context deadline exceeded")."""
        timeout_s = self.settings.command_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        self._authenticate(timeout_s)
        endpoints = (endpoint,) if endpoint else self.settings.endpoints
        failures = 0
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise deadline_exceeded()
            at = endpoints[0] if endpoint else endpoints[self._current % len(endpoints)]
            try:
                return self._unary(at, method, request, response, left)
            except RpcFailure as failure:
                if not failure.unavailable or not (failure.never_sent or _reads(method)):
                    raise
                self._current += 1
                failures += 1
                if failures % len(endpoints) == 0:
                    time.sleep(min(PAUSE_S, max(0.0, deadline - time.monotonic())))

    def _unary(self, endpoint: str, method: str, request: Any, response: Callable[..., Any], timeout_s: float) -> Any:
        stub = self._channel(endpoint).unary_unary(
            f"/{_service(method)}", request_serializer=lambda each: each.SerializeToString(), response_deserializer=_parser(response)
        )
        try:
            return stub(request, timeout=timeout_s, metadata=self._metadata())
        except self._grpc.RpcError as error:
            raise self._failure(error) from error

    def server_stream(self, method: str, request: Any, response: Callable[..., Any], timeout_s: float | None = None) -> Iterator[Any]:
        """A call that is answered by many messages, at the first endpoint."""
        self._authenticate(self.settings.command_timeout_s)
        stub = self._channel(self.settings.endpoints[0]).unary_stream(
            f"/{_service(method)}", request_serializer=lambda each: each.SerializeToString(), response_deserializer=_parser(response)
        )
        try:
            yield from stub(request, timeout=timeout_s, metadata=self._metadata())
        except self._grpc.RpcError as error:
            raise self._failure(error) from error

    def stream(self, method: str, requests: Iterator[Any], response: Callable[..., Any]) -> Iterator[Any]:
        """Messages in both directions, at the first endpoint that can be reached."""
        self._authenticate(self.settings.command_timeout_s)
        endpoint = self._reachable()
        stub = self._channel(endpoint).stream_stream(
            f"/{_service(method)}", request_serializer=lambda each: each.SerializeToString(), response_deserializer=_parser(response)
        )
        call = stub(requests, metadata=(*self._metadata(), ("hasleader", "true")))
        try:
            yield from call
        except self._grpc.RpcError as error:
            raise self._failure(error) from error
        finally:
            call.cancel()

    def _reachable(self) -> str:
        for endpoint in self.settings.endpoints:
            try:
                self._grpc.channel_ready_future(self._channel(endpoint)).result(timeout=self.settings.dial_timeout_s)
                return endpoint
            except self._grpc.FutureTimeoutError:
                continue
        raise deadline_exceeded()

    def _failure(self, error: Any) -> CommandError:
        status, details = error.code().name, error.details() or ""
        if status == "DEADLINE_EXCEEDED" and not details.startswith(_SERVER_TEXTS):
            return deadline_exceeded()
        return RpcFailure(_NAMES.get(status) or status.title().replace("_", ""), details)

    # Who we are

    def _authenticate(self, timeout_s: float) -> None:
        settings = self.settings
        if not settings.user or self._token:
            return
        self._token = "-"  # Authenticate itself carries none
        try:
            request = pb.AuthenticateRequest(name=settings.user, password=settings.password)
            token = self.call("Auth/Authenticate", request, pb.AuthenticateResponse, timeout_s=timeout_s).token
        except RpcFailure as failure:
            if failure.details == "etcdserver: authentication is not enabled":
                return
            raise CommandError(str(failure), Exit.BAD_CONNECTION) from failure
        self._token = token

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("token", self._token),) if len(self._token) > 1 else ()

    # Channels

    def _channel(self, endpoint: str) -> Any:
        found = self._channels.get(endpoint)
        if found is None:
            found = self._channels[endpoint] = self._open(endpoint)
        return found

    def _open(self, endpoint: str) -> Any:
        settings = self.settings
        endpoint = without_brackets(endpoint)
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        target = f"unix:{parts.netloc}{parts.path}" if parts.scheme in ("unix", "unixs") else parts.netloc or parts.path
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
            ("grpc.keepalive_time_ms", max(10_000, int(settings.keepalive_time_s * 1000))),
            ("grpc.keepalive_timeout_ms", int(settings.keepalive_timeout_s * 1000)),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", max(100, int(settings.dial_timeout_s * 1000))),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        # As upstream: an https endpoint is TLS whatever the flags, any other is if a certificate is named; http never is.
        if parts.scheme in ("http", "unix") or (parts.scheme not in ("https", "unixs") and not settings.secure):
            return self._grpc.insecure_channel(target, options=options)
        root = _file(settings.cacert)
        if settings.insecure_skip_tls_verify:
            root, name = _whatever_it_shows(parts.hostname or "", parts.port or 2379, settings)
            options.append(("grpc.ssl_target_name_override", name))
        elif settings.server_name:
            options.append(("grpc.ssl_target_name_override", settings.server_name))
        credentials = self._grpc.ssl_channel_credentials(root, _file(settings.key), _file(settings.cert))
        return self._grpc.secure_channel(target, credentials, options=options)


def _service(method: str) -> str:
    return f"etcdserverpb.{method}"


def _parser(response: Callable[..., Any]) -> Callable[[bytes], Any]:
    parse: Callable[[bytes], Any] = response.FromString  # type: ignore[attr-defined]
    return parse


def _reads(method: str) -> bool:
    return method in ("KV/Range", "Cluster/MemberList", "Maintenance/Status", "Lease/LeaseTimeToLive", "Lease/LeaseLeases")


def without_brackets(endpoint: str) -> str:
    """`https://[127.0.0.1]:2379`, as Go accepts it and people type it, without the brackets that only IPv6 needs."""
    return _BRACKETED_IPV4.sub(r"\1", endpoint)


def _file(path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"open {path}: {(error.strerror or str(error)).lower()}", Exit.BAD_ARGS) from error


def _whatever_it_shows(host: str, port: int, settings: Settings) -> tuple[bytes, str]:
    """The certificate that the server shows, and a name that stands in it: trusted without a question."""
    from cryptography import x509

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if settings.cert:
        context.load_cert_chain(settings.cert, settings.key)
    import socket

    try:
        with (
            socket.create_connection((host, port), timeout=settings.dial_timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            shown = secure.getpeercert(binary_form=True) or b""
    except OSError as error:
        raise deadline_exceeded() from error
    certificate = x509.load_der_x509_certificate(shown)
    names = [host]
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [*alternatives.get_values_for_type(x509.DNSName), *map(str, alternatives.get_values_for_type(x509.IPAddress))] or names
    except x509.ExtensionNotFound:
        pass
    return ssl.DER_cert_to_PEM_cert(shown).encode(), names[0]


def all_endpoints(settings: Settings, cluster: bool) -> Sequence[str]:
    """The endpoints that were given, or, with `--cluster`, the client URLs of all members."""
    if not cluster:
        return settings.endpoints
    with Connection(replace(settings, user="", password="")) as connection:
        try:
            found = connection.call("Cluster/MemberList", pb.MemberListRequest(linearizable=True), pb.MemberListResponse)
        except CommandError as error:
            raise CommandError(f"failed to fetch endpoints from etcd cluster member list: {error}") from error
    return [url for member in found.members for url in member.clientURLs]
