"""Pure: the revisions of one key, in generations.

A generation begins when the key is created and ends with its tombstone. Example: put(1) put(2) tombstone(3) put(4) gives

    generations: [1, 2, 3(t)], [4]

    compact(1) drops nothing, 1 is what a read at 1 sees        [1, 2, 3(t)], [4]
    compact(2) drops 1                                           [2, 3(t)], [4]
    compact(3) keeps the tombstone: a watch may start at 3       [3(t)], [4]
    compact(4) drops the first generation                        [4]

Counterpart of etcd's keyIndex; unlike there the last generation is never empty: `ended` says that the key is gone. A key that was put once
and never since, as most keys of a large store are, is known by that revision alone: an integer instead of four objects.
"""

from bisect import bisect_right

from kubette.etcd.mvcc import revision


class Generation:
    """One life of a key. `version` counts its puts, also those compacted away; `created` is the revision of the first."""

    __slots__ = ("created", "ended", "revisions", "version")

    def __init__(self, created: int, version: int = 0) -> None:
        self.created = created
        self.version = version
        self.ended = False
        self.revisions: list[int] = []


class KeyIndex:
    """All that is known of one key."""

    __slots__ = ("generations",)

    def __init__(self) -> None:
        self.generations: list[Generation] = []

    @property
    def live(self) -> int:
        """The revision of the current value; 0 when the key does not exist now."""
        generation = self.generations[-1]
        return 0 if generation.ended else generation.revisions[-1]

    def put(self, at: int) -> Generation:
        """A put at revision `at`; answers the generation, with its version counted up."""
        generation = self.generations[-1] if self.generations else None
        if generation is None or generation.ended:
            generation = Generation(at)
            self.generations.append(generation)
        generation.revisions.append(at)
        generation.version += 1
        return generation

    def restore(self, at: int, created_main: int, version: int) -> None:
        """A put read back from disk, where earlier ones of its generation may be compacted away."""
        if not self.generations or self.generations[-1].ended or revision.main_of(self.generations[-1].created) != created_main:
            self.generations.append(Generation(revision.pack(created_main)))
        generation = self.generations[-1]
        generation.revisions.append(at)
        generation.version = version

    def tombstone(self, at: int) -> None:
        generation = self.generations[-1]
        assert not generation.ended, "deleting a key that does not exist"
        generation.revisions.append(at)
        generation.ended = True

    def get(self, before: int) -> int:
        """The revision seen by a read of everything below packed revision `before`; 0 when the key did not exist then."""
        for generation in reversed(self.generations):
            revisions = generation.revisions
            if revisions[0] >= before:
                continue
            place = bisect_right(revisions, before - 1)
            if generation.ended and place == len(revisions):
                return 0
            return revisions[place - 1]
        return 0

    def compact(self, main: int) -> list[int]:
        """Drop what no read at revision `main` or later can see; answers the revisions dropped."""
        dropped: list[int] = []
        before = revision.end_of(main)
        kept: list[Generation] = []
        for generation in self.generations:
            revisions = generation.revisions
            place = bisect_right(revisions, before - 1)
            if place == 0:
                kept.append(generation)
            elif generation.ended and place == len(revisions) and revision.main_of(revisions[-1]) < main:
                dropped += revisions
            else:
                dropped += revisions[: place - 1]
                del revisions[: place - 1]
                kept.append(generation)
        self.generations = kept
        return dropped


Known = int | KeyIndex  # what a store keeps of a key


def live(known: Known) -> int:
    """The revision of the current value; 0 when the key does not exist now."""
    return known if isinstance(known, int) else known.live


def get(known: Known, before: int) -> int:
    """As KeyIndex.get."""
    if isinstance(known, int):
        return known if known < before else 0
    return known.get(before)


def widened(known: Known) -> KeyIndex:
    """With room for more than one put."""
    if not isinstance(known, int):
        return known
    index = KeyIndex()
    index.put(known)
    return index


def narrowed(index: KeyIndex) -> Known:
    """The revision alone where that says everything."""
    only = index.generations[0]
    return only.revisions[0] if len(index.generations) == 1 and only.version == 1 and not only.ended and only.revisions else index
