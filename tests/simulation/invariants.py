"""What must hold after every step of any Raft cluster (RELIABILITY 2.1), seen from outside: members' logs, terms, roles, in one place."""

from dataclasses import dataclass, field

from kubette.raft import describe
from kubette.raft.core import Role
from kubette.raft.messages import ConfState, Entry
from kubette.raft.node import Node


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Seen:
    """What was seen of one member so far."""

    position: tuple[int, int, int] = (0, 0, 0)  # term, committed, applied
    led: tuple[int, int, int] | None = None  # term, last index, last term, while it leads
    checked: tuple[int, int] = (0, 0)  # last index and term up to which its log was compared


@dataclass(slots=True)
class Invariants:
    """Of one cluster, over its whole life."""

    leaders: dict[int, int] = field(default_factory=dict)  # by term
    entries: dict[tuple[int, int], tuple[Entry, int | None]] = field(default_factory=dict)  # (index, term) → the entry, the term before it
    configurations: dict[int, ConfState] = field(default_factory=dict)  # by the index that made them
    high_commit: int = 0  # the highest index that any member applied
    committed: dict[int, int] = field(default_factory=dict)  # by term: the highest index that its leader committed
    _seen: dict[int, Seen] = field(default_factory=dict)

    def started(self, member: int, term: int, committed: int, applied: int) -> None:
        self._seen[member] = Seen((term, committed, applied))

    def check(self, member: int, node: Node) -> None:
        """After a step of this member."""
        seen = self._seen[member]
        raft, log = node.raft, node.raft.log
        now = (raft.term, log.committed, log.applied)
        before = seen.position
        if now[0] < before[0] or now[1] < before[1] or now[2] < before[2]:
            raise Violation(f"INV-R7: {member:x} went back from {before} to {now}")
        if raft.role is Role.LEADER:
            self._check_leader(member, node, seen)
            seen.led = (raft.term, log.last_index, log.last_term)
        else:
            seen.led = None
        seen.position = now
        if (log.last_index, log.last_term) != seen.checked:
            self._check_matching(member, node, seen)

    def _check_leader(self, member: int, node: Node, seen: Seen) -> None:
        raft, log = node.raft, node.raft.log
        if self.leaders.setdefault(raft.term, member) != member:
            raise Violation(f"INV-R1: {member:x} and {self.leaders[raft.term]:x} lead in term {raft.term}")
        led = seen.led
        if led is None or led[0] != raft.term:
            # Of earlier terms only: a vote that comes late may make a leader of a term that is over.
            known = max((index for term, index in self.committed.items() if term < raft.term), default=0)
            if log.last_index < known:
                raise Violation(f"INV-R4: {member:x} leads term {raft.term} with a log up to {log.last_index}, {known} is committed")
        elif log.last_index < led[1] or (led[1] >= log.first_index and log.term(led[1]) != led[2]):
            raise Violation(f"INV-R2: leader {member:x} changed its own log")
        if led is not None and log.committed > seen.position[1] and log.term(log.committed) != raft.term:
            raise Violation(f"INV-R6: leader {member:x} of term {raft.term} committed an entry of term {log.term(log.committed)}")
        if log.committed > seen.position[1] and log.term(log.committed) == raft.term:
            self.committed[raft.term] = log.committed
        for progress in raft.tracker.progress.values():
            if len(progress.inflights) > raft.options.max_inflight_messages:
                raise Violation(f"INV-R13: {len(progress.inflights)} messages in flight")
        if raft.uncommitted_size > raft.options.max_uncommitted_size + raft.options.max_size_per_message:
            raise Violation(f"INV-R13: {raft.uncommitted_size} bytes uncommitted")

    def _check_matching(self, member: int, node: Node, seen: Seen) -> None:
        """INV-R3: what one (index, term) holds, and what stands before it, is the same everywhere."""
        log = node.raft.log
        seen.checked = (log.last_index, log.last_term)
        for entry in log.slice(max(log.first_index, log.last_index - 8), log.last_index + 1):
            identity = (entry, log.term(entry.index - 1))
            known = self.entries.setdefault((entry.index, entry.term), identity)
            if known != identity and (known[0] != entry or None not in (known[1], identity[1])):
                raise Violation(f"INV-R3: {member:x} holds another entry at {entry.term}/{entry.index}: {describe.entry(entry)}")

    def configured(self, member: int, index: int, state: ConfState) -> None:
        """INV-R9: one configuration an index, and from each to the next one voter, or a joint one."""
        if self.configurations.setdefault(index, state) != state:
            raise Violation(f"INV-R9: {member:x} is at another configuration at {index}: {state}, not {self.configurations[index]}")
        before = max((each for each in self.configurations if each < index), default=None)
        if before is None:
            return
        old = self.configurations[before]
        if not state.voters_outgoing and not old.voters_outgoing and len({*old.voters} ^ {*state.voters}) > 1:
            raise Violation(f"INV-R9: from {old.voters} to {state.voters} in one step")
