"""A member's files, damaged: torn at every byte, bits flipped in every region, forged. It starts with the same data, or says which file is broken, and where."""

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from kubette.component_base.run import StartupError
from kubette.etcd import bbolt, bootstrap, config, flag_table, raft_codec, snapshotter, wal
from kubette.etcd.apply import Applier
from kubette.etcd.disk import SYSTEM_DISK
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.metadata_pb2 import Metadata
from kubette.etcd_api.raft_internal_pb2 import InternalRaftRequest, RequestHeader
from kubette.etcd_api.wal_pb2 import Record
from kubette.raft.messages import ConfState, Entry, EntryType, HardState, Snapshot

FLIPS = 400
PUTS = 30


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "SEGMENT_BYTES", 1024)


def options(directory: Path) -> config.Config:
    parsed = flag_table.flag_set().parse([f"--data-dir={directory}", "--name=m0", "--initial-cluster=m0=http://127.0.0.1:1", "--max-wals=0"])
    parsed.initial_advertise_peer_urls = ("http://127.0.0.1:1",)
    return config.check(parsed)


def entry(index: int, term: int = 2) -> Entry:
    put = pb.PutRequest(key=b"key%d" % (index % 7), value=b"value %d " % index * 6)
    return Entry(term, index, InternalRaftRequest(header=RequestHeader(ID=index), put=put).SerializeToString())


async def boot(directory: Path) -> bootstrap.Booted:
    booted = await bootstrap.open_member(options(directory), None)
    booted.wal.close()
    return booted


def content(booted: bootstrap.Booted) -> tuple[Any, ...]:
    """Everything that a client can see once what is committed is applied."""
    state = booted.state
    applier = Applier(state, lambda revision: b"")
    log = booted.node.raft.log
    for each in log.slice(max(state.applied_index + 1, log.offset + 1), log.committed + 1):
        if each.type is EntryType.NORMAL and each.data:
            applier.apply(InternalRaftRequest.FromString(each.data), 0.0)
            state.applied_index = each.index
    return booted.member_id, booted.cluster_id, state.store.current, state.store.hash_kv(), state.applied_index, log.committed


@pytest.fixture
async def whole(tmp_path: Path) -> Path:
    """A directory with a log of several segments, a snapshot, its database, and entries behind it."""
    directory = tmp_path / "whole"
    booted = await bootstrap.open_member(options(directory), None)
    log = booted.wal
    applier = Applier(booted.state, lambda revision: b"")
    booted.state.membership.members = {1: bootstrap.membership.Member(1, ("http://127.0.0.1:1",))}
    booted.state.applied_index = 1
    for index in range(2, PUTS):
        log.save(HardState(2, booted.member_id, index - 1), [entry(index)])
        log.sync()
        applier.apply(InternalRaftRequest.FromString(entry(index).data), 0.0)
        booted.state.applied_index, booted.state.applied_term = index, 2
        if index in (10, 20):
            image = snapshotter.capture(booted.state, ConfState((booted.member_id,)))
            snapshotter.save(booted.snap_directory, image)
            log.save_snapshot(index, 2)
            log.sync()
    log.save(HardState(2, booted.member_id, PUTS - 1), [])
    log.sync()
    log.close()
    assert len(wal.segments(directory / "member" / "wal")) > 2
    return directory


