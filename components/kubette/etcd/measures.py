"""What is measured where it happens: the histograms and counters that `/metrics` shows and that no state can tell afterwards."""

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kubette.component_base.metrics import Histogram


def _doubling(first: float, count: int) -> tuple[float, ...]:
    return tuple(first * 2**power for power in range(count))


_SHORT = _doubling(0.001, 14)
# Attribute, name, help and buckets, as upstream has them.
_HISTOGRAMS = (
    ("wal_fsync", "etcd_disk_wal_fsync_duration_seconds", "The latency distributions of fsync called by WAL.", _SHORT),
    ("wal_write", "etcd_disk_wal_write_duration_seconds", "The latency distributions of write called by WAL.", _SHORT),
    ("commit", "etcd_disk_backend_commit_duration_seconds", "The latency distributions of commit called by backend.", _SHORT),
    (
        "commit_write",
        "etcd_debugging_disk_backend_commit_write_duration_seconds",
        "The latency distributions of commit.write called by bboltdb backend.",
        _SHORT,
    ),
    ("defragment", "etcd_disk_backend_defrag_duration_seconds", "The latency distribution of backend defragmentation.", _doubling(0.1, 13)),
    ("backup", "etcd_disk_backend_snapshot_duration_seconds", "The latency distribution of backend snapshots.", _doubling(0.01, 17)),
    ("snap_save", "etcd_debugging_snap_save_total_duration_seconds", "The total latency distributions of save called by snapshot.", _SHORT),
    (
        "snap_marshal",
        "etcd_debugging_snap_save_marshalling_duration_seconds",
        "The marshalling cost distributions of save called by snapshot.",
        _SHORT,
    ),
    ("snap_fsync", "etcd_snap_fsync_duration_seconds", "The latency distributions of fsync called by snap.", _SHORT),
    ("received_fsync", "etcd_snap_db_fsync_duration_seconds", "The latency distributions of fsyncing .snap.db file", _SHORT),
    ("received_save", "etcd_snap_db_save_total_duration_seconds", "The total latency distributions of v3 snapshot save", _doubling(0.1, 10)),
    ("hash", "etcd_mvcc_hash_duration_seconds", "The latency distribution of storage hash operation.", _doubling(0.01, 15)),
    ("hash_revision", "etcd_mvcc_hash_rev_duration_seconds", "The latency distribution of storage hash by revision operation.", _doubling(0.01, 15)),
    ("lease_ttl", "etcd_debugging_lease_ttl_total", "Bucketed histogram of lease TTLs.", _doubling(1.0, 24)),
)
_MILLISECONDS = (
    (
        "compaction_total",
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "Bucketed histogram of db compaction total duration.",
        _doubling(100.0, 14),
    ),
    (
        "compaction_pause",
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        "Bucketed histogram of db compaction pause duration.",
        _doubling(1.0, 13),
    ),
    (
        "index_pause",
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        "Bucketed histogram of index compaction pause duration.",
        _doubling(0.5, 14),
    ),
)


class Measures:
    """Of one server; `monotonic` is its clock."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.histograms = {short: Histogram(name, help_text, buckets=buckets) for short, name, help_text, buckets in (*_HISTOGRAMS, *_MILLISECONDS)}
        self.counts: Tally[str] = Tally()

    def observe(self, short: str, value: float) -> None:
        self.histograms[short].observe(value)

    @contextmanager
    def timed(self, *shorts: str) -> Iterator[None]:
        """The block's seconds, for each of these."""
        began = self._monotonic()
        try:
            yield
        finally:
            took = self._monotonic() - began
            for short in shorts:
                self.observe(short, took)

    def compacted(self, seconds: float) -> None:
        """A compaction is one step: it pauses everything for as long as it takes."""
        for short, *_ in _MILLISECONDS:
            self.observe(short, seconds * 1000)
