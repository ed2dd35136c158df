"""One test per sentence of figure 2 of the Raft paper (and §5, §8), and of what stands elsewhere in it on time, snapshots and handing over.
The dissertation's chapters on membership, reads and pre-vote: test_dissertation.py.

Messages are fed to one member; what it would send, persist and apply is what is asserted.
"""

import random

import pytest

from harness.raft_member import T, finish, leader, member, sent
from kubette.raft.core import CAMPAIGN_TRANSFER, Options, Role
from kubette.raft.log import RaftLog
from kubette.raft.messages import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    ProposalDropped,
    Snapshot,
)
from kubette.raft.node import Node

# Rules for all servers


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE, Role.LEADER])
def test_a_higher_term_makes_a_follower_of_anyone(role: Role) -> None:
    """Figure 2, all servers: if RPC contains term T > currentTerm: set currentTerm = T, convert to follower."""
    node = leader() if role is Role.LEADER else member()
    if role is Role.CANDIDATE:
        node.campaign()
    node.step(Message(T.APP, 1, 2, 7))
    assert (node.raft.term, node.raft.role, node.raft.lead) == (7, Role.FOLLOWER, 2)


def test_committed_entries_are_applied_in_order() -> None:
    """Figure 2, all servers: if commitIndex > lastApplied, apply log[lastApplied]."""
    node = member()
    node.step(Message(T.APP, 1, 2, 1, entries=(Entry(1, 1, b"a"), Entry(1, 2, b"b")), commit=2))
    applied = [entry.data for ready in finish(node) for entry in ready.committed_entries]
    assert applied == [b"a", b"b"]


def test_what_is_persistent_survives_a_restart() -> None:
    """Figure 2, persistent state: currentTerm, votedFor, log[]; volatile: commitIndex (here kept as a hint) and lastApplied, which is replayed."""
    node = member(entries=((1, 1), (2, 2)), term=3, vote=2, commit=1)
    raft = node.raft
    assert (raft.term, raft.vote, raft.log.last_index, raft.log.committed, raft.log.applied) == (3, 2, 2, 1, 0)
    assert [entry.index for ready in finish(node) for entry in ready.committed_entries] == [1]


def test_a_commit_index_never_goes_back() -> None:
    """Figure 2, volatile state: commitIndex and lastApplied increase monotonically."""
    node = member(entries=((1, 1), (1, 2)), term=1, commit=2)
    finish(node)
    node.step(Message(T.HEARTBEAT, 1, 2, 1, commit=1))
    assert (node.raft.log.committed, node.raft.log.applied) == (2, 2)


# RequestVote


def test_a_vote_request_of_an_old_term_is_not_granted() -> None:
    """Figure 2, RequestVote 1: reply false if term < currentTerm (here: no answer at all, as in etcd)."""
    node = member(term=5)
    node.step(Message(T.VOTE, 1, 2, 4, index=9, log_term=4))
    assert not [m for m in sent(finish(node)) if not m.reject]


@pytest.mark.parametrize(("vote", "granted"), [(0, True), (2, True), (3, False)])
def test_one_vote_a_term(vote: int, granted: bool) -> None:
    """Figure 2, RequestVote 2: grant if votedFor is null or candidateId."""
    node = member(term=1, vote=vote)
    node.step(Message(T.VOTE, 1, 2, 1))
    assert sent(finish(node), T.VOTE_RESP)[0].reject is not granted


@pytest.mark.parametrize(("index", "log_term", "granted"), [(2, 2, True), (3, 2, True), (1, 3, True), (1, 2, False), (9, 1, False)])
def test_a_vote_goes_only_to_an_up_to_date_log(index: int, log_term: int, granted: bool) -> None:
    """§5.4.1: later last term, or the same and a longer log."""
    node = member(entries=((1, 1), (2, 2)), term=2)
    node.step(Message(T.VOTE, 1, 2, 3, index=index, log_term=log_term))
    assert sent(finish(node), T.VOTE_RESP)[0].reject is not granted


