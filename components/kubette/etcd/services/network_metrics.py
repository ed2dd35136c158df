"""`/metrics` of the network: calls of clients, and traffic with other members, in upstream's names."""

from collections.abc import Callable, Mapping

from kubette.component_base import logs
from kubette.component_base.metrics import Histogram, Registry
from kubette.etcd.rim.grpc import Call, GrpcHandler
from kubette.etcd.server import Server
from kubette.etcd.services.metrics import Table
from kubette.etcd.transport import Transport
from kubette.etcd_api.errors import Code

log = logs.logger(__name__)
_KINDS = {b"Watch": "bidi_stream", b"LeaseKeepAlive": "bidi_stream", b"Snapshot": "server_stream", b"Observe": "server_stream"}
# What is counted a peer (see Transport.counts): name, help, label, count.
_BY_PEER = (
    ("etcd_network_peer_sent_bytes_total", "The total number of bytes sent to peers.", "To", "sent"),
    ("etcd_network_peer_received_bytes_total", "The total number of bytes received from peers.", "From", "received"),
    ("etcd_network_peer_sent_failures_total", "The total number of send failures from peers.", "To", "send_failures"),
    ("etcd_network_peer_received_failures_total", "The total number of receive failures from peers.", "From", "receive_failures"),
    ("etcd_network_snapshot_send_success", "Total number of successful snapshot sends", "To", "snapshots_sent"),
    ("etcd_network_snapshot_send_failures", "Total number of snapshot send failures", "To", "snapshots_failed"),
    ("etcd_network_snapshot_receive_success", "Total number of successful snapshot receives", "From", "snapshots_received"),
)


def register_network(registry: Registry, server: Server, peers: Transport) -> None:
    """What goes to and from other members."""
    for name, help_text, label, what in _BY_PEER:
        registry.add(Table(name, help_text, (label,), "counter", lambda what=what: peers.counts(what)))  # type: ignore[misc]
    for histogram in (peers.round_trip, peers.snapshot_sent, peers.snapshot_received):
        registry.add(histogram)
    own = f"{server.member_id:x}"
    pairs = ("Local", "Remote")
    tables: tuple[tuple[str, str, str, Callable[[], Mapping[tuple[str, ...], float]]], ...] = (
        ("etcd_network_known_peers", "The current number of known peers.", "gauge", lambda: {(own, f"{node:x}"): 1.0 for node in peers.active()}),
        (
            "etcd_network_active_peers",
            "The current number of active peer connections.",
            "gauge",
            lambda: {(own, f"{node:x}"): float(active) for node, active in peers.active().items()},
        ),
        (
            "etcd_network_disconnected_peers_total",
            "The total number of disconnected peers.",
            "counter",
            lambda: {(own, *peer): count for peer, count in peers.counts("disconnects").items()},
        ),
    )
    for name, help_text, kind, read in tables:
        registry.add(Table(name, help_text, pairs, kind, read))


def _kind(path: bytes) -> str:
    return _KINDS.get(path.rpartition(b"/")[2], "unary")


def register_grpc(registry: Registry, handler: GrpcHandler, slow_call_s: float = 0.0, extensive: bool = False) -> None:
    """What the client port counts; `extensive` adds how long calls take. Unary calls that take longer than `slow_call_s` are told of."""
    seconds = Histogram(
        "grpc_server_handling_seconds",
        "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
        ("grpc_method", "grpc_service", "grpc_type"),
    )
    if extensive:
        registry.add(seconds)

    def observe(call: Call, code: int, took: float) -> None:
        if extensive:
            seconds.observe(took, *labels(call.path))
        if took > slow_call_s and call.method.unary is not None:
            size = sum(map(len, call.messages))
            log.warning("request stats", time_spent=f"{took:.6f}s", response_type=call.path.decode(), request_size=size, code=_code_name(code))

    if extensive or slow_call_s > 0:
        handler.observe = observe

    def labels(path: bytes) -> tuple[str, str, str]:
        service, _, method = path.strip(b"/").rpartition(b"/")
        return method.decode(), service.decode(), _kind(path)

    registry.add(
        Table(
            "grpc_server_started_total",
            "Total number of RPCs started on the server.",
            ("grpc_method", "grpc_service", "grpc_type"),
            "counter",
            lambda: {labels(path): float(count) for path, count in handler.started.items()},
        )
    )
    registry.add(
        Table(
            "grpc_server_handled_total",
            "Total number of RPCs completed on the server, regardless of success or failure.",
            ("grpc_code", "grpc_method", "grpc_service", "grpc_type"),
            "counter",
            lambda: {(_code_name(code), *labels(path)): float(count) for (path, code), count in handler.handled.items()},
        )
    )

    def streamed(counts: Mapping[bytes, int], unary: Callable[[bytes], int]) -> dict[tuple[str, ...], float]:
        """Messages: of streams as they were counted, of unary calls as many as there were calls."""
        return {labels(path): float(counts.get(path, 0) if _kind(path) != "unary" else unary(path)) for path in handler.started}

    registry.add(
        Table(
            "grpc_server_msg_received_total",
            "Total number of RPC stream messages received on the server.",
            ("grpc_method", "grpc_service", "grpc_type"),
            "counter",
            lambda: streamed(handler.received_messages, lambda path: handler.started[path]),
        )
    )
    registry.add(
        Table(
            "grpc_server_msg_sent_total",
            "Total number of gRPC stream messages sent by the server.",
            ("grpc_method", "grpc_service", "grpc_type"),
            "counter",
            lambda: streamed(handler.sent_messages, lambda path: handler.handled.get((path, 0), 0)),
        )
    )
    registry.add(
        Table(
            "etcd_server_client_requests_total",
            "The total number of client requests per client version.",
            ("type", "client_api_version"),
            "counter",
            lambda: {
                ("stream" if streams else "unary", version.decode("ascii", "replace") or "unknown"): float(count)
                for (version, streams), count in handler.clients.items()
            },
        )
    )
    received, sent = "The total number of bytes received from grpc clients.", "The total number of bytes sent to grpc clients."
    registry.function("etcd_network_client_grpc_received_bytes_total", received, lambda: float(handler.received_bytes), "counter")
    registry.function("etcd_network_client_grpc_sent_bytes_total", sent, lambda: float(handler.sent_bytes), "counter")


def _code_name(code: int) -> str:
    return "OK" if code == Code.OK else "".join(word.capitalize() for word in Code(code).name.split("_")).replace("Cancelled", "Canceled")
