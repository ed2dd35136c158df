"""Pure: the replicated log of one member.

All entries after the last compaction are in memory; `stable` says how far they are on disk. Invariants:

    first_index - 1 <= applied <= committed <= last_index        stable <= last_index

Entries up to `committed` never change. Counterpart of etcd's raftLog with its unstable part and its MemoryStorage.
"""

from collections.abc import Sequence

from kubette.raft.messages import NO_LIMIT, Entry, Snapshot, entry_size


class RaftLog:
    """`entries` start right after (`offset`, `offset_term`), the last compacted position."""

    def __init__(self, snapshot: Snapshot = Snapshot(), entries: Sequence[Entry] = (), offset: tuple[int, int] | None = None) -> None:
        self.offset, self.offset_term = offset if offset is not None else (snapshot.index, snapshot.term)
        self._entries: list[Entry] = list(entries)
        if self._entries:
            assert self._entries[0].index == self.offset + 1, f"gap in the log: offset {self.offset}, first entry {self._entries[0].index}"
        self.snapshot = snapshot  # the newest one: what a member too far behind gets
        self.pending_snapshot: Snapshot | None = None  # received, and not yet persisted and applied
        self.committed = self.applied = snapshot.index
        self.stable = self.last_index

    @property
    def first_index(self) -> int:
        return self.offset + 1

    @property
    def last_index(self) -> int:
        return self.offset + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.offset_term

    def term(self, index: int) -> int | None:
        """The term of the entry at `index`; None when it is compacted or not there yet."""
        at = index - self.offset
        if 0 < at <= len(self._entries):
            return self._entries[at - 1].term
        return self.offset_term if at == 0 else None

    def match_term(self, index: int, term: int) -> bool:
        return self.term(index) == term

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends there is at least as up to date as this one (Raft §5.4.1)."""
        return last_term > self.last_term or (last_term == self.last_term and last_index >= self.last_index)

    def slice(self, low: int, high: int, max_size: int = NO_LIMIT) -> tuple[Entry, ...]:
        """Entries low <= index < high, at least one if there is one, together at most `max_size` bytes."""
        assert low >= self.first_index, f"slice from compacted index {low}, first is {self.first_index}"
        entries = self._entries[low - self.offset - 1 : high - self.offset - 1]
        if max_size < NO_LIMIT:
            size = 0
            for count, entry in enumerate(entries):
                size += entry_size(entry)
                if count and size > max_size:
                    return tuple(entries[:count])
        return tuple(entries)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; whatever stood at their indexes or after is replaced."""
        if not entries:
            return
        after = entries[0].index - 1
        assert after >= self.committed, f"appending after {after} would replace committed entries (committed {self.committed})"
        assert after <= self.last_index, f"gap in the log: last {self.last_index}, append after {after}"
        del self._entries[after - self.offset :]
        self._entries.extend(entries)
        self.stable = min(self.stable, after)

    def maybe_append(self, index: int, log_term: int, commit: int, entries: Sequence[Entry]) -> int | None:
        """A leader's append after (index, log_term): the new last index of what it sent, or None if the logs do not match there."""
        if not self.match_term(index, log_term):
            return None
        last_new = index + len(entries)
        conflict = self._find_conflict(entries)
        if conflict:
            # A delayed append that is a prefix of our log changes nothing (Raft §5.3: only a conflict truncates).
            assert conflict > self.committed, f"entry {conflict} conflicts with committed entry (committed {self.committed})"
            self.append(entries[conflict - index - 1 :])
        self.commit_to(min(commit, last_new))
        return last_new

    def _find_conflict(self, entries: Sequence[Entry]) -> int:
        """The index of the first entry that is new or differs from ours; 0 when all are there."""
        for entry in entries:
            if not self.match_term(entry.index, entry.term):
                return entry.index
        return 0

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The highest position at or before `index` whose term is at most `term`: where two logs may meet."""
        index = min(index, self.last_index)
        while index > self.offset:
            ours = self.term(index)
            assert ours is not None
            if ours <= term:
                return index, ours
            index -= 1
        ours = self.term(index)
        return index, ours if ours is not None and ours <= term else 0

    def commit_to(self, index: int) -> None:
        """Committed never goes back."""
        if index > self.committed:
            assert index <= self.last_index, (
                f"commit index {index} is beyond the last index {self.last_index}: was the log corrupted, truncated, or lost?"
            )
            self.committed = index

    def maybe_commit(self, index: int, term: int) -> bool:
        """Commit by counting: only an entry of the current term (Raft §5.4.2)."""
        if index > self.committed and self.match_term(index, term):
            self.commit_to(index)
            return True
        return False

    def applied_to(self, index: int) -> None:
        assert self.applied <= index <= self.committed, f"applied {index} is out of range [{self.applied}, {self.committed}]"
        self.applied = index

    def stable_to(self, index: int, term: int) -> None:
        """Everything up to (index, term) is on disk; ignored if the entry has been replaced meanwhile."""
        if index > self.stable and self.match_term(index, term):
            self.stable = index

    def unstable_entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries[self.stable - self.offset :]) if self.stable < self.last_index else ()

    def next_committed_entries(self, max_size: int = NO_LIMIT) -> tuple[Entry, ...]:
        """Committed and not applied. Nothing while a snapshot waits to be applied."""
        if self.pending_snapshot is not None or self.committed <= self.applied:
            return ()
        return self.slice(self.applied + 1, self.committed + 1, max_size)

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the whole log by a snapshot received."""
        self.offset, self.offset_term = snapshot.index, snapshot.term
        self._entries = []
        self.snapshot = self.pending_snapshot = snapshot
        self.committed = self.stable = snapshot.index

    def compact(self, index: int) -> None:
        """Forget the entries up to `index`; they must be applied."""
        assert index <= self.applied, f"compacting to {index}, beyond applied {self.applied}"
        if index <= self.offset:
            return
        term = self.term(index)
        assert term is not None
        del self._entries[: index - self.offset]
        self.offset, self.offset_term = index, term
