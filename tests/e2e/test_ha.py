"""Three control planes and two workers: any one machine may fail, and all of them may be rebooted.

One cluster for the file; each test leaves all five machines up.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually
from harness.writer import Writer

pytestmark = pytest.mark.needs("etcdctl")

CONTROL_PLANES = ["controlplane", "controlplane02", "controlplane03"]
MACHINES = [*CONTROL_PLANES, "node01", "node02"]
ADDRESSES = {name: f"192.168.56.{11 + n}" for n, name in enumerate(MACHINES)}
PKI = "/etc/kubernetes/pki/etcd"
ETCDCTL = [
    "env", "ETCDCTL_API=3", "etcdctl", "--endpoints=https://127.0.0.1:2379",
    f"--cacert={PKI}/ca.crt", f"--cert={PKI}/healthcheck-client.crt", f"--key={PKI}/healthcheck-client.key",
]  # fmt: skip


@pytest.fixture(scope="module")
def ha(new_cluster: Callable[..., Cluster]) -> Cluster:
    cluster = new_cluster("ha")
    cluster.up("--control-planes=3", "--workers=2")
    return cluster


def members(ha: Cluster, on: str = "controlplane") -> dict[str, dict[str, Any]]:
    """etcd's members by name, as the real etcdctl lists them."""
    listed = json.loads(ha.on(on, *ETCDCTL, "member", "list", "-w", "json"))
    return {member["name"]: member for member in listed["members"]}


def statuses(ha: Cluster, on: str) -> dict[str, dict[str, Any]]:
    """The status of every member that answers, by address."""
    done = ha.run("ssh", on, "--", *ETCDCTL, "--command-timeout=2s", "endpoint", "status", "--cluster", "-w", "json")
    assert done.stdout, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    return {one["Endpoint"].removeprefix("https://").partition(":")[0]: one["Status"] for one in answers}


def leader(ha: Cluster, on: str = "controlplane") -> str:
    """The machine of etcd's leader."""
    found = statuses(ha, on)
    leaders = {status["leader"] for status in found.values()}
    assert len(leaders) == 1, found
    return next(name for name in CONTROL_PLANES if found.get(ADDRESSES[name], {"header": {"member_id": 0}})["header"]["member_id"] in leaders)


def server_addresses(ha: Cluster) -> list[str]:
    """The API servers behind the service `kubernetes`."""
    return sorted(ha.kubectl.jsonpath("{.subsets[*].addresses[*].ip}", "endpoints", "kubernetes").split())


def ready_nodes(ha: Cluster) -> list[str]:
    return sorted(
        node["metadata"]["name"]
        for node in ha.kubectl.json("get", "nodes")["items"]
        if any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])
    )


def lease(ha: Cluster, name: str) -> dict[str, Any]:
    return dict(ha.kubectl.in_namespace("kube-system").json("get", "lease", name)["spec"])


def is_whole(ha: Cluster) -> bool:
    """Five Ready nodes, three servers, three members that have the same log."""
    found = statuses(ha, "controlplane")
    newest = max(status["raftIndex"] for status in found.values())
    return (
        ready_nodes(ha) == sorted(MACHINES)
        and len(server_addresses(ha)) == 3
        and len(found) == 3
        and all(newest - status["raftAppliedIndex"] < 50 for status in found.values())
    )


def test_three_members_and_three_servers_behind_one_endpoint(ha: Cluster) -> None:
    assert ready_nodes(ha) == sorted(MACHINES)
    listed = members(ha)
    assert sorted(listed) == CONTROL_PLANES
    assert not any(member.get("isLearner") for member in listed.values())
    for name, member in listed.items():
        assert member["clientURLs"] == [f"https://{ADDRESSES[name]}:2379"]
        assert member["peerURLs"] == [f"https://{ADDRESSES[name]}:2380"]
    assert leader(ha, "controlplane03") == leader(ha, "controlplane02")
    eventually(lambda: server_addresses(ha), lambda found: found == [ADDRESSES[name] for name in CONTROL_PLANES])
    # kubectl's endpoint on the host and the machines' are the same three servers.
    assert f"https://127.0.0.1:{ha.api_port}" in ha.kubectl("config", "view")
    for name in MACHINES:
        assert "server: https://192.168.56.10:6443" in ha.on(name, "cat", "/etc/kubernetes/kubelet.conf")
    table = ha.on("controlplane02", *ETCDCTL, "endpoint", "status", "--cluster", "-w", "table")
    assert table.replace(" ", "").count("|true|") == 1  # one leader, no learner
    components = ha.kubectl.in_namespace("kube-system").jsonpath("{.items[*].metadata.name}", "pods", "-l", "tier=control-plane").split()
    assert sorted(components) == sorted(
        f"{component}-{name}" for name in CONTROL_PLANES for component in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    )


