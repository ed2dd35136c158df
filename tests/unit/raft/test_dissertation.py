"""One test per sentence of Ongaro's dissertation on membership changes (chapter 4), linearizable reads (§6.4) and pre-vote (§9.6).

Where etcd differs, and we with it, the docstring says so: a configuration is in force when its entry is applied, not when it is appended. A change is then
made by committed entries only, and no member ever has to go back to an earlier configuration.
"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.raft_member import T, finish, leader, member, sent
from harness.raft_stage import Stage
from kubette.raft import confchange, quorum
from kubette.raft.confchange import ConfChangeError
from kubette.raft.core import Role
from kubette.raft.messages import NO_NODE, ConfChange, ConfChangeType, ConfState, Entry, EntryType, Message, Transition
from kubette.raft.quorum import VoteResult
from kubette.raft.tracker import Config

ADD, REMOVE = ConfChangeType.ADD_NODE, ConfChangeType.REMOVE_NODE
nodes = st.integers(1, 9)
clusters = st.frozensets(nodes, min_size=1, max_size=6).map(lambda found: Config(tuple(sorted(found))))


def majorities(voters: tuple[int, ...]) -> list[frozenset[int]]:
    return [frozenset(each) for each in itertools.combinations(voters, len(voters) // 2 + 1)]


def told(*lines: str) -> Stage:
    stage = Stage()
    stage.tell(*lines)
    return stage


def elected(*lines: str, members: str = "members 3") -> Stage:
    """Member 1 leads in term 1, everyone has its first entry."""
    return told(members, "campaign 1", "run", *lines)


# §4.1 Safety


@given(clusters, nodes)
def test_any_two_majorities_overlap_across_a_single_change(config: Config, node: int) -> None:
    """§4.1: when adding or removing a single server, any majority of the old cluster overlaps with any majority of the new one."""
    change = ((REMOVE if node in config.voters else ADD), node)
    if config.voters == (node,):
        return
    after = confchange.simple(config, [change])
    assert all(old & new for old in majorities(config.voters) for new in majorities(after.voters))


def test_two_servers_cannot_be_changed_at_once_without_a_joint_phase() -> None:
    """§4.1: only one server can be added or removed from the cluster at a time."""
    config = Config((1, 2, 3))
    with pytest.raises(ConfChangeError, match="more than one voter changed without entering joint config"):
        confchange.simple(config, [(ADD, 4), (ADD, 5)])
    assert confchange.apply(config, ConfChange(((ADD, 4), (ADD, 5)))).joint


def test_configurations_are_entries_of_the_log() -> None:
    """§4.1: cluster configurations are stored and communicated using special entries in the replicated log."""
    stage = elected("change 1 v4", "run 1 2 3")
    for node in (1, 2, 3):
        assert [e.type for e in stage.raft(node).log.slice(1, 9)] == [EntryType.NORMAL, EntryType.CONF_CHANGE_V2]
        assert stage.raft(node).tracker.config.voters == (1, 2, 3, 4)


def test_clients_are_served_while_a_change_is_in_progress() -> None:
    """§4.1: it also allows the cluster to continue to service client requests while configuration changes are in progress."""
    stage = elected("propose 1 a", "change 1 v4", "propose 1 b", "newcomer 4", "run")
    assert [e.data for e in stage.raft(4).log.slice(1, 9)] == [b"", b"a", b"v4 auto", b"b"]
    assert stage.raft(1).log.committed == 4


def test_a_change_is_in_force_when_it_is_applied() -> None:
    """§4.1: takes effect on each server as soon as it is added to its log. Here, as in etcd: when it is applied there; so a majority of the old
    configuration commits it, and it need not be forgotten when another leader removes the entry."""
    stage = elected("change 1 v4", "ready 1", "synced 1", "receive 2", "ready 2", "synced 2")
    assert [stage.raft(node).log.last_index for node in (1, 2)] == [2, 2]
    assert [stage.raft(node).tracker.config.voters for node in (1, 2)] == [(1, 2, 3), (1, 2, 3)]
    stage.tell("run 1")
    assert [stage.raft(node).tracker.config.voters for node in (1, 2)] == [(1, 2, 3, 4), (1, 2, 3)]


def test_a_change_that_another_leader_replaces_was_never_in_force() -> None:
    """§4.1: a log entry for a configuration change can be removed (if leadership changes); a server must be prepared for it."""
    stage = elected("change 1 v4", "ready 1", "synced 1", "drop", "crash 1", "campaign 2", "run 2 3", "restart 1", "tick 2", "run")
    assert b"v4 auto" not in [e.data for e in stage.raft(1).log.slice(1, 9)]
    assert {stage.raft(node).tracker.config.voters for node in (1, 2, 3)} == {(1, 2, 3)}


def test_a_further_change_starts_when_the_one_before_is_committed() -> None:
    """§4.1: commitment allows further configuration changes to be started; a leader does not begin one before."""
    stage = elected("change 1 v4", "change 1 v5", "newcomer 4", "run")
    assert stage.raft(1).tracker.config.voters == (1, 2, 3, 4), "the second one came too early"
    stage.tell("change 1 v5", "newcomer 5", "run")
    assert stage.raft(1).tracker.config.voters == (1, 2, 3, 4, 5)


def test_a_removed_server_can_be_shut_down_when_its_removal_is_committed() -> None:
    """§4.1: if the configuration change removed a server, that server can be shut down."""
    stage = elected("change 1 r3", "run", "crash 3", "propose 1 a", "run 1 2")
    assert stage.raft(1).log.committed == 3


def test_a_leader_from_elsewhere_is_believed() -> None:
    """§4.1: a server accepts AppendEntries requests from a leader that is not part of the server's latest configuration."""
    node = member()
    node.step(Message(T.APP, 1, 7, 1, entries=(Entry(1, 1, b"x"),)))
    assert not sent(finish(node), T.APP_RESP)[0].reject
    assert node.raft.lead == 7


