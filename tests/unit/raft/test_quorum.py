"""Quorums against a naive twin: every answer is compared with one counted by brute force."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kubette.raft import quorum
from kubette.raft.messages import NO_LIMIT
from kubette.raft.quorum import VoteResult

ids = st.integers(1, 7)
configs = st.frozensets(ids, max_size=5).map(lambda found: tuple(sorted(found)))


def majorities(voters: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [each for size in range(len(voters) // 2 + 1, len(voters) + 1) for each in itertools.combinations(voters, size)]


@given(configs, st.dictionaries(ids, st.integers(0, 20)))
def test_committed_index_is_what_some_majority_has(voters: tuple[int, ...], match: dict[int, int]) -> None:
    naive = max((min(match.get(node, 0) for node in each) for each in majorities(voters)), default=NO_LIMIT) if voters else NO_LIMIT
    assert quorum.committed_index(voters, match) == naive


@given(configs, st.dictionaries(ids, st.booleans()))
def test_vote_result_is_what_no_missing_vote_can_change(voters: tuple[int, ...], votes: dict[int, bool]) -> None:
    missing = [node for node in voters if node not in votes]
    outcomes = set()
    for rest in itertools.product((True, False), repeat=len(missing)):
        cast = {**votes, **dict(zip(missing, rest, strict=True))}
        outcomes.add(not voters or sum(cast[node] for node in voters) > len(voters) // 2)
    expected = VoteResult.PENDING if len(outcomes) == 2 else VoteResult.WON if outcomes == {True} else VoteResult.LOST
    assert quorum.vote_result(voters, votes) is expected


@given(configs, configs, st.dictionaries(ids, st.integers(0, 20)))
def test_a_joint_quorum_needs_both_halves(incoming: tuple[int, ...], outgoing: tuple[int, ...], match: dict[int, int]) -> None:
    joint = quorum.joint_committed_index(incoming, outgoing, match)
    assert joint == min(quorum.committed_index(incoming, match), quorum.committed_index(outgoing, match))
