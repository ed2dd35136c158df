"""`/metrics` in upstream's names: what is counted where it happens is read here, when it is scraped."""

import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence

from kubette.component_base.metrics import Counter, Registry
from kubette.etcd.server import Server
from kubette.stdx.clock import Clock

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


def register(registry: Registry, server: Server, version: str, watches: Callable[[], Mapping[str, int]]) -> None:
    """Everything but what belongs to the network (see network_metrics)."""
    _register_server(registry, server, version)
    _register_store(registry, server, watches)
    _register_v2(registry, server)
    _register_process(registry, server.clock)
    for histogram in server.measures.histograms.values():
        registry.add(histogram)

    def synced(write_s: float, fsync_s: float) -> None:
        server.measures.observe("wal_write", write_s)
        server.measures.observe("wal_fsync", fsync_s)

    server.raft.on_synced = synced


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
    go_version = f"python{sys.version.split()[0]}"
    registry.add(
        Table(
            "etcd_server_go_version",
            "Which Go version server is running with. 1 for 'server_go_version' label with current version.",
            ("server_go_version",),
            "gauge",
            one(go_version),
        )
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
        ("etcd_disk_wal_write_bytes_total", "Total number of bytes written in WAL.", lambda: server.raft.written_bytes),
        ("etcd_debugging_auth_revision", "The current revision of auth store.", lambda: state.auth.revision),
    )
    _functions(registry, gauges, "gauge")
    counters: tuple[tuple[str, str, Callable[[], float]], ...] = (
        ("etcd_server_leader_changes_seen_total", "The number of leader changes seen.", lambda: server.leader_changes),
        ("etcd_server_proposals_failed_total", "The total number of failed proposals seen.", lambda: server.proposals_failed),
        ("etcd_server_read_indexes_failed_total", "The total number of failed read indexes seen.", lambda: server.reads_failed),
        (
            "etcd_server_slow_read_indexes_total",
            "The total number of pending read indexes not in sync with leader's or timed out read index requests.",
            lambda: server.measures.counts["slow_read_indexes"],
        ),
        ("etcd_server_slow_apply_total", "The total number of slow apply requests (likely overloaded from slow disk).", lambda: server.slow_applies),
        (
            "etcd_server_heartbeat_send_failures_total",
            "The total number of leader heartbeat send failures (likely overloaded from slow disk).",
            lambda: server.raft.late_heartbeats,
        ),
        (
            "etcd_server_learner_promote_successes",
            "The total number of successful learner promotions while this member is leader.",
            lambda: server.measures.counts["learner_promotions"],
        ),
        ("etcd_debugging_server_lease_expired_total", "The total number of expired leases.", lambda: server.leases_expired),
    )
    _functions(registry, counters, "counter")


def _register_store(registry: Registry, server: Server, watches: Callable[[], Mapping[str, int]]) -> None:
    state, counts = server.state, server.applier.counts
    gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
        ("etcd_mvcc_db_total_size_in_bytes", "Total size of the underlying database physically allocated in bytes.", lambda: state.size),
        (
            "etcd_debugging_mvcc_db_total_size_in_bytes",
            "Total size of the underlying database physically allocated in bytes.",
            lambda: state.size,
        ),
        ("etcd_debugging_mvcc_total_put_size_in_bytes", "The total size of put kv pairs seen by this member.", lambda: counts["put_bytes"]),
        ("etcd_debugging_mvcc_pending_events_total", "Total number of pending events to be sent.", lambda: _pending_events(server)),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", "Total size of the underlying database logically in use in bytes.", lambda: state.size_in_use),
        ("etcd_debugging_mvcc_keys_total", "Total number of keys.", lambda: state.store.key_count),
        ("etcd_debugging_mvcc_current_revision", "The current revision of store.", lambda: state.store.current),
        ("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.", lambda: state.store.compacted),
        ("etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.", lambda: watches()["streams"]),
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
        ("etcd_debugging_mvcc_events_total", "Total number of events sent by this member.", lambda: watches()["events"]),
        ("etcd_debugging_lease_granted_total", "The total number of granted leases.", lambda: counts["granted"]),
        ("etcd_debugging_lease_revoked_total", "The total number of revoked leases.", lambda: counts["revoked"]),
        ("etcd_debugging_lease_renewed_total", "The number of renewed leases seen by the leader.", lambda: server.leases_renewed),
    )
    _functions(registry, counters, "counter")


def _pending_events(server: Server) -> int:
    """Changes that unsynced watchers have yet to be given."""
    return server.state.hub.backlog()


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
    requests = "Total number of incoming watch requests (new or reestablished)."
    registry.function("etcd_debugging_store_watch_requests_total", requests, lambda: float(server.state.v2.watch_requests), "counter")
    registry.function("etcd_debugging_store_watchers", "Count of currently active watchers.", lambda: float(server.state.v2.watcher_count))


def _register_process(registry: Registry, clock: Clock) -> None:
    started = clock.wall()
    gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
        ("os_fd_used", "The number of used file descriptors.", _open_files),
        ("os_fd_limit", "The file descriptor limit.", _file_limit),
        ("process_open_fds", "Number of open file descriptors.", _open_files),
        ("process_max_fds", "Maximum number of open file descriptors.", _file_limit),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes.", lambda: _memory_pages(0)),
        ("process_virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes.", _virtual_limit),
        ("process_resident_memory_bytes", "Resident memory size in bytes.", lambda: _memory_pages(1)),
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


def _memory_pages(field: int) -> float:
    with open("/proc/self/statm") as file:
        return float(int(file.read().split()[field]) * resource.getpagesize())


def _virtual_limit() -> float:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return -1.0 if limit == resource.RLIM_INFINITY else float(limit)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system
