"""A learner at work on one cluster: which exercise is under way, and the door to the shell on which its commands are typed.

The state is `lab.json` beside the cluster's other files; there is one exercise at a time.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubette.cli import on_machines
from kubette.cli.errors import CommandError
from kubette.cli.lab.exercise import PRELUDE, Exercise, checking, missing
from kubette.cli.ssh import init_pid
from kubette.machines import layout, spec
from kubette.stdx import files
from kubette.stdx.clock import SYSTEM_CLOCK

SCRIPT_TIMEOUT_S = 180.0
CHECK_TIMEOUT_S = 60.0
PAUSE_S = 0.5


class Session:
    def __init__(self, place: layout.Layout) -> None:
        self._place = place
        self.cluster: spec.Cluster = place.load()

    @property
    def _file(self) -> Path:
        return self._place.root / "lab.json"

    def state(self) -> dict[str, Any]:
        """`active` (a name, or empty) and `hints` (how many were given)."""
        try:
            found: dict[str, Any] = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return {"active": "", "hints": 0}
        return found

    def save(self, active: str, hints: int = 0) -> None:
        if active:
            files.write_atomic(self._file, json.dumps({"active": active, "hints": hints}) + "\n")
        else:
            self._file.unlink(missing_ok=True)

    def refusal(self, exercise: Exercise) -> str:
        return exercise.refusal(self.cluster.style, [m.name for m in self.cluster.machines], len(self.cluster.control_planes))

    def type(self, at: str, shell: str, timeout_s: float = SCRIPT_TIMEOUT_S) -> on_machines.Done:
        """Type lines into a shell of a machine."""
        return on_machines.run(init_pid(self.cluster.name, self.machine(at)), ["/bin/bash", "-c", shell], timeout_s)

    def machine(self, at: str) -> str:
        return at or self.cluster.control_planes[0].name

    def run(self, exercise: Exercise, which: str, shown: Callable[[str], None] = lambda _: None) -> None:
        """The setup, the solution or the reset, step by step; `shown` gets what was typed and printed. Raises CommandError when a line fails."""
        strict = "" if which == "reset" else "set -e\n"
        helpers = "" if which == "solve" else PRELUDE
        for step in exercise.steps(which, self.cluster.style):
            shown("".join(f"{self.machine(step.at)}# {line}\n" for line in step.shell.splitlines()))
            done = self.type(step.at, f"{strict}{helpers}\n{step.shell}")
            if done.code != 0 and (which != "reset" or done.code == on_machines.TIMED_OUT):
                raise CommandError(f"the {which} of {exercise.name} ended with exit code {done.code}:\n{done.output.strip()}")
            shown(done.output)

    def missing(self, exercise: Exercise) -> list[str]:
        """What is still to be done."""
        scripts = checking(exercise.checks)
        return missing(exercise.checks, "".join(self.type(at, script, CHECK_TIMEOUT_S).output for at, script in scripts.items()))

    def wait(self, exercise: Exercise, is_reached: Callable[[list[str]], bool], timeout_s: float) -> list[str]:
        """What is missing as soon as that is as it should be, or in the end."""
        deadline = SYSTEM_CLOCK.monotonic() + timeout_s
        while True:
            seen = self.missing(exercise)
            if is_reached(seen) or SYSTEM_CLOCK.monotonic() > deadline:
                return seen
            time.sleep(PAUSE_S)