def test_a_candidate_from_elsewhere_gets_the_vote() -> None:
    """§4.1: a server also grants its vote to a candidate that is not part of the server's latest configuration."""
    node = member()
    node.step(Message(T.VOTE, 1, 7, 1))
    assert not sent(finish(node), T.VOTE_RESP)[0].reject


def test_the_vote_of_a_new_server_may_be_needed() -> None:
    """§4.1: adding a fourth server to a three-server cluster: if one server were to fail, the new server's vote would be needed."""
    stage = elected("newcomer 4", "change 1 v4", "run", "propose 1 a", "run 1 2 3", "drop", "crash 1", "campaign 2", "run 2 3")
    assert not stage.led_by(2)
    stage.tell("run 2 4")
    assert stage.led_by(2)
    # It gives its vote even if it has not heard yet that it has one.
    stage = elected("newcomer 4", "change 1 v4", "run 1 2 3", "drop", "crash 1", "campaign 2")
    assert stage.raft(4).tracker.config.voters == (1, 2, 3)
    stage.tell("run 2 3 4")
    assert stage.led_by(2)


# §4.2.1 Catching up new servers


def test_a_new_server_is_brought_up_to_date_without_a_vote() -> None:
    """§4.2.1: a new server joins the cluster as a non-voting member. The leader replicates log entries to it."""
    stage = elected("propose 1 a", "change 1 l4", "newcomer 4", "run")
    assert stage.raft(4).log.committed == 3
    assert stage.raft(1).tracker.config == Config((1, 2, 3), learners=(4,))


def test_it_is_not_counted_for_commitment() -> None:
    """§4.2.1: but it is not yet counted towards majorities for commitment purposes."""
    stage = elected("newcomer 4", "change 1 l4", "run", "crash 2 3", "propose 1 a", "run 1 4")
    assert (stage.raft(4).log.last_index, stage.raft(1).log.committed) == (3, 2)


def test_it_is_not_counted_for_voting_and_does_not_stand() -> None:
    """§4.2.1: nor for voting purposes; and without a vote of its own it starts no election."""
    stage = elected("newcomer 4", "change 1 l4", "run", "crash 1 3", "tick 4 times=50", "campaign 4", "campaign 2", "run 2 4")
    assert [stage.raft(node).role for node in (2, 4)] == [Role.CANDIDATE, Role.FOLLOWER]


