"""`snapshot save|status|restore`; the last two are etcdutl's as well."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubette.component_base.flags import FlagSet
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcdctl import golang
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.connection import Connection
from kubette.etcdctl.context import Context
from kubette.etcdctl.errors import CommandError, Exit, bad_args
from kubette.stdx.clock import SYSTEM_CLOCK
from kubette.stdx.files import fsync_directory

_HASH_BYTES, _SECTOR_BYTES = 32, 512
_NO_LIMIT_S = 24 * 3600.0  # a save has no timeout of its own unless one is given


def log_line(message: str, **values: Any) -> None:
    """A line as upstream's zap logger writes it."""
    print(json.dumps({"level": "info", "ts": round(SYSTEM_CLOCK.wall(), 3), "msg": message, **values}, separators=(",", ":")), file=sys.stderr)


def _save(context: Context) -> None:
    if len(context.args) != 1:
        raise bad_args("snapshot save expects one argument")
    settings = context.settings
    if len(settings.endpoints) != 1:
        endpoints = " ".join(settings.endpoints)
        raise CommandError(f"snapshot must be requested to one selected node, not multiple [{endpoints}]", Exit.INTERRUPTED)
    path = Path(context.args[0])
    timeout_s = settings.command_timeout_s if "command-timeout" in context.options.changed else _NO_LIMIT_S
    try:
        save(context.connect(), path, settings.endpoints[0], timeout_s)
    except CommandError as error:
        raise CommandError(str(error), Exit.INTERRUPTED) from error
    print(f"Snapshot saved at {path}")


def save(connection: Connection, path: Path, endpoint: str, timeout_s: float) -> None:
    """Fetch the database of an endpoint; the file appears whole or not at all. Raises CommandError."""
    part = path.with_name(path.name + ".part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise CommandError(f"could not open {part} (open {part}: {(error.strerror or str(error)).lower()})") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            log_line("created temporary db file", path=str(part))
            start = time.monotonic()
            log_line("fetching snapshot", endpoint=endpoint)
            for chunk in connection.server_stream("Maintenance/Snapshot", pb.SnapshotRequest(), pb.SnapshotResponse, timeout_s):
                file.write(chunk.blob)
            size = file.tell()
            if size % _SECTOR_BYTES != _HASH_BYTES:
                raise CommandError(f"sha256 checksum not found [bytes: {size}]")
            file.flush()
            os.fsync(file.fileno())
        log_line("fetched snapshot", endpoint=endpoint, size=golang.humanize_bytes(size), took=round(time.monotonic() - start, 9))
        part.replace(path)
        fsync_directory(path.absolute().parent)
        log_line("saved", path=str(path))
    except OSError as error:
        raise CommandError(f"could not save {path} ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)


def status(context: Context) -> None:
    """`snapshot status`."""
    if len(context.args) != 1:
        raise bad_args("snapshot status requires exactly one argument")
    from kubette.etcd import snapshot_files

    _ = context.style
    try:
        context.show("DBStatus", snapshot_files.status(Path(context.args[0])))
    except snapshot_files.SnapshotFileError as error:
        raise CommandError(str(error)) from error


def restore(context: Context) -> None:
    """`snapshot restore`."""
    if len(context.args) != 1:
        raise bad_args("snapshot restore requires exactly one argument")
    from kubette.etcd import snapshot_files

    options = context.options
    bump = options.bump_revision
    if bump < 0:
        raise bad_args(f'invalid argument "{bump}" for "--bump-revision" flag: strconv.ParseUint: parsing "{bump}": invalid syntax')
    if bool(bump) != options.mark_compacted:
        raise bad_args("--mark-compacted required if --revision-bump > 0")
    data_dir = Path(options.data_dir or f"{options.name}.etcd")
    wal_dir = Path(options.wal_dir) if options.wal_dir else data_dir / "member" / "wal"
    peers = tuple(options.initial_advertise_peer_urls.split(","))
    target = snapshot_files.Target(options.name, data_dir, wal_dir, peers, options.initial_cluster, options.initial_cluster_token)
    where = {"path": context.args[0], "wal-dir": str(wal_dir), "data-dir": str(data_dir), "snap-dir": str(data_dir / "member" / "snap")}
    log_line("restoring snapshot", **where)
    try:
        snapshot_files.restore(
            Path(context.args[0]), target, skip_hash_check=options.skip_hash_check, bump_revision=bump, added=_log_member(list(peers))
        )
    except snapshot_files.SnapshotFileError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{error.filename or data_dir}: {(error.strerror or str(error)).lower()}") from error
    log_line("restored snapshot", **where)


def _log_member(peers: list[str]) -> Callable[[int, int], None]:
    def added(cluster_id: int, member_id: int) -> None:
        log_line("added member", **{"cluster-id": f"{cluster_id:x}", "local-member-id": "0", "added-peer-id": f"{member_id:x}"})

    return added


def restore_flags(flags: FlagSet) -> None:
    flags.string("data-dir", "", "Path to the data directory")
    flags.string("wal-dir", "", "Path to the WAL directory (use --data-dir if none given)")
    flags.string("initial-cluster", "default=http://localhost:2380", "Initial cluster configuration for restore bootstrap")
    flags.string("initial-cluster-token", "etcd-cluster", "Initial cluster token for the etcd cluster during restore bootstrap")
    peers = "List of this member's peer URLs to advertise to the rest of the cluster"
    flags.string("initial-advertise-peer-urls", "http://localhost:2380", peers)
    flags.string("name", "default", "Human-readable name for this member")
    flags.bool("skip-hash-check", False, "Ignore snapshot integrity hash value (required if copied from data directory)")
    flags.int("bump-revision", 0, "How much to increase the latest revision after restore")
    mark = "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, disallowed otherwise)"
    flags.bool("mark-compacted", False, mark)


_STATUS_LONG = """When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.
The items in the lists are hash, revision, total keys, total size."""

STATUS = Command("status <filename>", "Gets backend snapshot status of a given file", status, long=_STATUS_LONG)
RESTORE = Command("restore <filename> [options]", "Restores an etcd member snapshot to an etcd directory", restore, restore_flags)
SNAPSHOT = Command(
    "snapshot <subcommand>",
    "Manages etcd node snapshots",
    commands=(Command("save <filename>", "Stores an etcd node backend snapshot to a given file", _save), STATUS, RESTORE),
)
