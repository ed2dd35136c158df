"""Rows E14-E16: etcd of several members, each a process of node01 as the article's `controller-0=…,controller-1=…` has them. Of three control planes: test_ha.py.

The members speak plain HTTP on ports of their own; the client is the real one.
"""

import re
from collections.abc import Iterator, Sequence

import pytest

from harness import real_etcdctl
from harness.cluster import Cluster
from harness.eventually import eventually

pytestmark = [pytest.mark.needs("etcdctl"), pytest.mark.style("systemd")]
FOLDER = "/tmp/members"
SILENT = "--command-timeout=2s --dial-timeout=1s"


class Members:
    """controller-0 … as processes; each in a folder of its own."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        real_etcdctl.install(cluster, "node01")

    def typed(self, line: str) -> str:
        return self._cluster.typed("node01", f"mkdir -p {FOLDER} && cd {FOLDER}; {line}")

    def refused(self, line: str) -> str:
        return self._cluster.refused("node01", f"cd {FOLDER}; {line}")

    @staticmethod
    def client(n: int) -> str:
        return f"http://127.0.0.1:{12379 + 100 * n}"

    @staticmethod
    def peer(n: int) -> str:
        return f"http://127.0.0.1:{12380 + 100 * n}"

    def initial_cluster(self, numbers: Sequence[int]) -> str:
        return ",".join(f"controller-{n}={self.peer(n)}" for n in numbers)

    def flags(self, n: int, initial_cluster: str, state: str = "new") -> str:
        return (
            f"--name controller-{n} --initial-advertise-peer-urls {self.peer(n)} --listen-peer-urls {self.peer(n)} --listen-client-urls {self.client(n)} "
            f"--advertise-client-urls {self.client(n)} --initial-cluster-token etcd-cluster-0 --initial-cluster {initial_cluster} --initial-cluster-state {state}"
        )

    def start(self, *numbers: int, initial: Sequence[int] = (), state: str = "new") -> None:
        """`etcd …` of each; waits until each one answers, also a learner."""
        initial_cluster = self.initial_cluster(initial or numbers)
        lines = [f"(etcd {self.flags(n, initial_cluster, state)} >>log-{n} 2>&1 </dev/null & echo $! >pid-{n})" for n in numbers]
        self.typed("; ".join(lines))
        for n in numbers:
            ask = f"etcdctl --endpoints={self.client(n)} {SILENT} endpoint status 2>&1 || tail -n 3 log-{n}"
            eventually(lambda ask=ask: self.typed(ask), lambda said: f"{self.client(n)}, " in said, 40, f"controller-{n} answers")  # type: ignore[misc]

    def kill(self, *numbers: int) -> None:
        self.typed("; ".join(f"kill -9 $(cat pid-{n}); tail --pid=$(cat pid-{n}) -f /dev/null" for n in numbers))

    def etcdctl(self, words: str, *numbers: int) -> str:
        return f"etcdctl --endpoints={','.join(self.client(n) for n in numbers)} {SILENT} {words}"

    def leaders(self, asked: int) -> list[int]:
        """Those that `endpoint status --cluster` shows as leaders."""
        table = self.typed(self.etcdctl("endpoint status --cluster -w table 2>/dev/null || true", asked))
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "http://" in line]
        return [(int(row[0].rpartition(":")[2]) - 12379) // 100 for row in rows if row[4] == "true"]

    def clear(self) -> None:
        self._cluster.typed("node01", f"cat {FOLDER}/pid-* 2>/dev/null | xargs -r kill -9 2>/dev/null; rm -rf {FOLDER}")


@pytest.fixture
def members(style: str, cluster: Cluster) -> Iterator[Members]:
    made = Members(cluster)
    yield made
    made.clear()


def test_e14_e15_three_members_have_one_leader_and_survive_one(members: Members) -> None:
    members.start(0, 1, 2)
    first = eventually(lambda: members.leaders(0), lambda found: len(found) == 1)[0]
    assert members.typed(members.etcdctl("put key1 value1", 0, 1, 2)) == "OK\n"
    others = [n for n in (0, 1, 2) if n != first]
    # What one has acknowledged any other one reads at once: reads are linearizable.
    for n in (0, 1, 2):
        members.typed(members.etcdctl(f"put from {n}", n))
        assert [members.typed(members.etcdctl("get from --print-value-only", m)) for m in (0, 1, 2)] == [f"{n}\n"] * 3
    members.kill(first)
    eventually(lambda: members.typed(members.etcdctl("put key1 value2", *others)), lambda said: said == "OK\n", 20, "a write after the next election")
    (second,) = eventually(lambda: members.leaders(others[0]), lambda found: len(found) == 1)
    assert second != first
    # Two of three are gone: no writes, no linearizable reads; what the last one has can be read as that.
    last = next(n for n in others if n != second)
    members.kill(second)
    eventually(
        lambda: members.refused(members.etcdctl("put key1 value3", last)), lambda said: "context deadline exceeded" in said or "etcdserver" in said
    )
    members.refused(members.etcdctl("get key1", last))
    assert members.typed(members.etcdctl("get key1 --consistency=s", last)) == "key1\nvalue2\n"
    members.start(first, second, initial=(0, 1, 2))
    # Nobody knows what became of value3: it was not acknowledged, and it is in the log of the last one.
    eventually(lambda: members.typed(members.etcdctl("put key1 value4", 0, 1, 2)), lambda said: said == "OK\n", 20)
    assert members.typed(members.etcdctl("get key1", first)) == "key1\nvalue4\n"


def test_e15_two_members_lose_writes_with_one_of_them(members: Members) -> None:
    members.start(0, 1)
    members.typed(members.etcdctl("put key1 value1", 0))
    members.kill(1)
    members.refused(members.etcdctl("put key1 value2", 0))
    assert members.typed(members.etcdctl("get key1 --consistency=s", 0)) == "key1\nvalue1\n"


def test_e15_a_wrong_or_missing_peer_is_refused(members: Members) -> None:
    """In etcd's words; the members that agree go on without the one that does not."""
    start = "timeout 20 etcd {} 2>&1"
    members.typed("true")
    missing = members.refused(start.format(members.flags(0, members.initial_cluster([1, 2])))).replace("\\", "")
    assert 'couldn\'t find local name "controller-0" in the initial cluster configuration' in missing
    wrong = members.refused(start.format(members.flags(0, members.initial_cluster([0, 1]).replace(members.peer(0), "http://127.0.0.1:1"))))
    assert "but missing from --initial-advertise-peer-urls=controller-0=http://127.0.0.1:12380" in wrong
    members.start(0)
    stranger = members.refused(start.format(members.flags(1, members.initial_cluster([0, 1]), "existing")))
    assert "error validating peerURLs" in stranger
    assert "member count is unequal" in stranger