def test_a_vote_for_one_that_has_caught_up() -> None:
    """§4.2.1: once the new server has caught up with the rest of the cluster, the reconfiguration can proceed."""
    stage = elected("newcomer 4", "change 1 l4", "run")
    progress = stage.raft(1).tracker.progress[4]
    assert (progress.match, progress.is_learner) == (stage.raft(1).log.last_index, True), "by this the driver knows that it has caught up"
    stage.tell("change 1 v4", "run")
    assert {stage.raft(node).tracker.config for node in (1, 2, 3, 4)} == {Config((1, 2, 3, 4))}


def test_adding_an_empty_server_at_once_risks_availability() -> None:
    """§4.2.1, figure 4.4 (a): S4 is added, then S3 fails: nothing can be committed until S4 has caught up. What the learner's phase avoids."""
    stage = elected("change 1 v4", "run 1 2 3", "crash 3", "propose 1 a", "run 1 2")
    assert stage.raft(1).log.committed == 2
    stage.tell("newcomer 4", "tick 1", "run 1 2 4")
    assert stage.raft(1).log.committed == 3


def test_an_empty_log_is_found_at_the_first_answer() -> None:
    """§4.2.1: have followers return the length of their logs; this allows the leader to cap the follower's nextIndex accordingly."""
    stage = elected(*(f"propose 1 {word}" for word in "abcdefgh"), "run", "newcomer 4", "change 1 l4", "run 1 2 3")
    refused = stage.tell("run 4")
    assert "rejected (hint 0)" in refused
    stage.tell("receive 1 from=4")
    assert stage.raft(1).tracker.progress[4].next == 1
    stage.tell("run")
    assert stage.raft(4).log.committed == stage.raft(1).log.committed


# §4.2.2 Removing the current leader


def test_a_leader_may_hand_over_before_it_is_removed() -> None:
    """§4.2.2: a leader that is asked to remove itself would transfer its leadership to another server, which carries out the change normally."""
    stage = elected("transfer 1 to=2", "run", "change 2 r1", "run")
    assert stage.led_by(2)
    assert stage.raft(2).tracker.config.voters == (2, 3)


def test_a_removed_leader_steps_down_when_that_is_committed() -> None:
    """§4.2.2: a leader that is removed from the configuration steps down once the entry is committed (here an election timeout after it)."""
    stage = elected("change 1 r1", "ready 1", "synced 1", "tick 1 times=5")
    assert stage.led_by(1), "not before"
    stage.tell("run")
    assert stage.led_by(1), "the others must hear of it"
    stage.tell("tick 1 times=10")
    assert (stage.raft(1).role, stage.raft(1).lead) == (Role.FOLLOWER, NO_NODE)


def test_the_last_but_one_server_leads_until_the_other_knows() -> None:
    """§4.2.2, figure 4.6: removal of S1 from a two-server cluster: S2 cannot become leader until it receives the entry from S1."""
    stage = elected("change 1 r1", "ready 1", "synced 1", "campaign 2", "ready 2", "synced 2", members="members 2")
    assert "rejected" in stage.tell("run 1"), "S1's log is more up to date"
    stage = elected("change 1 r1", "run", members="members 2")
    assert stage.raft(2).tracker.config.voters == (2,)
    stage.tell("campaign 2", "run 2")
    assert stage.led_by(2)


def test_those_who_stay_elect_a_leader() -> None:
    """§4.2.2: after the removed leader steps down, a server in the new configuration will time out and win an election."""
    stage = elected("change 1 r1", "run", "tick 1 times=10", "run 1", "crash 1", "tick 2 times=20", "run 2 3")
    assert stage.led_by(2)


def test_a_leader_that_is_no_member_does_not_count_itself() -> None:
    """§4.2.2: a leader can manage a cluster that does not include itself; it replicates log entries but does not count itself in majorities."""
    stage = elected("propose 1 a", "change 1 r1", "propose 1 b", "ready 1", "synced 1", "drop 3", "run 1 2")
    # The removal is committed by 1 and 2, and b after it would need 2 and 3.
    assert (stage.raft(1).log.last_index, stage.raft(1).log.committed) == (4, 4)
    stage = elected("change 1 r1", "ready 1", "synced 1", "receive 2", "ready 2", "synced 2", "propose 1 b", "run 1")
    assert (stage.raft(1).log.last_index, stage.raft(1).log.committed) == (3, 2), "1 has b, and of 2 and 3 nobody"
    stage.tell("drop 3", "run 1 2")
    assert stage.raft(1).log.committed == 2, "1 and 2 have b: one of two"
    stage.tell("tick 1", "run 1 3")
    assert stage.raft(1).log.committed == 3


