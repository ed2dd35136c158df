"""Progress, its window, and changes of configurations against naive twins: written the slow and obvious way, driven by the same steps."""

import copy
import random
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from kubette.raft import confchange
from kubette.raft.confchange import ConfChangeError
from kubette.raft.messages import ConfChange, ConfChangeType, Transition
from kubette.raft.progress import Inflights, Progress, State
from kubette.raft.quorum import joint_committed_index
from kubette.raft.tracker import Config, Tracker

# The window of messages in flight


@given(
    st.integers(1, 5),
    st.integers(0, 60),
    st.lists(st.tuples(st.booleans(), st.integers(1, 30)), max_size=40),
)
def test_a_window_is_the_list_of_what_is_not_acknowledged(max_messages: int, max_bytes: int, steps: list[tuple[bool, int]]) -> None:
    window, naive, last = Inflights(max_messages, max_bytes), list[tuple[int, int]](), 0
    for sends, amount in steps:
        if sends and not window.full():
            last += 1 + amount % 3
            window.add(last, amount)
            naive.append((last, amount))
        elif not sends:
            index = max(0, last - amount)
            window.free_le(index)
            naive = [each for each in naive if each[0] > index]
        size = sum(each[1] for each in naive)
        assert (len(window), window.bytes) == (len(naive), size)
        assert window.full() is (len(naive) >= max_messages or (0 < max_bytes <= size))


# What a leader knows about a member


@dataclass(frozen=True)
class Twin:
    """What progress is after each event, by its definition: a new value every time, the window a plain tuple of last indexes."""

    match: int = 0
    next: int = 1
    state: str = "probe"
    paused: bool = False
    window: tuple[int, ...] = ()

    def probing(self) -> "Twin":
        return Twin(self.match, self.match + 1)

    def replicating(self) -> "Twin":
        return Twin(self.match, self.match + 1, "replicate")

    def sent(self, count: int, room: int) -> "Twin":
        if not count and self.state == "probe":
            return self
        if self.state == "probe":
            return replace(self, paused=True)
        window = (*self.window, self.next + count - 1) if count else self.window
        return replace(self, next=self.next + count, window=window, paused=len(window) >= room)

    def acknowledged(self, index: int) -> "Twin":
        if index < self.match or (index == self.match and self.state == "replicate"):
            return self
        after = self if index == self.match else replace(self, match=index, next=max(self.next, index + 1), paused=False)
        if self.state == "probe":
            return after.replicating()
        return replace(after, window=tuple(each for each in self.window if each > index))

    def refused(self, index: int, hint: int) -> "Twin":
        if self.state == "replicate":
            return self if index <= self.match else self.probing()
        if index != self.next - 1:
            return self  # of an append before the last one
        possible = [place for place in range(self.match + 1, max(index, self.match + 1) + 1) if place <= hint + 1]
        return replace(self, next=max(possible, default=self.match + 1), paused=False)


@dataclass
class Follower:
    """A member as it is: whose log agrees with the leader's up to `same`, and messages on their way to it and back."""

    same: int = 0
    length: int = 0
    requests: list[tuple[int, int]] = field(default_factory=list)  # (after which index, how many entries)
    answers: list[tuple[bool, int, int]] = field(default_factory=list)  # (rejected, index, hint)


class Replication:
    """A leader's progress beside its twin and the member itself, over a network that loses, repeats and reorders."""

    def __init__(self) -> None:
        self.progress = Progress(9, Inflights(3, 0))
        self.twin = Twin(next=9)
        self.follower = Follower(same=6, length=9)
        self.leader_last = 20

    def step(self, rng: random.Random) -> None:
        requests, answers = self.follower.requests, self.follower.answers
        roll = rng.random()
        if roll < 0.05:
            self.leader_last += 1
        elif roll < 0.3:
            self.send(if_empty=False)
        elif roll < 0.4:
            self.heartbeat_answered()
        elif roll < 0.42 and self.progress.state is State.REPLICATE:
            self.progress.become_probe()  # the transport could not reach it
            self.twin = self.twin.probing()
        elif roll < 0.47 and requests:
            requests.pop(rng.randrange(len(requests)))
        elif roll < 0.52 and answers:
            answers.pop(rng.randrange(len(answers)))
        elif roll < 0.75 and requests:
            at = rng.randrange(len(requests))
            self.take_request(*(requests[at] if rng.random() < 0.3 else requests.pop(at)))
        elif answers:
            at = rng.randrange(len(answers))
            self.take_answer(*(answers[at] if rng.random() < 0.3 else answers.pop(at)))
        self.check()

    def send(self, if_empty: bool) -> None:
        progress = self.progress
        if progress.is_paused():
            return
        count = min(self.leader_last - progress.next + 1, 2)
        if progress.state is State.REPLICATE and progress.inflights.full():
            count = 0
        if count or if_empty:
            self.follower.requests.append((progress.next - 1, count))
            progress.sent_entries(count, count)
            self.twin = self.twin.sent(count, 3)

    def heartbeat_answered(self) -> None:
        self.progress.flow_paused = False
        self.twin = replace(self.twin, paused=False)
        self.send(if_empty=True)

    def take_request(self, after: int, count: int) -> None:
        follower = self.follower
        if after > follower.same:
            follower.answers.append((True, after, min(after, follower.length)))
            return
        if after + count > follower.same:
            follower.same = follower.length = after + count
        follower.answers.append((False, after + count, 0))

    def take_answer(self, rejected: bool, index: int, hint: int) -> None:
        """What leader.py does with it."""
        progress = self.progress
        self.twin = self.twin.refused(index, hint) if rejected else self.twin.acknowledged(index)
        if rejected:
            if progress.maybe_decr_to(index, hint) and progress.state is State.REPLICATE:
                progress.become_probe()
        elif progress.maybe_update(index) or (progress.match == index and progress.state is State.PROBE):
            if progress.state is State.PROBE:
                progress.become_replicate()
            else:
                progress.inflights.free_le(index)

    def check(self) -> None:
        """It is what its twin is, and claims no more than there is."""
        progress, twin = self.progress, self.twin
        now = (progress.match, progress.next, progress.state, progress.flow_paused, len(progress.inflights))
        assert now == (twin.match, twin.next, State.PROBE if twin.state == "probe" else State.REPLICATE, twin.paused, len(twin.window))
        assert progress.match <= self.follower.same
        assert progress.match < progress.next <= self.leader_last + 1

    def finish(self) -> None:
        """Without losses it comes to its end, whatever has been."""
        follower = self.follower
        follower.requests, follower.answers = [], []
        for _ in range(60):
            self.heartbeat_answered()
            requests, follower.requests = follower.requests, []
            for request in requests:
                self.take_request(*request)
            answers, follower.answers = follower.answers, []
            for answer in answers:
                self.take_answer(*answer)
        assert self.progress.match == self.leader_last, f"stuck at {self.progress.match} of {self.leader_last} in {self.progress.state}"


