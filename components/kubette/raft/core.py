"""Pure: one member of a Raft group: its state, and what it does in any role.

What differs by role is in follower.py, candidate.py and leader.py. Sections cited: the Raft paper (§) and Ongaro's
dissertation (diss. §). Beyond the paper, as in etcd: pre-vote (diss. §9.6), check-quorum with stickiness to a leader
(diss. §6.2, §9.6), ReadIndex (diss. §6.4), leadership transfer (diss. §3.10), learners and joint configurations (diss. §4).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from kubette.raft import candidate, confchange, follower, leader
from kubette.raft.log import RaftLog
from kubette.raft.messages import (
    AFTER_PERSIST,
    NO_NODE,
    ConfChange,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ReadState,
    Snapshot,
    entry_size,
)
from kubette.raft.progress import Progress
from kubette.raft.quorum import VoteResult
from kubette.raft.read_index import ReadOnly
from kubette.raft.tracker import Config, Tracker

CAMPAIGN_TRANSFER = b"CampaignTransfer"  # a vote request that a leader asked for: stickiness does not apply


class Role(Enum):
    FOLLOWER = "StateFollower"
    PRE_CANDIDATE = "StatePreCandidate"
    CANDIDATE = "StateCandidate"
    LEADER = "StateLeader"


class Campaign(Enum):
    PRE_ELECTION = "CampaignPreElection"
    ELECTION = "CampaignElection"
    TRANSFER = "CampaignTransfer"


@dataclass(frozen=True, slots=True)
class Options:
    """How a member behaves; ticks are the driver's."""

    id: int
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    max_size_per_message: int = 512 * 1024
    max_inflight_messages: int = 512
    max_inflight_bytes: int = 64 << 20
    max_uncommitted_size: int = 1 << 30
    max_committed_size_per_ready: int = 4 << 20
    pre_vote: bool = True
    check_quorum: bool = True


@dataclass(slots=True)
class Outbox:
    """What the member wants sent since the last Ready."""

    messages: list[Message] = field(default_factory=list)
    messages_after_persist: list[Message] = field(default_factory=list)
    read_states: list[ReadState] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what it would like logged


