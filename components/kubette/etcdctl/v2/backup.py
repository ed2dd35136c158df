"""`backup`: a copy of a data directory for a new cluster."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from kubette.etcdctl.v2.client import FailureError
from kubette.etcdctl.v2.command_line import Command, Flag
from kubette.etcdctl.v2.run import Run
from kubette.stdx.clock import SYSTEM_CLOCK


def _backup(run: Run) -> None:
    from kubette.etcd import backup, offline

    flags = run.flags
    data_dir, backup_dir = Path(flags["data-dir"]), Path(flags["backup-dir"])
    wal_dir = Path(flags["wal-dir"] or data_dir / "member" / "wal")
    backup_wal_dir = Path(flags["backup-wal-dir"] or backup_dir / "member" / "wal")
    try:
        if not flags["with-v3"]:  # as upstream, also of a member that runs
            backup.backup(data_dir, wal_dir, backup_dir, backup_wal_dir, with_v3=False)
            return
        with offline.held(data_dir, wal_dir, lambda database: print(_line(f"waiting to acquire lock on {database}"), file=sys.stderr, flush=True)):
            backup.backup(data_dir, wal_dir, backup_dir, backup_wal_dir, with_v3=True)
    except offline.OfflineError as error:
        raise FailureError(_line(str(error))) from error
    except OSError as error:
        raise FailureError(_line(f"open {error.filename}: {(error.strerror or str(error)).lower()}")) from error


def _line(text: str) -> str:
    """As upstream's logger of that time writes it."""
    return f"{datetime.fromtimestamp(SYSTEM_CLOCK.wall(), UTC):%Y-%m-%d %H:%M:%S.%f} I | {text}"


BACKUP = Command(
    "backup",
    "backup an etcd directory",
    " ",
    _backup,
    (
        Flag("data-dir", "string", "Path to the etcd data dir"),
        Flag("wal-dir", "string", "Path to the etcd wal dir"),
        Flag("backup-dir", "string", "Path to the backup dir"),
        Flag("backup-wal-dir", "string", "Path to the backup wal dir"),
        Flag("with-v3", "bool", "Backup v3 backend data"),
    ),
)
