"""`scripts/bench etcd` works: it measures both etcds and prints every figure. How large they are is not this test's matter."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd")]

TITLES = (
    *("put, one client, p50", "puts, 100 clients, 2 connections", "linearizable gets, 100 clients, 100 connections"),
    *(
        "range of 1,000 keys, p50",
        "watch delay, 20 watchers on one connection, p50",
        "three members: put, one client, p50",
        "three members: puts, 100 clients, 6 connections",
    ),
    *("1,000 keys of 1 KB: restart", "1,000 keys of 1 KB: resident", "idle member: resident", "idle member: processor, % of a core"),
)


def test_bench_etcd_prints_ours_beside_the_real_one_with_ratios() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "bench", "etcd", "--quick"], capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: a target was missed, on a machine that has other work
    rows = {cells[0]: cells[1:] for line in done.stdout.splitlines() if len(cells := [cell.strip() for cell in line.strip("| ").split("|")]) >= 4}
    for title in TITLES:
        ours, real = rows[title][:2]
        number = re.compile(r"[\d,]+(\.\d+)? (ms|s|1/s|MB|%)")
        assert number.fullmatch(ours), f"{title}: {done.stdout}"
        assert number.fullmatch(real), f"{title}: {done.stdout}"
    assert re.search(r"The busiest load process used [\d.]+ of a core", done.stdout), done.stdout
