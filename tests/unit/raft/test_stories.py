"""Raft told in stories with golden text (`--rewrite` writes it), in the manner of etcd's interaction tests: see harness.raft_stage for the words."""

from pathlib import Path

import pytest

from harness import datadriven
from harness.raft_stage import Stage

STORIES = sorted((Path(__file__).parent / "stories").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_story_goes_as_told(path: Path, request: pytest.FixtureRequest) -> None:
    datadriven.run(path, Stage().handle, rewrite=request.config.getoption("--rewrite"))