def test_e14_e16_members_are_added_promoted_moved_and_removed(members: Members) -> None:
    def listed(form: str = "table") -> str:
        return members.typed(members.etcdctl(f"member list -w {form}", 0))

    def row(name: str) -> list[str]:
        return next(([cell.strip() for cell in line.split("|")[1:-1]] for line in listed().splitlines() if f" {name} " in line), [])

    members.start(0, 1, 2)
    for n in (3, 4):
        said = members.typed(members.etcdctl(f"member add controller-{n} --learner --peer-urls={members.peer(n)}", 0, 1, 2))
        assert re.search(r"Member +[0-9a-f]{15,16} added to cluster +[0-9a-f]{15,16}", said)
        assert 'ETCD_INITIAL_CLUSTER_STATE="existing"' in said
        members.start(n, initial=range(n + 1), state="existing")
        assert row(f"controller-{n}")[-1] == "true"  # IS LEARNER
        identity = row(f"controller-{n}")[0]
        promote = members.etcdctl(f"member promote {identity} 2>&1 || true", 0, 1, 2)
        eventually(lambda promote=promote: members.typed(promote), lambda said: "promoted" in said, what="the learner has caught up")  # type: ignore[misc]
        assert row(f"controller-{n}")[-1] == "false"
    assert len(eventually(lambda: members.leaders(0), lambda found: len(found) == 1)) == 1
    table = members.typed(members.etcdctl("endpoint status --cluster -w table", 0))
    assert len([line for line in table.splitlines() if "http://" in line]) == 5
    # Five survive two.
    members.kill(3, 4)
    eventually(lambda: members.typed(members.etcdctl("put key1 value1", 0, 1, 2)), lambda said: said == "OK\n", 20)
    fourth, fifth = row("controller-3")[0], row("controller-4")[0]
    members.typed(members.etcdctl(f"member update {fourth} --peer-urls=http://127.0.0.1:12999", 0, 1, 2))
    assert "http://127.0.0.1:12999" in row("controller-3")
    for identity in (fourth, fifth):
        assert f"Member {identity} removed from cluster" in members.typed(members.etcdctl(f"member remove {identity}", 0, 1, 2))
    assert len([line for line in listed("simple").splitlines() if "started" in line]) == 3
