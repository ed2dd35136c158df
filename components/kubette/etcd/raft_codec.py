"""Pure: the Raft library's values as etcd's raftpb messages, and back."""

from kubette.etcd_api import raft_pb2 as pb
from kubette.raft.messages import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
    Transition,
)

_ENTRY_TYPES = tuple(EntryType)
_MESSAGE_TYPES = tuple(MessageType)


def entry_bytes(entry: Entry) -> bytes:
    """Every field is written, also if zero, as etcd does."""
    return pb.Entry(Type=entry.type, Term=entry.term, Index=entry.index, Data=entry.data).SerializeToString()  # type: ignore[no-any-return,arg-type]


def entry_from(message: pb.Entry) -> Entry:
    return Entry(message.Term, message.Index, message.Data, _ENTRY_TYPES[message.Type])


def hard_state_bytes(state: HardState) -> bytes:
    return pb.HardState(term=state.term, vote=state.vote, commit=state.commit).SerializeToString()  # type: ignore[no-any-return]


def conf_state_to(state: ConfState) -> pb.ConfState:
    return pb.ConfState(
        voters=state.voters,
        learners=state.learners,
        voters_outgoing=state.voters_outgoing,
        learners_next=state.learners_next,
        auto_leave=state.auto_leave,
    )


def conf_state_from(message: pb.ConfState) -> ConfState:
    return ConfState(
        tuple(sorted(message.voters)),
        tuple(sorted(message.learners)),
        tuple(sorted(message.voters_outgoing)),
        tuple(sorted(message.learners_next)),
        message.auto_leave,
    )


def snapshot_to(snapshot: Snapshot) -> pb.Snapshot:
    metadata = pb.SnapshotMetadata(conf_state=conf_state_to(snapshot.conf_state), index=snapshot.index, term=snapshot.term)
    return pb.Snapshot(data=snapshot.data, metadata=metadata)


def snapshot_from(message: pb.Snapshot) -> Snapshot:
    return Snapshot(message.metadata.index, message.metadata.term, conf_state_from(message.metadata.conf_state), message.data)


def message_bytes(message: Message) -> bytes:
    wire = pb.Message(
        type=message.type,
        to=message.to,
        term=message.term,
        logTerm=message.log_term,
        index=message.index,
        commit=message.commit,
        reject=message.reject,
        rejectHint=message.reject_hint,
        entries=[pb.Entry(Type=each.type, Term=each.term, Index=each.index, Data=each.data) for each in message.entries],  # type: ignore[arg-type]
    )
    setattr(wire, "from", message.from_)  # a keyword of Python
    if message.context:
        wire.context = message.context
    if message.snapshot is not None:
        wire.snapshot.CopyFrom(snapshot_to(message.snapshot))
    return wire.SerializeToString()  # type: ignore[no-any-return]


def message_from(data: bytes) -> Message:
    """Raises ValueError on anything that is no message."""
    try:
        wire = pb.Message.FromString(data)
    except Exception as error:
        raise ValueError(f"cannot decode a raft message: {error}") from error
    if not 0 <= wire.type < len(_MESSAGE_TYPES):
        raise ValueError(f"unknown raft message type {wire.type}")
    return Message(
        _MESSAGE_TYPES[wire.type],
        wire.to,
        getattr(wire, "from"),
        wire.term,
        wire.logTerm,
        wire.index,
        tuple([entry_from(each) for each in wire.entries]),
        wire.commit,
        snapshot_from(wire.snapshot) if wire.HasField("snapshot") and wire.snapshot.metadata.index else None,
        wire.reject,
        wire.rejectHint,
        wire.context,
    )


def conf_change_of(entry: Entry) -> tuple[ConfChange, bytes, int]:
    """The change of a configuration entry, with its context (etcd's membership data) and id (0 for the second form)."""
    if entry.type is EntryType.CONF_CHANGE:
        single = pb.ConfChange.FromString(entry.data)
        return ConfChange(((ConfChangeType(single.type), single.node_id),)), single.context, single.id
    message = pb.ConfChangeV2.FromString(entry.data)
    changes = tuple((ConfChangeType(each.type), each.node_id) for each in message.changes)
    return ConfChange(changes, Transition(message.transition)), message.context, 0
