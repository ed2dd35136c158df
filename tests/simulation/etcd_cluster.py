"""A whole etcd in one thread: machines, network, clients and faults, every choice from one seed, everything checked after every step.

Fault classes are switched per seed (swarm testing), so that rare mixes occur. After the faults comes a quiet phase: the cluster must make
progress, every member must end with the same keys, and every watch must have been told everything.
"""

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any
from unittest.mock import patch

from harness import linearizability, watch_checks
from harness.linearizability import Operation, UndecidedError
from kubette.component_base import logs
from kubette.component_base.run import StartupError
from kubette.etcd import membership, raft_codec, wal
from kubette.etcd.server import Limits
from kubette.etcd.services import watch as watch_service
from kubette.etcd.wal import WalError
from kubette.etcd_api import rpc_pb2 as pb
from kubette.raft import describe
from kubette.raft.core import CAMPAIGN_TRANSFER, Role
from kubette.raft.messages import ConfChangeType, Entry, EntryType, Message, MessageType
from simulation.etcd_clients import Client, WatchClient, Witness, make_clients
from simulation.etcd_machine import Machine, Removed, WatchedWal, base_config
from simulation.etcd_model import Model
from simulation.invariants import Invariants, Violation
from simulation.virtual_disk import PowerCut
from simulation.virtual_network import VirtualNetwork, Weather
from simulation.virtual_time import ProcessLoop, Scheduler

FAULTS_S = 10.0  # of virtual time
PROGRESS_S = 15.0  # once all is well, something commits, and everybody has it (INV-R12)
STEP_DOWN_S = 2.2  # two election timeouts, and a tick or two
TAIL = 60  # lines of the trace that a violation shows


@dataclass(frozen=True)
class Faults:
    """Which classes of faults this seed has."""

    kill: bool
    power: bool
    power_all: bool
    in_a_call: bool  # power goes in the middle of what is done to the disk
    in_a_snapshot: bool
    torn: bool
    fsync: bool
    full: bool
    pause: bool
    slow_disk: bool
    partition: bool
    one_way: bool
    loss: bool
    repeat: bool
    late: bool
    wall_jump: bool
    move_leader: bool
    reconfigure: bool

    @classmethod
    def draw(cls, rng: random.Random) -> "Faults":
        rate = rng.choice((0.15, 0.4, 0.7))
        return cls(**{each.name: rng.random() < rate for each in fields(cls)})