def test_who_is_no_member_starts_no_election() -> None:
    """§4.2.2: a server that is not part of its own latest configuration should still start new elections. Here it need not: a removal is in force
    only when it is committed, and the others can then go on without it."""
    stage = elected("change 1 r3", "run", "tick 3 times=50", "campaign 3")
    assert stage.raft(3).role is Role.FOLLOWER


# §4.2.3 Disruptive servers


def test_a_removed_server_hears_nothing_more() -> None:
    """§4.2.3: a server that is not in the new configuration will no longer receive heartbeats; it may not learn that it has been removed."""
    stage = elected("change 1 r3", "run 1 2", "drop 3", "tick 1", "run 1 2")
    assert not [m for m in stage.network if m.to == 3]
    assert stage.raft(3).tracker.config.voters == (1, 2, 3)


def test_a_removed_server_could_depose_a_leader() -> None:
    """§4.2.3: the server will send RequestVote RPCs with new term numbers, and this will cause the current leader to revert to follower state."""
    stage = elected("change 1 r3", "run 1 2", "drop 3", "tick 3 times=20", "run 3 1")
    assert stage.raft(1).role is Role.FOLLOWER


@pytest.mark.parametrize(("option", "deposed"), [("pre-vote", True), ("check-quorum", False)])
def test_comparing_logs_is_not_enough(option: str, deposed: bool) -> None:
    """§4.2.3, figure 4.7: S1 is being removed, its log as up to date as a majority's: the pre-vote phase doesn't help, hearing a leader does."""
    stage = told(f"members 4 {option}", "campaign 4", "run", "change 4 r1", "ready 4", "synced 4", "drop")
    # Its heartbeat is heard by 2 and 3; its entry is not there yet.
    stage.tell("tick 4", "ready 4", "synced 4", "drop 1", "receive 2", "receive 3", "ready 2 3", "synced 2 3", "drop 4")
    stage.tell("tick 1 times=20", "run 1 2 3")
    assert stage.led_by(1) is deposed


def test_a_vote_request_is_ignored_while_a_leader_is_heard() -> None:
    """§4.2.3: within the minimum election timeout of hearing from a current leader, it does not update its term or grant its vote."""
    node = member(term=1, check_quorum=True)
    node.step(Message(T.HEARTBEAT, 1, 2, 1))
    for _ in range(node.raft.options.election_ticks - 1):
        node.tick()
    finish(node)
    node.step(Message(T.VOTE, 1, 3, 5))
    assert (sent(finish(node)), node.raft.term, node.raft.vote) == ([], 1, NO_NODE)


def test_a_normal_election_is_not_affected() -> None:
    """§4.2.3: this does not affect normal elections, where each server waits at least a minimum election timeout before starting one."""
    node = member(term=1, check_quorum=True)
    node.step(Message(T.HEARTBEAT, 1, 2, 1))
    node.raft.randomized_election_ticks = 2 * node.raft.options.election_ticks
    for _ in range(node.raft.options.election_ticks):
        node.tick()
    finish(node)
    node.step(Message(T.VOTE, 1, 3, 2))
    assert [m.reject for m in sent(finish(node), T.VOTE_RESP)] == [False]


def test_a_leader_that_is_heard_is_not_deposed_by_larger_terms() -> None:
    """§4.2.3: while a leader is able to get heartbeats to its cluster, it will not be deposed by larger term numbers."""
    node = leader(check_quorum=True)
    node.step(Message(T.VOTE, 1, 3, 9, index=9, log_term=9))
    assert (node.raft.role, node.raft.term) == (Role.LEADER, 1)


def test_a_transfer_may_disrupt_the_leader() -> None:
    """§4.2.3: RequestVote messages of a transfer should be processed even when servers believe a leader exists: they include a special flag."""
    stage = elected("transfer 1 to=2", "run", members="members 3 check-quorum")
    assert stage.led_by(2)
    assert stage.raft(1).role is Role.FOLLOWER


# §4.3 Arbitrary configuration changes using joint consensus

