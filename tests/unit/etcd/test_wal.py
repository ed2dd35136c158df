"""The log on disk: what was synced is read back; a torn tail is cut off, corruption is refused."""

import random
from pathlib import Path

import pytest

from kubette.etcd import wal
from kubette.etcd.disk import SystemDisk
from kubette.raft.messages import Entry, HardState

METADATA = b"\x08\x01\x10\x02"


def written(directory: Path, count: int = 12) -> tuple[Path, list[int]]:
    """A log of `count` entries, each synced alone; answers the file and the offset after each."""
    log = wal.Wal.create(directory, METADATA)
    offsets = []
    for index in range(1, count + 1):
        log.save(HardState(1, 1, index - 1), [Entry(1, index, b"%d" % index * 40)])
        log.sync()
        offsets.append(log._offset)
    log.close()
    return wal.segments(directory)[-1], offsets


def test_what_was_synced_is_read_back(tmp_path: Path) -> None:
    written(tmp_path / "wal")
    log, contents = wal.Wal.open(tmp_path / "wal", 0)
    assert (contents.metadata, contents.hard_state) == (METADATA, HardState(1, 1, 11))
    assert [entry.index for entry in contents.entries] == list(range(1, 13))
    log.save(None, [Entry(2, 5, b"new")])
    log.sync()
    log.close()
    again = wal.read(tmp_path / "wal", 0)
    assert [(entry.term, entry.index) for entry in again.entries[-2:]] == [(1, 4), (2, 5)]
    assert [entry.index for entry in wal.read(tmp_path / "wal", 3).entries] == [4, 5]


def test_segments_are_cut_and_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "SEGMENT_BYTES", 2048)
    written(tmp_path / "wal", 60)
    assert len(wal.segments(tmp_path / "wal")) > 2
    log, contents = wal.Wal.open(tmp_path / "wal", 0)
    assert len(contents.entries) == 60
    log.release_to(50)
    log.close()
    assert [entry.index for entry in wal.read(tmp_path / "wal", 50).entries] == list(range(51, 61))


@pytest.mark.slow
def test_f36_a_file_cut_anywhere_in_its_last_record_loses_only_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "SEGMENT_BYTES", 1)
    monkeypatch.setattr(wal.Wal, "_cut", lambda self: None)
    path, offsets = written(tmp_path / "wal")
    whole = path.read_bytes()[: offsets[-1]]
    for size in range(offsets[-2], offsets[-1]):
        path.write_bytes(whole[:size])
        try:
            contents = wal.read(tmp_path / "wal", 0)
        except wal.TornTailError as torn:
            copy = wal.repair(torn)
            assert copy.read_bytes() == whole[:size]
            contents = wal.read(tmp_path / "wal", 0)
        # The last save is an entry and a hard state: the cut may fall between them.
        assert [entry.index for entry in contents.entries][:11] == list(range(1, 12)), size
        assert contents.hard_state.commit >= 10


@pytest.mark.parametrize("head", range(8, 41, 8))
def test_f36_a_record_torn_at_any_place_of_its_head_is_known_as_such(head: int) -> None:
    """A disk writes sectors: what follows the boundary is zero, wherever it falls. Found by simulation: right before the length of the data."""
    for variant in range(200):  # the checksum, and so the length of its field, is another one each time
        log = wal.Wal(Path(), 0, Path(), 0, 0, METADATA, SystemDisk())
        log._add(wal.ENTRY, b"lost %d" % variant * 30)
        start = wal.SECTOR_BYTES - head
        content = bytes(start) + log._buffer[0][:head] + bytes(2 * wal.SECTOR_BYTES)
        with pytest.raises(wal.TornTailError):
            wal._next_record(Path("file"), content, len(content), wal._Position(offset=start), last=True)


@pytest.mark.slow
def test_f37_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    path, offsets = written(tmp_path / "wal")
    whole = path.read_bytes()
    expected = wal.read(tmp_path / "wal", 0).entries
    rng = random.Random(1)
    for _ in range(300):
        at, bit = rng.randrange(offsets[-2]), rng.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 : offsets[-1] + 4096])
        try:
            entries = wal.read(tmp_path / "wal", 0).entries
        except wal.TornTailError as torn:
            pytest.fail(f"byte {at} bit {bit}: corruption taken for a torn tail at {torn.offset}")
        except wal.WalError as error:
            named = str(path) in str(error)
            assert named, error  # noqa: PT017
        else:
            assert entries == expected, f"byte {at} bit {bit}"


def test_a_log_in_use_is_refused(tmp_path: Path) -> None:
    log = wal.Wal.create(tmp_path / "wal", METADATA)
    with pytest.raises(wal.WalError, match="locked"):
        wal.Wal.open(tmp_path / "wal", 0)
    log.close()


class _Recorder(SystemDisk):
    """What was made durable."""

    def __init__(self) -> None:
        self.synced: list[Path] = []

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self.synced.append(Path(f"/proc/self/fd/{fd}").resolve())

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        self.synced.append(path)


def test_what_is_read_is_durable_before_it_is_believed(tmp_path: Path) -> None:
    """A killed process leaves what it wrote without a sync: a later power cut must not take back what was promised on it."""
    path, _ = written(tmp_path / "wal")
    disk = _Recorder()
    log, _ = wal.Wal.open(tmp_path / "wal", 0, disk)
    assert disk.synced == [path, tmp_path / "wal", tmp_path]
    log.close()
