"""What a Raft cluster promises in time (RELIABILITY 2.1, INV-R10 to R13), in virtual milliseconds."""

import pytest

from simulation.lab_cluster import ELECTION_MS, ELECTION_TICKS, TICK_MS, Lab

TIMEOUT_MS = ELECTION_TICKS * TICK_MS  # the shortest election timeout; the longest is twice that
SEEDS = range(10)

pytestmark = pytest.mark.parametrize("seed", SEEDS)


@pytest.mark.parametrize("servers", [3, 5])
def test_a_follower_that_returns_changes_no_term(seed: int, servers: int) -> None:
    """INV-R10: the term before and after is equal in every isolation of a single follower, however long."""
    lab = Lab(servers, seed)
    lab.one(servers)
    leader, term = lab.leader(), lab.term()
    for steps in range(1, servers):
        follower = lab.following(leader, steps)
        lab.disconnect(follower)
        lab.one(servers - 1)
        lab.sleep(lab.rng.randrange(10 * ELECTION_MS))
        lab.connect(follower)
        lab.one(servers)
        assert (lab.leader(), lab.term()) == (leader, term)


@pytest.mark.parametrize("servers", [3, 5])
def test_a_leader_cut_off_steps_down_and_answers_no_read(seed: int, servers: int) -> None:
    """INV-R11: asked every 10 ms it answers nothing from memory, and has stepped down after two election timeouts."""
    lab = Lab(servers, seed)
    lab.one(servers)
    leader = lab.leader()
    lab.read(leader)
    lab.sleep(100)
    assert lab.reads == 1, "connected it does"
    lab.disconnect(leader)
    lab.sleep(10)  # what was on its way
    before = lab.reads
    for _ in range(2 * TIMEOUT_MS // 10 + 1):
        lab.read(leader)
        lab.sleep(10)
    assert not lab.is_leader(leader)
    lab.one(servers - 1)
    for _ in range(100):
        lab.read(leader)
        lab.sleep(10)
    assert lab.reads == before
    # Back again it answers what was asked late, but nothing that is old: `read` has looked at what was committed then.
    lab.connect(leader)
    lab.one(servers)
    lab.read(leader)
    lab.sleep(500)
    assert lab.reads > before


@pytest.mark.parametrize("servers", [3, 5, 7])
def test_a_majority_that_is_connected_commits_within_ten_election_timeouts(seed: int, servers: int) -> None:
    """INV-R12: whatever was before: crashes, losses, a divided network."""
    lab = Lab(servers, seed, reliable=False)
    lab.one(1)
    for _ in range(20):
        for node in lab.servers:
            lab.propose(node, lab.command())
        victim = lab.rng.choice(list(lab.servers))
        if lab.rng.random() < 0.5:
            lab.start(victim)
        else:
            lab.disconnect(victim)
        lab.sleep(lab.rng.randrange(TIMEOUT_MS))
        if lab.rng.random() < 0.5:
            lab.connect(*lab.servers)
    lab.reliable = True
    minority = lab.rng.sample(list(lab.servers), (servers - 1) // 2)
    lab.connect(*lab.servers)
    lab.disconnect(*minority)
    began = lab.now
    lab.one(servers - len(minority))
    assert lab.now - began <= 10 * 2 * TIMEOUT_MS


def test_a_follower_that_is_gone_costs_a_bounded_window(seed: int) -> None:
    """INV-R13: what is in flight and not committed stays under its limits while a follower, or a majority, is away (checked after each step)."""
    lab = Lab(3, seed, snapshots=True, max_inflight_messages=4, max_uncommitted_size=500, max_size_per_message=500)
    lab.one(3)
    leader = lab.leader()
    lab.disconnect(lab.following(leader))
    for _ in range(50):
        lab.one(2)
    assert lab.log_bytes() < 2000, "the log is cut off behind snapshots whoever is away"
    lab.disconnect(lab.following(leader, 2))
    raft = lab.node(leader).raft
    last = raft.log.last_index
    for _ in range(50):
        lab.propose(leader, lab.command())
        lab.sleep(1)
    assert last < raft.log.last_index < last + 50, "the rest is refused"
    assert raft.uncommitted_size <= 500
    assert all(len(progress.inflights) <= 4 for progress in raft.tracker.progress.values())
