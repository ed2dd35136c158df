"""etcdutl: work on etcd's files without a server: `snapshot status|restore`, `hashkv`, `defrag`, `backup`, `completion`, `version`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from kubette.component_base.flags import FlagSet
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.context import Context
from kubette.etcdctl.errors import CommandError, bad_args

DESCRIPTION = "An administrative command line tool for etcd3."


def _hash_kv(context: Context) -> None:
    if len(context.args) != 1:
        raise CommandError(f"accepts 1 arg(s), received {len(context.args)}")
    from kubette.etcd import snapshot_files

    _ = context.style
    try:
        context.show("DBHashKV", snapshot_files.hash_kv(Path(context.args[0]), context.options.rev))
    except snapshot_files.SnapshotFileError as error:
        raise CommandError(str(error)) from error


def _defrag(context: Context) -> None:
    from kubette.etcdctl import endpoints

    if not context.options.data_dir:
        raise bad_args('required flag(s) "data-dir" not set')
    endpoints.defragment_offline(context.options.data_dir)


def _backup(context: Context) -> None:
    from kubette.etcd import backup, offline

    options = context.options
    for name in ("data-dir", "backup-dir"):
        if name not in options.changed:
            raise CommandError(f'required flag(s) "{name}" not set')
    data_dir, backup_dir = Path(options.data_dir), Path(options.backup_dir)
    wal_dir = Path(options.wal_dir or data_dir / "member" / "wal")
    backup_wal_dir = Path(options.backup_wal_dir or backup_dir / "member" / "wal")
    try:
        with offline.held(data_dir, wal_dir, lambda database: print(f"waiting to acquire lock on {database}", file=sys.stderr, flush=True)):
            backup.backup(data_dir, wal_dir, backup_dir, backup_wal_dir, with_v3=options.with_v3)
    except offline.OfflineError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"open {error.filename}: {(error.strerror or str(error)).lower()}") from error


def _backup_flags(flags: FlagSet) -> None:
    flags.string("data-dir", "", "Path to the etcd data dir")
    flags.string("wal-dir", "", "Path to the etcd wal dir")
    flags.string("backup-dir", "", "Path to the backup dir")
    flags.string("backup-wal-dir", "", "Path to the backup wal dir")
    flags.bool("with-v3", True, "Backup v3 backend data")


def _hash_flags(flags: FlagSet) -> None:
    flags.int("rev", 0, "maximum revision to hash (default: latest revision)")


def _defrag_flags(flags: FlagSet) -> None:
    flags.string("data-dir", "", "Required. Defragments a data directory not in use by etcd.")


def _global_flags(flags: FlagSet) -> None:
    flags.string("write-out", "simple", "set the output format (fields, json, protobuf, simple, table)", "w")
    flags.bool("hex", False, "print byte strings as hex encoded strings")


def main(argv: Sequence[str] | None = None) -> int:
    from kubette.etcdctl import completion, run, snapshots, versions
    from kubette.etcdctl.cobra import Program

    snapshot = Command("snapshot <subcommand>", "Manages etcd node snapshots", commands=(snapshots.RESTORE, snapshots.STATUS))
    commands = (
        Command("backup", "[legacy] offline backup of etcd directory", _backup, _backup_flags, long="Prefer: `etcdctl snapshot save` instead."),
        Command("defrag", "Defragments the storage of the etcd", _defrag, _defrag_flags),
        snapshot,
        Command("hashkv <filename>", "Prints the KV history hash of a given file", _hash_kv, _hash_flags),
        completion.command("etcdutl"),
        versions.ETCDUTL,
    )
    words = sys.argv[1:] if argv is None else list(argv)
    return run.run(Program("etcdutl", DESCRIPTION, versions.release(), commands, _global_flags), words)


if __name__ == "__main__":
    sys.exit(main())
