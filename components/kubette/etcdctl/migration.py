"""`migrate`: the keys of a stopped member's v2 store become v3 keys of the same member.

A program of the user's may decide what becomes of them: it reads the nodes, one JSON document after the other, and writes pairs, each a
`mvccpb.KeyValue` behind its length (8 bytes, little-endian).
"""

import signal
import struct
import subprocess
import sys
from pathlib import Path

from google.protobuf.message import DecodeError

from kubette.component_base.flags import FlagSet
from kubette.etcd_api.kv_pb2 import KeyValue
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.context import Context
from kubette.etcdctl.errors import CommandError

_LENGTH = struct.Struct("<q")


def _migrate(context: Context) -> None:
    from kubette.etcd import offline

    options = context.options
    data_dir = Path(options.data_dir)
    wal_dir = Path(options.wal_dir) if options.wal_dir else data_dir / "member" / "wal"
    transformer = options.transformer
    if transformer:
        _check_program(transformer)
    else:
        print("using default transformer", flush=True)
    try:
        with offline.held(data_dir, wal_dir, _say_waiting):
            state = offline.recover(data_dir, wal_dir)
            nodes = offline.v2_nodes(state, with_ttl=not options.no_ttl)
            if len(nodes) == 1:
                print("no v2 keys to migrate")
                return
            pairs = _transformed(transformer, b"".join(map(offline.node_json, nodes))) if transformer else offline.as_pairs(nodes)
            offline.write_pairs(data_dir, state, pairs)
    except offline.OfflineError as error:
        raise CommandError(str(error)) from error
    print("finished transforming keys")


def _say_waiting(database: Path) -> None:
    print(f'waiting for etcd to close and release its lock on "{database}"', file=sys.stderr, flush=True)


def _check_program(path: str) -> None:
    try:
        open(path, "rb").close()
    except OSError as error:
        raise CommandError(f"fork/exec {path}: {(error.strerror or str(error)).lower()}") from error


def _transformed(program: str, nodes: bytes) -> list[KeyValue]:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # it may end before it has read everything
    try:
        done = subprocess.run([program], input=nodes, stdout=subprocess.PIPE, check=False)
    except OSError as error:
        raise CommandError(f"fork/exec {program}: {(error.strerror or str(error)).lower()}") from error
    if done.returncode:
        print("failed to transform keys", flush=True)
        raise CommandError(f"exit status {done.returncode}" if done.returncode > 0 else f"signal: {-done.returncode}")
    pairs, at, data = [], 0, done.stdout
    try:
        while at < len(data):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            if not 0 <= length <= len(data) - at:
                raise ValueError("unexpected EOF")
            pairs.append(KeyValue.FromString(data[at : at + length]))
            at += length
    except (struct.error, ValueError, DecodeError) as error:
        raise CommandError(f"cannot read what {program} wrote, at byte {at}: {error}") from error
    return pairs


def _flags(flags: FlagSet) -> None:
    flags.string("data-dir", "", "Path to the data directory")
    flags.string("wal-dir", "", "Path to the WAL directory")
    flags.string("transformer", "", "Path to the user-provided transformer program")
    flags.bool("no-ttl", False, "Do not convert TTL keys")


MIGRATE = Command("migrate", "Migrates keys in a v2 store to a mvcc store", _migrate, _flags)
