"""Pure: what a candidate or pre-candidate does with messages (§5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubette.raft.messages import NO_NODE, Message, MessageType, ProposalDropped
from kubette.raft.quorum import VoteResult

if TYPE_CHECKING:
    from kubette.raft.core import Raft


def step(raft: Raft, message: Message) -> None:
    from kubette.raft.core import Campaign, Role

    kind = message.type
    mine = MessageType.PRE_VOTE_RESP if raft.role is Role.PRE_CANDIDATE else MessageType.VOTE_RESP
    if kind is MessageType.PROP:
        raise ProposalDropped(f"no leader at term {raft.term}")
    if kind in (MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP):
        # Somebody else won this term (§5.2); the term is ours, or step would have answered already.
        raft.become_follower(message.term, message.from_)
        if kind is MessageType.APP:
            raft.handle_append(message)
        elif kind is MessageType.HEARTBEAT:
            raft.handle_heartbeat(message)
        else:
            raft.handle_snapshot(message)
    elif kind is mine:
        result = raft.poll(message.from_, not message.reject)
        if result is VoteResult.WON:
            if raft.role is Role.PRE_CANDIDATE:
                raft.campaign(Campaign.ELECTION)
            else:
                from kubette.raft import leader

                raft.become_leader()
                leader.broadcast_append(raft)
        elif result is VoteResult.LOST:
            # The term of a pre-vote's refusal is not ours to take: step has taken it if it was higher.
            raft.become_follower(raft.term, NO_NODE)