def test_a_vote_is_persisted_before_it_is_sent() -> None:
    """Figure 2, persistent state: updated on stable storage before responding to RPCs."""
    node = member()
    node.step(Message(T.VOTE, 1, 2, 1))
    ready = node.ready()
    assert ready.hard_state == HardState(1, 2, 0)
    assert ready.must_sync
    assert [m.type for m in ready.messages_after_persist] == [T.VOTE_RESP]
    assert not ready.messages


def test_a_single_voter_leads_only_when_its_own_vote_is_on_disk() -> None:
    """Figure 2, persistent state: also a vote for oneself. A bug the simulation found (seed 3879): entries went to a learner before."""
    state = ConfState((1,), learners=(2,))
    node = Node(Options(1), RaftLog(Snapshot(0, 0, state)), HardState(), state, random.Random(1))
    node.campaign()
    assert (node.raft.role, node.raft.term) == (Role.CANDIDATE, 1)
    assert not node.take_immediate()[0]
    ready = node.ready()
    assert (ready.hard_state, ready.entries, list(ready.messages)) == (HardState(1, 1, 0), (), [])
    node.advance()
    assert node.raft.role is Role.LEADER
    assert [(m.type, m.to) for m in node.ready().messages] == [(T.APP, 2)]


# AppendEntries


def test_an_append_of_an_old_term_is_not_accepted() -> None:
    """Figure 2, AppendEntries 1: reply false if term < currentTerm."""
    node = member(term=3, check_quorum=True)
    node.step(Message(T.APP, 1, 2, 2, entries=(Entry(2, 1),)))
    (answer,) = sent(finish(node))
    assert (answer.type, answer.term, node.raft.log.last_index) == (T.APP_RESP, 3, 0)


def test_an_append_without_its_predecessor_is_rejected() -> None:
    """Figure 2, AppendEntries 2: reply false if log has no entry at prevLogIndex with prevLogTerm."""
    node = member(entries=((1, 1), (1, 2)), term=2)
    node.step(Message(T.APP, 1, 2, 2, index=2, log_term=2, entries=(Entry(2, 3),)))
    (answer,) = sent(finish(node), T.APP_RESP)
    assert (answer.reject, answer.index, answer.reject_hint) == (True, 2, 2)


def test_a_conflicting_entry_is_replaced_with_all_that_follow() -> None:
    """Figure 2, AppendEntries 3: delete the existing entry and all that follow it."""
    node = member(entries=((1, 1), (1, 2), (1, 3)), term=2)
    node.step(Message(T.APP, 1, 2, 2, index=1, log_term=1, entries=(Entry(2, 2),)))
    finish(node)
    assert [(e.term, e.index) for e in node.raft.log.slice(1, 9)] == [(1, 1), (2, 2)]


def test_a_delayed_append_does_not_shorten_the_log() -> None:
    """Figure 2, AppendEntries 4: append only entries not already in the log; a matching prefix truncates nothing."""
    node = member(entries=((1, 1), (1, 2), (1, 3)), term=1)
    node.step(Message(T.APP, 1, 2, 1, entries=(Entry(1, 1, b"x"),)))
    assert sent(finish(node), T.APP_RESP)[0].index == 1
    assert node.raft.log.last_index == 3


@pytest.mark.parametrize(("commit", "expected"), [(1, 1), (2, 2), (9, 2)])
def test_commit_follows_the_leader_but_not_beyond_what_it_sent(commit: int, expected: int) -> None:
    """Figure 2, AppendEntries 5: commitIndex = min(leaderCommit, index of last new entry)."""
    node = member(entries=((1, 1), (1, 2), (1, 3)), term=1)
    node.step(Message(T.APP, 1, 2, 1, index=1, log_term=1, entries=(Entry(1, 2, b"x"),), commit=commit))
    assert node.raft.log.committed == expected


