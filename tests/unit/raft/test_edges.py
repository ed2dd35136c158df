"""What Raft does at its edges: messages at the wrong time or from nobody, limits reached, changes that cannot be made."""

import pytest

from harness.raft_member import T, finish, leader, member, sent
from harness.raft_stage import Stage
from kubette.raft import confchange
from kubette.raft import leader as leader_module
from kubette.raft.confchange import ConfChangeError
from kubette.raft.core import Role
from kubette.raft.log import RaftLog
from kubette.raft.messages import (
    NO_NODE,
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ProposalDropped,
    Snapshot,
    Transition,
)
from kubette.raft.progress import Inflights, Progress, State
from kubette.raft.read_index import MAX_PENDING
from kubette.raft.tracker import Config

# Messages


@pytest.mark.parametrize("kind", [MessageType.HUP, MessageType.BEAT, MessageType.UNREACHABLE, MessageType.SNAP_STATUS, MessageType.CHECK_QUORUM])
def test_what_is_local_does_not_come_from_the_network(kind: MessageType) -> None:
    node = member()
    node.step(Message(kind, 1, 2))
    assert not node.has_ready()


def test_an_answer_of_nobody_is_not_counted() -> None:
    node = member()
    node.campaign()
    node.step(Message(T.VOTE_RESP, 1, 9, 1))
    assert node.raft.role is Role.CANDIDATE


def test_a_request_of_nobody_is_not_obeyed_by_a_leader() -> None:
    node = leader()
    node.step(Message(T.TRANSFER_LEADER, 1, 9, 1))
    assert node.raft.lead_transferee == 0


def test_a_candidate_takes_no_proposals() -> None:
    node = member()
    node.campaign()
    with pytest.raises(ProposalDropped, match="no leader at term 1"):
        node.propose([b"x"])


def test_a_follower_passes_a_proposal_on() -> None:
    node = member()
    node.step(Message(T.HEARTBEAT, 1, 2, 1))
    finish(node)
    node.propose([b"x"])
    (message,) = sent(finish(node), T.PROP)
    assert (message.to, message.term, [e.data for e in message.entries]) == (2, 0, [b"x"])


def test_a_follower_asks_its_leader_to_hand_over() -> None:
    node = member()
    node.step(Message(T.HEARTBEAT, 1, 2, 1))
    finish(node)
    node.transfer_leadership(3)
    assert [(m.to, m.type) for m in sent(finish(node))] == [(2, T.TRANSFER_LEADER)]


def test_a_candidate_that_gets_a_snapshot_follows() -> None:
    node = member()
    node.campaign()
    node.step(Message(T.SNAP, 1, 2, 1, snapshot=Snapshot(5, 1, ConfState((1, 2, 3)))))
    finish(node)
    assert (node.raft.role, node.raft.lead, node.raft.log.applied) == (Role.FOLLOWER, 2, 5)


def test_a_snapshot_for_others_is_refused() -> None:
    """It would make this member forget that it is one."""
    node = member()
    node.step(Message(T.SNAP, 1, 2, 1, snapshot=Snapshot(5, 1, ConfState((2, 3)))))
    assert sent(finish(node), T.APP_RESP)[0].index == 0
    assert node.raft.tracker.config.voters == (1, 2, 3)


def test_a_snapshot_of_entries_that_are_there_only_commits_them() -> None:
    node = member(entries=((1, 1), (1, 2), (1, 3)), term=1)
    node.step(Message(T.SNAP, 1, 2, 1, snapshot=Snapshot(2, 1, ConfState((1, 2, 3)))))
    readies = finish(node)
    assert (node.raft.log.last_index, node.raft.log.committed) == (3, 2)
    assert all(ready.snapshot is None for ready in readies)


def test_nobody_stands_with_a_committed_change_still_to_apply() -> None:
    """It might count the votes of a configuration that is over."""
    node = member(term=1)
    node.step(Message(T.APP, 1, 2, 1, entries=(Entry(1, 1, b"v4", EntryType.CONF_CHANGE_V2),), commit=1))
    ready = node.ready()
    node.campaign()
    assert node.raft.role is Role.FOLLOWER
    assert ready.committed_entries
    node.advance()
    node.campaign()
    assert node.raft.role is Role.CANDIDATE


def test_a_member_that_is_not_heard_gets_no_snapshot() -> None:
    """It would be sent to nobody, again and again."""
    node = leader()
    for _ in range(3):
        node.propose([b"x"])
        finish(node)
        node.step(Message(T.APP_RESP, 1, 2, 1, index=node.raft.log.last_index))
    finish(node)
    node.compact(3, Snapshot(4, 1, ConfState((1, 2, 3))))
    progress = node.raft.tracker.progress[3]
    progress.recent_active = False
    node.raft.tracker.progress[3].become_probe()
    node.propose([b"y"])
    assert not sent(finish(node), T.SNAP)
    node.step(Message(T.HEARTBEAT_RESP, 1, 3, 1))
    assert [m.to for m in sent(finish(node), T.SNAP)] == [3]


def test_entries_of_a_term_that_the_hard_state_does_not_know_are_of_that_term() -> None:
    """A torn write: found by scripts/simulate 449231, where a pre-vote could not be refused (a refusal tells the term, and 0 is none)."""
    node = member(entries=((2, 1),), term=0, vote=3)
    assert (node.raft.term, node.raft.vote) == (2, NO_NODE)
    node.step(Message(T.PRE_VOTE, 1, 2, 3, index=1, log_term=1))
    ready = node.ready()
    assert (ready.hard_state, ready.must_sync) == (HardState(2, NO_NODE, 0), True)
    assert [(m.type, m.term, m.reject) for m in ready.messages_after_persist] == [(T.PRE_VOTE_RESP, 2, True)]


