"""Snapshots that arrive in pieces: what is there already is kept, continued, taken over, and in the end not left behind."""

import asyncio
from pathlib import Path

import pytest

from kubette.etcd.snapshot_transfer import KEPT_S, Arrivals, Identity, OffsetError

FILE = bytes(range(256)) * 1000
OURS = Identity(7, "one")


class Receiver:
    """A member's side, with a clock of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 0.0
        self.arrivals = Arrivals(directory, lambda: self.now)

    async def take(self, data: bytes, identity: Identity = OURS, index: int = 9, offset: int = 0, length: int | None = None) -> Path:
        """A connection that brings this and then ends."""
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await self.arrivals.receive(reader, len(FILE) - offset if length is None else length, identity, index, offset, 5.0)

    async def interrupted(self, data: bytes, identity: Identity = OURS, index: int = 9, offset: int = 0) -> None:
        with pytest.raises(ConnectionError, match="the snapshot ended early"):
            await self.take(data, identity, index, offset)

    def files(self) -> int:
        return len([*self.directory.iterdir()])


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path)


async def test_an_interrupted_snapshot_goes_on_where_it_was(receiver: Receiver) -> None:
    await receiver.interrupted(FILE[:1000])
    assert receiver.arrivals.resume(OURS) == 1000
    await receiver.interrupted(FILE[1000:90_000], offset=1000)
    assert receiver.arrivals.resume(OURS) == 90_000
    path = await receiver.take(FILE[90_000:], offset=90_000)
    assert path.read_bytes() == FILE
    assert (receiver.files(), receiver.arrivals.resume(OURS)) == (1, 0)


async def test_a_snapshot_may_begin_anew(receiver: Receiver) -> None:
    await receiver.interrupted(b"x" * 1000)
    path = await receiver.take(FILE)
    assert path.read_bytes() == FILE
    assert receiver.files() == 1


@pytest.mark.parametrize(
    ("identity", "index", "offset"), [(OURS, 9, 999), (OURS, 9, 1001), (OURS, 8, 1000), (Identity(8, "one"), 9, 1000), (Identity(7, "two"), 9, 1000)]
)
async def test_only_the_same_file_at_its_end_is_continued(receiver: Receiver, identity: Identity, index: int, offset: int) -> None:
    await receiver.interrupted(FILE[:1000])
    with pytest.raises(OffsetError):
        await receiver.take(FILE[offset:], identity, index, offset)
    assert receiver.arrivals.resume(OURS) == 1000


async def test_a_sender_that_has_no_name_for_its_file_begins_anew(receiver: Receiver) -> None:
    """Upstream's members."""
    unnamed = Identity(7, "")
    await receiver.interrupted(FILE[:1000], unnamed)
    assert receiver.arrivals.resume(unnamed) == 0
    assert (await receiver.take(FILE, unnamed)).read_bytes() == FILE
    assert receiver.files() == 1


async def test_another_snapshot_takes_the_place_of_what_is_left(receiver: Receiver) -> None:
    await receiver.interrupted(FILE[:1000])
    await receiver.interrupted(FILE[:500], Identity(8, "other"), index=10)
    assert (receiver.arrivals.resume(OURS), receiver.arrivals.resume(Identity(8, "other")), receiver.files()) == (0, 500, 1)


async def test_two_of_one_index_at_one_time_do_not_mix(receiver: Receiver) -> None:
    first, second = asyncio.StreamReader(), asyncio.StreamReader()
    other = bytes(len(FILE))
    one = asyncio.ensure_future(receiver.arrivals.receive(first, len(FILE), OURS, 9, 0, 5.0))
    first.feed_data(FILE[:100_000])
    await asyncio.sleep(0)
    two = asyncio.ensure_future(receiver.arrivals.receive(second, len(FILE), Identity(8, "two"), 9, 0, 5.0))
    for at in range(0, len(FILE), 10_000):
        second.feed_data(other[at : at + 10_000])
        if at >= 100_000:
            first.feed_data(FILE[at : at + 10_000])
        await asyncio.sleep(0)
    assert [path.read_bytes() for path in await asyncio.gather(one, two)] == [FILE, other]