@settings(max_examples=200)
@given(st.integers(0, 1 << 32))
def test_progress_is_what_its_twin_is_and_never_gets_stuck(seed: int) -> None:
    rng, replication = random.Random(seed), Replication()
    for _ in range(150):
        replication.step(rng)
    replication.finish()


# Changes of the configuration

kinds = st.sampled_from([ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE, ConfChangeType.REMOVE_NODE])
changes = st.lists(st.tuples(kinds, st.integers(1, 6)), max_size=4).map(tuple)


def naive_roles(roles: dict[int, str], what: tuple[tuple[ConfChangeType, int], ...]) -> dict[int, str]:
    """Who is what after the changes, made one by one."""
    roles = dict(roles)
    for kind, node in what:
        roles.pop(node, None)
        if kind is not ConfChangeType.REMOVE_NODE:
            roles[node] = "voter" if kind is ConfChangeType.ADD_NODE else "learner"
    return roles


def roles_of(config: Config) -> dict[int, str]:
    return {**dict.fromkeys(config.voters, "voter"), **dict.fromkeys(config.learners, "learner"), **dict.fromkeys(config.learners_next, "learner")}


@given(st.lists(changes, min_size=1, max_size=6))
def test_changes_end_where_single_steps_end(steps: list[tuple[tuple[ConfChangeType, int], ...]]) -> None:
    """Joint or not: when the joint phase is over, every member is what the changes made one by one make of it."""
    config = Config((1, 2, 3))
    for step in steps:
        before = copy.copy(config)
        wanted = naive_roles(roles_of(config), step)
        if "voter" not in wanted.values():
            for transition in Transition:
                try:
                    confchange.apply(config, ConfChange(step, transition)) if step else confchange.leave_joint(config)
                except ConfChangeError:
                    continue
                raise AssertionError("all voters were removed")
            continue
        joint = confchange.enter_joint(config, step, auto_leave=False)
        assert joint.outgoing == before.voters
        assert not {*joint.voters, *joint.outgoing} & {*joint.learners}
        after = confchange.leave_joint(joint)
        assert roles_of(after) == wanted
        try:
            assert confchange.simple(config, step) == after
            assert len({*before.voters} ^ {*after.voters}) <= 1
        except ConfChangeError:
            assert len({*before.voters} ^ {*after.voters}) > 1
        config = after


@given(changes, st.dictionaries(st.integers(1, 6), st.integers(0, 9)), st.dictionaries(st.integers(1, 6), st.booleans()))
def test_what_is_committed_in_a_joint_configuration_has_both_majorities(
    step: tuple[tuple[ConfChangeType, int], ...], match: dict[int, int], votes: dict[int, bool]
) -> None:
    tracker = Tracker(3, 0)
    try:
        tracker.config = confchange.enter_joint(Config((1, 2, 3)), step, auto_leave=False)
    except ConfChangeError:
        return
    for node in {*tracker.config.voters, *tracker.config.outgoing, *tracker.config.learners}:
        tracker.progress[node] = Progress(match.get(node, 0) + 1, tracker.new_inflights(), match.get(node, 0))
        tracker.progress[node].recent_active = votes.get(node, False)
    for node, granted in votes.items():
        tracker.record_vote(node, granted)
    halves = (tracker.config.voters, tracker.config.outgoing)

    def most(half: tuple[int, ...], agree: set[int]) -> bool:
        return 2 * len({*half} & agree) > len(half)

    committed = tracker.committed()
    assert committed == joint_committed_index(*halves, match)
    assert all(most(half, {node for node in tracker.progress if tracker.progress[node].match >= committed}) for half in halves)
    assert not all(most(half, {node for node in tracker.progress if tracker.progress[node].match > committed}) for half in halves)
    yes = {node for node, granted in votes.items() if granted}
    assert (tracker.tally().value == "won") is all(most(half, yes) for half in halves)
    assert tracker.quorum_active() is all(
        most(half, {node for node in yes if not tracker.progress.get(node, Progress(1, tracker.new_inflights())).is_learner}) for half in halves
    )