# Limits


def test_reads_that_wait_for_a_quorum_are_bounded() -> None:
    node = leader()
    for number in range(MAX_PENDING + 10):
        node.read_index(b"%d" % number)
    assert len(node.raft.read_only) == MAX_PENDING


def test_reads_that_wait_for_a_commit_are_bounded() -> None:
    node = member()
    node.campaign()
    node.step(Message(T.VOTE_RESP, 1, 2, 1))
    for number in range(MAX_PENDING + 10):
        node.read_index(b"%d" % number)
    assert len(node.raft.pending_reads) == MAX_PENDING


def test_a_read_that_is_asked_twice_is_answered_once() -> None:
    node = leader()
    node.read_index(b"r")
    node.read_index(b"r")
    finish(node)
    node.step(Message(T.HEARTBEAT_RESP, 1, 2, 1, context=b"r"))
    node.step(Message(T.HEARTBEAT_RESP, 1, 3, 1, context=b"r"))
    assert [state.context for ready in finish(node) for state in ready.read_states] == [b"r"]


def test_nothing_is_sent_while_a_snapshot_is_under_way() -> None:
    progress = Progress(1, Inflights(1, 0))
    progress.become_snapshot(5)
    assert (progress.is_paused(), progress.next, progress.state) == (True, 6, State.SNAPSHOT)
    with pytest.raises(AssertionError, match="sending entries in state"):
        progress.sent_entries(1, 1)


# The log


def test_a_log_refuses_what_would_break_it() -> None:
    log = RaftLog(Snapshot(4, 1), [Entry(1, 5), Entry(1, 6)])
    log.append(())
    assert log.last_index == 6
    with pytest.raises(AssertionError, match="would replace committed entries"):
        log.append([Entry(2, 4)])
    with pytest.raises(AssertionError, match="gap in the log"):
        log.append([Entry(2, 9)])
    with pytest.raises(AssertionError, match="beyond the last index 6: was the log corrupted, truncated, or lost"):
        log.commit_to(7)
    with pytest.raises(AssertionError, match="beyond applied 4"):
        log.compact(5)
    with pytest.raises(AssertionError, match="from compacted index 4"):
        log.slice(4, 6)
    with pytest.raises(AssertionError, match="gap in the log: offset 4, first entry 6"):
        RaftLog(Snapshot(4, 1), [Entry(1, 6)])


def test_what_was_replaced_meanwhile_does_not_count_as_written() -> None:
    """The race of writes that go on while the log changes (ABA)."""
    log = RaftLog(Snapshot(), [])
    log.append([Entry(1, 1), Entry(1, 2)])
    log.append([Entry(2, 2)])
    log.stable_to(2, 1)
    assert log.stable == 0
    log.stable_to(2, 2)
    assert log.stable == 2
    log.stable_to(1, 1)
    assert log.stable == 2


def test_compacting_twice_is_compacting_once() -> None:
    log = RaftLog(Snapshot(4, 1), [Entry(1, 5)])
    log.compact(3)
    assert (log.offset, log.last_index) == (4, 5)


# Changes that cannot be made

ADD = ConfChangeType.ADD_NODE


@pytest.mark.parametrize(
    ("config", "change", "text"),
    [
        (Config((1, 2), (1,)), ConfChange(((ADD, 3),)), "can't apply simple config change in joint config"),
        (Config((1, 2), (1,)), ConfChange(((ADD, 3),), Transition.JOINT_EXPLICIT), "config is already joint"),
        (Config(), ConfChange(((ADD, 3),), Transition.JOINT_IMPLICIT), "can't make a zero-voter config joint"),
        (Config((1,)), ConfChange(), "can't leave a non-joint config"),
        (Config((1,)), ConfChange(((ConfChangeType.REMOVE_NODE, 1),)), "removed all voters"),
        (Config((1,)), ConfChange(((ConfChangeType.ADD_LEARNER_NODE, 1),)), "removed all voters"),
    ],
)
def test_a_change_that_cannot_be_made_says_why(config: Config, change: ConfChange, text: str) -> None:
    with pytest.raises(ConfChangeError, match=text):
        confchange.apply(config, change)


def test_an_update_and_nobody_change_nothing() -> None:
    """Member 0 stands for a change that was refused when it was applied; an update is about addresses."""
    config = Config((1, 2), learners=(3,))
    assert confchange.apply(config, ConfChange(((ADD, 0), (ConfChangeType.UPDATE_NODE, 2)))).voters == (1, 2)
    assert confchange.apply(config, ConfChange(((ConfChangeType.UPDATE_NODE, 2),))) == config


def test_a_leader_outside_the_configuration_persists_nothing_for_itself() -> None:
    """Removed, and leading until the others know: its own disk is no member's."""
    stage = Stage()
    stage.tell("members 2", "campaign 1", "run", "change 1 r1", "run")
    raft = stage.raft(1)
    leader_module.persisted(raft)
    assert (raft.role, raft.tracker.config.voters, 1 in raft.tracker.progress) == (Role.LEADER, (2,), False)