class EtcdCluster:
    """1 to 5 machines m1, m2, …, their clients c0, c1, …"""

    def __init__(self, seed: int) -> None:
        rng = self.rng = random.Random(seed)
        self.seed = seed
        self.trace: list[str] = []
        self.scheduler = Scheduler()
        self.network = VirtualNetwork(self.scheduler, random.Random(rng.random()))
        self.faults = Faults.draw(rng)
        size = rng.choice((1, 2, 3, 3, 3, 3, 5))
        names = [f"m{each}" for each in range(1, size + 1)]
        base = self._base = base_config(names, progress_notify_s=rng.choice((0.3, 2.0)))
        self._limits = Limits(snapshot_count=rng.choice((8, 40, 1000)), catch_up_entries=rng.choice((0, 5, 40)), max_snapshots=2)
        self.machines = [self._new_machine(name) for name in names]
        self._by_id: dict[int, Machine] = {}
        self.invariants = Invariants()
        self.model = Model(min_ttl=max(1, round(1.5 * base.election_s)))
        self._heard: dict[str, dict[int, float]] = {}  # by machine and other member: when something came last
        self._led: dict[str, tuple[int, int]] = {}  # by machine: term and last index, while it leads
        self._moved: dict[str, float] = {}  # by machine: when it was told to hand over last
        self._leads_since: dict[tuple[str, int, tuple[int, ...]], float] = {}  # by machine, term and voters
        self._checked: dict[str, int] = {}  # by machine: the index up to which its store was compared
        self.history: list[Operation] = []
        self.under_way: dict[Operation, None] = {}
        self.floor = 0
        self.count = 0
        self.quiet = False
        self._restarts: dict[str, float] = {}
        self._faults_end = FAULTS_S
        self._violation: Violation | None = None
        self.client_loop = ProcessLoop(self.scheduler, lambda: 0.0)
        self.clients: Sequence[Client] = make_clients(self, rng, self.faults.reconfigure)

    def _new_machine(self, name: str) -> Machine:
        machine = Machine(self, name, self._base, self._limits, random.Random(self.rng.random()))
        machine.disk.torn = 0.5 if self.faults.torn else 0.0
        return machine

    # What the machines and clients need

    def note(self, text: str) -> None:
        self.trace.append(f"{self.scheduler.now:.6f} {text}")

    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()

    def machine_of(self, member_id: int) -> Machine | None:
        return self._by_id.get(member_id)

    def pick(self, rng: random.Random) -> Machine:
        return rng.choice(self.machines)

    def alive(self) -> list[Machine]:
        return [machine for machine in self.machines if machine.alive]

    # What is looked at

    def started(self, machine: Machine, before: WatchedWal | None) -> None:
        """`before` is what the last process of this machine had on the disk: it is there again (INV-R7)."""
        self._by_id[machine.member_id] = machine
        node, state = machine.server.node, machine.server.state
        self.note(f"start {machine.name}: {describe.status(node)} at {state.applied_index}")
        # The database may be ahead of the snapshot that the log knows: then Raft's configuration is as old as its log, and follows.
        self._check_config(machine, min(node.raft.log.applied, state.applied_index))
        if before is not None:
            found, known = (node.raft.term, node.raft.vote), before.state[:2]
            if found < known or (found[0] == known[0] and known[1] and found[1] != known[1]):
                raise Violation(f"INV-R7: {machine.name} starts with (term, vote) {found}, {known} was on the disk")
            if before.is_settled and node.raft.log.last_index < before.last:
                raise Violation(f"INV-R7: {machine.name} starts with a log up to {node.raft.log.last_index}, {before.last} was on the disk")
        self.invariants.started(machine.member_id, node.raft.term, node.raft.log.committed, node.raft.log.applied)
        if state.applied_index:
            self.model.check_store(machine.name, state.applied_index, state.store)
        self._checked[machine.name] = state.applied_index

    def _check_config(self, machine: Machine, at: int) -> None:
        """INV-R9: what a member that has just been started, or given a snapshot, at an index takes for the configuration."""
        made = max((index for index in self.invariants.configurations if index <= at), default=None)
        state = machine.server.node.raft.tracker.config.conf_state()
        if at and made is not None and state != self.invariants.configurations[made]:
            raise Violation(f"INV-R9: {machine.name} is at {state}, not {self.invariants.configurations[made]}")

    def sends(self, machine: Machine, message: Message) -> None:
        """INV-R8: what a message promises is on the disk."""
        assert machine.wal is not None
        kind, state = message.type, machine.wal.state
        if kind in (MessageType.VOTE, MessageType.VOTE_RESP) and not message.reject:
            if state.term < message.term or (state.term == message.term and not state.vote):
                raise Violation(f"INV-R8: {describe.message(message)} is sent, {state} is on the disk")
        elif kind is MessageType.APP_RESP and not message.reject and message.index > machine.wal.last:
            raise Violation(f"INV-R8: {describe.message(message)} is sent, the log on the disk ends at {machine.wal.last}")

    def applied(self, machine: Machine, entries: Sequence[Entry]) -> None:
        server = machine.server
        for entry in entries:
            is_new = self.model.apply(entry, self.scheduler.now)
            if entry.type is not EntryType.NORMAL and is_new:
                self._add_machine(entry, server.cluster_id)
        if any(entry.type is not EntryType.NORMAL for entry in entries):
            self._configured(machine, entries)
        index = server.state.applied_index
        self.invariants.high_commit = max(self.invariants.high_commit, entries[-1].index)
        if index > self._checked[machine.name]:
            self.model.check_changed(machine.name, self._checked[machine.name], index, server.state.store)
            self._checked[machine.name] = index

    def _configured(self, machine: Machine, entries: Sequence[Entry]) -> None:
        server = machine.server
        changes = [entry.index for entry in entries if entry.type is not EntryType.NORMAL]
        state = server.node.raft.tracker.config.conf_state()
        if len(changes) == 1:
            self.invariants.configured(machine.member_id, changes[0], state)
        members = server.state.membership
        voters = tuple(sorted(member.id for member in members.voters()))
        if voters != state.voters:
            raise Violation(f"INV-R9: {machine.name} knows the voters {voters}, and counts {state.voters}")

    def _add_machine(self, entry: Entry, cluster_id: int) -> None:
        """A member was added: somebody sets its machine up."""
        change, context, _ = raft_codec.conf_change_of(entry)
        if change.changes[0][0] is ConfChangeType.REMOVE_NODE:
            return
        member = membership.from_json(context)
        name = member.peer_urls[0].removeprefix("http://").partition(":")[0]
        if not any(machine.name == name for machine in self.machines):
            machine = self._new_machine(name)
            machine.joins = member.id, cluster_id
            self.machines.append(machine)
            self._restart_later(machine)

    def takes(self, machine: Machine, message: Message) -> Callable[[], None]:
        """INV-R10: who hears a leader ignores candidates. To be called when the message has been taken."""
        raft = machine.server.node.raft
        self._heard.setdefault(machine.name, {})[message.from_] = self.scheduler.now
        asks = message.type in (MessageType.PRE_VOTE, MessageType.VOTE) and message.context != CAMPAIGN_TRANSFER and message.term > raft.term
        hears = raft.lead and raft.election_elapsed < raft.options.election_ticks

        def taken() -> None:
            granted = [each for each in raft.out.messages_after_persist if each.to == message.from_ and not each.reject and each.term == message.term]
            if any(each.type in (MessageType.PRE_VOTE_RESP, MessageType.VOTE_RESP) for each in granted):
                raise Violation(f"INV-R10: {machine.name} hears a leader, and answers {describe.message(message)} with a vote")

        return taken if asks and hears else _nothing

    def installed(self, machine: Machine) -> None:
        state = machine.server.state
        self._check_config(machine, machine.server.state.applied_index)
        self.model.check_store(machine.name, state.applied_index, state.store)
        self._checked[machine.name] = state.applied_index

    # Steps

    def step(self, until: float) -> bool:
        """The next thing that happens before `until`, and what must hold after it."""
        loop = self.scheduler.step(until)
        if loop is False:
            return False
        if loop is self.client_loop:
            if self.client_loop.failures:
                raise self.client_loop.failures[0]
        elif loop is not None:
            machine = next(each for each in self.machines if each.loop is loop)
            if loop.failures or not machine.disk.alive:
                self._died(machine, loop.failures)
            else:
                self.invariants.check(machine.member_id, machine.server.node)
                if machine.server.node.raft.role is Role.LEADER:
                    self._check_leader(machine)
        return True

    def _check_leader(self, machine: Machine) -> None:
        raft = machine.server.node.raft
        assert machine.wal is not None
        log, seen = raft.log, self._led.get(machine.name, (0, 0))
        self._led[machine.name] = raft.term, log.last_index
        if seen[0] == raft.term and seen[1] < log.last_index:
            entries = log.slice(max(log.applied, log.offset) + 1, log.last_index + 1)
            changes = [entry for entry in entries if entry.type is not EntryType.NORMAL]
            if len(changes) > 1 and changes[-1].term == raft.term:
                raise Violation(
                    f"INV-R9: leader {machine.name} makes a change of the configuration at {changes[-1].index}, one at {changes[0].index} waits"
                )
        self._check_contact(machine)
        # INV-R8: it counts itself only for what its own disk has.
        if raft.id in raft.tracker.progress and raft.tracker.progress[raft.id].match > machine.wal.last:
            raise Violation(
                f"INV-R8: leader {machine.name} counts its log up to {raft.tracker.progress[raft.id].match}, the disk has {machine.wal.last}"
            )

    def _check_contact(self, machine: Machine) -> None:
        """INV-R11: who hears no majority for two election timeouts leads no longer. A pause is no time to it; a transfer has one timeout more."""
        raft, now = machine.server.node.raft, self.scheduler.now
        assert machine.loop is not None
        since = now - STEP_DOWN_S
        seen = self._leads_since.setdefault((machine.name, raft.term, raft.tracker.config.voters), now)
        if max(seen, machine.loop.paused_until, self._moved.get(machine.name, 0.0)) > since or raft.tracker.config.joint:
            return
        heard = self._heard.get(machine.name, {})
        voters = raft.tracker.config.voters
        active = sum(1 for node in voters if node == raft.id or heard.get(node, 0.0) > since)
        if active <= len(voters) // 2:
            raise Violation(f"INV-R11: {machine.name} leads, and has heard {active} of {len(voters)} voters in the last {STEP_DOWN_S} s")

    def _died(self, machine: Machine, failures: Sequence[BaseException]) -> None:
        violation = next((each for each in failures if not isinstance(each, PowerCut | OSError | WalError | Removed)), None)
        if violation is not None:
            raise violation
        self.note(f"{machine.name} died: {[repr(each) for each in failures]}")
        if any(isinstance(each, Removed) for each in failures):
            self._let_go(machine)
            return
        if not machine.disk.alive:
            machine.cut_power()
        else:
            machine.stop()
        self._restart_later(machine)

    def _let_go(self, machine: Machine) -> None:
        machine.stop()
        self.machines.remove(machine)

    def _restart_later(self, machine: Machine, soon: bool = False) -> None:
        delay = self.rng.random() * (0.3 if soon or self.quiet else self.rng.choice((0.3, 2.0, 6.0)))
        self.scheduler.after(delay, self._restart, machine)

    def _restart(self, machine: Machine) -> None:
        if machine.alive or machine not in self.machines:
            return
        try:
            machine.start()
        except PowerCut:
            self._restart_later(machine)
        except OSError as error:
            self.note(f"{machine.name} did not start: {error}")
            self._restart_later(machine)
        except (WalError, StartupError) as error:
            raise Violation(f"{machine.name} cannot start: {error}") from error

    # Faults

    def _hurt(self) -> None:
        """Something happens, now and then."""
        if self.quiet:
            return
        self.scheduler.after(self.rng.random() * 1.2, self._hurt)
        kinds = [
            name
            for name in ("kill", "power", "power_all", "in_a_call", "in_a_snapshot", "fsync", "full", "pause", "slow_disk")
            if getattr(self.faults, name)
        ]
        kinds += [name for name in ("partition", "one_way", "wall_jump", "move_leader") if getattr(self.faults, name)]
        alive = self.alive()
        if not kinds or not alive:
            return
        kind, machine = self.rng.choice(kinds), self.rng.choice(alive)
        leaders = [each for each in alive if each.server.is_leader]
        if leaders and self.rng.random() < 0.4:
            machine = self.rng.choice(leaders)
        self.note(f"fault {kind} {machine.name}")
        getattr(self, f"_{kind}")(machine)

    def _kill(self, machine: Machine) -> None:
        machine.stop()
        self._restart_later(machine)

    def _power(self, machine: Machine) -> None:
        machine.cut_power()
        self._restart_later(machine)

    def _power_all(self, machine: Machine) -> None:
        for each in self.alive():
            each.cut_power()
            self._restart_later(each)

    def _in_a_call(self, machine: Machine) -> None:
        machine.disk.cut_at = machine.disk.calls + 1 + self.rng.randrange(60)

    def _in_a_snapshot(self, machine: Machine) -> None:
        machine.disk.cut_after_create = self.rng.randrange(40)

    def _fsync(self, machine: Machine) -> None:
        machine.disk.failing_syncs = 1

    def _full(self, machine: Machine) -> None:
        machine.disk.full = True
        self.scheduler.after(self.rng.random() * 3, setattr, machine.disk, "full", False)

    def _pause(self, machine: Machine) -> None:
        assert machine.loop is not None
        seconds = self.rng.choice((0.5, 4.0)) * self.rng.random()
        machine.loop.paused_until = self.scheduler.now + seconds
        self._witness(machine, seconds)

    def _witness(self, machine: Machine, seconds: float) -> None:
        """Who asks a member that others may take for dead, and who writes elsewhere."""
        others = [each for each in self.alive() if each is not machine]
        if machine.server.is_leader and others:
            Witness(self, machine, random.Random(self.rng.random()), writes=False).start(seconds)
            Witness(self, self.rng.choice(others), random.Random(self.rng.random()), writes=True).start(seconds)

    def _slow_disk(self, machine: Machine) -> None:
        machine.disk_latency_s = 0.2
        self.scheduler.after(self.rng.random() * 4, setattr, machine, "disk_latency_s", 0.001)

    def _partition(self, machine: Machine) -> None:
        self._cut(machine, one_way=False)

    def _one_way(self, machine: Machine) -> None:
        self._cut(machine, one_way=True)

    def _cut(self, machine: Machine, one_way: bool) -> None:
        """That machine from the others, or a random half from the other; clients are on either side."""
        rng = self.rng
        if rng.random() < 0.25:
            self.network.cut(())
            return
        hosts = [each.name for each in self.machines]
        side = {name for name in hosts if rng.random() < 0.5} if rng.random() < 0.3 else {machine.name}
        side |= {client.name for client in self.clients if rng.random() < 0.4}
        others = [name for name in [*hosts, *(client.name for client in self.clients)] if name not in side]
        pairs = [(one, other) for one in sorted(side) for other in others]
        if not one_way:
            pairs += [(other, one) for one, other in pairs]
        elif rng.random() < 0.5:
            pairs = [(other, one) for one, other in pairs]
        self.network.cut(pairs)
        seconds = rng.random() * 5
        self.scheduler.after(seconds, self.network.cut, ())
        self._witness(machine, seconds)

    def _wall_jump(self, machine: Machine) -> None:
        machine.clock.jump_s = self.rng.choice((-1e6, -10.0, 10.0, 1e6))

    def _move_leader(self, machine: Machine) -> None:
        self._moved[machine.name] = self.scheduler.now
        target = self.rng.choice(self.machines)
        body = pb.MoveLeaderRequest(targetID=target.member_id).SerializeToString()
        machine.call(b"/etcdserverpb.Maintenance/MoveLeader", body, lambda answer: None)

    # Phases

    def run(self) -> None:
        """Raises Violation, with how to see it again."""
        try:
            with patched():
                self._run()
        except Exception as error:
            tail = "\n".join(self.trace[-TAIL:])
            raise Violation(f"seed {self.seed}: {error!r}\nreplay: scripts/simulate --etcd {self.seed}\n{self.faults}\n{tail}") from error

    def _run(self) -> None:
        rng, faults = self.rng, self.faults
        self.network.weather = Weather(
            loss=rng.random() * 0.3 if faults.loss else 0.0,
            repeat=rng.random() * 0.3 if faults.repeat else 0.0,
            late=rng.random() * 0.3 if faults.late else 0.0,
        )
        for machine in self.machines:
            self.scheduler.after(rng.random() * 0.2, self._restart, machine)
        self.client_loop.run(self._start_clients, ())
        self.scheduler.after(1.5, self._hurt)
        while self.step(self._faults_end):
            pass
        self.quiet_phase()

    def _start_clients(self) -> None:
        for client in self.clients:
            self.client_loop.create_task(client.run())  # type: ignore[attr-defined]

    def quiet_phase(self) -> None:
        """INV-R12, M7, L2, and everything that is told at the end."""
        self.quiet = True
        self.note("quiet")
        self.network.weather = Weather()
        self.network.cut(())
        for machine in self.machines:
            machine.disk.spare()
            machine.disk_latency_s = 0.001
            if machine.loop is not None:
                machine.loop.paused_until = min(machine.loop.paused_until, self.scheduler.now)
            else:
                self._restart_later(machine)
        self._within(PROGRESS_S, lambda: any(m.server.is_leader for m in self.alive()), "INV-R12: no leader")
        written = self._write(b"last", PROGRESS_S)
        members = max(self.alive(), key=lambda machine: machine.server.applied_index).server.state.membership.members
        for machine in list(self.machines):
            if machine.member_id and machine.member_id not in members:
                self._let_go(machine)

        def is_everywhere() -> bool:
            return all(machine.alive and machine.server.applied_index >= written for machine in self.machines)

        self._within(PROGRESS_S, is_everywhere, "INV-R12: not every member has what was committed")
        # Leases that nobody renews any more end, and their keys with them (INV-L2).
        longest = max((lease.ttl for lease in self.model.leases.values()), default=0)
        self._within(longest + 2 * 1.0 + 3.0, lambda: not self.model.leases, "INV-L2: leases do not end")
        self._within(PROGRESS_S, lambda: len({m.server.applied_index for m in self.machines}) == 1, "INV-R12: members differ in what they applied")
        self._compare_members()
        watchers = [client for client in self.clients if isinstance(client, WatchClient)]
        self._within(PROGRESS_S, lambda: all(map(self._is_told, watchers)), "INV-W3: a watch was not told everything")
        for client in watchers:
            client.finished = True
            self._check_watch(client)
        try:
            wrong = linearizability.check([*self.history, *self.under_way])
        except UndecidedError:
            wrong = None  # the model has compared every answer; this is the second opinion
        if wrong is not None:
            raise Violation(f"INV-M2: {wrong}")

    def _within(self, seconds: float, holds: Any, otherwise: str) -> None:
        deadline = self.scheduler.now + seconds
        while not holds():
            if not self.step(deadline):
                states = "; ".join(describe.status(machine.server.node) for machine in self.alive())
                raise Violation(f"{otherwise}, {seconds:g} s after the last fault: {states}")

    def _write(self, key: bytes, seconds: float) -> int:
        """Puts until one is acknowledged; the index at which everybody must have it."""
        answers: list[Any] = []
        deadline, attempt = self.scheduler.now + seconds, 0
        while not any(isinstance(answer, bytes) for answer in answers):
            if self.scheduler.now > deadline:
                raise Violation(f"INV-R12: no write is acknowledged within {seconds:g} s after the last fault: {answers}")
            attempt += 1
            for machine in self.alive():
                body = pb.PutRequest(key=key, value=b"%d" % attempt).SerializeToString()
                machine.call(b"/etcdserverpb.KV/Put", body, answers.append)
            until = self.scheduler.now + 1.0
            while self.step(until):
                pass
        return self.model.index

    def _compare_members(self) -> None:
        hashes = {}
        for machine in self.machines:
            state = machine.server.state
            self.model.check_store(machine.name, state.applied_index, state.store)
            hashes[machine.name] = (state.store.hash_kv(), sorted(state.lessor.leases), sorted(state.membership.members), sorted(state.alarms))
        if len(set(map(repr, hashes.values()))) != 1:
            raise Violation(f"INV-M7: members differ: {hashes}")

    def _is_told(self, client: WatchClient) -> bool:
        last = 0
        if not client.records:
            return False
        for revision in range(self.model.revision, client.next_revision - 1, -1):
            if any(
                client.key <= event.key and (client.range_end == b"\0" or event.key < client.range_end)
                for event in self.model.events.get(revision, ())
            ):
                last = revision
                break
        return client.next_revision > last

    def _check_watch(self, client: WatchClient) -> None:
        for record in client.records:
            record.compacted = self.model.compacted
            if record.range_end == b"\0":
                record.range_end = b"\xff"
            wrong = watch_checks.check(self.model.events, record)
            if wrong:
                raise Violation(f"INV-{wrong[0]} (watch {client.name} of {client.key!r}; {len(wrong)} in all)")


def _nothing() -> None:
    pass


@contextlib.contextmanager
def patched() -> Iterator[None]:
    """Small limits, so that a short schedule meets them; no log lines."""
    logs.set_sink(_Nowhere())
    try:
        with patch.object(wal, "SEGMENT_BYTES", 6000), patch.object(watch_service, "QUEUE_BYTES", 300):
            yield
    finally:
        logs.set_sink(None)


class _Nowhere:
    def write(self, severity: str, name: str, message: str, pairs: dict[str, Any], depth: int) -> None:
        pass


def simulate_etcd(seed: int) -> EtcdCluster:
    """Run one schedule; raises Violation with the seed and the last steps."""
    cluster = EtcdCluster(seed)
    cluster.run()
    return cluster