def test_an_append_is_persisted_before_it_is_acknowledged() -> None:
    """Figure 2, persistent state: log[] is updated on stable storage before responding to RPCs."""
    node = member()
    node.step(Message(T.APP, 1, 2, 1, entries=(Entry(1, 1, b"x"),)))
    ready = node.ready()
    assert ready.must_sync
    assert ([e.index for e in ready.entries], list(ready.messages), [m.type for m in ready.messages_after_persist]) == ([1], [], [T.APP_RESP])


# Followers and candidates


@pytest.mark.parametrize(
    ("heard", "reset"),
    [
        (Message(T.APP, 1, 2, 1), True),
        (Message(T.HEARTBEAT, 1, 2, 1), True),
        (Message(T.VOTE, 1, 2, 1, index=5, log_term=1), True),
        (Message(T.VOTE, 1, 2, 1), False),
    ],
)
def test_what_a_follower_hears_in_time(heard: Message, reset: bool) -> None:
    """Figure 2, followers: the timeout starts anew with an AppendEntries of the current leader or a vote granted; not with one refused."""
    node = member(entries=((1, 1),), term=1)
    node.raft.randomized_election_ticks = 10
    for _ in range(9):
        node.tick()
    node.step(heard)
    node.tick()
    assert (node.raft.role is Role.FOLLOWER) is reset


def test_a_candidate_without_a_result_starts_again() -> None:
    """Figure 2, candidates: if election timeout elapses: start new election."""
    node = member()
    node.campaign()
    for _ in range(2 * node.raft.options.election_ticks):
        node.tick()
    assert (node.raft.role, node.raft.term) == (Role.CANDIDATE, 2)
    assert {m.term for m in sent(finish(node), T.VOTE)} == {1, 2}


def test_a_follower_that_hears_nothing_becomes_a_candidate() -> None:
    """Figure 2, followers: if election timeout elapses without AppendEntries or a granted vote: convert to candidate."""
    node = member()
    for _ in range(2 * node.raft.options.election_ticks):
        node.tick()
    assert node.raft.term >= 1
    assert {m.to for m in sent(finish(node), T.VOTE)} == {2, 3}


def test_a_candidate_increments_its_term_votes_for_itself_and_asks_all() -> None:
    """Figure 2, candidates: on conversion: increment currentTerm, vote for self, reset timer, send RequestVote to all."""
    node = member(term=4)
    node.campaign()
    readies = finish(node)
    assert readies[0].hard_state == HardState(5, 1, 0)
    assert [(m.to, m.term) for m in sent(readies, T.VOTE)] == [(2, 5), (3, 5)]


def test_a_majority_of_votes_makes_a_leader() -> None:
    """Figure 2, candidates: if votes received from majority: become leader."""
    node = member(5)
    node.campaign()
    node.step(Message(T.VOTE_RESP, 1, 2, 1))
    assert node.raft.role is Role.CANDIDATE
    node.step(Message(T.VOTE_RESP, 1, 2, 1))
    assert node.raft.role is Role.CANDIDATE, "a repeated vote counts once"
    node.step(Message(T.VOTE_RESP, 1, 3, 1))
    assert node.raft.role is Role.LEADER


def test_a_candidate_steps_down_on_equal_term_append() -> None:
    """Figure 2, candidates: if AppendEntries received from new leader: convert to follower."""
    node = member()
    node.campaign()
    node.step(Message(T.APP, 1, 2, 1))
    assert (node.raft.role, node.raft.lead, node.raft.term) == (Role.FOLLOWER, 2, 1)


def test_election_timeouts_are_random() -> None:
    """§5.2: chosen randomly from a fixed interval."""
    node = member()
    seen = set()
    for term in range(1, 60):
        node.raft.become_follower(term, 0)
        seen.add(node.raft.randomized_election_ticks)
    assert seen == set(range(10, 20))


