"""Files that are rotated, and lines that wait."""

import asyncio
from pathlib import Path

import pytest

from kubette.kube_apiserver.audit import log_backend, options
from kubette.kube_apiserver.audit.log_backend import Backend, RotatedFile


class Stopped:
    """A clock that stands."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Memory:
    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_full = False

    def write(self, lines: bytes) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.writes.append(lines)


def test_a_file_too_long_is_put_aside_with_its_time_in_its_name(tmp_path: Path) -> None:
    clock = Stopped()
    log = RotatedFile(str(tmp_path / "audit" / "audit.log"), 1, 2, 0, clock)
    line = b"x" * (600 * 1024) + b"\n"
    for second in range(5):
        clock.now = 1_700_000_000.0 + second + 0.5
        log.write(line)
    names = sorted(path.name for path in (tmp_path / "audit").iterdir())
    assert names == ["audit-2023-11-14T22-13-23.500.log", "audit-2023-11-14T22-13-24.500.log", "audit.log"]  # two old ones are kept
    assert (tmp_path / "audit" / "audit.log").stat().st_mode & 0o777 == 0o600


def test_old_files_go_by_age_and_strangers_stay(tmp_path: Path) -> None:
    (tmp_path / "audit-2023-11-01T00-00-00.000.log").write_text("old")
    (tmp_path / "audit-of-mine.log").write_text("mine")
    clock = Stopped()
    log = RotatedFile(str(tmp_path / "audit.log"), 1, 0, 7, clock)
    for _ in range(2):
        log.write(b"x" * (600 * 1024) + b"\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit-2023-11-14T22-13-20.000.log", "audit-of-mine.log", "audit.log"]


def test_a_file_that_was_begun_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_bytes(b"x" * (1024 * 1024 - 2))
    log = RotatedFile(str(tmp_path / "audit.log"), 1, 0, 0, Stopped())
    log.write(b"a\n")
    log.write(b"b\n")
    assert (tmp_path / "audit.log").read_bytes() == b"b\n"


@pytest.mark.parametrize("mode", [options.BLOCKING, options.BLOCKING_STRICT])
def test_blocking_writes_at_once_and_says_when_it_could_not(mode: str) -> None:
    output, lost = Memory(), list[int]()
    backend = Backend(output, mode, lambda count, _: lost.append(count))
    assert backend.put(b"one\n")
    assert output.writes == [b"one\n"]
    output.is_full = True
    assert not backend.put(b"two\n")
    assert lost == [1]


async def test_batch_writes_a_moment_later_in_one_piece() -> None:
    output, lost = Memory(), list[int]()
    backend = Backend(output, options.BATCH, lambda count, _: lost.append(count))
    for line in (b"one\n", b"two\n"):
        assert backend.put(line)
    assert output.writes == []
    await asyncio.sleep(0)
    assert output.writes == [b"one\ntwo\n"]


async def test_batch_drops_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_backend, "BUFFER_EVENTS", 2)
    output, lost = Memory(), list[str]()
    backend = Backend(output, options.BATCH, lambda count, why: lost.append(f"{count} {why}"))
    assert all(backend.put(b"x\n") for _ in range(3))
    backend.flush()
    assert output.writes == [b"x\nx\n"]
    assert lost == ["1 audit buffer queue blocked"]
