"""Row S02: a pod that wants ten CPUs, and four nodes of 4, 4, 12 and 16. Nodes are objects: these four have no machine."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually

CPUS = {"node-1": 4, "node-2": 4, "node-3": 12, "node-4": 16}


def node(name: str, cpus: int) -> dict[str, Any]:
    resources = {"cpu": str(cpus), "memory": "32Gi", "pods": "110"}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"capacity": resources, "allocatable": resources, "conditions": [ready]},
    }


def pod(name: str, cpus: int) -> dict[str, Any]:
    container = {"name": "main", "image": "nginx", "resources": {"requests": {"cpu": str(cpus)}}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}}


@pytest.fixture(scope="module")
def four_nodes(style: str, new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    """A control plane whose own machine is no node any more."""
    cluster = new_cluster(f"scheduling-{style}")
    cluster.up("--workers=0", f"--style={style}")
    cluster.kubectl.wait("create", "serviceaccount/default")
    cluster.typed("controlplane", "systemctl stop kubelet")
    cluster.kubectl("delete", "node", "controlplane")
    for name, cpus in CPUS.items():
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(node(name, cpus)))
    yield cluster
    cluster.remove()


def test_s02_the_node_with_most_room_left_is_chosen(four_nodes: Cluster) -> None:
    kubectl = four_nodes.kubectl
    untainted = "{.items[?(@.spec.taints)].metadata.name}"
    eventually(lambda: kubectl.jsonpath(untainted, "nodes"), lambda names: names == "", what="nodes without taints")
    kubectl.apply(pod("ten", 10), pod("twenty", 20))
    eventually(lambda: kubectl.jsonpath("{.spec.nodeName}", "pod", "ten"), lambda name: name == "node-4", what="the one of 16 CPUs")
    events = eventually(lambda: kubectl("get", "events", "--field-selector=involvedObject.name=twenty"), lambda text: "FailedScheduling" in text)
    assert "0/4 nodes are available: 4 Insufficient cpu." in events
    assert kubectl.jsonpath("{.spec.nodeName}", "pod", "twenty") == ""