# Leaders


def test_a_new_leader_speaks_to_everyone_at_once() -> None:
    """Figure 2, leaders: upon election: send initial AppendEntries to each server, to prevent election timeouts."""
    node = member()
    node.campaign()
    node.step(Message(T.VOTE_RESP, 1, 2, 1))
    assert [(m.to, m.index) for m in sent(finish(node), T.APP)] == [(2, 0), (3, 0)]


def test_what_a_new_leader_supposes() -> None:
    """Figure 2, volatile state on leaders: nextIndex is initialized to leader last log index + 1, matchIndex to 0, after each election."""
    node = member(entries=((1, 1), (1, 2)), term=1)
    node.campaign()
    node.step(Message(T.VOTE_RESP, 1, 2, 2))
    assert [(each, node.raft.tracker.progress[each].match, node.raft.tracker.progress[each].next) for each in (2, 3)] == [(2, 0, 3), (3, 0, 3)]


def test_a_follower_is_sent_what_it_lacks() -> None:
    """Figure 2, leaders: if last log index >= nextIndex: send AppendEntries with log entries starting at nextIndex; if successful: update both."""
    node = member(entries=((1, 1), (1, 2)), term=1)
    node.campaign()
    node.step(Message(T.VOTE_RESP, 1, 2, 2))
    finish(node)
    node.step(Message(T.APP_RESP, 1, 2, 2, index=2, reject=True, reject_hint=1, log_term=1))
    (append,) = sent(finish(node), T.APP)
    assert (append.to, append.index, append.log_term, [e.index for e in append.entries]) == (2, 1, 1, [2, 3])
    node.step(Message(T.APP_RESP, 1, 2, 2, index=3))
    assert (node.raft.tracker.progress[2].match, node.raft.tracker.progress[2].next) == (3, 4)


def test_a_leader_sends_heartbeats() -> None:
    """Figure 2, leaders: send heartbeats during idle periods."""
    node = leader()
    node.tick()
    assert {m.to for m in sent(finish(node), T.HEARTBEAT)} == {2, 3}


def test_a_proposal_is_appended_and_sent_and_applied_when_a_majority_has_it() -> None:
    """Figure 2, leaders: append entry to local log, respond after entry applied."""
    node = leader()
    node.propose([b"cmd"])
    readies = finish(node)
    assert [e.data for ready in readies for e in ready.entries] == [b"cmd"]
    assert [e.data for m in sent(readies, T.APP) if m.to == 2 for e in m.entries] == [b"cmd"]
    assert not [e for ready in readies for e in ready.committed_entries]
    node.step(Message(T.APP_RESP, 1, 2, 1, index=2))
    assert [e.data for ready in finish(node) for e in ready.committed_entries] == [b"cmd"]


def test_a_leader_does_not_count_itself_before_its_own_disk_has_the_entry() -> None:
    """Dissertation §10.2.1: it may write in parallel, but counts itself only when it is done (INV-R8)."""
    node = leader()
    node.propose([b"cmd"])
    ready = node.ready()
    node.step(Message(T.APP_RESP, 1, 2, 1, index=2))
    assert node.raft.log.committed == 1
    assert ready.entries
    node.advance()
    assert node.raft.log.committed == 2


def test_a_rejected_append_is_tried_further_back() -> None:
    """Figure 2, leaders: if AppendEntries fails because of log inconsistency: decrement nextIndex and retry."""
    node = member(entries=((1, 1), (1, 2)), term=1)
    node.campaign()
    node.step(Message(T.VOTE_RESP, 1, 2, 2))
    finish(node)
    node.step(Message(T.APP_RESP, 1, 3, 2, index=2, reject=True, reject_hint=0))
    again = sent(finish(node), T.APP)[0]
    assert (again.to, again.index, [e.index for e in again.entries]) == (3, 0, [1, 2, 3])


