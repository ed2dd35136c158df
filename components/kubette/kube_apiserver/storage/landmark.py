"""Pure: what is remembered of etcd's history, to tell later whether a server goes on with that history or with another one.

An etcd restored from a snapshot begins again at the snapshot's revision. Once it is past what was seen, its revisions alone look like progress, and
its cluster and member ids are those of before when the names, addresses and token are. But no two histories have the same record at one revision:
so the last events are kept, and are looked up again as of their revisions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kubette.etcd_api import kv_pb2

Found = Sequence[kv_pb2.KeyValue]


@dataclass(frozen=True, slots=True)
class Question:
    """A key to be read as of a revision, and whether what is found there belongs to the history."""

    key: bytes
    revision: int
    is_ours: Callable[[Found], bool]


class Landmark:
    """The last event seen, and the last put among them: a deletion leaves nothing that could be recognised."""

    def __init__(self) -> None:
        self._put: kv_pb2.KeyValue | None = None
        self._deletion: kv_pb2.KeyValue | None = None

    def remember(self, event: kv_pb2.Event) -> None:
        if event.type == kv_pb2.Event.DELETE:
            self._deletion = event.kv
        else:
            self._put, self._deletion = event.kv, None

    def forget(self) -> None:
        self._put = self._deletion = None

    def questions(self) -> list[Question]:
        """All must be answered as here for a history to be the one that was seen."""
        asked = []
        if (put := self._put) is not None:
            asked.append(Question(put.key, put.mod_revision, lambda found: list(found) == [put]))
        if (deletion := self._deletion) is not None:
            asked.append(Question(deletion.key, deletion.mod_revision, lambda found: not found))
            asked.append(Question(deletion.key, deletion.mod_revision - 1, lambda found: len(found) == 1))
        return asked
