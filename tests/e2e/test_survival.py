"""What may die: each process by kill -9, a whole machine by its plug, all machines by a reboot. Nothing acknowledged is lost, no other pod restarts.

The tests share the session's cluster and leave it whole.
"""

import json
import re
from collections.abc import Iterator

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually
from harness.kubectl import Kubectl
from harness.writer import Writer

GRACE_S = 8  # node-monitor-grace-period here; 50 s is the release's own
CONTROLLER_MANAGER = "/etc/kubernetes/manifests/kube-controller-manager.yaml"
# The machine, the program as `ps` shows it, and its pod (none for units).
PROCESSES = [
    ("controlplane", "etcd", "etcd-controlplane"),
    ("controlplane", "kube-apiserver", "kube-apiserver-controlplane"),
    ("controlplane", "kube-controller-manager", "kube-controller-manager-controlplane"),
    ("controlplane", "kube-scheduler", "kube-scheduler-controlplane"),
    ("controlplane", "coredns", "coredns"),
    ("node01", "kube-proxy", "kube-proxy"),
    ("node01", "/usr/bin/kubelet", ""),
    ("node01", "/usr/bin/containerd", ""),
    ("controlplane", "/usr/bin/kubelet", ""),
    ("controlplane", "/usr/bin/containerd", ""),
]


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[Kubectl]:
    """A deployment on both workers that nothing here may restart."""
    admin = cluster.kubectl
    admin("create", "namespace", "survival")
    kubectl = admin.in_namespace("survival")
    kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    kubectl("expose", "deployment", "web", "--port=80")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    yield kubectl
    admin("delete", "namespace", "survival", "--wait=false")


def restarts(kubectl: Kubectl) -> dict[str, int]:
    """Every container of the cluster with its restart count."""
    found = {}
    for pod in kubectl.json("get", "pods", "-A")["items"]:
        name, is_ours = pod["metadata"]["name"], pod["metadata"]["namespace"] == "survival"
        for status in pod["status"].get("containerStatuses") or []:
            if is_ours or pod["metadata"]["namespace"] == "kube-system":
                # A pod of ours must keep its very container.
                found[f"{name}/{status['containerID'] if is_ours else status['name']}"] = status["restartCount"]
    return found


def pid(cluster: Cluster, machine: str, program: str) -> int:
    """The oldest process of that name; 0 when there is none."""
    for line in cluster.run("ssh", machine, "--", "ps", "-eo", "pid=,args=").stdout.splitlines():
        number, _, command = line.strip().partition(" ")
        if command.split()[0] == program:
            return int(number)
    return 0


def is_whole(kubectl: Kubectl) -> bool:
    """Every node and every pod of the system is Ready."""
    done = kubectl.run("get", "nodes,pods", "-n", "kube-system", "-o", "json", timeout_s=20)
    if done.returncode != 0:
        return False
    items = json.loads(done.stdout)["items"]
    conditions = [{c["type"]: c["status"] for c in item["status"].get("conditions") or []} for item in items]
    return len(items) > 8 and all(c.get("Ready") == "True" for c in conditions)


@pytest.mark.parametrize(("machine", "program", "pod"), PROCESSES, ids=[f"{p.rpartition('/')[2]}-{m}" for m, p, _ in PROCESSES])
def test_a_killed_process_comes_back_and_nothing_else_restarts(cluster: Cluster, pods: Kubectl, machine: str, program: str, pod: str) -> None:
    eventually(lambda: is_whole(pods), timeout_s=60)
    before = restarts(pods)
    old = pid(cluster, machine, program)
    assert old, f"no {program} on {machine}"
    with Writer(cluster.kubeconfig, re.sub(r"[^a-z]", "", f"{program}{machine}")) as writer:
        cluster.on(machine, "kill", "-9", str(old))
        eventually(lambda: pid(cluster, machine, program), lambda new: new not in (0, old), timeout_s=40, what=f"a new {program}")
        writer.goes_on(timeout_s=60)
    assert writer.lost() == set()
    eventually(lambda: is_whole(pods), timeout_s=60)

    def more() -> set[str]:
        now = restarts(pods)
        return {name.partition("/")[0] for name in now if now[name] != before.get(name)}

    if pod:
        changed = eventually(more, timeout_s=20, what=f"the restart of {pod} counted")
        assert len(changed) == 1
        assert changed.pop().startswith(pod)
    else:
        assert more() == set()