JOINT = ("change 1 r1 r2 v4 v5 joint=explicit", "run 1 2 3", "newcomer 4 5", "tick 1", "run")


def test_entries_go_to_all_of_both_configurations() -> None:
    """§4.3: log entries are replicated to all servers in both configurations."""
    stage = elected(*JOINT, "propose 1 a", "ready 1")
    assert {m.to for m in stage.network if m.type is T.APP} == {2, 3, 4, 5}


@pytest.mark.parametrize("candidate", [2, 3, 4])
def test_any_server_of_either_configuration_may_lead(candidate: int) -> None:
    """§4.3: any server from either configuration may serve as leader."""
    stage = elected(*JOINT, f"campaign {candidate}", "run")
    assert stage.led_by(candidate)


def test_agreement_needs_both_majorities() -> None:
    """§4.3: changing from 3 servers to a different cluster of 9, agreement requires both 2 of the 3 and 5 of the 9."""
    old, new = (1, 2, 3), tuple(range(4, 13))
    for from_old, from_new in itertools.product(range(4), range(10)):
        have = (*old[:from_old], *new[:from_new])
        enough = from_old >= 2 and from_new >= 5
        assert (quorum.joint_committed_index(new, old, dict.fromkeys(have, 7)) == 7) is enough
        assert (quorum.joint_vote_result(new, old, dict.fromkeys(have, True)) is VoteResult.WON) is enough


def test_clients_are_served_throughout_a_joint_change() -> None:
    """§4.3: joint consensus allows the cluster to continue servicing client requests throughout the configuration change."""
    stage = elected(*JOINT, "propose 1 a", "run", "leave 1", "propose 1 b", "run")
    assert {stage.raft(node).log.committed for node in (3, 4, 5)} == {5}


@pytest.mark.parametrize(("survivors", "wins"), [((2, 3), True), ((3, 4, 5), False)])
def test_before_the_joint_entry_is_known_only_the_old_configuration_decides(survivors: tuple[int, ...], wins: bool) -> None:
    """§4.3: if the leader crashes, a new leader may be chosen under either; in any case the new configuration cannot make unilateral decisions."""
    stage = elected("newcomer 4 5", "change 1 r1 r2 v4 v5 joint=explicit", "run 1", "drop", "crash 1")
    runs = " ".join(map(str, survivors))
    stage.tell(f"campaign {survivors[-1]}", f"run {runs}", "campaign 3", f"run {runs}")
    assert any(stage.led_by(node) for node in survivors) is wins


def test_only_who_has_the_joint_entry_can_be_elected_once_it_is_committed() -> None:
    """§4.3: the Leader Completeness Property ensures that only servers with the joint log entry can be elected as leader."""
    stage = elected("newcomer 4 5", "change 1 r1 r2 v4 v5 joint=explicit", "run 1 2", "drop", "crash 1")
    stage.tell("campaign 3", "run 2 3 4 5")
    assert not stage.led_by(3)
    stage.tell("campaign 2", "run 2 3 4 5", "campaign 2", "run 2 3 4 5")
    assert stage.led_by(2)


def test_a_joint_configuration_is_followed_by_the_new_one() -> None:
    """§4.3: it is now safe for the leader to create a log entry describing the new configuration and replicate it to the cluster."""
    stage = elected("newcomer 4 5", "change 1 r2 v4 v5", "run")
    assert [e.data for e in stage.raft(1).log.slice(2, 9)] == [b"r2 v4 v5 auto", b""], "left by the leader itself"
    assert {stage.raft(node).tracker.config for node in (1, 3, 4, 5)} == {Config((1, 3, 4, 5))}


def test_the_old_servers_can_be_shut_down_when_the_new_entry_is_committed() -> None:
    """§4.3: the old configuration is irrelevant and servers not in the new configuration can be shut down."""
    stage = elected(*JOINT, "leave 1", "run", "crash 1 2", "campaign 3", "run 3 4", "propose 3 a", "run 3 4")
    assert stage.led_by(3)
    assert stage.raft(3).log.committed == stage.raft(3).log.last_index


