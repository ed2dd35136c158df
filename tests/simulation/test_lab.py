"""The 28 tests of the Raft laboratory of MIT's 6.5840 (6.824 before): each by its name, what it asks told anew, over a simulated network."""

import pytest

from simulation.lab_cluster import ELECTION_MS, SNAPSHOT_INTERVAL, Lab, Story

MAX_LOG_BYTES = 2000
SEEDS = range(3)

pytestmark = pytest.mark.parametrize("seed", SEEDS)


# 3A: elections


def test_initial_election_3a(seed: int) -> None:
    """TestInitialElection3A: one leader is elected, all agree on the term, and without failures both stay."""
    lab = Lab(3, seed)
    first = lab.leader()
    lab.sleep(50)
    term = lab.term()
    assert term >= 1
    lab.sleep(2 * ELECTION_MS)
    assert (lab.leader(), lab.term()) == (first, term)


def test_re_election_3a(seed: int) -> None:
    """TestReElection3A: a lost leader is replaced, its return disturbs nobody, and without a quorum there is none."""
    lab = Lab(3, seed)
    first = lab.leader()
    lab.disconnect(first)
    second = lab.leader()
    assert second != first
    lab.connect(first)
    assert lab.leader() == second
    assert not lab.is_leader(first)
    lab.disconnect(second, lab.following(second))
    lab.sleep(2 * ELECTION_MS)
    lab.no_leader()
    lab.connect(lab.following(second))
    lab.leader()
    lab.connect(second)
    lab.leader()


def test_many_elections_3a(seed: int) -> None:
    """TestManyElections3A: of seven servers any three are cut off, ten times: the four that are left have a leader."""
    lab = Lab(7, seed)
    lab.leader()
    for _ in range(10):
        cut = lab.rng.sample(list(lab.servers), 3)
        lab.disconnect(*cut)
        assert lab.leader() not in cut
        lab.connect(*cut)
    lab.leader()


# 3B: the log


def test_basic_agree_3b(seed: int) -> None:
    """TestBasicAgree3B: commands are applied by all, each at the index after the one before, and none before it was proposed."""
    lab = Lab(3, seed)
    first = lab.one(3, retry=False)
    for following in range(first + 1, first + 4):
        assert lab.count(following) == (0, None)
        assert lab.one(3, retry=False) == following


def test_rpc_bytes_3b(seed: int) -> None:
    """TestRPCBytes3B: each command is sent to each server just once."""
    lab = Lab(3, seed)
    lab.one(3, retry=False)
    before = lab.calls["bytes"]
    for _ in range(10):
        lab.one(3, retry=False, command=lab.command(5000))
    assert lab.calls["bytes"] - before <= 3 * 10 * 5000 + 50_000


def test_follower_failure_3b(seed: int) -> None:
    """TestFollowerFailure3B: one follower less is no obstacle, two are."""
    lab = Lab(3, seed)
    lab.one(3, retry=False)
    leader = lab.leader()
    lab.disconnect(lab.following(leader))
    lab.one(2, retry=False)
    lab.sleep(ELECTION_MS)
    lab.one(2, retry=False)
    leader = lab.leader()
    lab.disconnect(lab.following(leader, 1), lab.following(leader, 2))
    index = lab.propose(leader, lab.command())
    assert index is not None
    lab.sleep(2 * ELECTION_MS)
    assert lab.count(index) == (0, None)


def test_leader_failure_3b(seed: int) -> None:
    """TestLeaderFailure3B: the followers go on under a new leader; when that is lost too, nothing commits."""
    lab = Lab(3, seed)
    lab.one(3, retry=False)
    lab.disconnect(lab.leader())
    lab.one(2)
    lab.sleep(ELECTION_MS)
    lab.one(2)
    lab.disconnect(lab.leader())
    high = lab.invariants.high_commit
    for node in lab.servers:
        lab.propose(node, lab.command())
    lab.sleep(2 * ELECTION_MS)
    assert lab.invariants.high_commit == high


def test_fail_agree_3b(seed: int) -> None:
    """TestFailAgree3B: a follower that was away catches up and takes part again."""
    lab = Lab(3, seed)
    lab.one(3, retry=False)
    away = lab.following(lab.leader())
    lab.disconnect(away)
    for _ in range(2):
        lab.one(2, retry=False)
        lab.one(2, retry=False)
        lab.sleep(ELECTION_MS)
    lab.connect(away)
    lab.one(3)
    lab.sleep(ELECTION_MS)
    lab.one(3)