def test_entries_of_older_terms_are_not_committed_by_counting() -> None:
    """§5.4.2, figure 8: only log entries from the leader's current term are committed by counting replicas."""
    node = member(entries=((1, 1), (1, 2)), term=2)
    node.campaign()
    node.step(Message(T.VOTE_RESP, 1, 2, 3))
    finish(node)
    node.step(Message(T.APP_RESP, 1, 2, 3, index=2))
    assert node.raft.log.committed == 0
    node.step(Message(T.APP_RESP, 1, 2, 3, index=3))
    assert node.raft.log.committed == 3


def test_a_new_leader_appends_an_empty_entry() -> None:
    """§8: each leader commits a blank no-op entry at the start of its term."""
    node = member()
    node.campaign()
    node.step(Message(T.VOTE_RESP, 1, 2, 1))
    assert [(e.term, e.data) for ready in finish(node) for e in ready.entries] == [(1, b"")]


# Beyond figure 2


def test_a_pre_vote_changes_no_term() -> None:
    """Diss. §9.6: a candidate first asks whether it could win, without incrementing its term."""
    node = member(term=3, pre_vote=True)
    node.campaign()
    readies = finish(node)
    assert [(m.type, m.term) for m in sent(readies)] == [(T.PRE_VOTE, 4), (T.PRE_VOTE, 4)]
    assert node.raft.term == 3
    node.step(Message(T.PRE_VOTE_RESP, 1, 2, 4))
    assert (node.raft.term, node.raft.role) == (4, Role.CANDIDATE)


@pytest.mark.parametrize(("context", "heard"), [(b"", False), (CAMPAIGN_TRANSFER, True)])
def test_who_hears_a_leader_ignores_candidates(context: bytes, heard: bool) -> None:
    """Diss. §4.2.3: a server does not grant votes within an election timeout of hearing a leader; §3.10 a transfer is exempt."""
    node = member(term=1, check_quorum=True)
    node.step(Message(T.HEARTBEAT, 1, 2, 1))
    finish(node)
    node.step(Message(T.VOTE, 1, 3, 2, context=context))
    assert bool(sent(finish(node), T.VOTE_RESP)) is heard
    assert (node.raft.term == 2) is heard


def test_a_leader_without_a_majority_steps_down() -> None:
    """Diss. §6.2: if an election timeout elapses without a successful round of heartbeats to a majority."""
    node = leader(check_quorum=True)
    for _ in range(2 * node.raft.options.election_ticks):
        node.tick()
    assert node.raft.role is Role.FOLLOWER
    with pytest.raises(ProposalDropped):
        node.propose([b"x"])


def test_a_read_waits_for_a_round_of_heartbeats() -> None:
    """Diss. §6.4: the leader confirms that it has not been superseded before it answers a read."""
    node = leader()
    node.read_index(b"r")
    (first, second) = sent(finish(node), T.HEARTBEAT)
    assert (first.context, second.context) == (b"r", b"r")
    node.step(Message(T.HEARTBEAT_RESP, 1, 3, 1, context=b"r"))
    assert [state for ready in finish(node) for state in ready.read_states] == [(1, b"r")]


def test_a_read_waits_for_the_first_commit_of_the_term() -> None:
    """Diss. §6.4: the leader must have the latest commit index: it has once it committed an entry of its term."""
    node = member()
    node.campaign()
    node.step(Message(T.VOTE_RESP, 1, 2, 1))
    finish(node)
    node.read_index(b"r")
    assert not sent(finish(node), T.HEARTBEAT)
    node.step(Message(T.APP_RESP, 1, 2, 1, index=1))
    assert sent(finish(node), T.HEARTBEAT)[0].context == b"r"


def test_leadership_is_handed_to_a_member_that_has_everything() -> None:
    """Diss. §3.10: the prior leader stops accepting requests, brings the target up to date, sends TimeoutNow."""
    node = leader()
    node.transfer_leadership(2)
    assert [m.to for m in sent(finish(node), T.TIMEOUT_NOW)] == [2]
    with pytest.raises(ProposalDropped):
        node.propose([b"x"])


