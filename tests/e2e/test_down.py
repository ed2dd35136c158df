"""`kubette down` leaves nothing: no process, mount, namespace, interface, control group or socket; with --purge no file."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from harness.cluster import Cluster

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
DOWN_S_MAX = 5.0


def processes() -> dict[int, set[str]]:
    """Each process with the namespaces it is in."""
    found: dict[int, set[str]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found[int(process.name)] = {os.readlink(process / "ns" / kind) for kind in NAMESPACES}
        except OSError:  # gone, or a kernel thread
            continue
    return found


def of_cluster(cluster: Cluster) -> tuple[set[int], set[str]]:
    """The processes in its machines and those that name its folder; the namespaces that the host is not in."""
    everything = processes()
    of_host = everything[os.getpid()]
    foreign = set().union(*(everything[m["pid"]] for m in cluster.status()["machines"])) - of_host
    # Pods have namespaces of their own, but their machine's user or cgroup namespace or process tree; all that descends from PID 1 counts.
    supervisor = cluster.status()["pid"]
    parents = {pid: _parent(pid) for pid in everything}
    inside = {pid for pid, spaces in everything.items() if spaces & foreign or _descends(pid, supervisor, parents)}
    return inside, set().union(*(everything[pid] for pid in inside)) - of_host


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = parents.get(pid, 0)
    return False


def host(cluster: Cluster) -> dict[str, set[str]]:
    """What else a cluster could leave on the host."""
    groups = Path("/sys/fs/cgroup")
    return {
        "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if cluster.name in line},
        "interfaces": {name for _, name in socket.if_nameindex()},
        "sockets": {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if str(cluster.home) in line},
        "groups": {str(path) for path in groups.rglob("*") if path.is_dir() and f"-{cluster.name}" in path.name} if groups.is_dir() else set(),
    }


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_nothing_is_left(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster("leaves")
    before = host(cluster)
    cluster.up("--workers=1")
    kubectl = cluster.kubectl
    kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    kubectl("create", "service", "nodeport", "web", "--tcp=80:80", "--node-port=30990")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    inside, namespaces = of_cluster(cluster)
    assert len(inside) > 15
    assert len(namespaces) > 10
    assert listens(cluster.api_port)
    there = processes().keys()

    began = time.monotonic()
    cluster("down")
    assert time.monotonic() - began < DOWN_S_MAX
    after = processes()
    assert not inside & after.keys(), "processes that still run"
    # Of what has begun since nothing is ours, and it may have got the numbers of namespaces that are gone.
    assert not namespaces & set().union(*(after[pid] for pid in there & after.keys())), "namespaces that are still there"
    left = host(cluster)
    assert {kind: left[kind] - before[kind] for kind in left if left[kind] - before[kind]} == {}
    assert not listens(cluster.api_port)
    assert not listens(30990)
    assert cluster.status()["running"] is False

    assert cluster("down", "--purge") == 'Cluster "leaves" was not running.\nCluster "leaves" removed.\n'
    assert not any(cluster.home.iterdir())
    assert "leaves" not in cluster.kubeconfig.read_text()
