"""Pure: the configuration in force, the progress of every member, and the votes cast in the current election."""

from dataclasses import dataclass

from kubette.raft import quorum
from kubette.raft.messages import ConfState
from kubette.raft.progress import Inflights, Progress


@dataclass(frozen=True, slots=True)
class Config:
    """Who votes and who learns, sorted tuples. Joint while `outgoing` is not empty."""

    voters: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()  # voters of the outgoing half that become learners when the joint phase ends
    auto_leave: bool = False

    @property
    def joint(self) -> bool:
        return bool(self.outgoing)

    def all_voters(self) -> list[int]:
        """The voters of both halves, sorted."""
        return sorted({*self.voters, *self.outgoing})

    def conf_state(self) -> ConfState:
        return ConfState(self.voters, self.learners, self.outgoing, self.learners_next, self.auto_leave)


class Tracker:
    """Progress by member id, in ascending order of ids."""

    def __init__(self, max_inflight: int, max_inflight_bytes: int) -> None:
        self.max_inflight = max_inflight
        self.max_inflight_bytes = max_inflight_bytes
        self.config = Config()
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}

    def new_inflights(self) -> Inflights:
        return Inflights(self.max_inflight, self.max_inflight_bytes)

    def is_singleton(self) -> bool:
        return len(self.config.voters) == 1 and not self.config.outgoing

    def committed(self) -> int:
        """The highest index that the configuration's quorum has."""
        match = {node: progress.match for node, progress in self.progress.items()}
        return quorum.joint_committed_index(self.config.voters, self.config.outgoing, match)

    def quorum_active(self) -> bool:
        """Whether a quorum was heard of since the last check."""
        active = {node: progress.recent_active for node, progress in self.progress.items() if not progress.is_learner}
        return quorum.joint_vote_result(self.config.voters, self.config.outgoing, active) is quorum.VoteResult.WON

    def reset_votes(self) -> None:
        self.votes = {}

    def record_vote(self, node: int, granted: bool) -> None:
        """The first vote of a member counts; a repeated message changes nothing."""
        self.votes.setdefault(node, granted)

    def tally(self) -> quorum.VoteResult:
        return quorum.joint_vote_result(self.config.voters, self.config.outgoing, self.votes)
