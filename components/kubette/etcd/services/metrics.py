"""`/metrics` in upstream's names: what is counted where it happens is read here, when it is scraped."""

import os
import resource
from collections.abc import Callable, Mapping, Sequence

from kubette.component_base import logs
from kubette.component_base.metrics import Counter, Histogram, Registry
from kubette.etcd.rim.grpc import Call, GrpcHandler
from kubette.etcd.server import Server
from kubette.etcd_api.errors import Code
from kubette.stdx.clock import Clock

log = logs.logger(__name__)
_FSYNC_BUCKETS = tuple(0.001 * 2**power for power in range(14))
_SAVE_BUCKETS = tuple(0.01 * 2**power for power in range(10))
_KINDS = {b"Watch": "bidi_stream", b"LeaseKeepAlive": "bidi_stream", b"Snapshot": "server_stream", b"Observe": "server_stream"}
_V2_WRITES = {"create": "create", "set": "sets", "update": "update", "delete": "delete"}
_V2_WRITES |= {name: name for name in ("compareAndSwap", "compareAndDelete")}


class Table(Counter):
    """A metric whose samples, by label values, are asked for when it is scraped."""

    def __init__(self, name: str, help: str, label_names: Sequence[str], kind: str, read: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        super().__init__(name, help, label_names)
        self.kind = kind
        self._read = read

    def render(self) -> list[str]:
        self._values = dict(self._read())
        return super().render()


def register(registry: Registry, server: Server, version: str, watch_streams: Callable[[], int]) -> None:
    """Everything but what belongs to the gRPC port."""
    _register_server(registry, server, version)
    _register_store(registry, server, watch_streams)
    _register_v2(registry, server)
    _register_process(registry, server.clock)
    fsync = Histogram("etcd_disk_wal_fsync_duration_seconds", "The latency distributions of fsync called by WAL.", buckets=_FSYNC_BUCKETS)
    commit = Histogram("etcd_disk_backend_commit_duration_seconds", "The latency distributions of commit called by backend.", buckets=_FSYNC_BUCKETS)
    save = Histogram(
        "etcd_debugging_snap_save_total_duration_seconds", "The total latency distributions of save called by snapshot.", buckets=_SAVE_BUCKETS
    )
    for histogram in (fsync, commit, save):
        registry.add(histogram)
    server.raft.on_synced = fsync.observe

    def saved(seconds: float) -> None:
        # The database is written with each snapshot, and only then.
        commit.observe(seconds)
        save.observe(seconds)

    server.on_saved = saved


def _register_server(registry: Registry, server: Server, version: str) -> None:
    def one(*labels: str) -> Callable[[], Mapping[tuple[str, ...], float]]:
        return lambda: {labels: 1.0}

    state, node = server.state, server.node
    tables = (
        ("etcd_server_version", "server_version", "Which version is running. 1 for 'server_version' label with current version.", one(version)),
        (
            "etcd_server_id",
            "server_id",
            "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
            one(f"{server.member_id:x}"),
        ),
    )
    for name, label, help_text, read in tables:
        registry.add(Table(name, help_text, (label,), "gauge", read))
    registry.add(
        Table(
            "etcd_cluster_version",
            "Which version is running. 1 for 'cluster_version' label with current cluster version",
            ("cluster_version",),
            "gauge",
            lambda: {(state.membership.version.rpartition(".")[0],): 1.0} if state.membership.version else {},
        )
    )
    gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
        ("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.", lambda: bool(server.lead)),
        ("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.", lambda: server.is_leader),
        ("etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.", lambda: server.is_learner),
        ("etcd_server_proposals_committed_total", "The total number of consensus proposals committed.", lambda: node.raft.log.committed),
        ("etcd_server_proposals_applied_total", "The total number of consensus proposals applied.", lambda: state.applied_index),
        ("etcd_server_proposals_pending", "The current number of pending proposals to commit.", lambda: server.pending),
        ("etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.", lambda: server.limits.quota_bytes),
        ("etcd_server_snapshot_apply_in_progress_total", "1 if the server is applying the incoming snapshot. 0 if none.", lambda: server.installing),
        ("etcd_debugging_auth_revision", "The current revision of auth store.", lambda: state.auth.revision),
    )
    _functions(registry, gauges, "gauge")
    counters: tuple[tuple[str, str, Callable[[], float]], ...] = (
        ("etcd_server_leader_changes_seen_total", "The number of leader changes seen.", lambda: server.leader_changes),
        ("etcd_server_proposals_failed_total", "The total number of failed proposals seen.", lambda: server.proposals_failed),
        ("etcd_server_read_indexes_failed_total", "The total number of failed read indexes seen.", lambda: server.reads_failed),
        ("etcd_debugging_server_lease_expired_total", "The total number of expired leases.", lambda: server.leases_expired),
    )
    _functions(registry, counters, "counter")