def test_fail_no_agree_3b(seed: int) -> None:
    """TestFailNoAgree3B: with three of five cut off nothing commits; when they return, something does."""
    lab = Lab(5, seed)
    lab.one(5, retry=False)
    leader = lab.leader()
    cut = [lab.following(leader, steps) for steps in (1, 2, 3)]
    lab.disconnect(*cut)
    index = lab.propose(leader, lab.command())
    assert index is not None
    lab.sleep(2 * ELECTION_MS)
    assert lab.count(index) == (0, None)
    lab.connect(*cut)
    lab.leader()
    lab.one(5)


def test_concurrent_starts_3b(seed: int) -> None:
    """TestConcurrentStarts3B: commands given to the leader at once all commit, in one term, each at its own index."""
    lab = Lab(3, seed)
    leader = lab.leader()
    term = lab.term()
    commands = [lab.command() for _ in range(5)]
    indexes = [lab.propose(leader, command) for command in commands]
    assert None not in indexes
    assert [lab.wait(index, 3) for index in indexes if index is not None] == commands
    assert lab.term() == term


def test_rejoin_3b(seed: int) -> None:
    """TestRejoin3B: a leader comes back with entries that nobody else has: they go, and it follows."""
    lab = Lab(3, seed)
    lab.one(3)
    first = lab.leader()
    lab.disconnect(first)
    lost = [lab.command() for _ in range(3)]
    for command in lost:
        lab.propose(first, command)
    lab.one(2)
    second = lab.leader()
    lab.disconnect(second)
    lab.connect(first)
    lab.one(2)
    lab.connect(second)
    lab.one(3)
    assert not {entry.data for entry in lab.committed.values()} & {*lost}