def test_a_change_during_a_change_is_rejected() -> None:
    """§4.3: a leader rejects additional changes when its latest configuration is not committed or is not a simple majority."""
    stage = elected("change 1 v4 v5 joint=explicit", "change 1 v6", "newcomer 4 5", "run", "change 1 v6", "run")
    config = Config((1, 2, 3, 4, 5), (1, 2, 3))
    assert stage.raft(1).tracker.config == config, "neither before it was committed nor while it was joint"
    for change in (ConfChange(((ADD, 6),)), ConfChange(((ADD, 6),), Transition.JOINT_EXPLICIT)):
        with pytest.raises(ConfChangeError):
            confchange.apply(config, change)


def test_a_rejected_change_can_be_tried_again_later() -> None:
    """§4.3: changes that are rejected in this way can simply wait and try again later."""
    stage = elected("newcomer 4 5 6", "change 1 v4 v5", "change 1 v6", "run", "change 1 v6", "run")
    assert stage.raft(6).tracker.config == Config((1, 2, 3, 4, 5, 6))


# §4.4 System integration


@pytest.mark.parametrize(("steps", "serves"), [(("change 1 v4", "run", "crash 3"), True), (("change 1 r3", "run", "crash 2"), False)])
def test_it_is_preferable_to_add_before_removing(steps: tuple[str, ...], serves: bool) -> None:
    """§4.4: adding one server and then removing the other allows the system to handle one failure throughout; two-server clusters mask none."""
    stage = elected("newcomer 4", *steps, "propose 1 a")
    stage.tell("run 1 2 4" if serves else "run 1 4")
    assert (stage.raft(1).log.committed == stage.raft(1).log.last_index) is serves


def test_a_cluster_begins_with_one_server() -> None:
    """§4.4: one server is initialized with a configuration entry; it alone forms a majority, so it can consider this configuration committed."""
    stage = elected(members="members 1")
    assert stage.led_by(1)
    assert stage.raft(1).log.committed == 1


def test_a_server_without_a_configuration_waits_to_be_added() -> None:
    """§4.4: other servers should be initialized with empty logs; they learn of the current configuration through the change mechanism."""
    node = member(voters=0)
    for _ in range(50):
        node.tick()
    node.campaign()
    assert node.raft.role is Role.FOLLOWER
    node.step(Message(T.APP, 1, 2, 1, entries=(Entry(1, 1, b"add 2", EntryType.CONF_CHANGE_V2),), commit=1))
    finish(node)
    assert node.apply_conf_change(ConfChange(((ADD, 2),))).voters == (2,)


# §6.4 Processing read-only queries


def test_a_read_waits_for_an_entry_of_the_leaders_term() -> None:
    """§6.4, 1: if the leader has not yet marked an entry from its current term committed, it waits until it has done so."""
    stage = elected("campaign 2", "ready 2", "synced 2", "receive 3", "ready 3", "synced 3", "receive 2", "read 2 r")
    assert stage.led_by(2)
    assert "HEARTBEAT" not in stage.tell("ready 2", "synced 2", "network")
    assert "may answer r at 2" in stage.tell("run 2 3")


def test_the_no_op_brings_the_commit_index_up_to_everyone_elses() -> None:
    """§6.4, 1: as soon as this no-op entry is committed, the leader's commit index will be at least as large as any other servers'."""
    stage = elected("propose 1 a", "run 1 2", "drop", "campaign 2", "run 2 3")
    assert all(stage.raft(2).log.committed >= stage.raft(node).log.committed for node in (1, 2, 3))


def test_the_read_index_is_the_commit_index_when_the_read_came() -> None:
    """§6.4, 2: the leader saves its current commit index in readIndex, a lower bound for the version of the state the query operates against."""
    stage = elected("read 1 r", "ready 1", "synced 1", "propose 1 a")
    answers = stage.tell("run")
    assert stage.raft(1).log.committed == 2
    assert "may answer r at 1" in answers


@pytest.mark.parametrize(("heard", "answered"), [((), False), ((2,), False), ((2, 3), True)])
def test_a_majority_must_acknowledge_the_round(heard: tuple[int, ...], answered: bool) -> None:
    """§6.4, 3: it issues a new round of heartbeats and waits for their acknowledgments from a majority of the cluster."""
    node = leader(5)
    node.step(Message(T.APP_RESP, 1, 3, 1, index=1))
    node.read_index(b"r")
    assert {m.context for m in sent(finish(node), T.HEARTBEAT)} == {b"r"}
    for peer in heard:
        node.step(Message(T.HEARTBEAT_RESP, 1, peer, 1, context=b"r"))
    assert bool([state for ready in finish(node) for state in ready.read_states]) is answered


