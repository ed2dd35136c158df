"""Pure: the values of Raft: entries, messages, states. Names and numbers are etcd's raftpb.

Entries and messages are named tuples: immutable, and cheap to make on the hot path.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

NO_NODE = 0  # no leader, no vote
NO_LIMIT = 1 << 62


class EntryType(IntEnum):
    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class MessageType(IntEnum):
    HUP = 0
    BEAT = 1
    PROP = 2
    APP = 3
    APP_RESP = 4
    VOTE = 5
    VOTE_RESP = 6
    SNAP = 7
    HEARTBEAT = 8
    HEARTBEAT_RESP = 9
    UNREACHABLE = 10
    SNAP_STATUS = 11
    CHECK_QUORUM = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    PRE_VOTE = 17
    PRE_VOTE_RESP = 18


class Entry(NamedTuple):
    """One entry of the log. A CONF_CHANGE_V2 without data leaves a joint configuration."""

    term: int
    index: int  # type: ignore[assignment]
    data: bytes = b""
    type: EntryType = EntryType.NORMAL


@dataclass(frozen=True, slots=True)
class ConfState:
    """Who votes and who learns, sorted. `voters_outgoing` is not empty while the configuration is joint."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state machine as of `index`. The core never looks at `data`."""

    index: int = 0  # type: ignore[assignment]
    term: int = 0
    conf_state: ConfState = ConfState()
    data: bytes = b""


class Message(NamedTuple):
    """What members tell each other. `term` 0 marks a local message."""

    type: MessageType
    to: int = 0
    from_: int = 0
    term: int = 0
    log_term: int = 0
    index: int = 0  # type: ignore[assignment]
    entries: tuple[Entry, ...] = ()
    commit: int = 0
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: int = 0
    context: bytes = b""


class HardState(NamedTuple):
    """What must survive a crash before a message that depends on it is sent."""

    term: int = 0
    vote: int = NO_NODE
    commit: int = 0


class ReadState(NamedTuple):
    """A read may be answered from the state machine once it has applied `index`."""

    index: int  # type: ignore[assignment]
    context: bytes


class ConfChangeType(IntEnum):
    ADD_NODE = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER_NODE = 3


class Transition(IntEnum):
    AUTO = 0  # joint only if more than one voter changes
    JOINT_IMPLICIT = 1  # joint, left automatically
    JOINT_EXPLICIT = 2  # joint, left by a second change


@dataclass(frozen=True, slots=True)
class ConfChange:
    """Changes to make at once. None at all means: leave the joint configuration."""

    changes: tuple[tuple[ConfChangeType, int], ...] = ()
    transition: Transition = Transition.AUTO


# A reply is dropped when it comes from no member we know.
RESPONSES = frozenset(
    {
        MessageType.APP_RESP,
        MessageType.VOTE_RESP,
        MessageType.HEARTBEAT_RESP,
        MessageType.UNREACHABLE,
        MessageType.READ_INDEX_RESP,
        MessageType.PRE_VOTE_RESP,
    }
)
# These are made by the member itself; one that arrives from the network is a mistake.
LOCAL = frozenset({MessageType.HUP, MessageType.BEAT, MessageType.UNREACHABLE, MessageType.SNAP_STATUS, MessageType.CHECK_QUORUM})
# Promises: they may leave only when what they promise is on disk. A request for votes promises the own vote.
AFTER_PERSIST = frozenset({MessageType.APP_RESP, MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP, MessageType.VOTE, MessageType.PRE_VOTE})

ENTRY_OVERHEAD = 16  # term, index and type count too, so that empty entries cannot grow without limit


def entry_size(entry: Entry) -> int:
    """The bytes that limits count for an entry."""
    return len(entry.data) + ENTRY_OVERHEAD


class ProposalDropped(Exception):
    """The proposal surely did not enter the log: no leader, a transfer under way, or too much uncommitted. Try again later."""
