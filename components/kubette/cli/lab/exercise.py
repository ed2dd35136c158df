"""Pure: what an exercise is: a YAML file of `exercises/`, whose commands are lines typed into shells of the machines.

    title: …                what the learner finds in the list
    rows: [S04]             what it teaches (rows of the article)
    task: |                 what is asked
    hints: [ … ]            from vague to nearly the answer
    doctor: CONDITION       what `kubette doctor` says of the situation, where it is a fault
    styles: [kubeadm]       left out: both
    needs: [node01]         machines that must be there
    alone: true             needs a cluster with one control plane
    setup, solve, reset:    steps: shell for the first control plane, or a list of such and of `{node01: shell}`;
                            a mapping of both styles where they differ
    check:                  each must end with 0, or else `missing` says what is still to be done; `at` is a machine
    - run: …
      missing: …

`keep FILE…` in a setup saves files of a machine, `put_back` in a reset restores them (and forgets that the kubelet was
started too often, as a quick learner makes it be); `fresh_namespace` and
`drop_namespace` are about the namespace `lab`. A reset goes on after a line that fails.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STYLES = ("kubeadm", "systemd")
_SCRIPTS = ("setup", "solve", "reset")
_KEYS = {"title", "rows", "task", "hints", "doctor", "styles", "needs", "alone", "check", *_SCRIPTS}
KEEP = "/var/lib/kubette-lab"
PRELUDE = f"""
keep() {{ local each; for each in "$@"; do mkdir -p "{KEEP}$(dirname "$each")" && cp -a "$each" "{KEEP}$each"; done; }}
put_back() {{ if [ -d {KEEP} ]; then cp -a {KEEP}/. / && rm -rf {KEEP}; fi; systemctl reset-failed kubelet; }}
fresh_namespace() {{ kubectl delete namespace lab --ignore-not-found; kubectl create namespace lab; until kubectl -n lab get serviceaccount default; do sleep 0.1; done; }}
drop_namespace() {{ kubectl -n lab delete pods --all --now --wait=false; kubectl delete namespace lab --ignore-not-found --wait=false; }}
"""
FIRST = ""  # the first control plane, whatever it is called
_MARK = "kubette-lab-check"


class ExerciseError(ValueError):
    """The file is no exercise."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be true in the end."""

    run: str
    missing: str
    at: str = FIRST


@dataclass(frozen=True, slots=True)
class Step:
    """Lines typed into one shell of one machine."""

    at: str
    shell: str


@dataclass(frozen=True, slots=True)
class Exercise:
    name: str
    title: str
    rows: tuple[str, ...]
    task: str
    hints: tuple[str, ...]
    checks: tuple[Check, ...]
    scripts: Mapping[tuple[str, str], tuple[Step, ...]]  # (setup|solve|reset, style) → steps
    styles: tuple[str, ...] = STYLES
    needs: tuple[str, ...] = ()
    alone: bool = False
    doctor: str = ""

    def steps(self, which: str, style: str) -> tuple[Step, ...]:
        return self.scripts[which, style]

    def refusal(self, style: str, machines: Sequence[str], control_planes: int) -> str:
        """Why this exercise is not for that cluster; empty when it is."""
        if style not in self.styles:
            return f"it is about clusters of style {' or '.join(self.styles)}, and this one is {style}"
        if lacking := [name for name in self.needs if name not in machines]:
            return f"it needs {', '.join(lacking)}, and the cluster has {', '.join(machines)}"
        if self.alone and control_planes != 1:
            return f"it needs a cluster with one control plane, and this one has {control_planes}"
        return ""


def parse(name: str, document: Any) -> Exercise:
    """Raises ExerciseError with the first thing that is wrong."""
    if not isinstance(document, dict):
        raise ExerciseError(f"{name}: not a mapping")
    if unknown := sorted(document.keys() - _KEYS):
        raise ExerciseError(f"{name}: unknown key {unknown[0]}")
    if lacking := sorted({"title", "rows", "task", "hints", "check", *_SCRIPTS} - document.keys()):
        raise ExerciseError(f"{name}: {lacking[0]} is missing")
    styles = tuple(document.get("styles") or STYLES)
    if strange := [style for style in styles if style not in STYLES]:
        raise ExerciseError(f"{name}: there is no style {strange[0]}")
    scripts = {(which, style): _steps(name, which, document[which], style) for which in _SCRIPTS for style in styles}
    given = document["check"] or []
    if not isinstance(given, list) or any(
        not isinstance(one, dict) or not {"run", "missing"} <= one.keys() <= {"run", "missing", "at"} for one in given
    ):
        raise ExerciseError(f"{name}: a check is a mapping of run, missing and perhaps at")
    checks = tuple(Check(str(one["run"]).strip(), str(one["missing"]).strip(), str(one.get("at", FIRST))) for one in given)
    if not checks or not document["hints"]:
        raise ExerciseError(f"{name}: no {'check' if not checks else 'hints'}")
    return Exercise(
        name,
        str(document["title"]),
        tuple(document["rows"]),
        str(document["task"]).strip(),
        tuple(str(hint).strip() for hint in document["hints"]),
        checks,
        scripts,
        styles,
        tuple(document.get("needs") or ()),
        bool(document.get("alone")),
        str(document.get("doctor") or ""),
    )


def _steps(name: str, which: str, value: Any, style: str) -> tuple[Step, ...]:
    given = value.get(style) if isinstance(value, dict) and set(value) <= set(STYLES) else value
    steps = []
    for one in given if isinstance(given, list) else [given]:
        pairs = one.items() if isinstance(one, dict) else [(FIRST, one)]
        for at, shell in pairs:
            if not isinstance(shell, str) or not shell.strip():
                raise ExerciseError(f"{name}: {which} says nothing for style {style}")
            steps.append(Step(at, shell.strip()))
    return tuple(steps)


def checking(checks: Sequence[Check]) -> dict[str, str]:
    """Machine → one script that tries all its checks; `missing` reads what they print."""
    scripts: dict[str, list[str]] = {}
    for index, check in enumerate(checks):
        scripts.setdefault(check.at, []).append(f"( {check.run}\n) >/dev/null 2>&1; echo {_MARK} {index} $?")
    return {at: "\n".join(lines) for at, lines in scripts.items()}


def missing(checks: Sequence[Check], output: str) -> list[str]:
    """What is still to be done; a check that was not reached counts as not done."""
    passed = set()
    for line in output.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == _MARK and words[2] == "0":
            passed.add(int(words[1]))
    return [check.missing for index, check in enumerate(checks) if index not in passed]


def unknown(name: str, known: Iterable[str]) -> str:
    """The answer to a name that there is not, with near ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 3, 0.5) or [other for other in names if name and name in other][:3]
    did = f"; did you mean {' or '.join(near)}?" if near else "; kubette lab list shows them all"
    return f'exercise "{name}" not found{did}'
