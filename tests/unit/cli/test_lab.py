"""`kubette lab`: the exercises that come with it are whole, a file that is none is refused, and a grade says what is missing."""

import re
from pathlib import Path
from typing import Any

import pytest

from harness.article_rows import ROWS
from kubette.cli.errors import CommandError
from kubette.cli.lab import exercise, library, run
from kubette.cli.lab.session import Session
from kubette.machines import layout, spec

DOCUMENT: dict[str, Any] = {
    "title": "A title",
    "rows": ["O05"],
    "task": "Do it.",
    "hints": ["So."],
    "setup": "true",
    "solve": "touch /done",
    "reset": "rm -f /done",
    "check": [{"run": "test -e /done", "missing": "it is not done"}, {"run": "true", "missing": "never", "at": "node01"}],
}


def test_there_are_enough_exercises_about_rows_of_the_article_and_every_mark_of_them_is_known() -> None:
    known = library.load()
    assert len(known) >= 20
    for one in known.values():
        assert set(one.rows) <= set(ROWS), one.name
        assert one.hints, one.name
        assert one.checks, one.name


def test_every_condition_an_exercise_names_is_one_of_the_doctors() -> None:
    folder = Path(exercise.__file__).parents[1] / "doctor" / "conditions"
    conditions = set(re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+)+)"', "".join(path.read_text() for path in folder.glob("*.py"))))
    for one in library.load().values():
        assert not one.doctor or one.doctor in conditions, f"{one.name}: {one.doctor}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extra": 1}, "unknown key extra"),
        ({"task": None}, ""),
        ({"check": []}, "no check"),
        ({"hints": []}, "no hints"),
        ({"setup": {"kubeadm": "true"}}, "setup says nothing for style systemd"),
        ({"check": [{"run": "true"}]}, "a check is a mapping"),
        ({"check": 7}, "a check is a mapping"),
        ({"styles": ["kubadm"]}, "there is no style kubadm"),
        ({"solve": "  "}, "solve says nothing"),
    ],
)
def test_what_is_no_exercise_is_refused_with_the_first_thing_wrong(change: dict[str, Any], words: str) -> None:
    document = {key: value for key, value in {**DOCUMENT, **change}.items() if value is not None}
    with pytest.raises(exercise.ExerciseError, match=re.escape(f"x: {words}" if words else "x: task is missing")):
        exercise.parse("x", document)


def test_scripts_differ_by_style_and_by_machine() -> None:
    one = exercise.parse("x", {**DOCUMENT, "setup": {"kubeadm": [{"node01": "a"}, "b"], "systemd": "c"}})
    assert one.steps("setup", "kubeadm") == (exercise.Step("node01", "a"), exercise.Step("", "b"))
    assert one.steps("setup", "systemd") == (exercise.Step("", "c"),)


def test_a_grade_names_what_is_missing_and_a_check_that_was_not_reached_is() -> None:
    one = exercise.parse("x", DOCUMENT)
    scripts = exercise.checking(one.checks)
    assert set(scripts) == {"", "node01"}
    assert exercise.missing(one.checks, "") == ["it is not done", "never"]
    assert exercise.missing(one.checks, "noise\nkubette-lab-check 0 1\nkubette-lab-check 1 0\n") == ["it is not done"]
    assert exercise.missing(one.checks, "kubette-lab-check 0 0\nkubette-lab-check 1 0\n") == []


def test_an_exercise_says_what_kind_of_cluster_it_needs() -> None:
    one = exercise.parse("x", {**DOCUMENT, "styles": ["kubeadm"], "needs": ["node02"], "alone": True})
    assert one.refusal("kubeadm", ["controlplane", "node01", "node02"], 1) == ""
    assert "style kubeadm" in one.refusal("systemd", ["controlplane", "node01", "node02"], 1)
    assert "it needs node02" in one.refusal("kubeadm", ["controlplane", "node01"], 1)
    assert "one control plane" in one.refusal("kubeadm", ["a", "b", "c", "node02"], 3)


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    assert exercise.unknown("drain-nod", ["drain-node", "taint"]) == 'exercise "drain-nod" not found; did you mean drain-node?'
    assert exercise.unknown("zzz", ["drain-node"]).endswith("kubette lab list shows them all")


def test_only_the_exercise_that_is_under_way_can_be_worked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also reset: it puts back the files that the exercise under way has changed."""
    monkeypatch.setenv("KUBETTE_HOME", str(tmp_path))
    place = layout.of("kubette")
    place.root.mkdir(parents=True)
    place.save(spec.plan("kubette", 1, 2, "v1.37.1"))
    Session(place).save("taint")
    from kubette.cli.lab import flags

    for verb in ("hint", "check", "solve", "reset"):
        with pytest.raises(CommandError, match='exercise "taint" is under way, not "uncordon"'):
            run(flags().parse([verb, "uncordon"]))
