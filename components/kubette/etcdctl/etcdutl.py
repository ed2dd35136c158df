"""etcdutl: work on etcd's files without a server: `snapshot status|restore`, `hashkv`, `defrag`, `version`."""

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
