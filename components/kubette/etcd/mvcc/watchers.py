"""Pure: who hears of which changes.

A watcher is *synced* when it has been given everything up to the current revision: changes reach it as they happen. It is
*unsynced* when it starts in the past, or when its receiver could not take more: then it is fed from history, at its
receiver's pace. So a slow receiver costs no memory and delays nobody; if compaction overtakes it, it is cancelled.

Counterpart of etcd's watchableStore with its watcher groups. Promises (RELIABILITY INV-W): to one watcher changes come in
order, none twice, none left out, and all of one revision together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kubette.etcd.mvcc import revision
from kubette.etcd.mvcc.store import FROM_KEY, Change, CompactedError, Store

BATCH_CHANGES = 1000  # from history, a turn: etcd's watchBatchMaxRevs


@dataclass(eq=False, slots=True)
class Watcher:
    """One watch. `deliver` takes (revision so far, changes) and answers False when nothing more fits: it has not taken them."""

    key: bytes
    range_end: bytes
    next_revision: int  # the first revision it has not been given
    deliver: Callable[[int, Sequence[Change]], bool]
    compacted: Callable[[int], None]
    no_put: bool = False
    no_delete: bool = False

    def wants(self, change: Change) -> bool:
        return not (self.no_delete if change.deleted else self.no_put)

    def covers(self, key: bytes) -> bool:
        if not self.range_end:
            return key == self.key
        return self.key <= key and (self.range_end == FROM_KEY or key < self.range_end)


@dataclass(slots=True)
class WatcherHub:
    """All watchers of one store."""

    store: Store
    _by_key: dict[bytes, dict[Watcher, None]] = field(default_factory=dict)
    _by_range: dict[tuple[bytes, bytes], dict[Watcher, None]] = field(default_factory=dict)
    _unsynced: dict[Watcher, None] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self._by_key.values())) + sum(map(len, self._by_range.values())) + len(self._unsynced)

    def statistics(self) -> dict[str, int]:
        unsynced = len(self._unsynced)
        return {"synced": len(self) - unsynced, "unsynced": unsynced}

    def add(self, watcher: Watcher) -> None:
        if watcher.next_revision > self.store.current:
            self._add_synced(watcher)
        else:
            self._unsynced[watcher] = None

    def _add_synced(self, watcher: Watcher) -> None:
        if watcher.range_end:
            self._by_range.setdefault((watcher.key, watcher.range_end), {})[watcher] = None
        else:
            self._by_key.setdefault(watcher.key, {})[watcher] = None

    def _remove_synced(self, watcher: Watcher) -> bool:
        if watcher.range_end:
            groups: dict[tuple[bytes, bytes], dict[Watcher, None]] = self._by_range
            return _remove(groups, (watcher.key, watcher.range_end), watcher)
        return _remove(self._by_key, watcher.key, watcher)

    def remove(self, watcher: Watcher) -> None:
        if watcher in self._unsynced:
            del self._unsynced[watcher]
        else:
            self._remove_synced(watcher)

    def is_synced(self, watcher: Watcher) -> bool:
        return watcher not in self._unsynced

    def notify(self, changes: Sequence[Change]) -> None:
        """One transaction's changes, right after it ended."""
        if not self._by_key and not self._by_range:
            return
        main = revision.main_of(changes[0].revision)
        given: dict[Watcher, list[Change]] = {}
        for change in changes:
            key = change.key
            for watcher in self._by_key.get(key, ()):
                if watcher.wants(change):
                    given.setdefault(watcher, []).append(change)
            for (start, end), group in self._by_range.items():
                if start <= key and (key < end or end == FROM_KEY):
                    for watcher in group:
                        if watcher.wants(change):
                            given.setdefault(watcher, []).append(change)
        for watcher, wanted in given.items():
            if watcher.next_revision > main:
                continue  # it starts in the future
            if watcher.deliver(main, wanted):
                watcher.next_revision = main + 1
            else:
                # Its receiver is full: from here on history feeds it.
                self._remove_synced(watcher)
                watcher.next_revision = main
                self._unsynced[watcher] = None

    def replace_store(self, store: Store) -> None:
        """The store was replaced by a snapshot: every watcher goes on from history, where it stopped."""
        for group in [*self._by_key.values(), *self._by_range.values()]:
            for watcher in group:
                # It has everything of the store before: what is compacted of that, it does not miss.
                watcher.next_revision = max(watcher.next_revision, self.store.current + 1)
                self._unsynced[watcher] = None
        self.store = store
        self._by_key, self._by_range = {}, {}

    def has_unsynced(self) -> bool:
        return bool(self._unsynced)

    def backlog(self) -> int:
        """Revisions that the unsynced watchers have yet to look at."""
        return sum(max(0, self.store.current + 1 - watcher.next_revision) for watcher in self._unsynced)

    def sync(self) -> bool:
        """Feed every unsynced watcher one batch from history; answers whether any of them made progress."""
        progressed = False
        for watcher in list(self._unsynced):
            if watcher.next_revision > self.store.current:
                del self._unsynced[watcher]
                self._add_synced(watcher)
                continue
            try:
                changes, following = self.store.changes_since(watcher.next_revision, BATCH_CHANGES)
            except CompactedError:
                del self._unsynced[watcher]
                watcher.compacted(self.store.compacted)
                progressed = True
                continue
            wanted = [change for change in changes if watcher.covers(change.key) and watcher.wants(change)]
            if wanted and not watcher.deliver(following - 1, wanted):
                continue
            progressed = True
            watcher.next_revision = following
            if following > self.store.current:
                del self._unsynced[watcher]
                self._add_synced(watcher)
        return progressed


def _remove(groups: dict, key: object, watcher: Watcher) -> bool:  # type: ignore[type-arg]
    group = groups.get(key)
    if group is None or watcher not in group:
        return False
    del group[watcher]
    if not group:
        del groups[key]
    return True
