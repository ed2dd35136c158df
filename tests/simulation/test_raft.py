"""The Raft library under simulated faults: INV-R1 to R8, R12, R13 after every step of every schedule."""

import pytest

from simulation.raft_cluster import WIDE, Cluster, Violation, simulate

SCHEDULES = 2000  # what CI runs; scripts/simulate runs more, and replays one


@pytest.mark.slow
@pytest.mark.parametrize("block", range(4))
def test_no_schedule_breaks_an_invariant(block: int) -> None:
    size = SCHEDULES // 4
    for seed in range(block * size, (block + 1) * size):
        simulate(seed)


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(3879, id="a single voter led before its vote was on disk: after a crash its learner held other entries of that term"),
        pytest.param(60051, id="what was proposed in the quiet phase was lost with its leader"),
        pytest.param(105161, id="a snapshot came while an older change of the configuration was being applied, and was then changed by it"),
        pytest.param(115749, id="the same on the way into a joint configuration"),
        pytest.param(449231, id="a torn write kept entries without their term: a pre-vote of a term this member was not in could not be refused"),
    ],
)
def test_a_schedule_that_once_failed(seed: int) -> None:
    simulate(seed)


@pytest.mark.slow
def test_no_schedule_with_every_kind_of_change_breaks_an_invariant() -> None:
    """Hand-over, joint changes that are left by themselves or by command, demotion, seven voters."""
    seen: set[str] = set()
    for seed in range(WIDE, WIDE + SCHEDULES // 4):
        cluster = simulate(seed)
        for state in cluster.invariants.configurations.values():
            seen |= {name for name in ("voters_outgoing", "learners", "learners_next", "auto_leave") if getattr(state, name)}
        seen |= {"transfer"} if any("TIMEOUT_NOW" in line for line in cluster.trace) else set()
    assert seen == {"voters_outgoing", "learners", "learners_next", "auto_leave", "transfer"}


def test_a_seed_replays_bit_for_bit() -> None:
    assert simulate(7).trace == simulate(7).trace


def test_the_checker_sees_a_forgotten_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checker that finds no planted bug proves nothing: here the vote is not persisted (RELIABILITY 5.1, bug 1)."""
    complete = Cluster.complete

    def forgetful(self: Cluster, member: object) -> None:
        complete(self, member)  # type: ignore[arg-type]
        disk = member.disk  # type: ignore[attr-defined]
        disk.hard_state = disk.hard_state._replace(vote=0)

    monkeypatch.setattr(Cluster, "complete", forgetful)
    with pytest.raises(Violation, match="INV-"):
        _simulate_many(3000)


def _simulate_many(count: int) -> None:
    for seed in range(count):
        simulate(seed)