class Raft:
    """The state machine: `tick` and `step` in, the outbox and the log's markers out."""

    def __init__(self, options: Options, log: RaftLog, hard_state: HardState, conf_state: ConfState, rng: random.Random) -> None:
        assert options.id != NO_NODE, "a member's id cannot be 0"
        assert options.election_ticks > options.heartbeat_ticks > 0, "election_ticks must be greater than heartbeat_ticks"
        self.options = options
        self.id = options.id
        self.log = log
        # A torn write may have left entries of a term and not the hard state that goes with them. In that term nobody got this member's vote: it
        # would have been on disk before.
        self.term = max(hard_state.term, log.last_term)
        self.vote = hard_state.vote if self.term == hard_state.term else NO_NODE
        self.log.commit_to(hard_state.commit)
        self.rng = rng
        self.role = Role.FOLLOWER
        self.lead = NO_NODE
        self.tracker = Tracker(options.max_inflight_messages, options.max_inflight_bytes)
        self.read_only = ReadOnly()
        self.pending_reads: list[Message] = []  # reads that came before the leader committed an entry of its term
        self.out = Outbox()
        self.lead_transferee = NO_NODE
        self.pending_conf_index = 0  # no further configuration change until this index is applied
        self.uncommitted_size = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_ticks = 0
        self._switch_config(confchange.restore(conf_state))
        self.become_follower(self.term, NO_NODE)

    @property
    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote, self.log.committed)

    @property
    def is_learner(self) -> bool:
        progress = self.tracker.progress.get(self.id)
        return progress is not None and progress.is_learner

    def promotable(self) -> bool:
        """Whether the member may stand for election: a voter, with no snapshot still to apply."""
        progress = self.tracker.progress.get(self.id)
        return progress is not None and not progress.is_learner and self.log.pending_snapshot is None

    # Roles

    def reset(self, term: int) -> None:
        if term != self.term:
            self.term = term
            self.vote = NO_NODE
        self.lead = NO_NODE
        self.election_elapsed = self.heartbeat_elapsed = 0
        # Randomized timeouts: split votes are rare and resolved quickly (§5.2).
        self.randomized_election_ticks = self.options.election_ticks + self.rng.randrange(self.options.election_ticks)
        self.lead_transferee = NO_NODE
        self.tracker.reset_votes()
        for node, old in self.tracker.progress.items():
            # The own log counts only as far as it is on disk.
            match = self.log.stable if node == self.id else 0
            self.tracker.progress[node] = Progress(self.log.last_index + 1, self.tracker.new_inflights(), match, old.is_learner)
        self.pending_conf_index = 0
        self.uncommitted_size = 0
        self.read_only = ReadOnly()
        self.pending_reads = []

    def become_follower(self, term: int, lead: int) -> None:
        previous = (self.role, self.term, self.lead)
        self.reset(term)
        self.lead = lead
        self.role = Role.FOLLOWER
        if previous != (self.role, self.term, self.lead):
            self.note(f"{self.id:x} became follower at term {self.term}")

    def become_candidate(self) -> None:
        assert self.role is not Role.LEADER, "invalid transition [leader -> candidate]"
        self.reset(self.term + 1)
        self.vote = self.id
        self.role = Role.CANDIDATE
        self.note(f"{self.id:x} became candidate at term {self.term}")

    def become_pre_candidate(self) -> None:
        assert self.role is not Role.LEADER, "invalid transition [leader -> pre-candidate]"
        # Neither term nor vote changes: a member cut off must not disturb the others when it returns (diss. §9.6).
        self.tracker.reset_votes()
        self.lead = NO_NODE
        self.role = Role.PRE_CANDIDATE
        self.note(f"{self.id:x} became pre-candidate at term {self.term}")

    def become_leader(self) -> None:
        assert self.role is not Role.FOLLOWER, "invalid transition [follower -> leader]"
        self.reset(self.term)
        self.lead = self.id
        self.role = Role.LEADER
        progress = self.tracker.progress[self.id]
        progress.become_replicate()
        progress.recent_active = True
        # There may be a configuration change among the uncommitted entries: allow no other before they are applied.
        self.pending_conf_index = self.log.last_index
        # The new leader learns what is committed by committing an entry of its own term (§8).
        accepted = leader.append_entries(self, (Entry(0, 0),))
        assert accepted, "the empty entry was dropped"
        self.uncommitted_size = 0
        self.note(f"{self.id:x} became leader at term {self.term}")

    # Time

    def tick(self) -> None:
        """One unit of the driver's time has passed."""
        if self.role is Role.LEADER:
            leader.tick(self)
            return
        self.election_elapsed += 1
        if self.promotable() and self.election_elapsed >= self.randomized_election_ticks:
            self.election_elapsed = 0
            self.hup(Campaign.PRE_ELECTION if self.options.pre_vote else Campaign.ELECTION)

    # Elections

    def hup(self, campaign: Campaign) -> None:
        """Stand for election, unless something forbids it."""
        if self.role is Role.LEADER or not self.promotable():
            return
        if self._committed_conf_change_waits():
            # Our configuration is not yet the one that the committed log prescribes: we might count the wrong votes.
            self.note(f"{self.id:x} cannot campaign at term {self.term} since there are still pending configuration changes to apply")
            return
        self.campaign(campaign)

    def _committed_conf_change_waits(self) -> bool:
        low, high = max(self.log.applied, self.log.offset) + 1, self.log.committed + 1
        return low < high and any(entry.type is not EntryType.NORMAL for entry in self.log.slice(low, high))

    def campaign(self, campaign: Campaign) -> None:
        if campaign is Campaign.PRE_ELECTION:
            self.become_pre_candidate()
            request, term = MessageType.PRE_VOTE, self.term + 1
        else:
            self.become_candidate()
            request, term = MessageType.VOTE, self.term
        if self.poll(self.id, granted=True) is VoteResult.WON:
            # A single voter decides alone. A vote that counts must be on disk, one's own too: see `vote_persisted`.
            if campaign is Campaign.PRE_ELECTION:
                self.campaign(Campaign.ELECTION)
            return
        context = CAMPAIGN_TRANSFER if campaign is Campaign.TRANSFER else b""
        for node in self.tracker.config.all_voters():
            if node != self.id:
                self.send(Message(request, to=node, term=term, index=self.log.last_index, log_term=self.log.last_term, context=context))

    def vote_persisted(self) -> None:
        """The own vote of this term is on disk: with no other voter it decides.

        Not earlier: learners would hold entries of a term that this member forgets in a crash, and then uses for other entries.
        """
        if self.role is Role.CANDIDATE and self.tracker.tally() is VoteResult.WON:
            self.become_leader()
            leader.broadcast_append(self)

    def poll(self, node: int, granted: bool) -> VoteResult:
        self.tracker.record_vote(node, granted)
        return self.tracker.tally()

    # Messages

    def send(self, message: Message) -> None:
        """Queue a message, with sender and term filled in; promises wait until the disk has them."""
        kind = message.type
        if kind in _CARRY_TERM:
            assert message.term, f"term should be set when sending {kind.name}"
            message = message._replace(from_=self.id)
        elif kind is MessageType.PROP or kind is MessageType.READ_INDEX:
            # Forwarded to the leader: they belong to no term.
            message = message._replace(from_=message.from_ or self.id)
        else:
            message = message._replace(from_=self.id, term=self.term)
        assert message.to != self.id, f"sending {kind.name} to itself"
        (self.out.messages_after_persist if kind in AFTER_PERSIST else self.out.messages).append(message)

    def note(self, text: str) -> None:
        self.out.notes.append(text)

    def step(self, message: Message) -> None:
        """Take in a message: the rules about terms first, which hold in any role (§5.1)."""
        if message.term > self.term:
            if not self._accept_higher_term(message):
                return
        elif 0 < message.term < self.term:
            self._answer_lower_term(message)
            return
        kind = message.type
        if kind is MessageType.HUP:
            self.hup(Campaign.PRE_ELECTION if self.options.pre_vote else Campaign.ELECTION)
        elif kind is MessageType.VOTE or kind is MessageType.PRE_VOTE:
            self._answer_vote(message)
        elif self.role is Role.LEADER:
            leader.step(self, message)
        elif self.role is Role.FOLLOWER:
            follower.step(self, message)
        else:
            candidate.step(self, message)

    def _accept_higher_term(self, message: Message) -> bool:
        kind = message.type
        if kind is MessageType.VOTE or kind is MessageType.PRE_VOTE:
            forced = message.context == CAMPAIGN_TRANSFER
            hears_leader = self.options.check_quorum and self.lead != NO_NODE and self.election_elapsed < self.options.election_ticks
            if hears_leader and not forced:
                # Whoever hears a leader ignores candidates, and keeps its term (diss. §4.2.3).
                return False
        if kind is MessageType.PRE_VOTE or (kind is MessageType.PRE_VOTE_RESP and not message.reject):
            # A pre-vote asks about a term to come; nobody moves there before the real election.
            return True
        from_leader = kind in (MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP)
        self.become_follower(message.term, message.from_ if from_leader else NO_NODE)
        return True

    def _answer_lower_term(self, message: Message) -> None:
        kind = message.type
        if kind in (MessageType.HEARTBEAT, MessageType.APP) and (self.options.check_quorum or self.options.pre_vote):
            # A leader of an old term would otherwise never hear of the new one: we ignore its stickiness, it ignores our votes.
            self.send(Message(MessageType.APP_RESP, to=message.from_))
        elif kind is MessageType.PRE_VOTE:
            # Tell a candidate that is behind what the term is, or it would ask for ever.
            self.send(Message(MessageType.PRE_VOTE_RESP, to=message.from_, term=self.term, reject=True))

    def _answer_vote(self, message: Message) -> None:
        pre = message.type is MessageType.PRE_VOTE
        answer = MessageType.PRE_VOTE_RESP if pre else MessageType.VOTE_RESP
        # One vote a term, first come first served (§5.2); and only for a log at least as up to date as ours (§5.4.1).
        free = self.vote == message.from_ or (self.vote == NO_NODE and self.lead == NO_NODE) or (pre and message.term > self.term)
        if free and self.log.is_up_to_date(message.index, message.log_term):
            self.send(Message(answer, to=message.from_, term=message.term))
            if not pre:
                self.election_elapsed = 0
                self.vote = message.from_
        else:
            self.send(Message(answer, to=message.from_, term=self.term, reject=True))

    # What followers and candidates do with a leader's messages

    def handle_append(self, message: Message) -> None:
        if message.index < self.log.committed:
            self.send(Message(MessageType.APP_RESP, to=message.from_, index=self.log.committed))
            return
        last = self.log.maybe_append(message.index, message.log_term, message.commit, message.entries)
        if last is not None:
            self.send(Message(MessageType.APP_RESP, to=message.from_, index=last))
            return
        # Hint where the logs may meet, so that the leader skips a whole term at a time (§5.3, last paragraph).
        hint_index, hint_term = self.log.find_conflict_by_term(min(message.index, self.log.last_index), message.log_term)
        self.send(Message(MessageType.APP_RESP, to=message.from_, index=message.index, reject=True, reject_hint=hint_index, log_term=hint_term))

    def handle_heartbeat(self, message: Message) -> None:
        self.log.commit_to(message.commit)
        self.send(Message(MessageType.HEARTBEAT_RESP, to=message.from_, context=message.context))

    def handle_snapshot(self, message: Message) -> None:
        assert message.snapshot is not None
        restored = self._restore(message.snapshot)
        self.send(Message(MessageType.APP_RESP, to=message.from_, index=self.log.last_index if restored else self.log.committed))

    def _restore(self, snapshot: Snapshot) -> bool:
        """Take over a snapshot (§7); False when it tells nothing new or is not for us."""
        if snapshot.index <= self.log.committed:
            return False
        state = snapshot.conf_state
        if self.id not in (*state.voters, *state.learners, *state.voters_outgoing):
            self.note(f"{self.id:x} attempted to restore snapshot but it is not in its ConfState")
            return False
        if self.log.match_term(snapshot.index, snapshot.term):
            # We have the entries already: only learn that they are committed.
            self.log.commit_to(snapshot.index)
            return False
        self.log.restore(snapshot)
        self.tracker.progress = {}
        self._switch_config(confchange.restore(state))
        self.note(f"{self.id:x} restored snapshot [index: {snapshot.index}, term: {snapshot.term}]")
        return True

    # What the driver reports

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        """The entry with this change is being applied: it is in force from now on (on every member at the same index)."""
        self._switch_config(confchange.apply(self.tracker.config, change))
        if self.role is Role.LEADER:
            leader.config_changed(self)
        return self.tracker.config.conf_state()

    def _switch_config(self, config: Config) -> None:
        self.tracker.config = config
        learners = {*config.learners}
        progress = {}
        for node in sorted({*config.voters, *config.outgoing, *learners}):
            kept = self.tracker.progress.get(node)
            if kept is None:
                match = self.log.stable if node == self.id else 0
                kept = Progress(max(self.log.last_index, 1), self.tracker.new_inflights(), match)
                if node == self.id:
                    kept.next = self.log.last_index + 1
                # A newcomer counts as active, or the next quorum check could depose the leader that added it.
                kept.recent_active = True
            kept.is_learner = node in learners
            progress[node] = kept
        self.tracker.progress = progress

    def stable_to(self, index: int, term: int) -> None:
        """The log is on disk up to there: now, and only now, the leader counts itself."""
        self.log.stable_to(index, term)
        if self.role is Role.LEADER:
            leader.persisted(self)

    def applied_to(self, index: int, applied: Sequence[Entry]) -> None:
        self.log.applied_to(index)
        self.uncommitted_size = max(0, self.uncommitted_size - sum(map(entry_size, applied)))
        if self.role is Role.LEADER:
            leader.maybe_leave_joint(self)


_CARRY_TERM = frozenset({MessageType.VOTE, MessageType.VOTE_RESP, MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESP})
