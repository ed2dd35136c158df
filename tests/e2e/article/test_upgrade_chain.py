"""Rows U01, U02, U05-U08 over eight releases: one minor at a time from v1.30 to v1.37, the workers drained one by one, and nobody notices. Minutes: --long only."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually
from harness.prober import Prober

LIST = "/etc/apt/sources.list.d/kubernetes.list"
WORKERS = ("node01", "node02")
FIRST, LAST = 30, 37


def web() -> list[dict[str, Any]]:
    """Four answering pods of which three always are; one that goes answers until nobody sends anything to it any more."""
    labels = {"app": "web"}
    container = {
        "name": "nginx",
        "image": "nginx",
        "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 4,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 80}]},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web"},
            "spec": {"minAvailable": 3, "selector": {"matchLabels": labels}},
        },
    ]


@pytest.fixture
def old(new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    cluster = new_cluster("chain")
    cluster.up("--workers=2", f"--kubernetes-version=v1.{FIRST}.0")
    cluster.kubectl.apply(*web())
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout_s=70)
    yield cluster
    cluster.remove()


def new_packages(cluster: Cluster, machine: str, minor: int, name: str) -> None:
    cluster.typed(machine, f"sed -i 's#v1.[0-9]*/deb#v1.{minor}/deb#' {LIST} && apt-get update && apt-get install -y {name}=1.{minor}.0-1.1")


def version_of(cluster: Cluster, node: str) -> str:
    return cluster.kubectl.jsonpath("{.status.nodeInfo.kubeletVersion}", "node", node)


def upgrade(cluster: Cluster, minor: int) -> None:
    """As upstream's page "Upgrading kubeadm clusters" has it."""
    new_packages(cluster, "controlplane", minor, "kubeadm")
    said = cluster.typed("controlplane", f"kubeadm upgrade apply -y v1.{minor}.0")
    assert f'"v1.{minor}.0"' in said[said.index("SUCCESS!") :]
    for machine in ("controlplane", *WORKERS):
        cluster.typed("controlplane", f"kubectl drain {machine} --ignore-daemonsets")
        if machine in WORKERS:
            new_packages(cluster, machine, minor, "kubeadm")
            cluster.typed(machine, "kubeadm upgrade node")
        new_packages(cluster, machine, minor, "kubelet")
        cluster.typed(machine, "systemctl daemon-reload && systemctl restart kubelet")
        eventually(lambda machine=machine: version_of(cluster, machine) == f"v1.{minor}.0", timeout_s=60)  # type: ignore[misc]
        cluster.kubectl.wait("condition=Ready", f"node/{machine}")
        cluster.typed("controlplane", f"kubectl uncordon {machine}")


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_u01_u02_from_v1_30_to_v1_37_with_a_service_that_answers(old: Cluster) -> None:
    address = old.kubectl.jsonpath("{.spec.clusterIP}", "service", "web")
    node_port = int(old.kubectl.jsonpath("{.spec.ports[0].nodePort}", "service", "web"))
    with Prober(old, "controlplane", address, 80) as inside, Prober(old, "node01", "192.168.56.13", node_port) as through_a_node:
        for minor in range(FIRST + 1, LAST + 1):
            upgrade(old, minor)
            assert f"Server Version: v1.{minor}.0" in old.kubectl("version")
    assert inside.failures == [], f"{len(inside.failures)} of {inside.sent}"
    assert through_a_node.failures == [], f"{len(through_a_node.failures)} of {through_a_node.sent}"
    rows = [line.split() for line in old.kubectl("get", "nodes", "--no-headers").splitlines()]
    assert [(row[1], row[-1]) for row in rows] == [("Ready", f"v1.{LAST}.0")] * 3
    restarts = old.kubectl.jsonpath("{.items[*].status.containerStatuses[*].restartCount}", "pods", "-l", "app=web")
    assert set(restarts.split()) == {"0"}
