"""Pure: what a follower does with messages (§5.2): it answers leaders, and passes on what only a leader can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubette.raft.messages import NO_NODE, Message, MessageType, ProposalDropped, ReadState

if TYPE_CHECKING:
    from kubette.raft.core import Raft


def step(raft: Raft, message: Message) -> None:
    kind = message.type
    if kind in (MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP):
        raft.election_elapsed = 0
        raft.lead = message.from_
        if kind is MessageType.APP:
            raft.handle_append(message)
        elif kind is MessageType.HEARTBEAT:
            raft.handle_heartbeat(message)
        else:
            raft.handle_snapshot(message)
    elif kind is MessageType.PROP:
        if raft.lead == NO_NODE:
            raise ProposalDropped(f"no leader at term {raft.term}")
        raft.send(message._replace(to=raft.lead))
    elif kind in (MessageType.TRANSFER_LEADER, MessageType.READ_INDEX):
        if raft.lead != NO_NODE:
            raft.send(message._replace(to=raft.lead))
    elif kind is MessageType.TIMEOUT_NOW:
        # The leader wants us to take over at once: no pre-vote, no stickiness (diss. §3.10).
        from kubette.raft.core import Campaign

        raft.hup(Campaign.TRANSFER)
    elif kind is MessageType.READ_INDEX_RESP:
        raft.out.read_states.append(ReadState(message.index, message.context))