async def test_what_was_superseded_while_it_arrived_is_not_left_behind(receiver: Receiver) -> None:
    first = asyncio.StreamReader()
    one = asyncio.ensure_future(receiver.arrivals.receive(first, len(FILE), OURS, 9, 0, 5.0))
    await asyncio.sleep(0)
    await receiver.take(FILE, Identity(8, "two"))
    first.feed_eof()
    with pytest.raises(ConnectionError):
        await one
    assert receiver.files() == 1


async def test_a_connection_that_is_taken_over_writes_nothing_more(receiver: Receiver) -> None:
    """The sender has given it up; here its death has not been noticed yet."""
    stale = asyncio.StreamReader()
    one = asyncio.ensure_future(receiver.arrivals.receive(stale, len(FILE), OURS, 9, 0, 5.0))
    stale.feed_data(FILE[:1000])
    while receiver.arrivals.resume(OURS) == 0:  # noqa: ASYNC110  # the other task has to read it
        await asyncio.sleep(0)
    stale.feed_data(b"x" * 5000)
    with pytest.raises(ConnectionError, match="goes on in another connection"):
        await one
    assert receiver.arrivals.resume(OURS) == 1000
    assert (await receiver.take(FILE[1000:], offset=1000)).read_bytes() == FILE


async def test_silence_ends_a_connection_and_what_came_is_kept(receiver: Receiver) -> None:
    silent = asyncio.StreamReader()
    silent.feed_data(FILE[:1000])
    with pytest.raises(TimeoutError):
        await receiver.arrivals.receive(silent, len(FILE), OURS, 9, 0, 0.01)
    assert receiver.arrivals.resume(OURS) == 1000


@pytest.mark.parametrize(("applied", "later_s", "kept"), [(8, 0.0, True), (9, 0.0, False), (8, KEPT_S + 1, False)])
async def test_what_is_not_needed_any_more_goes(receiver: Receiver, applied: int, later_s: float, kept: bool) -> None:
    await receiver.interrupted(FILE[:1000])
    receiver.now += later_s
    receiver.arrivals.tidy(applied)
    assert (receiver.files() == 1) is kept
    assert (receiver.arrivals.resume(OURS) == 1000) is kept


async def test_one_that_is_arriving_is_not_tidied_away(receiver: Receiver) -> None:
    reader = asyncio.StreamReader()
    one = asyncio.ensure_future(receiver.arrivals.receive(reader, len(FILE), OURS, 9, 0, 5.0))
    await asyncio.sleep(0)
    receiver.arrivals.tidy(20)
    reader.feed_data(FILE)
    assert (await one).read_bytes() == FILE


@pytest.mark.parametrize(("applied", "kept"), [(8, True), (9, False)])
def test_a_whole_one_that_raft_did_not_want_goes(receiver: Receiver, applied: int, kept: bool) -> None:
    (receiver.directory / f"{9:016x}.snap.db").write_bytes(FILE)
    receiver.arrivals.tidy(applied)
    assert (receiver.files() == 1) is kept


async def test_what_an_earlier_life_has_left_goes(receiver: Receiver) -> None:
    """Its last bytes may not have reached the disk."""
    await receiver.interrupted(FILE[:1000])
    again = Receiver(receiver.directory)
    assert (again.files(), again.arrivals.resume(OURS)) == (0, 0)


async def test_a_full_disk_gets_its_space_back(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kubette.etcd.snapshot_transfer._write_all", full)
    with pytest.raises(OSError, match="No space left"):
        await receiver.take(FILE)
    assert (receiver.files(), receiver.arrivals.resume(OURS)) == (0, 0)
