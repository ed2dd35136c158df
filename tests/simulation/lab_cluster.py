"""A Raft cluster in virtual milliseconds, as the laboratory of MIT's 6.5840 has one in real time: servers that are disconnected, shut down and
restarted, over a network that delays, loses and reorders, with a disk that takes its time and forgets what was not synced.

Beside `raft_cluster`, where one random choice after the other says what happens next, here a test tells a story and the clock orders events. Every
choice (delays, losses, timeouts) comes from one seed, and the invariants are checked after every step of every server.
"""

import contextlib
import heapq
import json
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field

from kubette.etcd import raft_codec
from kubette.raft import describe
from kubette.raft.core import Options, Role
from kubette.raft.log import RaftLog
from kubette.raft.messages import ConfState, Entry, Message, MessageType, ProposalDropped, ReadState, Snapshot
from kubette.raft.node import Node, Ready
from simulation.invariants import Invariants, Violation
from simulation.raft_cluster import Disk

TICK_MS = 20
HEARTBEAT_TICKS = 5
ELECTION_TICKS = 15
ELECTION_MS = 1000  # within this time a cluster that can elect has elected
SNAPSHOT_INTERVAL = 10  # entries
ANSWERS = frozenset({MessageType.APP_RESP, MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP, MessageType.HEARTBEAT_RESP})

Story = Generator[int, None, None]  # yields how many milliseconds to sleep


@dataclass(slots=True)
class Server:
    """One server; `life` counts its starts, so that what an earlier life had under way finds itself forgotten."""

    id: int
    disk: Disk
    node: Node | None = None
    life: int = 0
    connected: bool = True
    under_way: Ready | None = None
    queue: list[bytes] = field(default_factory=list)  # proposals of this instant: they make one batch, as in the etcd's loop
    applied: dict[int, bytes] = field(default_factory=dict)  # the state machine: commands by index
    applied_index: int = 0


