"""The gRPC channels to a cluster's endpoints, and which of them is in use. Bodies are raw bytes: messages are made by the callers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from kubette.component_base.run import StartupError

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),  # a list may be larger than any default; etcd's own limits bound it
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 30_000),  # the values of the API server's etcd client
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),  # an endpoint that comes back is used again within a second
    ("grpc.enable_http_proxy", 0),
]


class Channels:
    """One channel an endpoint; `current` is the index of the one in use."""

    def __init__(self, endpoints: Sequence[str], ca_file: str = "", cert_file: str = "", key_file: str = "") -> None:
        assert endpoints, "no endpoints"
        self._channels = [_open(endpoint, ca_file, cert_file, key_file) for endpoint in endpoints]
        self._unary: list[dict[str, Callable[..., Any]]] = [{} for _ in self._channels]
        self.current = 0

    def __len__(self) -> int:
        return len(self._channels)

    def leave(self, at: int) -> None:
        """The endpoint `at` failed: use the next one, unless another caller has already moved on."""
        if self.current == at:
            self.current = (at + 1) % len(self._channels)

    def unary(self, at: int, method: str) -> Callable[..., Any]:
        """The callable of a unary method, bytes to bytes."""
        callables = self._unary[at]
        found = callables.get(method)
        if found is None:
            found = callables[method] = self._channels[at].unary_unary(method)
        return found

    def stream(self, at: int, method: str) -> Callable[..., Any]:
        """The callable of a bidirectional stream of bytes."""
        opened: Callable[..., Any] = self._channels[at].stream_stream(method)
        return opened

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


def _open(endpoint: str, ca_file: str, cert_file: str, key_file: str) -> grpc.aio.Channel:
    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    target = parts.netloc or parts.path
    if parts.scheme == "unix":
        return grpc.aio.insecure_channel(f"unix:{parts.netloc}{parts.path}", options=_OPTIONS)
    if parts.scheme != "https":
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(_read(ca_file), _read(key_file), _read(cert_file))
    return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)


def _read(path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StartupError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
