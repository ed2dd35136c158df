"""Which machines may lose power without etcd losing its quorum."""

import pytest

from kubette.cli import quorum

THREE = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("members", "serving", "machine", "refused"),
    [
        (THREE, THREE, "a", False),
        (THREE, ["a", "b"], "a", True),
        (THREE, ["a", "b"], "c", False),  # it has no power already
        (THREE, ["a"], "a", False),  # there is no quorum to lose
        (THREE, THREE, "worker", False),
        (["a", "b"], ["a", "b"], "a", True),
        (["a"], ["a"], "a", True),
        ([*THREE, "d"], [*THREE, "d"], "d", False),
        ([*THREE, "d"], THREE, "a", True),
        ([*THREE, "d", "e"], THREE, "a", True),
        ([*THREE, "d", "e"], [*THREE, "d"], "a", False),
    ],
)
def test_a_majority_of_all_members_must_go_on(members: list[str], serving: list[str], machine: str, refused: bool) -> None:
    for verb in ("stop", "kill", "pause"):
        assert bool(quorum.refusal(verb, machine, members, serving)) == refused
    for verb in ("start", "resume", "reboot"):
        assert not quorum.refusal(verb, machine, members, serving)


def test_the_refusal_counts_and_names_those_away() -> None:
    said = quorum.refusal("stop", "a", THREE, ["a", "b"])
    assert 'cannot stop machine "a": etcd would lose its quorum: 1 of its 3 members would run, and 2 must (c is away already)' in said
    assert said.endswith("--force does it nevertheless")
    assert "this is its only member" in quorum.refusal("kill", "a", ["a"], ["a"])