def _register_store(registry: Registry, server: Server, watch_streams: Callable[[], int]) -> None:
    state, counts = server.state, server.applier.counts
    gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
        ("etcd_mvcc_db_total_size_in_bytes", "Total size of the underlying database physically allocated in bytes.", lambda: state.size),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", "Total size of the underlying database logically in use in bytes.", lambda: state.size_in_use),
        ("etcd_debugging_mvcc_keys_total", "Total number of keys.", lambda: state.store.key_count),
        ("etcd_debugging_mvcc_current_revision", "The current revision of store.", lambda: state.store.current),
        ("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.", lambda: state.store.compacted),
        ("etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.", watch_streams),
        ("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", lambda: len(state.hub)),
        ("etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.", lambda: state.hub.statistics()["unsynced"]),
    )
    _functions(registry, gauges, "gauge")
    for kind, help_text in (
        ("put", "Total number of puts seen by this member."),
        ("delete", "Total number of deletes seen by this member."),
        ("range", "Total number of ranges seen by this member."),
        ("txn", "Total number of txns seen by this member."),
    ):
        for prefix in ("etcd_mvcc", "etcd_debugging_mvcc"):
            registry.function(f"{prefix}_{kind}_total", help_text, lambda kind=kind: float(counts[kind]), "counter")  # type: ignore[misc]
    counters: tuple[tuple[str, str, Callable[[], float]], ...] = (
        ("etcd_debugging_mvcc_db_compaction_keys_total", "Total number of db keys compacted.", lambda: counts["compacted"]),
        ("etcd_debugging_lease_granted_total", "The total number of granted leases.", lambda: counts["granted"]),
        ("etcd_debugging_lease_revoked_total", "The total number of revoked leases.", lambda: counts["revoked"]),
        ("etcd_debugging_lease_renewed_total", "The number of renewed leases seen by the leader.", lambda: server.leases_renewed),
    )
    _functions(registry, counters, "counter")


def _register_v2(registry: Registry, server: Server) -> None:
    def stats() -> Mapping[str, int]:
        return server.state.v2.stats

    writes = Table(
        "etcd_debugging_store_writes_total",
        "Total number of writes (e.g. set/compareAndDelete) seen by this member.",
        ("action",),
        "counter",
        lambda: {(action,): float(stats()[name + "Success"]) for action, name in _V2_WRITES.items()},
    )
    reads = Table(
        "etcd_debugging_store_reads_total",
        "Total number of reads action by (get/getRecursive), local to this member.",
        ("action",),
        "counter",
        lambda: {("get",): float(stats()["getsSuccess"])},
    )
    registry.add(writes)
    registry.add(reads)
    registry.function("etcd_debugging_store_expires_total", "Total number of expired keys.", lambda: float(stats()["expireCount"]), "counter")
    registry.function("etcd_debugging_store_watchers", "Count of currently active watchers.", lambda: float(server.state.v2.watcher_count))


def _register_process(registry: Registry, clock: Clock) -> None:
    started = clock.wall()
    gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
        ("os_fd_used", "The number of used file descriptors.", _open_files),
        ("os_fd_limit", "The file descriptor limit.", _file_limit),
        ("process_open_fds", "Number of open file descriptors.", _open_files),
        ("process_max_fds", "Maximum number of open file descriptors.", _file_limit),
        ("process_resident_memory_bytes", "Resident memory size in bytes.", _resident_bytes),
        ("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", lambda: started),
    )
    _functions(registry, gauges, "gauge")
    registry.function("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", _cpu_seconds, "counter")


def _functions(registry: Registry, metrics: Sequence[tuple[str, str, Callable[[], float]]], kind: str) -> None:
    for name, help_text, read in metrics:
        registry.function(name, help_text, lambda read=read: float(read()), kind)  # type: ignore[misc]


def _open_files() -> float:
    return float(len(os.listdir("/proc/self/fd")) - 1)


def _file_limit() -> float:
    return float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _resident_bytes() -> float:
    with open("/proc/self/statm") as file:
        return float(int(file.read().split()[1]) * resource.getpagesize())


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


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
        return method.decode(), service.decode(), _KINDS.get(method, "unary")

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
    received, sent = "The total number of bytes received from grpc clients.", "The total number of bytes sent to grpc clients."
    registry.function("etcd_network_client_grpc_received_bytes_total", received, lambda: float(handler.received_bytes), "counter")
    registry.function("etcd_network_client_grpc_sent_bytes_total", sent, lambda: float(handler.sent_bytes), "counter")


def _code_name(code: int) -> str:
    return "OK" if code == Code.OK else "".join(word.capitalize() for word in Code(code).name.split("_")).replace("Cancelled", "Canceled")
