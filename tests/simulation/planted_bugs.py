"""Planted bugs (RELIABILITY 5.1): each patch of `planted/` breaks a copy of the source, and the check it names must notice.

A patch says in its second line what catches it: `etcd FIRST COUNT INV` or `raft FIRST COUNT INV` (some schedule of these seeds breaks that
invariant), or `pytest TEST`. One that does not apply any more is made again: plant the bug, `git diff -U1`, keep the first lines. When the simulation has changed so much that the seeds no longer do, this finds others:

    cd tests && python -m simulation.planted_bugs 11 12 --count 2000
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATCHES = sorted((Path(__file__).parent / "planted").glob("*.patch"))
TIMEOUT_S = 300.0
_HUNT = """
import sys
sys.path[:0] = ["components", "tests"]
level, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if level == "etcd":
    from simulation.etcd_cluster import simulate_etcd as simulate
else:
    from simulation.raft_cluster import simulate
for seed in range(first, first + count):
    try:
        simulate(seed)
    except AssertionError as error:
        sys.exit(f"found by {error}")
"""


@dataclass(frozen=True)
class Bug:
    """One patch, and what catches it."""

    patch: Path
    kind: str  # etcd, raft or pytest
    test: str = ""
    first: int = 0
    count: int = 0
    invariant: str = ""

    @classmethod
    def read(cls, patch: Path) -> "Bug":
        words = patch.read_text().splitlines()[1].removeprefix("Caught by: ").split()
        if words[0] == "pytest":
            return cls(patch, *words)
        return cls(patch, words[0], "", int(words[1]), int(words[2]), words[3])

    def plant(self, directory: Path) -> None:
        """A copy of the source with the bug. Raises CalledProcessError when the patch does not apply any more."""
        for name in ("components", "tests"):
            shutil.copytree(ROOT / name, directory / name)
        shutil.copy(ROOT / "pyproject.toml", directory)
        command = ["git", "apply", "--verbose", str(self.patch)]
        subprocess.run(command, cwd=directory, env={"GIT_CEILING_DIRECTORIES": str(directory.parent)}, check=True, capture_output=True, text=True)

    def check(self, directory: Path) -> str:
        """What the check says of the broken copy; empty when it sees nothing wrong."""
        if self.kind == "pytest":
            command = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", self.test]
        else:
            command = ["-c", _HUNT, self.kind, str(self.first), str(self.count)]
        environment = {"PYTHONPATH": f"{directory}/components", "PATH": "/usr/bin:/bin"}
        run = subprocess.run([sys.executable, *command], cwd=directory, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
        return run.stdout + run.stderr if run.returncode == 1 else ""


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Find schedules that catch planted bugs.")
    parser.add_argument("numbers", type=int, nargs="*", help="of the bugs; all by default")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=400)
    args = parser.parse_args(argv)
    for patch in PATCHES:
        bug = Bug.read(patch)
        if bug.kind == "pytest" or (args.numbers and int(patch.name[:2]) not in args.numbers):
            continue
        with tempfile.TemporaryDirectory() as directory:
            bug.plant(Path(directory))
            began = time.monotonic()
            said = Bug(patch, bug.kind, "", args.first, args.count).check(Path(directory))
        print(f"{patch.name} {time.monotonic() - began:.1f} s: {said.splitlines()[0] if said else 'not caught'}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