def test_an_older_round_confirms_nothing() -> None:
    """§6.4, 3: a new round: an acknowledgment of a heartbeat that was sent before the read came tells nothing of the time after."""
    node = leader()
    node.read_index(b"old")
    finish(node)
    node.read_index(b"new")
    node.step(Message(T.HEARTBEAT_RESP, 1, 2, 1, context=b"old"))
    assert [state.context for ready in finish(node) for state in ready.read_states] == [b"old"]


def test_a_learner_confirms_no_leader() -> None:
    """§6.4, 3 with §4.2.1: a majority of the cluster; who does not vote does not count."""
    stage = elected("crash 2", "read 1 r", members="members 2 learners=(3,4)")
    assert "may answer" not in stage.tell("run 1 3 4")


def test_a_superseded_leader_answers_no_read() -> None:
    """§6.4, 3: the leader needs to make sure it hasn't been superseded by a newer leader of which it is unaware."""
    stage = elected("campaign 2", "run 2 3", "propose 2 a", "run 2 3", "drop 1", "read 1 r")
    assert stage.led_by(1)
    assert stage.led_by(2)
    assert "may answer" not in stage.tell("run 1 2 3", "tick 1", "run")


def test_a_new_leader_forgets_the_reads_of_the_old_one() -> None:
    """§6.4, 3: a read of a term that is over must not be answered from a later one: whoever asked asks again."""
    stage = elected("read 1 r", "ready 1", "synced 1", "campaign 2", "run")
    assert stage.led_by(2)
    assert not len(stage.raft(1).read_only)
    stage.tell("campaign 1", "run")
    assert "may answer" not in stage.tell("tick 1", "run")


def test_one_round_answers_all_that_have_come() -> None:
    """§6.4: it can use a single round of heartbeats for any number of read-only queries that it has accumulated."""
    stage = elected("read 1 a", "read 1 b", "read 1 c", "ready 1", "synced 1", "drop", "tick 1")
    beats = stage.tell("ready 1", "synced 1")
    assert beats.count("HEARTBEAT") == 2
    answers = stage.tell("run")
    assert [f"may answer {each} at 1" in answers for each in "abc"] == [True, True, True]


def test_a_follower_asks_the_leader_for_a_read_index() -> None:
    """§6.4: the follower could issue a request to the leader that just asked for a current readIndex (steps 1-3); it executes 4 and 5 itself."""
    stage = elected("propose 1 a", "run 1 2", "drop 3", "read 3 r", "run 3")
    answers = stage.tell("run")
    assert "1->3 READ_INDEX_RESP term 1 log 0/2 context b'r'" in answers
    assert "may answer r at 2" in answers, "when 3 has applied so far, which the driver waits for"


def test_a_single_server_needs_no_round() -> None:
    """§6.4, 3: a majority of one is itself."""
    stage = elected("read 1 r", members="members 1 learners=(2)")
    assert "may answer r at 1" in stage.tell("run 1")


def test_clocks_are_not_trusted_for_reads() -> None:
    """§6.4.1: using clocks instead of messages: not offered. However short ago a majority was heard, a read waits for its own round."""
    stage = elected("tick 1", "run", "read 1 r", members="members 3 check-quorum")
    assert "may answer" not in stage.tell("ready 1", "synced 1")
    assert "may answer" in stage.tell("run")


# §9.6 Preventing disruptions when a server rejoins the cluster


def test_without_pre_vote_a_returning_server_disrupts() -> None:
    """§9.6: its larger term number will force the cluster leader to step down, and a new election will have to take place."""
    stage = elected("tick 3 times=60", "ready 3", "synced 3", "drop")
    assert (stage.raft(3).term > 1, stage.led_by(1)) == (True, True)
    stage.tell("tick 3 times=20", "run 3 1")
    assert stage.raft(1).role is Role.FOLLOWER


