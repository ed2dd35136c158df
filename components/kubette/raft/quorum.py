"""Pure: what a majority, or two of them at once, agrees on (Raft §5.2, §5.3; dissertation §4.3)."""

from collections.abc import Mapping, Sequence
from enum import Enum

from kubette.raft.messages import NO_LIMIT


class VoteResult(Enum):
    PENDING = "pending"
    LOST = "lost"
    WON = "won"


def committed_index(voters: Sequence[int], match: Mapping[int, int]) -> int:
    """The highest index that a majority has; an empty configuration agrees to anything (it is the other half of a joint one)."""
    if not voters:
        return NO_LIMIT
    acked = sorted(match.get(voter, 0) for voter in voters)
    return acked[(len(acked) - 1) // 2]


def vote_result(voters: Sequence[int], votes: Mapping[int, bool]) -> VoteResult:
    """Whether the votes cast so far decide; an empty configuration votes yes."""
    if not voters:
        return VoteResult.WON
    yes = missing = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is None:
            missing += 1
        elif vote:
            yes += 1
    needed = len(voters) // 2 + 1
    if yes >= needed:
        return VoteResult.WON
    return VoteResult.PENDING if yes + missing >= needed else VoteResult.LOST


def joint_committed_index(incoming: Sequence[int], outgoing: Sequence[int], match: Mapping[int, int]) -> int:
    """Committed by both majorities (dissertation §4.3)."""
    return min(committed_index(incoming, match), committed_index(outgoing, match))


def joint_vote_result(incoming: Sequence[int], outgoing: Sequence[int], votes: Mapping[int, bool]) -> VoteResult:
    """Won only if both majorities say yes, lost as soon as one says no."""
    first, second = vote_result(incoming, votes), vote_result(outgoing, votes)
    if first is second:
        return first
    if VoteResult.LOST in (first, second):
        return VoteResult.LOST
    return VoteResult.PENDING