def copy(whole: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(whole, to)
    return to


def used(path: Path) -> int:
    """Bytes before the zeros at the end."""
    return len(path.read_bytes().rstrip(b"\0"))


@pytest.mark.slow
async def test_f37_no_flipped_bit_is_served(whole: Path, tmp_path: Path) -> None:
    """The same data, or a refusal that names file and offset; never other data, never a traceback."""
    expected = content(await boot(copy(whole, tmp_path / "as it was")))
    rng = random.Random(37)
    files = [path for path in sorted(whole.rglob("*")) if path.is_file() and path.suffix in (".wal", ".snap", "") and used(path)]
    assert {path.suffix for path in files} == {".wal", ".snap", ""}
    outcomes = {"same": 0, "refused": 0}
    for turn in range(FLIPS):
        source = files[turn % len(files)]
        damaged = copy(whole, tmp_path / "damaged")
        path = damaged / source.relative_to(whole)
        data = bytearray(path.read_bytes())
        at, bit = rng.randrange(used(source)), rng.randrange(8)
        data[at] ^= 1 << bit
        path.write_bytes(data)
        where = f"{path.name} byte {at} bit {bit}"
        try:
            found = content(await boot(damaged))
        except StartupError as error:
            outcomes["refused"] += 1
            named = str(path) in str(error) and "offset" in str(error)
            assert named, f"{where}: {error}"  # noqa: PT017
        else:
            outcomes["same"] += 1
            assert found == expected, where
    assert min(outcomes.values()) > 10, outcomes


@pytest.mark.slow
async def test_f36_a_last_record_torn_anywhere_is_cut_off_and_kept_aside(whole: Path, tmp_path: Path) -> None:
    """At every byte: what was acknowledged before it is there, and the broken file is too."""
    last = wal.segments(whole / "member" / "wal")[-1]
    data = last.read_bytes()
    end, position = used(last), wal._Position()
    starts = [position.offset for _ in wal._records(SYSTEM_DISK, last, position, last=True)]
    start = starts[-2]
    for size in range(start, end):
        damaged = copy(whole, tmp_path / "torn")
        path = damaged / last.relative_to(whole)
        path.write_bytes(data[:size])
        booted = await boot(damaged)
        content(booted)
        assert booted.state.applied_index >= PUTS - 2, size
        broken = path.with_name(path.name + ".broken")
        assert broken.exists() == (size not in (start, *starts)), size
        if broken.exists():
            assert broken.read_bytes() == data[:size], size
        again = await boot(damaged)
        assert content(again) == content(booted), size


def record(kind: int, data: bytes, crc: int = 0) -> bytes:
    body = Record(type=kind, crc=google_crc32c.extend(crc, data), data=data).SerializeToString()
    padding = -len(body) % 8
    word = len(body) | (0x80 | padding) << 56 if padding else len(body)
    return struct.pack("<Q", word) + body + bytes(padding)


def forged_log(*records: tuple[int, bytes], tail: bytes = b"") -> bytes:
    crc, out = 0, [struct.pack("<Q", 4 | (0x84 << 56)) + Record(type=wal.CRC, crc=0).SerializeToString() + bytes(4)]
    for kind, data in records:
        out.append(record(kind, data, crc))
        crc = google_crc32c.extend(crc, data)
    return b"".join(out) + tail


METADATA = Metadata(NodeID=1, ClusterID=2).SerializeToString()
NEGATIVE = struct.pack("<q", -1)
GIANT = struct.pack("<Q", 1 << 55)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("negative length", forged_log((wal.METADATA, METADATA), tail=NEGATIVE + bytes(64)), "beyond the end of"),
        ("giant length", forged_log((wal.METADATA, METADATA), tail=GIANT + bytes(64)), "beyond the end of"),
        (
            "a gap",
            forged_log((wal.METADATA, METADATA), (wal.ENTRY, raft_codec.entry_bytes(entry(1))), (wal.ENTRY, raft_codec.entry_bytes(entry(9)))),
            "gap before entry 9",
        ),
        ("wrong checksum", forged_log((wal.METADATA, METADATA)) + record(wal.STATE, b"\x08\x01\x10\x00\x18\x00", crc=77), "crc mismatch"),
        ("unknown type", forged_log((wal.METADATA, METADATA), (9, b"")), "unexpected record type 9"),
        ("no metadata", forged_log((wal.STATE, b"\x08\x01\x10\x00\x18\x00")), "no metadata"),
        ("two owners", forged_log((wal.METADATA, METADATA), (wal.METADATA, METADATA + b"\x08\x05")), "conflicting metadata"),
        ("an entry that is none", forged_log((wal.METADATA, METADATA), (wal.ENTRY, b"\xff\xff")), "cannot be decoded"),
        (
            "a term that goes back",
            forged_log((wal.METADATA, METADATA), *((wal.STATE, b"\x08%c\x10\x00\x18\x00" % t) for t in (5, 4))),
            "no hard state",
        ),
    ],
)
def test_a_forged_log_is_refused_without_reading_beyond_it(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    """S60."""
    (tmp_path / wal.segment_name(0, 0)).write_bytes(content)
    with pytest.raises(wal.WalError, match=said) as caught:
        wal.read(tmp_path, 0)
    assert str(tmp_path) in str(caught.value), name


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"\0" * len(data), lambda data: data[:20] + b"\xff" + data[21:], lambda data: b""]
)
def test_a_forged_snapshot_is_set_aside(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    for index in (5, 9):
        snapshotter.save_snap(tmp_path, Snapshot(index, 1, ConfState((1,)), b"v2"))
    newest = tmp_path / f"{1:016x}-{9:016x}.snap"
    newest.write_bytes(damage(newest.read_bytes()))
    found = snapshotter.load_newest(tmp_path, [(5, 1), (9, 1)])
    assert found is not None
    assert found.index == 5
    assert newest.with_name(newest.name + ".broken").exists()


def _database(tmp_path: Path) -> bytearray:
    path = tmp_path / "db"
    with path.open("w+b") as file:
        bbolt.write(file, {b"key": [(b"%09d" % n, b"value" * 9) for n in range(2000)], b"meta": [(b"a", b"b")]})
    return bytearray(path.read_bytes())


@pytest.mark.slow
def test_a_tree_that_runs_in_circles_ends(tmp_path: Path) -> None:
    """As bbolt itself might have left it: without our checksums, every page and every field of the first ones overwritten."""
    data = _database(tmp_path)
    seal = data.rindex(bbolt._SEAL_MAGIC)
    data[seal] ^= 1
    expected = dict(bbolt.Database(bytes(data)).items(b"key"))
    rng = random.Random(60)
    pages = len(data) // bbolt.PAGE_BYTES
    for _ in range(400):
        forged = bytearray(data)
        page = rng.randrange(2, pages)
        at = page * bbolt.PAGE_BYTES + rng.choice((8, 10, 12, 16, 20, 24, 28, 32, 40))
        forged[at : at + 4] = rng.choice((rng.randrange(pages), rng.getrandbits(32), 0)).to_bytes(4, "little")
        try:
            database = bbolt.Database(bytes(forged))
            sum(len(list(database.items(name))) for name in list(database.buckets())[:4])
        except (bbolt.BboltError, struct.error, ValueError):
            continue
    assert len(expected) == 2000
