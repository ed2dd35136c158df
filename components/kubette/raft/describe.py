"""Pure: Raft's values as one line of text each, for logs, stories and failures of the simulation."""

from kubette.raft.messages import Entry, Message, Snapshot
from kubette.raft.node import Node


def entry(value: Entry) -> str:
    return f"{value.term}/{value.index} {value.type.name} {value.data.decode('utf-8', 'backslashreplace')!r}"


def snapshot(value: Snapshot) -> str:
    return f"index {value.index} term {value.term} voters {list(value.conf_state.voters)} learners {list(value.conf_state.learners)}"


def message(value: Message) -> str:
    """`1->2 APP term 1 log 1/4 commit 3 entries [...]`: only the fields that are set."""
    parts = [f"{value.from_:x}->{value.to:x} {value.type.name} term {value.term} log {value.log_term}/{value.index}"]
    if value.reject:
        parts.append(f"rejected (hint {value.reject_hint})")
    if value.commit:
        parts.append(f"commit {value.commit}")
    if value.context:
        parts.append(f"context {value.context!r}")
    if value.entries:
        parts.append("entries [" + ", ".join(entry(e) for e in value.entries) + "]")
    if value.snapshot is not None:
        parts.append(f"snapshot {snapshot(value.snapshot)}")
    return " ".join(parts)


def status(node: Node) -> str:
    """A member in one line."""
    raft = node.raft
    log = raft.log
    return (
        f"{raft.id:x} {raft.role.value} term {raft.term} vote {raft.vote:x} lead {raft.lead:x} "
        f"log ({log.offset}, {log.last_index}] stable {log.stable} committed {log.committed} applied {log.applied}"
    )
