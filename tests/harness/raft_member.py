"""One member of a Raft group to try: it is fed with messages, and what it would send, persist and apply is carried out at once."""

import random

from kubette.raft.core import Options, Role
from kubette.raft.log import RaftLog
from kubette.raft.messages import ConfState, Entry, HardState, Message, MessageType, Snapshot
from kubette.raft.node import Node, Ready

T = MessageType


def member(voters: int = 3, entries: tuple[tuple[int, int], ...] = (), term: int = 0, vote: int = 0, commit: int = 0, **options: bool) -> Node:
    """Member 1 of 1..voters; entries are (term, index)."""
    state = ConfState(tuple(range(1, voters + 1)))
    log = RaftLog(Snapshot(0, 0, state), [Entry(each_term, index, b"x") for each_term, index in entries])
    settings = {"pre_vote": False, "check_quorum": False, **options}
    return Node(Options(1, **settings), log, HardState(term, vote, commit), state, random.Random(1))  # type: ignore[arg-type]


def finish(node: Node) -> list[Ready]:
    """Carry out every Ready."""
    done = []
    while node.has_ready():
        done.append(node.ready())
        node.advance()
    return done


def sent(readies: list[Ready], kind: MessageType | None = None) -> list[Message]:
    messages = [m for ready in readies for m in (*ready.messages, *ready.messages_after_persist)]
    return [m for m in messages if kind is None or m.type is kind]


def leader(voters: int = 3, **options: bool) -> Node:
    """Member 1, elected at term 1, with its empty entry on disk and on member 2."""
    node = member(voters, **options)
    node.campaign()
    for peer in range(2, voters + 1):
        node.step(Message(T.VOTE_RESP, 1, peer, 1))
    finish(node)
    if voters > 1:
        node.step(Message(T.APP_RESP, 1, 2, 1, index=1))
    finish(node)
    assert node.raft.role is Role.LEADER
    return node