class Lab:
    """Servers 1..n. Times are milliseconds."""

    def __init__(self, servers: int, seed: int, *, reliable: bool = True, snapshots: bool = False, **bounds: int) -> None:
        self.rng = random.Random(f"{servers} {seed}")
        self.reliable, self.snapshots = reliable, snapshots
        self._bounds = bounds  # of Raft's Options
        self.long_reordering = False
        self.now = 0
        self.calls: Counter[str] = Counter()  # requests sent, and bytes
        self.committed: dict[int, Entry] = {}
        self.invariants = Invariants()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._commands = 0
        self._asked: dict[bytes, int] = {}  # reads: what was committed when they were asked
        self.reads = 0  # answered
        voters = ConfState(tuple(range(1, servers + 1)))
        self.servers = {node: Server(node, Disk(snapshot=Snapshot(0, 0, voters, _dump({})))) for node in voters.voters}
        for server in self.servers.values():
            self.start(server.id)

    # The clock

    def at(self, delay_ms: int, event: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (self.now + delay_ms, self._order, event))

    def sleep(self, duration_ms: int) -> None:
        until = self.now + duration_ms
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = until

    def spawn(self, story: Story, ended: Callable[[], None] = lambda: None) -> None:
        """Run a story beside everything else."""

        def onward() -> None:
            try:
                delay = next(story)
            except StopIteration:
                ended()
            else:
                self.at(delay, onward)

        self.at(0, onward)

    def gather(self, stories: Iterable[Story]) -> None:
        """Run stories side by side until all have ended."""
        running = set()
        for place, story in enumerate(stories):
            running.add(place)
            self.spawn(story, lambda place=place: running.discard(place))  # type: ignore[misc]
        while running:
            self.sleep(10)

    # Servers

    def start(self, node: int) -> None:
        """From what its disk holds; a server that runs is stopped first."""
        server = self.servers[node]
        self.shutdown(node)
        disk = server.disk
        hard_state = disk.hard_state._replace(commit=min(disk.hard_state.commit, disk.offset[0] + len(disk.entries)))
        options = Options(node, election_ticks=ELECTION_TICKS, heartbeat_ticks=HEARTBEAT_TICKS, **self._bounds)  # type: ignore[arg-type]
        log = RaftLog(disk.snapshot, disk.entries, disk.offset)
        server.node = Node(options, log, hard_state, disk.snapshot.conf_state, random.Random(self.rng.random()))
        server.applied, server.applied_index = _load(disk.snapshot.data), disk.snapshot.index
        self.invariants.started(node, hard_state.term, disk.snapshot.index, disk.snapshot.index)
        life = server.life

        def tick() -> None:
            if server.life == life and server.node is not None:
                server.node.tick()
                self._after(server)
                self.at(TICK_MS, tick)

        self.at(self.rng.randrange(TICK_MS), tick)
        self._after(server)

    def shutdown(self, node: int) -> None:
        server = self.servers[node]
        server.life += 1
        server.node, server.under_way, server.queue = None, None, []

    def connect(self, *nodes: int) -> None:
        for node in nodes:
            self.servers[node].connected = True

    def disconnect(self, *nodes: int) -> None:
        for node in nodes:
            self.servers[node].connected = False

    def following(self, node: int, steps: int = 1) -> int:
        """The server so many places further round."""
        return (node - 1 + steps) % len(self.servers) + 1

    def is_leader(self, node: int) -> bool:
        running = self.servers[node].node
        return running is not None and running.raft.role is Role.LEADER

    def leader(self) -> int:
        """The one leader among those connected, of the highest term; waits for it."""
        for _ in range(10):
            self.sleep(self.rng.randint(450, 550))
            leaders = [node for node, server in self.servers.items() if server.connected and self.is_leader(node)]
            if leaders:
                return max(leaders, key=lambda node: self.node(node).raft.term)
        raise Violation(f"expected one leader, got none: {self.describe()}")

    def no_leader(self) -> None:
        leaders = [node for node, server in self.servers.items() if server.connected and self.is_leader(node)]
        assert not leaders, f"expected no leader: {self.describe()}"

    def term(self) -> int:
        """On which all who are connected agree."""
        terms = {self.node(node).raft.term for node, server in self.servers.items() if server.connected}
        assert len(terms) == 1, f"servers disagree on the term: {self.describe()}"
        return terms.pop()

    def log_bytes(self) -> int:
        """Of the longest log on a disk."""
        return max(sum(len(raft_codec.entry_bytes(entry)) for entry in server.disk.entries) for server in self.servers.values())

    def describe(self) -> str:
        return "; ".join(f"{node} {describe.status(server.node) if server.node else 'down'}" for node, server in self.servers.items())

    def node(self, node: int) -> Node:
        running = self.servers[node].node
        assert running is not None
        return running

    # Clients

    def command(self, size: int = 8) -> bytes:
        """One that no other is equal to."""
        self._commands += 1
        return b"%d " % self._commands + bytes(self.rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=size))

    def propose(self, node: int, command: bytes) -> int | None:
        """To this server; the index that it will have, None if the server does not lead."""
        server = self.servers[node]
        if not self.is_leader(node):
            return None
        if not server.queue:
            life = server.life
            self.at(0, lambda: self._after(server) if server.life == life else None)
        server.queue.append(command)
        return self.node(node).raft.log.last_index + len(server.queue)

    def read(self, node: int) -> None:
        """Ask for a linearizable read there; what is answered is added to `reads`."""
        self._commands += 1
        context = b"%d" % self._commands
        self._asked[context] = self.invariants.high_commit
        self.node(node).read_index(context)
        self._after(self.servers[node])

    def _answer_reads(self, states: Iterable[ReadState]) -> None:
        for state in states:
            asked = self._asked.pop(state.context)
            if state.index < asked:
                raise Violation(f"stale read: index {state.index}, {asked} was committed when it was asked")
            self.reads += 1

    def count(self, index: int) -> tuple[int, bytes | None]:
        """How many servers have applied `index`, and what they found there."""
        found = [server.applied[index] for server in self.servers.values() if index in server.applied]
        assert len(set(found)) <= 1, f"servers applied different commands at {index}: {found}"
        return len(found), found[0] if found else None

    def one(self, expected: int, *, retry: bool = True, command: bytes | None = None) -> int:
        """One command, until so many servers have applied it; its index. Without `retry` the first leader must manage."""
        index = 0

        def agree() -> Story:
            nonlocal index
            index = yield from self.agree(command or self.command(), expected, retry=retry)

        self.gather([agree()])
        return index

    def agree(self, command: bytes, expected: int, *, retry: bool = True) -> Generator[int, None, int]:
        """The same as a story."""
        deadline = self.now + 10_000
        while self.now < deadline:
            index = None
            for server in self.servers.values():
                index = self.propose(server.id, command) if server.connected else None
                if index is not None:
                    break
            if index is None:
                yield 50
                continue
            for _ in range(100):
                count, found = self.count(index)
                if count >= expected and found == command:
                    return index
                yield 20
            if not retry:
                break
        raise Violation(f"no agreement on {command!r} by {expected} servers: {self.describe()}")

    def wait(self, index: int, expected: int) -> bytes:
        """What `index` holds, once so many servers have applied it."""
        for _ in range(300):
            count, found = self.count(index)
            if found is not None and count >= expected:
                return found
            self.sleep(10)
        raise Violation(f"index {index} is not applied by {expected} servers: {self.describe()}")

    # What the etcd's loop does

    def _after(self, server: Server) -> None:
        """The server has been fed: propose, send, persist what there is to."""
        while server.node is not None:
            node = server.node
            if server.queue:
                queue, server.queue = server.queue, []
                if node.raft.role is Role.LEADER:
                    with contextlib.suppress(ProposalDropped):
                        node.propose(queue)
            messages, states = node.take_immediate()
            self._send(messages)
            self._answer_reads(states)
            self.invariants.check(server.id, node)
            if not node.has_ready():
                return
            ready = server.under_way = node.ready()
            self._send(ready.messages)
            if ready.must_sync or ready.snapshot is not None:
                life = server.life
                self.at(self.rng.randint(1, 3), lambda: self._synced(server, life, ready))
                return
            self._complete(server, ready)

    def _synced(self, server: Server, life: int, ready: Ready) -> None:
        if server.life == life:
            self._complete(server, ready)
            self._after(server)

    def _complete(self, server: Server, ready: Ready) -> None:
        assert server.node is not None
        disk = server.disk
        if ready.snapshot is not None:
            disk.install(ready.snapshot)
            server.applied, server.applied_index = _load(ready.snapshot.data), ready.snapshot.index
        disk.append(ready.entries)
        disk.hard_state = ready.hard_state or disk.hard_state
        self._send(ready.messages_after_persist)
        self._answer_reads(ready.read_states)
        for entry in ready.committed_entries:
            assert entry.index == server.applied_index + 1, f"{server.id} applies {entry.index} after {server.applied_index}"
            known = self.committed.setdefault(entry.index, entry)
            if known != entry:
                raise Violation(f"INV-R5: {server.id} applies {describe.entry(entry)}, another one {describe.entry(known)}")
            self.invariants.high_commit = max(self.invariants.high_commit, entry.index)
            server.applied_index = entry.index
            server.applied[entry.index] = entry.data
        server.under_way = None
        server.node.advance()
        if self.snapshots and server.applied_index - disk.snapshot.index >= SNAPSHOT_INTERVAL:
            self._take_snapshot(server)

    def _take_snapshot(self, server: Server) -> None:
        assert server.node is not None
        disk, log, index = server.disk, server.node.raft.log, server.applied_index
        if log.applied != index:
            return
        term = log.term(index)
        assert term is not None
        disk.snapshot, disk.offset = Snapshot(index, term, disk.snapshot.conf_state, _dump(server.applied)), (index, term)
        disk.entries = [entry for entry in disk.entries if entry.index > index]
        server.node.compact(index, disk.snapshot)

    # The network

    def _send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if message.type not in ANSWERS:
                self.calls["requests"] += 1
            self.calls["bytes"] += len(raft_codec.message_bytes(message))
            self.calls[message.type.name] += 1
            lost = not self.reliable and self.rng.random() < 0.1
            delay = self.rng.randint(0, 1 if self.reliable else 27)
            if self.long_reordering and message.type in ANSWERS and self.rng.random() < 2 / 3:
                delay += 200 + self.rng.randrange(1 + self.rng.randrange(2000))
            self.at(delay, lambda message=message, lost=lost: self._deliver(message, lost))  # type: ignore[misc]

    def _deliver(self, message: Message, lost: bool) -> None:
        source, target = self.servers[message.from_], self.servers[message.to]
        lost = lost or target.node is None or not (source.connected and target.connected)
        if not lost:
            assert target.node is not None
            try:
                target.node.step(message)
            except ProposalDropped:
                pass
            self._after(target)
        if message.type is MessageType.SNAP and source.node is not None:
            # A snapshot's transport always ends, and the sender hears how.
            source.node.report_snapshot(message.to, failed=lost)
            self._after(source)


def _dump(applied: dict[int, bytes]) -> bytes:
    return json.dumps([[index, data.decode()] for index, data in sorted(applied.items())]).encode()


def _load(data: bytes) -> dict[int, bytes]:
    return {index: text.encode() for index, text in json.loads(data or b"[]")}
