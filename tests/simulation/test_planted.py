"""A checker that finds no planted bug proves nothing: each of the 25 of RELIABILITY 5.1 is put into the source, and must be caught."""

from pathlib import Path

import pytest

from simulation.planted_bugs import PATCHES, Bug


def test_there_are_25() -> None:
    assert [int(patch.name[:2]) for patch in PATCHES] == list(range(1, 26))


@pytest.mark.slow
@pytest.mark.parametrize("bug", [pytest.param(Bug.read(patch), id=patch.stem) for patch in PATCHES])
def test_a_planted_bug_is_caught(bug: Bug, tmp_path: Path) -> None:
    bug.plant(tmp_path)
    said = bug.check(tmp_path)
    if bug.kind == "pytest":
        assert f"FAILED {bug.test}" in said, said
    else:
        assert said.startswith("found by"), said
        assert bug.invariant in said.splitlines()[0]