def test_a_machine_without_power_is_not_ready_and_comes_back_with_its_pods(cluster: Cluster, pods: Kubectl) -> None:
    eventually(lambda: is_whole(pods), timeout_s=60)
    old = pid(cluster, "controlplane", "kube-controller-manager")
    cluster.on("controlplane", "sed", "-i", f"/- --leader-elect=true/a\\    - --node-monitor-grace-period={GRACE_S}s", CONTROLLER_MANAGER)
    eventually(lambda: pid(cluster, "controlplane", "kube-controller-manager"), lambda new: new not in (0, old), timeout_s=30)
    eventually(lambda: is_whole(pods), timeout_s=60)
    on_node01 = {p["metadata"]["name"] for p in pods.json("get", "pods", "--field-selector=spec.nodeName=node01")["items"]}
    assert on_node01

    assert cluster("machine", "kill", "node01") == 'machine "node01" killed\n'
    pods.wait("condition=Ready=Unknown", "node/node01", timeout_s=60)
    row = next(line.split() for line in pods("get", "nodes").splitlines() if line.startswith("node01"))
    assert row[1] == "NotReady"
    taints = {t["key"]: t["effect"] for t in pods.json("get", "node", "node01")["spec"]["taints"]}
    assert "node.kubernetes.io/unreachable" in taints
    assert "Kubelet stopped posting node status." in pods("describe", "node", "node01")
    # The service goes on with the pods that are left.
    address = pods.jsonpath("{.spec.clusterIP}", "service", "web")
    eventually(lambda: cluster.run("ssh", "node02", "--", "curl", "-s", "-m", "2", f"http://{address}").stdout, lambda page: "nginx" in page)

    assert cluster("machine", "start", "node01") == 'machine "node01" started\n'
    pods.wait("condition=Ready", "node/node01", timeout_s=60)
    eventually(lambda: is_whole(pods), timeout_s=60)
    pods.wait("condition=Ready", "pods", "--all", timeout_s=60)
    after = {p["metadata"]["name"] for p in pods.json("get", "pods", "--field-selector=spec.nodeName=node01")["items"]}
    assert after == on_node01
    eventually(lambda: pods.json("get", "node", "node01")["spec"].get("taints") or [], lambda seen: seen == [])


def test_a_reboot_of_all_machines_brings_the_same_cluster_back(cluster: Cluster, pods: Kubectl) -> None:
    def objects() -> dict[str, str]:
        kinds = "nodes,namespaces,deployments,replicasets,services,configmaps,secrets,serviceaccounts,clusterroles,pods"
        return {
            f"{o['kind']} {o['metadata'].get('namespace', '')}/{o['metadata']['name']}": o["metadata"]["uid"]
            for o in pods.json("get", kinds, "-A")["items"]
        }

    pods("create", "configmap", "before", "--from-literal=a=b")
    eventually(lambda: is_whole(pods), timeout_s=60)
    before = objects()
    cluster("down")
    assert pods.run("get", "nodes", timeout_s=20).returncode != 0
    said = cluster.up()
    assert 'Starting cluster "e2e"' in said
    assert "kubeadm" not in said
    eventually(lambda: is_whole(pods), timeout_s=90)
    pods.wait("condition=Ready", "pods", "--all", timeout_s=60)
    now = objects()
    # Bootstrap tokens expire and finished namespaces go; everything that is left is the same object.
    gone = {name for name in before if name not in now}
    assert not {name for name in gone if " survival/" in name or " kube-system/" in name}
    assert {name for name in now if name in before and now[name] != before[name]} == set()
    assert pods.jsonpath("{.data.a}", "configmap", "before") == "b"
    address = pods.jsonpath("{.spec.clusterIP}", "service", "web")
    eventually(lambda: cluster.run("ssh", "node01", "--", "curl", "-s", "-m", "2", f"http://{address}").stdout, lambda page: "nginx" in page)