@pytest.mark.parametrize(("granted", "term"), [((), 1), ((2,), 1), ((2, 3), 2)])
def test_the_term_grows_only_with_a_majority_behind_it(granted: tuple[int, ...], term: int) -> None:
    """§9.6: a candidate only increments its term if it first learns from a majority that they would be willing to grant their votes."""
    node = member(5, term=1, pre_vote=True)
    node.campaign()
    for peer in granted:
        node.step(Message(T.PRE_VOTE_RESP, 1, peer, 2))
    assert node.raft.term == term


@pytest.mark.parametrize(("index", "log_term", "granted"), [(2, 1, True), (1, 1, False), (9, 0, False)])
def test_a_pre_vote_looks_at_the_log(index: int, log_term: int, granted: bool) -> None:
    """§9.6: if the candidate's log is sufficiently up-to-date."""
    node = member(entries=((1, 1), (1, 2)), term=1, pre_vote=True)
    node.step(Message(T.PRE_VOTE, 1, 3, 2, index=index, log_term=log_term))
    assert sent(finish(node), T.PRE_VOTE_RESP)[0].reject is not granted


@pytest.mark.parametrize(("ticks", "granted"), [(9, False), (10, True)])
def test_a_pre_vote_is_granted_only_by_who_hears_no_leader(ticks: int, granted: bool) -> None:
    """§9.6: and the voters have not received heartbeats from a valid leader for at least a baseline election timeout."""
    node = member(term=1, pre_vote=True, check_quorum=True)
    node.step(Message(T.HEARTBEAT, 1, 2, 1))
    node.raft.randomized_election_ticks = 2 * node.raft.options.election_ticks
    for _ in range(ticks):
        node.tick()
    finish(node)
    node.step(Message(T.PRE_VOTE, 1, 3, 2))
    assert [m.reject for m in sent(finish(node), T.PRE_VOTE_RESP)] == ([False] if granted else [])


def test_a_pre_vote_binds_nobody() -> None:
    """§9.6: would be willing to: it is no vote, may be given to several, and changes nothing on disk."""
    node = member(term=1, pre_vote=True)
    for peer in (2, 3):
        node.step(Message(T.PRE_VOTE, 1, peer, 2))
    readies = finish(node)
    assert [m.reject for m in sent(readies, T.PRE_VOTE_RESP)] == [False, False]
    assert (node.raft.term, node.raft.vote, [r.hard_state for r in readies]) == (1, NO_NODE, [None])


def test_a_partitioned_server_keeps_its_term() -> None:
    """§9.6: while a server is partitioned, it won't be able to increment its term, since it can't receive permission from a majority."""
    stage = elected("tick 3 times=200", "ready 3", "synced 3", "drop", members="members 3 pre-vote check-quorum")
    assert stage.raft(3).term == 1


def test_a_server_that_rejoins_is_refused_and_follows() -> None:
    """§9.6: when it rejoins, the others will have been receiving heartbeats; with one itself it returns to the follower state (in the same term)."""
    stage = elected("tick 3 times=50", "run 3 2 1", members="members 3 pre-vote check-quorum")
    assert (stage.raft(3).role, stage.raft(3).term) == (Role.PRE_CANDIDATE, 1)
    stage.tell("tick 1", "run")
    assert (stage.raft(3).role, stage.raft(3).term, stage.raft(3).lead) == (Role.FOLLOWER, 1, 1)
    assert stage.led_by(1)


def test_pre_vote_does_not_stand_in_the_way_of_an_election() -> None:
    """§9.6: it does not appear to significantly harm election performance: one more round, and the leader is there."""
    stage = elected("crash 1", "tick 2 times=20", "run 2 3", members="members 3 pre-vote check-quorum")
    assert stage.led_by(2) is False, "3 still hears of its leader by its own clock"
    stage.tell("tick 3 times=20", "run 2 3")
    assert any(stage.led_by(node) for node in (2, 3))
    assert {stage.raft(node).term for node in (2, 3)} == {2}


def test_a_snapshot_carries_the_configuration() -> None:
    """§5.1 with §4.3: the latest configuration in the log as of the snapshot's index, joint or not."""
    config = elected(*JOINT).raft(1).tracker.config
    assert config.conf_state() == ConfState((3, 4, 5), (), (1, 2, 3))
    assert confchange.restore(config.conf_state()) == config
