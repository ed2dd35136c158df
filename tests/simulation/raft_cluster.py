"""A Raft cluster in one thread: every choice comes from one seed, every invariant is checked after every step.

The disk loses what was not synced (a torn write may keep some entries without the hard state); the network drops, repeats,
delays and reorders; members crash, are cut off, added, removed, and catch up by snapshots. Fault classes are switched per seed
(swarm testing), so that rare mixes occur. After the faults comes a quiet phase in which the cluster must make progress.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from kubette.raft import describe
from kubette.raft.confchange import ConfChangeError
from kubette.raft.core import Options, Role
from kubette.raft.log import RaftLog
from kubette.raft.messages import (
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
from kubette.raft.node import Node, Ready
from simulation.invariants import Invariants, Violation

MAX_IN_NETWORK = 400
LIVENESS_ROUNDS = 400
KEEP_BEHIND_SNAPSHOT = 3
WIDE = 1 << 20  # seeds from here on do more: hand over, joint changes of every kind, larger clusters (those below stay what they were)


@dataclass
class Disk:
    """What a member finds when it starts: only what was synced."""

    hard_state: HardState = field(default_factory=HardState)
    snapshot: Snapshot = field(default_factory=Snapshot)
    offset: tuple[int, int] = (0, 0)
    entries: list[Entry] = field(default_factory=list)

    def append(self, entries: tuple[Entry, ...]) -> None:
        if entries:
            del self.entries[max(0, entries[0].index - self.offset[0] - 1) :]
            self.entries.extend(entries)

    def install(self, snapshot: Snapshot) -> None:
        self.snapshot, self.offset, self.entries = snapshot, (snapshot.index, snapshot.term), []


@dataclass
class Member:
    id: int
    disk: Disk
    node: Node | None = None
    under_way: Ready | None = None
    applied: int = 0
    chain: bytes = b""  # the hash of everything applied: the state machine
    conf_state: ConfState = field(default_factory=ConfState)
    reads: dict[bytes, int] = field(default_factory=dict)  # context -> what was committed when it was asked


@dataclass(frozen=True)
class Faults:
    """Which classes are on, and how often."""

    drop: float
    duplicate: float
    crash: float
    partition: float
    reconfigure: float
    compact: float
    torn: float
    pre_vote: bool
    check_quorum: bool

    @classmethod
    def draw(cls, rng: random.Random) -> "Faults":
        def maybe(rate: float) -> float:
            return rng.random() * rate if rng.random() < 0.6 else 0.0

        return cls(maybe(0.3), maybe(0.3), maybe(0.02), maybe(0.02), maybe(0.02), maybe(0.03), maybe(0.5), rng.random() < 0.8, rng.random() < 0.8)


def chained(before: bytes, *parts: object) -> bytes:
    return hashlib.blake2b(before + repr(parts).encode(), digest_size=12).digest()


class Cluster:
    """Members 1..n and the network between them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.seed = seed
        self.faults = Faults.draw(self.rng)
        self.wide = seed >= WIDE
        size = self.rng.choice((1, 2, 3, 3, 4, 5, 7) if self.wide else (1, 2, 3, 3, 3, 5, 5))
        voters = ConfState(tuple(range(1, size + 1)))
        self.members = {node: Member(node, Disk(snapshot=Snapshot(0, 0, voters))) for node in range(1, size + 1)}
        self.next_id = size + 1
        # The first configuration stands in no entry here: whoever comes later must know it, as etcd's bootstrap entries tell.
        self.bootstrap = Snapshot(0, 0, voters)
        self.network: list[Message] = []
        self.cut: set[int] = set()
        self.invariants = Invariants()
        self.committed: dict[int, bytes] = {}
        self.proposals = 0
        self.trace: list[str] = []
        for member in self.members.values():
            self.start(member)

    # Members

    def start(self, member: Member) -> None:
        disk = member.disk
        log = RaftLog(disk.snapshot, disk.entries, disk.offset)
        log.committed = log.applied = disk.snapshot.index
        options = Options(
            member.id,
            election_ticks=5,
            heartbeat_ticks=1,
            max_size_per_message=200,
            max_inflight_messages=4,
            max_committed_size_per_ready=300,
            pre_vote=self.faults.pre_vote,
            check_quorum=self.faults.check_quorum,
        )
        hard_state = disk.hard_state._replace(commit=min(disk.hard_state.commit, log.last_index))
        member.node = Node(options, log, hard_state, disk.snapshot.conf_state, random.Random(self.rng.random()))
        member.under_way = None
        member.applied, member.chain = disk.snapshot.index, disk.snapshot.data
        member.conf_state = disk.snapshot.conf_state
        self.invariants.started(member.id, hard_state.term, disk.snapshot.index, disk.snapshot.index)
        member.reads = {}
        self.note(f"start {member.id}")

    def crash(self, member: Member) -> None:
        ready = member.under_way
        if ready is not None and ready.entries and ready.snapshot is None and self.rng.random() < self.faults.torn:
            # A torn write: some entries arrived, the hard state that was written after them did not.
            kept = ready.entries[: self.rng.randrange(len(ready.entries) + 1)]
            member.disk.append(kept)
        member.node = None
        member.under_way = None
        self.note(f"crash {member.id}")

    def note(self, text: str) -> None:
        self.trace.append(text)

    def alive(self) -> list[Member]:
        return [member for member in self.members.values() if member.node is not None]

    # One step

    def step(self) -> None:
        rng, faults = self.rng, self.faults
        roll = rng.random()
        if roll < faults.crash:
            alive = self.alive()
            if alive:
                self.crash(rng.choice(alive))
        elif roll < faults.crash + faults.partition:
            self.cut = set() if self.cut and rng.random() < 0.6 else {node for node in self.members if rng.random() < 0.4}
            self.note(f"cut {sorted(self.cut)}")
        elif roll < faults.crash + faults.partition + faults.reconfigure:
            self.reconfigure()
        else:
            self.ordinary_step()

    def ordinary_step(self) -> None:
        rng = self.rng
        down = [member for member in self.members.values() if member.node is None]
        if down and rng.random() < 0.05:
            self.start(rng.choice(down))
            return
        alive = self.alive()
        if not alive:
            return
        if self.wide and rng.random() < 0.06:
            self.wide_step(rng.choice(alive))
            return
        kind = rng.random()
        if kind < 0.45 and self.network:
            self.deliver()
        elif kind < 0.80:
            busy = [member for member in alive if member.under_way is not None or member.node.has_ready()]  # type: ignore[union-attr]
            if busy:
                self.work(rng.choice(busy))
        elif kind < 0.92:
            member = rng.choice(alive)
            assert member.node is not None
            member.node.tick()
            self.check(member)
        elif kind < 0.97:
            self.propose(rng.choice(alive))
        elif kind < 0.985:
            self.read(rng.choice(alive))
        else:
            self.compact(rng.choice(alive))

    def deliver(self) -> None:
        place = self.rng.randrange(len(self.network))
        message = self.network[place]
        if self.rng.random() >= self.faults.duplicate:
            self.network[place] = self.network[-1]
            self.network.pop()
        self.hand_over(message)

    def hand_over(self, message: Message) -> None:
        member = self.members.get(message.to)
        if member is None or member.node is None or (message.from_ in self.cut) != (message.to in self.cut):
            self.report(message, failed=True)
            return
        self.note(describe.message(message))
        try:
            member.node.step(message)
        except ProposalDropped:
            return
        self.check(member)
        self.report(message, failed=False)

    def send(self, messages: object) -> None:
        for message in messages:  # type: ignore[attr-defined]
            if message.type is MessageType.SNAP:
                message = self.freshest(message)
            if self.rng.random() >= self.faults.drop and len(self.network) < MAX_IN_NETWORK:
                self.network.append(message)
            else:
                self.report(message, failed=True)

    def freshest(self, message: Message) -> Message:
        """What a driver sends is its state as of now: the snapshot that Raft knows of may be older than the newcomer's addition."""
        sender = self.members[message.from_]
        assert sender.node is not None
        assert message.snapshot is not None
        log = sender.node.raft.log
        if sender.applied <= message.snapshot.index or log.applied != sender.applied:
            return message
        return message._replace(snapshot=Snapshot(sender.applied, log.term(sender.applied) or 0, sender.conf_state, sender.chain))

    def report(self, message: Message, failed: bool) -> None:
        """A snapshot's transport always ends, and the sender hears how."""
        sender = self.members[message.from_].node
        if message.type is MessageType.SNAP and sender is not None:
            sender.report_snapshot(message.to, failed)

    def work(self, member: Member) -> None:
        """First half of a Ready (what needs no disk), or its second half (the disk is done)."""
        node = member.node
        assert node is not None
        if member.under_way is None:
            member.under_way = node.ready()
            self.send(member.under_way.messages)
            self.note(f"ready {member.id}")
        else:
            self.complete(member)
        self.check(member)

    def complete(self, member: Member) -> None:
        node, ready = member.node, member.under_way
        assert node is not None
        assert ready is not None
        disk = member.disk
        if ready.snapshot is not None:
            disk.install(ready.snapshot)
            member.applied, member.chain, member.conf_state = ready.snapshot.index, ready.snapshot.data, ready.snapshot.conf_state
        disk.append(ready.entries)
        if ready.hard_state is not None:
            disk.hard_state = ready.hard_state
        self.note(f"synced {member.id}: {[describe.entry(each) for each in ready.entries]} {ready.hard_state}")
        self.send(ready.messages_after_persist)
        for state in ready.read_states:
            asked = member.reads.pop(state.context, None)
            if asked is not None and state.index < asked:
                raise Violation(f"stale read at {member.id}: index {state.index}, {asked} was committed when it was asked")
        for entry in ready.committed_entries:
            self.apply(member, entry)
        member.under_way = None
        node.advance()

    def apply(self, member: Member, entry: Entry) -> None:
        if entry.index <= member.applied:
            return
        if entry.index != member.applied + 1:
            raise Violation(f"{member.id} applies {entry.index} after {member.applied}")
        member.applied = entry.index
        member.chain = chained(member.chain, entry)
        known = self.committed.setdefault(entry.index, member.chain)
        if known != member.chain:
            raise Violation(f"INV-R5: {member.id} applies another entry at {entry.index}: {describe.entry(entry)}")
        self.invariants.high_commit = max(self.invariants.high_commit, entry.index)
        if entry.type is not EntryType.NORMAL:
            assert member.node is not None
            try:
                member.conf_state = member.node.apply_conf_change(decode_change(entry.data))
                self.invariants.configured(member.id, entry.index, member.conf_state)
            except ConfChangeError:
                pass

    # What clients and operators do

    def propose(self, member: Member) -> bool:
        assert member.node is not None
        self.proposals += 1
        try:
            member.node.propose([b"p%d" % self.proposals] * self.rng.choice((1, 1, 3)))
        except ProposalDropped:
            return False
        self.check(member)
        return True

    def read(self, member: Member) -> None:
        assert member.node is not None
        self.proposals += 1
        context = b"r%d" % self.proposals
        member.reads[context] = self.invariants.high_commit
        member.node.read_index(context)
        self.check(member)

    def compact(self, member: Member) -> None:
        if self.rng.random() > self.faults.compact * 20 or member.node is None or member.under_way is not None:
            return
        log = member.node.raft.log
        if log.pending_snapshot is not None or log.applied != member.applied or member.applied <= log.snapshot.index:
            return
        snapshot = Snapshot(member.applied, log.term(member.applied) or 0, member.conf_state, member.chain)
        to = max(log.offset, member.applied - KEEP_BEHIND_SNAPSHOT)
        member.node.compact(to, snapshot)
        disk = member.disk
        # On disk the log may still be longer than in memory: keep what was synced after the new start.
        disk.entries = [entry for entry in disk.entries if entry.index > log.offset]
        disk.snapshot, disk.offset = snapshot, (log.offset, log.offset_term)
        self.note(f"compact {member.id} to {to}")

    def wide_step(self, member: Member) -> None:
        """What only some clusters do: their leader is asked to hand over, or changes the configuration in some other way; the transport complains."""
        node = member.node
        assert node is not None
        kind = self.rng.random()
        try:
            if kind < 0.3:
                target = self.rng.choice(list(self.members))
                node.transfer_leadership(target)
                self.note(f"transfer {member.id} to {target}")
            elif kind < 0.4:
                node.report_unreachable(self.rng.choice(list(self.members)))
            elif kind < 0.6:
                node.propose_conf_change(b"")
                self.note(f"leave {member.id}")
            elif self.faults.reconfigure:
                self.change_jointly(member, node)
        except ProposalDropped:
            return
        self.check(member)

    def change_jointly(self, member: Member, node: Node) -> None:
        """Any members may become anything, as long as there are voters enough for a fault."""
        state = member.conf_state
        known = [*state.voters, *state.learners]
        changes = [(self.rng.choice(tuple(ConfChangeType)), self.rng.choice(known)) for _ in range(self.rng.randint(1, 3)) if known]
        voters = {*state.voters}
        for kind, target in changes:
            if kind is ConfChangeType.ADD_NODE:
                voters.add(target)
            elif kind is not ConfChangeType.UPDATE_NODE:
                voters.discard(target)
        # Two of the old voters stay: newcomers alone may need the vote of one that has gone on without them (the same as from two to one, below).
        if len(voters) < min(3, len(state.voters)) or len(voters & {*state.voters}) < min(2, len(state.voters)) or not changes:
            return
        change = ConfChange(tuple(changes), self.rng.choice((Transition.JOINT_IMPLICIT, Transition.JOINT_EXPLICIT)))
        node.propose_conf_change(encode_change(change))
        self.note(f"change {change.changes} {change.transition.name}")

    def reconfigure(self) -> None:
        leader = next((member for member in self.alive() if member.node.raft.role is Role.LEADER), None)  # type: ignore[union-attr]
        if leader is None or len(self.members) > 7:
            return
        assert leader.node is not None
        state = leader.conf_state
        kind = self.rng.choice((ConfChangeType.ADD_NODE, ConfChangeType.REMOVE_NODE, ConfChangeType.ADD_LEARNER_NODE))
        changes = []
        for _ in range(self.rng.choice((1, 1, 2))):
            # Not from two to one: the one needs the other's vote until it knows that the change is committed (known, as in etcd).
            if kind is ConfChangeType.REMOVE_NODE and len(state.voters) > 3:
                changes.append((kind, self.rng.choice(state.voters)))
            elif state.learners and self.rng.random() < 0.5:
                changes.append((ConfChangeType.ADD_NODE, self.rng.choice(state.learners)))
            else:
                node = self.next_id
                self.next_id += 1
                self.members[node] = Member(node, Disk(snapshot=self.bootstrap))
                self.start(self.members[node])
                changes.append((ConfChangeType.ADD_NODE if kind is ConfChangeType.REMOVE_NODE else kind, node))
        change = ConfChange(tuple(changes), Transition.AUTO)
        try:
            leader.node.propose_conf_change(encode_change(change))
        except ProposalDropped:
            return
        self.note(f"reconfigure {change.changes}")
        self.check(leader)

    def check(self, member: Member) -> None:
        assert member.node is not None
        self.invariants.check(member.id, member.node)

    # Phases

    def run(self, steps: int) -> None:
        """Faults, then quiet."""
        try:
            for _ in range(steps):
                self.step()
            self.quiet_phase()
        except (Violation, AssertionError) as error:
            tail = "\n".join(self.trace[-40:])
            raise Violation(f"seed {self.seed}: {error}\nreplay: scripts/simulate {self.seed}\n{tail}") from error

    def quiet_phase(self) -> None:
        """INV-R12: with everyone up and connected, something new commits within a bound."""
        self.cut = set()
        self.faults = Faults(0, 0, 0, 0, 0, 0, 0, self.faults.pre_vote, self.faults.check_quorum)
        for member in self.members.values():
            if member.node is None:
                self.start(member)
        target = None
        for _ in range(LIVENESS_ROUNDS):
            for member in list(self.members.values()):
                assert member.node is not None
                member.node.tick()
                self.check(member)
            for _ in self.settle():
                pass
            if target is not None and self.invariants.high_commit >= target:
                return
            leader = next((m for m in self.alive() if m.node.raft.role is Role.LEADER and m.node.raft.lead_transferee == 0), None)  # type: ignore[union-attr]
            if leader is None or leader.node is None or not leader.node.raft.tracker.progress.get(leader.id):
                continue
            # Once more when it got lost: with a leader that was deposed before anyone else had the entry.
            if (target is None or leader.node.raft.log.last_index < target) and self.propose(leader):
                target = leader.node.raft.log.last_index
        raise Violation(
            "INV-R12: nothing commits although all members are up and connected: " + "; ".join(describe.status(m.node) for m in self.alive())
        )  # type: ignore[arg-type]

    def settle(self) -> Iterator[None]:
        for _ in range(200):
            moved = False
            for member in self.alive():
                assert member.node is not None
                if member.under_way is not None or member.node.has_ready():
                    self.work(member)
                    moved = True
            messages, self.network = self.network, []
            for message in messages:
                self.hand_over(message)
                moved = True
            yield
            if not moved:
                return


def encode_change(change: ConfChange) -> bytes:
    return repr([(int(kind), node) for kind, node in change.changes] + ([int(change.transition)] if change.transition else [])).encode()


def decode_change(data: bytes) -> ConfChange:
    if not data:
        return ConfChange()
    changes = eval(data)
    transition = Transition(changes.pop()) if isinstance(changes[-1], int) else Transition.AUTO
    return ConfChange(tuple((ConfChangeType(kind), node) for kind, node in changes), transition)


def simulate(seed: int, steps: int = 700) -> Cluster:
    """Run one schedule; raises Violation with the seed and the last steps."""
    cluster = Cluster(seed)
    cluster.run(steps)
    return cluster