def test_any_machine_of_three_is_killed_and_no_acknowledged_write_is_lost(ha: Cluster) -> None:
    """Each in turn, the leader first; kubectl goes on, and the machine comes back as the member it was."""
    identities = {name: member["ID"] for name, member in members(ha).items()}
    remaining = list(CONTROL_PLANES)
    while remaining:
        eventually(lambda: is_whole(ha), timeout_s=60, what="five machines up")
        current = leader(ha)
        victim = current if current in remaining else remaining[0]
        remaining.remove(victim)
        survivor = next(name for name in CONTROL_PLANES if name != victim)
        with Writer(ha.kubeconfig, f"without-{victim}") as writer:
            ha("machine", "kill", victim)
            writer.goes_on()
            eventually(lambda: ha.kubectl.run("get", "nodes", timeout_s=10).returncode, lambda code: code == 0, 10, what="kubectl get nodes")
            assert ha.status()["machines"][CONTROL_PLANES.index(victim)]["state"] == "off"
            alive = [ADDRESSES[name] for name in CONTROL_PLANES if name != victim]
            eventually(lambda alive=alive: server_addresses(ha) == alive, timeout_s=40, what="the dead server is no endpoint")  # type: ignore[misc]
            assert leader(ha, survivor) != victim
            ha.kubectl("create", "deployment", f"without-{victim}", "--image=nginx", "--replicas=2")
            # Where controller manager and scheduler led on the dead machine, another one's lease comes first.
            ha.kubectl("rollout", "status", f"deployment/without-{victim}", "--timeout=60s", timeout_s=70)
            for component in ("kube-controller-manager", "kube-scheduler"):
                assert not lease(ha, component)["holderIdentity"].startswith(f"{victim}_")
            ha("machine", "start", victim)
            eventually(lambda: is_whole(ha), timeout_s=60, what="the machine is back")
            writer.goes_on()
        assert writer.lost() == set()
        assert {name: member["ID"] for name, member in members(ha, victim).items()} == identities


def test_a_reboot_of_all_machines_brings_back_the_same_cluster(ha: Cluster) -> None:
    everything = "nodes,namespaces,deployments,replicasets,pods,services,configmaps,secrets,serviceaccounts,clusterroles"

    def objects() -> set[str]:
        listed = ha.kubectl("get", everything, "-A", "-o", "jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.uid}{'\\n'}{end}")
        # A control plane's mirror Pods are made anew by their kubelets only when a manifest changed.
        return set(listed.split())

    def restarts() -> dict[str, int]:
        pods = ha.kubectl("get", "pods", "-A", "-o", "json")
        return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in json.loads(pods)["items"]}

    ha.kubectl("create", "deployment", "survivor", "--image=nginx", "--replicas=2")
    ha.kubectl("rollout", "status", "deployment/survivor", "--timeout=60s")
    before, count_before, identities = objects(), restarts(), members(ha)
    ha("down")
    assert not ha.status()["running"]
    ha.up()
    assert objects() == before
    assert members(ha).keys() == identities.keys()
    assert {m["ID"] for m in members(ha).values()} == {m["ID"] for m in identities.values()}
    ha.kubectl("rollout", "status", "deployment/survivor", "--timeout=60s")
    eventually(restarts, lambda now: now == {name: count + 1 for name, count in count_before.items()}, 40, what="each container started once more")
    assert ready_nodes(ha) == sorted(MACHINES)


def test_one_of_three_paused_is_out_of_the_way_and_comes_back(ha: Cluster) -> None:
    """A machine that hangs keeps its connections open: nobody may wait for it."""
    eventually(lambda: is_whole(ha), timeout_s=60, what="five machines up")
    victim = leader(ha)
    with Writer(ha.kubeconfig, "paused") as writer:
        ha("machine", "pause", victim)
        # Without the next one there would be no quorum.
        other = next(name for name in CONTROL_PLANES if name != victim)
        refused = ha.run("machine", "kill", other)
        assert (refused.returncode, f"1 of its 3 members would run, and 2 must ({victim} is away already)" in refused.stderr) == (1, True), (
            refused.stderr
        )
        assert ha.status()["machines"][CONTROL_PLANES.index(other)]["state"] == "running"
        writer.goes_on(timeout_s=40)
        eventually(lambda: ha.kubectl.run("get", "nodes", timeout_s=10).returncode, lambda code: code == 0, 30, what="kubectl get nodes")
        ha("machine", "resume", victim)
        eventually(lambda: is_whole(ha), timeout_s=60, what="the machine is back")
    assert writer.lost() == set()
