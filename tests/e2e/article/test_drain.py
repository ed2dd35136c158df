"""Rows O05-O15: drain, cordon and uncordon, as typed in the article. O01-O04 (nodes that are lost) are in test_lost_nodes.py.

A drain looks at every pod of its node, so each test waits first until pods of tests before it are gone, and makes every node schedulable again.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually
from harness.kubectl import Kubectl

SYSTEM = "kube-system"
CONTROL_PLANE_TAINT = "node-role.kubernetes.io/control-plane"
UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def pods_on(kubectl: Kubectl, node: str = "") -> dict[str, str]:
    """The pods of the test that run (or begin to), on one node or all: name to node."""
    found = kubectl.json("get", "pods", *([f"--field-selector=spec.nodeName={node}"] if node else []))["items"]
    return {p["metadata"]["name"]: p["spec"].get("nodeName", "") for p in found if "deletionTimestamp" not in p["metadata"]}


def row(kubectl: Kubectl, node: str) -> str:
    """STATUS of `kubectl get nodes`."""
    return next(line.split()[1] for line in kubectl("get", "nodes").splitlines() if line.startswith(f"{node} "))


def pod(name: str, node: str, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "busybox", "command": ["sh", "-c", "trap exit TERM; sleep 100000 & wait"]}]
    pinned = {"nodeSelector": {"kubernetes.io/hostname": node}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers, **pinned, **spec}}


def blue(replicas: int) -> dict[str, Any]:
    """A deployment whose pods are as far apart as they can."""
    labels = {"app": "blue"}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": labels}}
    spec = {"containers": [{"name": "nginx", "image": "nginx"}], "topologySpreadConstraints": [spread]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "blue"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


@pytest.fixture(autouse=True)
def nodes_of_our_own(cluster: Cluster, kubectl: Kubectl) -> Iterator[None]:
    admin, ours = cluster.kubectl, {SYSTEM, kubectl.namespace}

    def foreign() -> list[str]:
        return [p["metadata"]["namespace"] for p in admin.json("get", "pods", "-A")["items"] if p["metadata"]["namespace"] not in ours]

    eventually(foreign, lambda found: not found, 60, "pods of tests before this one are gone")
    yield
    admin("uncordon", "controlplane", "node01", "node02")


def test_o05_o06_o07_drain_reboot_and_uncordon(cluster: Cluster, kubectl: Kubectl) -> None:
    kubectl.apply(blue(2))
    kubectl("rollout", "status", "deployment/blue", "--timeout=60s")
    assert set(pods_on(kubectl).values()) == {"node01", "node02"}
    # A budget is respected: the drain asks again and again, until the deployment can do without the pod.
    kubectl("create", "poddisruptionbudget", "blue", "--selector=app=blue", "--min-available=2")
    eventually(lambda: kubectl.jsonpath("{.status.currentHealthy}", "pdb", "blue"), lambda count: count == "2")
    (name,) = pods_on(kubectl, "node01")
    with (
        kubectl.follow("drain", "node01", "--ignore-daemonsets", "--delete-emptydir-data") as lines,
        kubectl.follow("get", "pods", "-w", "-o", "jsonpath={.metadata.name}={.metadata.deletionGracePeriodSeconds}{'\\n'}") as seen,
    ):
        lines.until("node/node01 cordoned")
        lines.until("Cannot evict pod as it would violate the pod's disruption budget.")
        assert name in pods_on(kubectl, "node01")
        kubectl("scale", "deployment/blue", "--replicas=3")
        lines.until("node/node01 drained", timeout_s=60)
        seen.until(f"{name}=30")  # ended gracefully
        assert lines.process.wait(10) == 0
    assert pods_on(kubectl, "node01") == {}
    kubectl("rollout", "status", "deployment/blue", "--timeout=60s")
    assert set(pods_on(kubectl).values()) == {"node02"}

    cluster("machine", "reboot", "node01")
    # Ready of before the reboot is no news: the kubelet's own event is.
    eventually(lambda: cluster.run("ssh", "node01", "--", "systemctl", "is-active", "kubelet").stdout, lambda text: text == "active\n", 60)
    eventually(lambda: row(kubectl, "node01"), lambda status: status == "Ready,SchedulingDisabled", 60)
    before = pods_on(kubectl)
    assert kubectl("uncordon", "node01") == "node/node01 uncordoned\n"
    assert row(kubectl, "node01") == "Ready"
    kubectl("scale", "deployment/blue", "--replicas=4")
    kubectl("rollout", "status", "deployment/blue", "--timeout=60s")
    now = pods_on(kubectl)
    assert set(now.items()) >= set(before.items())  # none came back by itself
    assert {now[name] for name in now.keys() - before.keys()} == {"node01"}


def test_o08_o14_cordon_keeps_what_runs_and_lets_nothing_in(kubectl: Kubectl) -> None:
    kubectl.apply(pod("hr-app", "node02"))
    kubectl.wait("condition=Ready", "pod/hr-app")
    uid = kubectl.jsonpath("{.metadata.uid}", "pod", "hr-app")
    assert kubectl("cordon", "node02") == "node/node02 cordoned\n"
    assert row(kubectl, "node02") == "Ready,SchedulingDisabled"
    eventually(
        lambda: kubectl.json("get", "node", "node02")["spec"].get("taints") or [],
        lambda taints: any(UNSCHEDULABLE.items() <= t.items() for t in taints),
    )
    assert kubectl.json("get", "node", "node02")["spec"]["unschedulable"] is True
    kubectl.apply(blue(3))
    kubectl("rollout", "status", "deployment/blue", "--timeout=60s")
    assert pods_on(kubectl, "node02") == {"hr-app": "node02"}
    assert kubectl.jsonpath("{.metadata.uid} {.status.phase} {.status.containerStatuses[0].restartCount}", "pod", "hr-app") == f"{uid} Running 0"
    assert kubectl("cordon", "node02") == "node/node02 already cordoned\n"


def test_o09_o10_o11_the_hands_on_with_controlplane_and_node01(style: str, cluster: Cluster, kubectl: Kubectl) -> None:
    admin = cluster.kubectl
    if style == "systemd":  # kube-proxy is a unit there, so the daemon set is ours
        labels = {"app": "agent"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "nginx"}]}}
        agent = {"selector": {"matchLabels": labels}, "template": template}
        kubectl.apply({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"}, "spec": agent})
        kubectl("rollout", "status", "daemonset/agent", "--timeout=60s")
        daemon = f"{kubectl.namespace}/{kubectl.jsonpath('{.items[0].metadata.name}', 'pods', '--field-selector=spec.nodeName=node01')}"
    else:
        (name,) = (
            p["metadata"]["name"]
            for p in admin.json("get", "pods", "-n", SYSTEM, "-l", "k8s-app=kube-proxy", "--field-selector=spec.nodeName=node01")["items"]
        )
        daemon = f"{SYSTEM}/{name}"
    assert kubectl("taint", "nodes", "controlplane", f"{CONTROL_PLANE_TAINT}:NoSchedule-") == "node/controlplane untainted\n"
    try:
        kubectl("cordon", "node02")  # the article's cluster has two machines
        kubectl.apply(blue(2))
        kubectl("rollout", "status", "deployment/blue", "--timeout=60s")
        assert {node for name, node in pods_on(kubectl).items() if name.startswith("blue-")} == {"controlplane", "node01"}
        refused = kubectl.refused("drain", "node01")
        assert f"cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): {daemon}" in refused
        done = kubectl.run("drain", "node01", "--ignore-daemonsets", "--delete-emptydir-data")
        assert done.returncode == 0, done.stderr
        assert f"Warning: ignoring DaemonSet-managed Pods: {daemon}" in done.stderr
        assert done.stdout.splitlines()[-1] == "node/node01 drained"
        kubectl("rollout", "status", "deployment/blue", "--timeout=60s")
        assert {node for name, node in pods_on(kubectl).items() if name.startswith("blue-")} == {"controlplane"}
        assert row(kubectl, "node01") == "Ready,SchedulingDisabled"
        assert kubectl("uncordon", "node01") == "node/node01 uncordoned\n"
        assert row(kubectl, "node01") == "Ready"
    finally:
        kubectl("delete", "deployment,daemonset", "--all")
        kubectl("taint", "nodes", "controlplane", f"{CONTROL_PLANE_TAINT}:NoSchedule")


def test_o12_o13_o15_what_a_drain_refuses_to_delete(kubectl: Kubectl) -> None:
    """hr-app belongs to nothing, and a cache is lost with its pod: each is refused by name, and goes when one says so."""
    volume = {"volumes": [{"name": "cache", "emptyDir": {}}]}
    kubectl.apply(pod("hr-app", "node01"), pod("cache", "node01", **volume))
    kubectl.wait("condition=Ready", "pod", "--all")
    both = kubectl.namespace
    refused = kubectl.refused("drain", "node01", "--ignore-daemonsets")
    assert 'error: unable to drain node "node01" due to error: [' in refused
    assert f"cannot delete Pods that declare no controller (use --force to override): {both}/hr-app" in refused
    assert f"cannot delete Pods with local storage (use --delete-emptydir-data to override): {both}/cache" in refused
    assert set(pods_on(kubectl, "node01")) == {"hr-app", "cache"}
    assert row(kubectl, "node01") == "Ready,SchedulingDisabled"  # it stays cordoned

    done = kubectl.run("drain", "node01", "--ignore-daemonsets", "--delete-emptydir-data", "--force")
    assert done.returncode == 0, done.stderr
    assert "deleting Pods that declare no controller: " in done.stderr
    assert {f"pod/{name} evicted" for name in ("hr-app", "cache")} <= set(done.stdout.splitlines())
    assert done.stdout.splitlines()[-1] == "node/node01 drained"
    assert kubectl.json("get", "pods")["items"] == []  # for good
    kubectl("uncordon", "node01")

    # As a deployment it moves, and the drain needs no force.
    kubectl("cordon", "node02")
    template = {"metadata": {"labels": {"app": "hr-app"}}, "spec": {"containers": [{"name": "main", "image": "nginx"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "hr-app"}}, "template": template}
    kubectl.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hr-app"}, "spec": spec})
    kubectl("rollout", "status", "deployment/hr-app", "--timeout=60s")
    assert set(pods_on(kubectl).values()) == {"node01"}
    kubectl("uncordon", "node02")
    assert kubectl("drain", "node01", "--ignore-daemonsets", "--delete-emptydir-data").splitlines()[-1] == "node/node01 drained"
    kubectl("rollout", "status", "deployment/hr-app", "--timeout=60s")
    assert set(pods_on(kubectl).values()) == {"node02"}