def test_backup_3b(seed: int) -> None:
    """TestBackup3B: logs that differ in fifty entries, on several servers and of several terms, are repaired fast."""
    lab = Lab(5, seed)
    lab.one(5)
    first = lab.leader()
    rest = [lab.following(first, steps) for steps in (2, 3, 4)]
    lab.disconnect(*rest)
    for _ in range(50):
        lab.propose(first, lab.command())
    lab.sleep(ELECTION_MS // 2)
    lab.disconnect(first, lab.following(first))
    lab.connect(*rest)
    for _ in range(50):
        lab.one(3)
    second = lab.leader()
    other = next(node for node in rest if node != second)
    lab.disconnect(other)
    for _ in range(50):
        lab.propose(second, lab.command())
    lab.sleep(ELECTION_MS // 2)
    lab.disconnect(*lab.servers)
    lab.connect(first, lab.following(first), other)
    for _ in range(50):
        lab.one(3)
    lab.connect(*lab.servers)
    appends = lab.calls["APP"]
    lab.one(5)
    assert lab.calls["APP"] - appends < 150, "an append for each entry that differs"


def test_count_3b(seed: int) -> None:
    """TestCount3B: few requests make a leader (30), commit ten commands (42), or pass an idle second (60)."""
    lab = Lab(3, seed)
    leader = lab.leader()
    assert 1 <= lab.calls["requests"] <= 30
    before, commands = lab.calls["requests"], [lab.command() for _ in range(12)]
    indexes = [lab.propose(leader, command) for command in commands]
    assert [lab.wait(index, 3) for index in indexes if index is not None] == commands
    assert lab.calls["requests"] - before <= (10 + 1 + 3) * 3
    lab.sleep(100)
    before = lab.calls["requests"]
    lab.sleep(1000)
    assert lab.calls["requests"] - before <= 3 * 20


# 3C: persistence


def test_persist1_3c(seed: int) -> None:
    """TestPersist13C: all restart; the leader restarts; the leader, then a follower are away for a command."""
    lab = Lab(3, seed)
    lab.one(3)
    for node in lab.servers:
        lab.shutdown(node)
    for node in lab.servers:
        lab.start(node)
    lab.one(3)
    lab.start(lab.leader())
    lab.one(3)
    leader = lab.leader()
    lab.shutdown(leader)
    index = lab.one(2)
    lab.start(leader)
    lab.wait(index, 3)
    follower = lab.following(lab.leader())
    lab.shutdown(follower)
    lab.one(2)
    lab.start(follower)
    lab.one(3)


def test_persist2_3c(seed: int) -> None:
    """TestPersist23C: five rounds in which two of five go, then the other three, and return in another order."""
    lab = Lab(5, seed)
    for _ in range(5):
        lab.one(5)
        leader = lab.leader()
        second, third, fourth, fifth = (lab.following(leader, steps) for steps in (1, 2, 3, 4))
        lab.shutdown(second)
        lab.shutdown(third)
        lab.one(3)
        for node in (leader, fourth, fifth):
            lab.shutdown(node)
        lab.start(second)
        lab.start(third)
        lab.sleep(ELECTION_MS)
        lab.start(fourth)
        lab.one(3)
        lab.start(fifth)
        lab.start(leader)
    lab.one(5)


def test_persist3_3c(seed: int) -> None:
    """TestPersist33C: a partitioned leader and one follower crash; the leader restarts and meets the third, then the follower returns."""
    lab = Lab(3, seed)
    lab.one(3)
    leader = lab.leader()
    second, third = lab.following(leader, 1), lab.following(leader, 2)
    lab.disconnect(third)
    lab.one(2)
    lab.shutdown(leader)
    lab.shutdown(second)
    lab.connect(third)
    lab.start(leader)
    lab.one(2)
    lab.start(second)
    lab.one(3)


def test_figure8_3c(seed: int) -> None:
    """TestFigure83C: a thousand leaders crash, most of them right after a proposal, a majority always being up (figure 8 of the paper)."""
    lab = Lab(5, seed)
    lab.one(1)
    up = len(lab.servers)
    crashes = 0
    for _ in range(1000):
        leader = None
        for node in lab.servers:
            if lab.propose(node, lab.command()) is not None:
                leader = node
        lab.sleep(_short_or_long(lab))
        if leader is not None:
            lab.shutdown(leader)
            crashes += 1
            up -= 1
        if up < 3:
            node = lab.rng.choice(list(lab.servers))
            if lab.servers[node].node is None:
                lab.start(node)
                up += 1
    for node, server in lab.servers.items():
        if server.node is None:
            lab.start(node)
    lab.one(5)
    assert crashes > 10


def test_unreliable_agree_3c(seed: int) -> None:
    """TestUnreliableAgree3C: two hundred and fifty commands of five clients at a time, one message in ten being lost."""
    lab = Lab(5, seed, reliable=False)
    beside = []
    for _ in range(49):
        for _ in range(4):
            beside.append(story := _Once(lab))
            lab.spawn(story.run())
        lab.one(1)
    lab.reliable = True
    while not all(each.done for each in beside):
        lab.sleep(10)
    lab.one(5)


def test_figure8_unreliable_3c(seed: int) -> None:
    """TestFigure8Unreliable3C: leaders are cut off, the network loses messages, and after two hundred rounds delays answers by up to two seconds."""
    lab = Lab(5, seed, reliable=False)
    lab.one(1)
    up = len(lab.servers)
    for round_ in range(1000):
        if round_ == 200:
            lab.long_reordering = True
        leader = None
        for node, server in lab.servers.items():
            if lab.propose(node, lab.command()) is not None and server.connected:
                leader = node
        lab.sleep(_short_or_long(lab))
        if leader is not None and lab.rng.random() < 0.5:
            lab.disconnect(leader)
            up -= 1
        if up < 3:
            node = lab.rng.choice(list(lab.servers))
            if not lab.servers[node].connected:
                lab.connect(node)
                up += 1
    lab.connect(*lab.servers)
    lab.one(5)


def test_reliable_churn_3c(seed: int) -> None:
    """TestReliableChurn3C: whatever a client was told is committed is in the log at the end, with servers crashing and cut off meanwhile."""
    _churn(Lab(5, seed))


def test_unreliable_churn_3c(seed: int) -> None:
    """TestUnreliableChurn3C: the same with a network that loses messages."""
    _churn(Lab(5, seed, reliable=False))


# 3D: snapshots


def test_snapshot_basic_3d(seed: int) -> None:
    """TestSnapshotBasic3D: the log is cut off behind snapshots and stays short."""
    lab = _snapshots(seed, disconnect=False, reliable=True, crash=False)
    assert all(server.disk.snapshot.index > SNAPSHOT_INTERVAL for server in lab.servers.values())


def test_snapshot_install_3d(seed: int) -> None:
    """TestSnapshotInstall3D: a server that was cut off is brought back by a snapshot."""
    assert _snapshots(seed, disconnect=True, reliable=True, crash=False).calls["SNAP"]


def test_snapshot_install_unreliable_3d(seed: int) -> None:
    """TestSnapshotInstallUnreliable3D: the same with a network that loses messages."""
    assert _snapshots(seed, disconnect=True, reliable=False, crash=False).calls["SNAP"]


def test_snapshot_install_crash_3d(seed: int) -> None:
    """TestSnapshotInstallCrash3D: a server that was down is brought back by a snapshot."""
    assert _snapshots(seed, disconnect=False, reliable=True, crash=True).calls["SNAP"]


def test_snapshot_install_un_crash_3d(seed: int) -> None:
    """TestSnapshotInstallUnCrash3D: the same with a network that loses messages."""
    assert _snapshots(seed, disconnect=False, reliable=False, crash=True).calls["SNAP"]


def test_snapshot_all_crash_3d(seed: int) -> None:
    """TestSnapshotAllCrash3D: all servers crash and come back with their snapshots and the rest of their logs."""
    lab = Lab(3, seed, reliable=False, snapshots=True)
    lab.one(3)
    for _ in range(5):
        for _ in range(SNAPSHOT_INTERVAL // 2 + lab.rng.randrange(SNAPSHOT_INTERVAL)):
            lab.one(3)
        before = lab.one(3)
        _restart_all(lab)
        assert lab.one(3) > before


def test_snapshot_init_3d(seed: int) -> None:
    """TestSnapshotInit3D: what is written after a restart does not lose the snapshot for the restart after it."""
    lab = Lab(3, seed, reliable=False, snapshots=True)
    first = lab.one(3)
    for _ in range(SNAPSHOT_INTERVAL + 1):
        lab.one(3)
    for _ in range(2):
        _restart_all(lab)
        lab.one(3)
    assert lab.count(first)[0] == 3


# What several of them do


class _Once:
    """A client with one command."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.done = lab, False

    def run(self) -> Story:
        yield from self.lab.agree(self.lab.command(), 1)
        self.done = True


def _short_or_long(lab: Lab) -> int:
    return lab.rng.randrange(ELECTION_MS // 2) if lab.rng.random() < 0.1 else lab.rng.randrange(13)


def _restart_all(lab: Lab) -> None:
    for node in lab.servers:
        lab.shutdown(node)
    for node in lab.servers:
        lab.start(node)


def _churn(lab: Lab) -> None:
    stop = False
    acknowledged: list[bytes] = []

    def client(number: int) -> Story:
        while not stop:
            command, index = lab.command(), None
            for node in lab.servers:
                index = lab.propose(node, command) or index
            if index is None:
                yield 79 + number * 17
                continue
            for pause in (10, 20, 50, 100, 200):
                _, found = lab.count(index)
                if found is not None:
                    if found == command:
                        acknowledged.append(command)
                    break
                yield pause

    for number in range(3):
        lab.spawn(client(number))
    for _ in range(20):
        if lab.rng.random() < 0.2:
            lab.disconnect(lab.rng.choice(list(lab.servers)))
        if lab.rng.random() < 0.5:
            node = lab.rng.choice(list(lab.servers))
            if lab.servers[node].node is None:
                lab.start(node)
            lab.connect(node)
        if lab.rng.random() < 0.2:
            lab.shutdown(lab.rng.choice(list(lab.servers)))
        lab.sleep(ELECTION_MS * 7 // 10)
    lab.sleep(ELECTION_MS)
    lab.reliable = True
    for node, server in lab.servers.items():
        if server.node is None:
            lab.start(node)
        lab.connect(node)
    stop = True
    lab.sleep(2 * ELECTION_MS)
    last = lab.one(5)
    log = {lab.wait(index, 5) for index in range(1, last + 1)}
    assert acknowledged, "no client was ever told anything"
    assert {*acknowledged} <= log


def _snapshots(seed: int, *, disconnect: bool, reliable: bool, crash: bool) -> Lab:
    lab = Lab(3, seed, reliable=reliable, snapshots=True)
    lab.one(3)
    leader = lab.leader()
    for round_ in range(30):
        victim, sender = lab.following(leader), leader
        if round_ % 3 == 1:
            victim, sender = leader, lab.following(leader)
        if disconnect:
            lab.disconnect(victim)
            lab.one(2)
        if crash:
            lab.shutdown(victim)
            lab.one(2)
        for _ in range(SNAPSHOT_INTERVAL // 2 + lab.rng.randrange(SNAPSHOT_INTERVAL)):
            lab.propose(sender, lab.command())
        lab.one(2 if disconnect or crash else 3)
        assert lab.log_bytes() < MAX_LOG_BYTES, "the log grew too long"
        if disconnect or crash:
            lab.connect(victim)
            if crash:
                lab.start(victim)
            lab.one(3)
            leader = lab.leader()
    return lab