def test_timeout_now_starts_an_election_at_once() -> None:
    """Diss. §3.10: the target starts a new election immediately, without a pre-vote."""
    node = member(term=1, pre_vote=True, check_quorum=True)
    node.step(Message(T.TIMEOUT_NOW, 1, 2, 1))
    assert {(m.type, m.context) for m in sent(finish(node))} == {(T.VOTE, CAMPAIGN_TRANSFER)}


def test_a_member_too_far_behind_gets_a_snapshot() -> None:
    """§7: the leader must send snapshots to followers that lag behind the discarded log."""
    node = leader()
    for _ in range(4):
        node.propose([b"x"])
        finish(node)
        node.step(Message(T.APP_RESP, 1, 2, 1, index=node.raft.log.last_index))
        finish(node)
    node.compact(4, Snapshot(5, 1, ConfState((1, 2, 3)), b"state"))
    node.step(Message(T.HEARTBEAT_RESP, 1, 3, 1))
    node.step(Message(T.APP_RESP, 1, 3, 1, index=1, reject=True, reject_hint=0))
    (message,) = sent(finish(node), T.SNAP)
    assert message.snapshot is not None
    assert (message.to, message.snapshot.index) == (3, 5)


def test_a_snapshot_replaces_the_log() -> None:
    """Figure 13, InstallSnapshot 7: discard the entire log, reset the state machine, load the snapshot's configuration."""
    node = member(entries=((1, 1), (1, 2)), term=1)
    node.step(Message(T.SNAP, 1, 2, 2, snapshot=Snapshot(9, 2, ConfState((1, 2, 3, 4)), b"state")))
    (ready,) = finish(node)
    assert ready.snapshot is not None
    assert (node.raft.log.first_index, node.raft.log.committed, node.raft.log.applied) == (10, 9, 9)
    assert node.raft.tracker.config.voters == (1, 2, 3, 4)
    assert ready.messages_after_persist[0].index == 9


def test_a_snapshot_waits_for_the_changes_under_way() -> None:
    """A bug the simulation found (seed 105161): a change that was being applied when the snapshot came changed the snapshot's configuration."""
    node = member()
    added, removed = (Entry(1, index, data, EntryType.CONF_CHANGE_V2) for index, data in ((1, b"add 4"), (2, b"remove 4")))
    node.step(Message(T.APP, 1, 2, 1, entries=(added,), commit=1))
    ready = node.ready()
    assert ready.committed_entries == (added,)
    node.step(Message(T.SNAP, 1, 2, 1, snapshot=Snapshot(removed.index, 1, ConfState((1, 2, 3)), b"state")))
    assert node.apply_conf_change(ConfChange(((ConfChangeType.ADD_NODE, 4),))).voters == (1, 2, 3, 4)
    node.advance()
    finish(node)
    assert (node.raft.log.applied, node.raft.tracker.config.voters) == (2, (1, 2, 3))


def test_a_full_window_of_lost_appends_is_found_out_by_a_heartbeat() -> None:
    """A bug the simulation found (seed 80): every APP in flight was lost, and the leader waited for ever."""
    node = leader()
    progress = node.raft.tracker.progress[2]
    progress.inflights.max_messages = 2
    for _ in range(3):
        node.propose([b"x"])
    finish(node)
    assert progress.inflights.full()
    node.step(Message(T.HEARTBEAT_RESP, 1, 2, 1))
    (probe,) = sent(finish(node), T.APP)
    assert (probe.to, probe.entries) == (2, ())
    node.step(Message(T.APP_RESP, 1, 2, 1, index=probe.index, reject=True, reject_hint=1, log_term=1))
    assert sent(finish(node), T.APP)[0].index == 1
