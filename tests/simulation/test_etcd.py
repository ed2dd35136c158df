"""Whole etcds under simulated faults: INV-R, INV-M, INV-W and INV-L after every step of every schedule, and histories that are linearizable."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.etcd_cluster import simulate_etcd

ROOT = Path(__file__).parents[2]
SCHEDULES = 200  # what CI runs; scripts/simulate --etcd runs more, and replays one


@pytest.mark.slow
@pytest.mark.parametrize("block", range(4))
def test_no_schedule_breaks_an_invariant(block: int) -> None:
    size = SCHEDULES // 4
    for seed in range(block * size, (block + 1) * size):
        simulate_etcd(seed)


@pytest.mark.slow
def test_a_seed_replays_bit_for_bit_in_another_process() -> None:
    """Whatever a process's hashes are: order comes from the seed alone."""
    replayed = [
        subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "simulate"), "--etcd", "2"],
            env={**os.environ, "PYTHONHASHSEED": str(hashing)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashing in (1, 2)
    ]
    assert replayed[0] == replayed[1] == "\n".join(simulate_etcd(2).trace) + "\n"
