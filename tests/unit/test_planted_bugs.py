"""The planted bugs of the simulation follow the source: who changes a line that a patch is about, changes the patch (tests/simulation/planted_bugs.py)."""

import subprocess
from pathlib import Path

import pytest

from simulation.planted_bugs import PATCHES, ROOT


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_planted_bug_still_applies(patch: Path) -> None:
    checked = subprocess.run(["git", "apply", "--check", str(patch)], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
