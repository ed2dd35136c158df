"""What the commands of a story about Raft do: members on a stage, their disks, and every message between them, delivered by command only.

    members 3 learners=(4) pre-vote        from 1 on; max-messages=, max-bytes=, max-message-size=, max-uncommitted= bound what their names say
    newcomer 5 · holds 2 terms=(1,1,2) commit=1      what its disk holds from the start: entries of these terms
    campaign 1 · tick 1 times=3 · propose 1 a b · read 1 r · transfer 1 to=2 · change 1 v4 l5 r1 joint=explicit · leave 1
    receive 2 from=1 · drop 2 type=APP · duplicate 2 · ready 1 · synced 1 · run 1 2
    crash 1 · restart 1 · compact 1 to=5 · unreachable 1 2 · snapshot-sent 1 2 failed
    status · config 1 · progress 1 · log 1 · network · quiet · loud

`ready` is the half of a Ready that needs no disk, `synced` the other. `run` receives and carries out, for the members named (or all), until nothing
moves. A change is written as what becomes of members: v voter, l learner, r removed.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.datadriven import Command, parse
from kubette.raft import describe
from kubette.raft.confchange import ConfChangeError
from kubette.raft.core import Options, Raft, Role
from kubette.raft.log import RaftLog
from kubette.raft.messages import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ProposalDropped,
    Snapshot,
    Transition,
)
from kubette.raft.node import Node, Ready

_KINDS = {"v": ConfChangeType.ADD_NODE, "l": ConfChangeType.ADD_LEARNER_NODE, "r": ConfChangeType.REMOVE_NODE}
_TRANSITIONS = {"auto": Transition.AUTO, "implicit": Transition.JOINT_IMPLICIT, "explicit": Transition.JOINT_EXPLICIT}
_BOUNDS = {
    "max-messages": "max_inflight_messages",
    "max-bytes": "max_inflight_bytes",
    "max-message-size": "max_size_per_message",
    "max-uncommitted": "max_uncommitted_size",
}


@dataclass(slots=True)
class Actor:
    """A member: what its disk holds, and while it runs the node."""

    id: int
    snapshot: Snapshot
    offset: tuple[int, int] = (0, 0)
    entries: list[Entry] = field(default_factory=list)
    hard_state: HardState = field(default_factory=HardState)
    node: Node | None = None
    under_way: Ready | None = None
    conf_state: ConfState = field(default_factory=ConfState)


class Stage:
    """`handle` carries out one command and answers what was to be seen."""

    def __init__(self) -> None:
        self.actors: dict[int, Actor] = {}
        self.network: list[Message] = []
        self._first = Snapshot()
        self._options: dict[str, int | bool] = {}
        self._lines: list[str] = []
        self._quiet = False

    def handle(self, command: Command) -> str:
        act: Callable[[Command], None] = getattr(self, "_do_" + command.name.replace("-", "_"))
        self._lines = []
        try:
            act(command)
        except ProposalDropped as error:
            self._say(f"dropped: {error}")
        return "" if self._quiet else "\n".join(self._lines)

    def tell(self, *lines: str) -> str:
        """Several commands; what was to be seen of them."""
        return "\n".join(filter(None, [self.handle(parse(line)) for line in lines]))

    def raft(self, node: int) -> Raft:
        """What a member thinks."""
        return self._running(self.actors[node]).raft

    def led_by(self, node: int) -> bool:
        return self.raft(node).role is Role.LEADER

    def _say(self, line: str) -> None:
        self._lines.append(line)

    def _node(self, command: Command, place: int = 0) -> Node:
        return self._running(self.actors[int(command.arguments[place])])

    def _running(self, actor: Actor) -> Node:
        assert actor.node is not None, f"{actor.id} is down"
        return actor.node

    # Who there is

    def _do_members(self, command: Command) -> None:
        self._options = {"pre_vote": "pre-vote" in command.arguments, "check_quorum": "check-quorum" in command.arguments}
        for word, name in _BOUNDS.items():
            if word in command.options:
                self._options[name] = int(command.option(word, ""))
        voters = tuple(range(1, int(command.arguments[0]) + 1))
        state = ConfState(voters, tuple(int(each) for each in command.options.get("learners", ())))
        self._first = Snapshot(0, 0, state)
        for node in (*state.voters, *state.learners):
            self.actors[node] = Actor(node, self._first)
            self._start(self.actors[node])

    def _do_newcomer(self, command: Command) -> None:
        """With an empty log: it knows who the first members were, as etcd's bootstrap entries tell."""
        for word in command.arguments:
            self.actors[int(word)] = Actor(int(word), self._first)
            self._start(self.actors[int(word)])

    def _do_holds(self, command: Command) -> None:
        actor = self.actors[int(command.arguments[0])]
        terms = [int(each) for each in command.options["terms"]]
        actor.entries = [Entry(term, index, b"%d.%d" % (term, index)) for index, term in enumerate(terms, 1)]
        actor.hard_state = HardState(int(command.option("term", str(terms[-1]))), 0, int(command.option("commit", "0")))
        self._start(actor)

    def _start(self, actor: Actor) -> None:
        log = RaftLog(actor.snapshot, actor.entries, actor.offset)
        options = Options(actor.id, **self._options)  # type: ignore[arg-type]
        actor.node = Node(options, log, actor.hard_state, actor.snapshot.conf_state, random.Random(actor.id))
        actor.conf_state = actor.snapshot.conf_state

    def _do_crash(self, command: Command) -> None:
        """What was not synced is gone."""
        for word in command.arguments:
            self.actors[int(word)].node = self.actors[int(word)].under_way = None

    def _do_restart(self, command: Command) -> None:
        self._do_crash(command)
        for word in command.arguments:
            self._start(self.actors[int(word)])

    # What they are asked to do

    def _do_campaign(self, command: Command) -> None:
        self._node(command).campaign()

    def _do_tick(self, command: Command) -> None:
        for _ in range(int(command.option("times", "1"))):
            self._node(command).tick()

    def _do_propose(self, command: Command) -> None:
        self._node(command).propose([word.encode() * int(command.option("times", "1")) for word in command.arguments[1:]])

    def _do_change(self, command: Command) -> None:
        text = " ".join((*command.arguments[1:], command.option("joint", "auto")))
        self._node(command).propose_conf_change(text.encode())

    def _do_leave(self, command: Command) -> None:
        self._node(command).propose_conf_change(b"")

    def _do_read(self, command: Command) -> None:
        self._node(command).read_index(command.arguments[1].encode())

    def _do_transfer(self, command: Command) -> None:
        self._node(command).transfer_leadership(int(command.option("to", "")))

    def _do_unreachable(self, command: Command) -> None:
        self._node(command).report_unreachable(int(command.arguments[1]))

    def _do_snapshot_sent(self, command: Command) -> None:
        self._node(command).report_snapshot(int(command.arguments[1]), failed="failed" in command.arguments)

    def _do_compact(self, command: Command) -> None:
        actor = self.actors[int(command.arguments[0])]
        log, index = self._running(actor).raft.log, int(command.option("to", ""))
        term = log.term(index)
        assert term is not None, f"{index} is not in the log"
        actor.snapshot, actor.offset = Snapshot(index, term, actor.conf_state), (index, term)
        actor.entries = [entry for entry in actor.entries if entry.index > index]
        self._running(actor).compact(index, actor.snapshot)

    # What happens between them

    def _do_receive(self, command: Command) -> None:
        target, mine = int(command.arguments[0]), self._selected(command)
        self.network = [message for message in self.network if message not in mine]
        self._receive(self.actors[target], mine)

    def _do_drop(self, command: Command) -> None:
        mine = self._selected(command)
        self.network = [message for message in self.network if message not in mine]
        for message in mine:
            self._say("lost " + describe.message(message))

    def _do_duplicate(self, command: Command) -> None:
        self.network += self._selected(command)

    def _selected(self, command: Command) -> list[Message]:
        """The messages on the way to the members named, or to all; only those `from=` a member, of a `type=`."""
        targets = [int(word) for word in command.arguments] or list(self.actors)
        sources = [int(each) for each in command.options.get("from", ())] or list(self.actors)
        kinds = [MessageType[each] for each in command.options.get("type", ())] or list(MessageType)
        return [each for each in self.network if each.to in targets and each.from_ in sources and each.type in kinds]

    def _receive(self, actor: Actor, messages: Sequence[Message]) -> None:
        for message in messages:
            self._say(f"{actor.id} hears {describe.message(message)}")
            try:
                self._running(actor).step(message)
            except ProposalDropped as error:
                self._say(f"{actor.id} drops it: {error}")

    def _do_ready(self, command: Command) -> None:
        for word in command.arguments:
            self._ready(self.actors[int(word)])

    def _do_synced(self, command: Command) -> None:
        for word in command.arguments:
            self._synced(self.actors[int(word)])

    def _do_run(self, command: Command) -> None:
        actors = [self.actors[int(word)] for word in command.arguments] or [each for each in self.actors.values() if each.node is not None]
        for _ in range(200):
            moved = False
            for actor in actors:
                mine = [message for message in self.network if message.to == actor.id]
                self.network = [message for message in self.network if message.to != actor.id]
                self._receive(actor, mine)
                moved = moved or bool(mine)
                if actor.under_way is None and self._running(actor).has_ready():
                    self._ready(actor)
                if actor.under_way is not None:
                    self._synced(actor)
                    moved = True
            if not moved:
                return
        raise AssertionError("it does not come to rest")

    def _ready(self, actor: Actor) -> None:
        node = self._running(actor)
        assert node.has_ready(), f"{actor.id} has nothing to do"
        ready = actor.under_way = node.ready()
        self._say(f"{actor.id} is ready" + (", and must sync" if ready.must_sync else ""))
        for note in ready.notes:
            self._say(f"  {note}")
        if ready.soft_state is not None:
            self._say(f"  {ready.soft_state.role.value}, led by {ready.soft_state.lead:x}")
        self._send(ready.messages)

    def _synced(self, actor: Actor) -> None:
        node, ready = self._running(actor), actor.under_way
        assert ready is not None, f"{actor.id} has no Ready under way"
        if ready.hard_state is not None:
            actor.hard_state = ready.hard_state
            self._say("  writes term {} vote {:x} commit {}".format(*ready.hard_state))
        if ready.snapshot is not None:
            actor.snapshot, actor.offset, actor.entries = ready.snapshot, (ready.snapshot.index, ready.snapshot.term), []
            actor.conf_state = ready.snapshot.conf_state
            self._say(f"  installs snapshot {describe.snapshot(ready.snapshot)}")
        for entry in ready.entries:
            del actor.entries[entry.index - actor.offset[0] - 1 :]
            actor.entries.append(entry)
            self._say(f"  writes {describe.entry(entry)}")
        self._send(ready.messages_after_persist)
        for state in ready.read_states:
            self._say(f"  may answer {state.context.decode()} at {state.index}")
        for entry in ready.committed_entries:
            self._apply(actor, entry)
        actor.under_way = None
        node.advance()

    def _apply(self, actor: Actor, entry: Entry) -> None:
        self._say(f"  applies {describe.entry(entry)}")
        if entry.type is not EntryType.NORMAL:
            try:
                actor.conf_state = self._running(actor).apply_conf_change(change_of(entry.data.decode()))
                self._say(f"  is now among {config(actor.conf_state)}")
            except ConfChangeError as error:
                self._say(f"  cannot: {error}")

    def _send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._say("  sends " + describe.message(message))
        self.network += messages

    # What can be seen

    def _do_status(self, command: Command) -> None:
        for actor in self.actors.values():
            if not command.arguments or str(actor.id) in command.arguments:
                self._say(describe.status(actor.node) if actor.node is not None else f"{actor.id} is down")

    def _do_config(self, command: Command) -> None:
        self._say(config(self._node(command).raft.tracker.config.conf_state()))

    def _do_progress(self, command: Command) -> None:
        raft = self._node(command).raft
        for node, each in raft.tracker.progress.items():
            parts = [f"{node:x} {each.state.value} match {each.match} next {each.next}"]
            if each.is_learner:
                parts.append("learner")
            if each.flow_paused:
                parts.append("paused")
            if each.pending_snapshot:
                parts.append(f"pending snapshot {each.pending_snapshot}")
            if not each.recent_active and node != raft.id:
                parts.append("inactive")
            if len(each.inflights):
                parts.append(f"{len(each.inflights)} in flight, {each.inflights.bytes} bytes" + (", full" if each.inflights.full() else ""))
            self._say(" ".join(parts))

    def _do_log(self, command: Command) -> None:
        log = self._node(command).raft.log
        self._say(f"after {log.offset_term}/{log.offset}, stable to {log.stable}, committed to {log.committed}")
        for entry in log.slice(log.first_index, log.last_index + 1):
            self._say(f"  {describe.entry(entry)}")

    def _do_network(self, command: Command) -> None:
        for message in self._selected(command):
            self._say(describe.message(message))

    def _do_quiet(self, _: Command) -> None:
        self._quiet = True

    def _do_loud(self, _: Command) -> None:
        self._quiet = False


def change_of(text: str) -> ConfChange:
    """`v4 l5 r1 auto`; nothing at all leaves a joint configuration."""
    if not text:
        return ConfChange()
    *words, transition = text.split()
    return ConfChange(tuple((_KINDS[word[0]], int(word[1:])) for word in words), _TRANSITIONS[transition])


def config(state: ConfState) -> str:
    """`voters 1 2 3, outgoing 1 2, learners 4`: what is not empty."""
    groups = (
        ("voters", state.voters),
        ("outgoing", state.voters_outgoing),
        ("learners", state.learners),
        ("learners to be", state.learners_next),
    )
    text = ", ".join(f"{name} " + " ".join(f"{each:x}" for each in nodes) for name, nodes in groups if nodes)
    return text + (", left by itself" if state.auto_leave else "")
