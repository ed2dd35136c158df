"""Rows O01-O04 and C02-C05: a machine loses its power, comes back soon, comes back late, or does not come back alone.

Shortened here: a node is given up after GRACE_S, and pods say themselves how long they tolerate that. With --long: upstream's 5 s, 40 s and 300 s.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from harness import control_plane
from harness.cluster import Cluster
from harness.eventually import eventually
from harness.kubectl import Kubectl

MANAGER = "kube-controller-manager"
GRACE_S = 16  # more than a kubelet's 10 s between two signs of life, and a busy machine's
TOLERATION_S = 3
UNREACHABLE = "node.kubernetes.io/unreachable"
TOPOLOGY = "kubernetes.io/hostname"


def grace(is_long: bool) -> int:
    return 40 if is_long else GRACE_S


def timings(style: str, is_long: bool) -> str:
    """The `sed` script that gives the controller manager the article's flags, or the shortened ones."""
    flags = {"--node-monitor-period": 5 if is_long else 1, "--node-monitor-grace-period": grace(is_long)}
    if style == "kubeadm":
        lines = "".join(f"\\n    - {flag}={value}s" for flag, value in flags.items())
        return f"s/- --leader-elect=true/- --leader-elect=false{lines}/"
    return "; ".join(["s/--leader-elect=true/--leader-elect=false/", *(f"s/{flag}=[0-9a-z]*/{flag}={value}s/" for flag, value in flags.items())])


@contextmanager
def without_power(cluster: Cluster, *machines: str) -> Iterator[None]:
    for machine in machines:
        cluster("machine", "kill", machine)
    try:
        yield
    finally:
        for machine in machines:
            cluster("machine", "start", machine)
        ready = "{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=='Ready')].status} {.spec.taints[*].effect};{end}"
        eventually(
            lambda: cluster.kubectl.jsonpath(ready, "nodes"),
            lambda seen: all(f"{machine}=True ;" in seen for machine in machines),
            90,
            "nodes that are Ready and without taints",
        )


def template(name: str, tolerated_s: int | None) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "nginx", "image": "nginx"}]}
    if tolerated_s is not None:
        spec["tolerations"] = [{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": tolerated_s}]
    return {"metadata": {"labels": {"app": name}}, "spec": spec}


def deployment(name: str, replicas: int, tolerated_s: int | None = None) -> dict[str, Any]:
    """Its pods are spread evenly over the workers."""
    labels = {"matchLabels": {"app": name}}
    pod = template(name, tolerated_s)
    spread = {"maxSkew": 1, "topologyKey": TOPOLOGY, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": labels}
    pod["spec"]["topologySpreadConstraints"] = [spread]
    spec = {"replicas": replicas, "selector": labels, "template": pod}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def bare_pod(name: str, node: str, tolerated_s: int | None = None) -> dict[str, Any]:
    pod = template(name, tolerated_s)
    pod["metadata"]["name"] = name
    pod["spec"]["nodeSelector"] = {TOPOLOGY: node}
    return {"apiVersion": "v1", "kind": "Pod", **pod}


def ready_endpoints(kubectl: Kubectl, service: str) -> int:
    slices = kubectl.json("get", "endpointslices", "-l", f"kubernetes.io/service-name={service}")["items"]
    return sum(bool((e.get("conditions") or {}).get("ready")) for one in slices for e in one.get("endpoints") or [])


def pods(kubectl: Kubectl, node: str = "") -> dict[str, dict[str, Any]]:
    """By uid."""
    only = (f"--field-selector=spec.nodeName={node}",) if node else ()
    return {p["metadata"]["uid"]: p for p in kubectl.json("get", "pods", *only)["items"]}


def restarts(pod: dict[str, Any]) -> int:
    return sum(int(s["restartCount"]) for s in pod["status"].get("containerStatuses") or [])


def seconds(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def wait_unknown(kubectl: Kubectl, *nodes: str, is_long: bool) -> None:
    kubectl.wait("condition=Ready=Unknown", *(f"node/{node}" for node in nodes), timeout_s=grace(is_long) + 60)


def no_execute(kubectl: Kubectl, node: str) -> str:
    """When the node got the taint that evicts; empty while it has none."""
    taints = kubectl.json("get", "node", node)["spec"].get("taints") or []
    return next((str(t["timeAdded"]) for t in taints if t["key"] == UNREACHABLE and t["effect"] == "NoExecute"), "")


def test_o02_o03_o04_c02_c03_c04_a_node_is_lost_and_comes_back(style: str, cluster: Cluster, kubectl: Kubectl, is_long: bool) -> None:
    """blue has a replica elsewhere, green is alone: what tolerates the loss for 300 s is there again as it was, what does not is gone or elsewhere."""
    tolerated = None if is_long else TOLERATION_S
    kubectl.apply(deployment("blue", 2, tolerated), bare_pod("green", "node01", tolerated), bare_pod("steady", "node01"))
    kubectl("expose", "deployment", "blue", "--port=80")
    kubectl("expose", "pod", "green", "--port=80")
    kubectl("rollout", "status", "deployment/blue", "--timeout=60s")
    kubectl.wait("condition=Ready", "pod", "--all")
    eventually(lambda: (ready_endpoints(kubectl, "blue"), ready_endpoints(kubectl, "green")), lambda seen: seen == (2, 1))
    before = pods(kubectl, "node01")
    assert len(before) == 3
    steady = next(pod for pod in before.values() if pod["metadata"]["name"] == "steady")
    (default,) = (t for t in steady["spec"]["tolerations"] if t["key"] == UNREACHABLE)
    assert default["tolerationSeconds"] == 300
    with control_plane.edited(cluster, style, MANAGER, timings(style, is_long)):
        if is_long:
            with without_power(cluster, "node01"):
                time.sleep(120)  # the row's own two minutes
            eventually(
                lambda: {uid: restarts(pod) for uid, pod in pods(kubectl, "node01").items()}, lambda seen: seen == dict.fromkeys(before, 1), 60
            )
            kubectl.wait("condition=Ready", "pod", "--all", timeout_s=60)
        with without_power(cluster, "node01"):
            last_sign = kubectl.jsonpath("{.spec.renewTime}", "lease", "node01", "-n", "kube-node-lease")
            wait_unknown(kubectl, "node01", is_long=is_long)
            # C02: NotReady by the grace period, with the words and the taints.
            node = kubectl.json("get", "node", "node01")
            ready = next(c for c in node["status"]["conditions"] if c["type"] == "Ready")
            assert (ready["reason"], ready["message"]) == ("NodeStatusUnknown", "Kubelet stopped posting node status.")
            assert seconds(last_sign, ready["lastTransitionTime"]) >= grace(is_long) - 1
            assert "NotReady" in next(line for line in kubectl("get", "nodes").splitlines() if line.startswith("node01 "))
            effects = {"NoSchedule", "NoExecute"}
            eventually(lambda: {t["effect"] for t in kubectl.json("get", "node", "node01")["spec"].get("taints") or []}, lambda seen: seen >= effects)
            # O02: the service of blue goes on, that of green is gone.
            eventually(lambda: (ready_endpoints(kubectl, "blue"), ready_endpoints(kubectl, "green")), lambda seen: seen in ((1, 0), (2, 0)))
            # C03, C04, O04: after what they tolerate, blue is made elsewhere, green only ends.
            eventually(lambda: ready_endpoints(kubectl, "blue"), lambda count: count == 2, 400 if is_long else 60)
            evicted = [p for p in pods(kubectl, "node01").values() if p["metadata"].get("deletionTimestamp")]
            names = {p["metadata"]["labels"]["app"] for p in evicted}
            assert names == ({"blue", "green", "steady"} if is_long else {"blue", "green"})
            tainted = no_execute(kubectl, "node01")
            for pod in evicted:  # they ask for 30 s of grace, which nobody grants: the mark is that much later than the eviction
                asked = seconds(tainted, pod["metadata"]["deletionTimestamp"]) - pod["metadata"]["deletionGracePeriodSeconds"]
                assert asked >= (300 if is_long else TOLERATION_S) - 1, pod["metadata"]
            # Of the dead node's pods nobody says that they have ended: Terminating until its kubelet is back.
            shown = next(line for line in kubectl("get", "pods").splitlines() if line.startswith("green "))
            assert "Terminating" in shown
        gone = {p["metadata"]["uid"] for p in evicted}
        eventually(lambda: gone & pods(kubectl).keys(), lambda left: not left, 60, "evicted pods end when the kubelet is back")
        now = pods(kubectl)
        assert {p["spec"]["nodeName"] for p in now.values() if p["metadata"]["labels"]["app"] == "blue"} == {"node02"}
        assert not [p for p in now.values() if p["metadata"]["labels"]["app"] == "green"]  # for ever
        if is_long:
            assert pods(kubectl, "node01") == {}  # the returned node is empty
        else:  # O03: within its five minutes a pod is the very same, once restarted
            eventually(
                lambda: {uid: restarts(pod) for uid, pod in pods(kubectl, "node01").items()}, lambda seen: seen == {steady["metadata"]["uid"]: 1}, 60
            )
            kubectl.wait("condition=Ready", "pod/steady")


@pytest.fixture(scope="module")
def three_workers(new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    cluster = new_cluster("lost-nodes")
    cluster.up("--control-planes=1", "--workers=3")
    cluster.kubectl.wait("create", "serviceaccount/default")
    yield cluster
    cluster.remove()


def test_o01_one_master_and_three_nodes_with_two_pods_each(three_workers: Cluster) -> None:
    kubectl = three_workers.kubectl
    lines = [line.split() for line in kubectl("get", "nodes", "--no-headers").splitlines()]
    assert {(line[0], line[1], line[2]) for line in lines} == {
        ("controlplane", "Ready", "control-plane"),
        *((f"node0{number}", "Ready", "<none>") for number in (1, 2, 3)),
    }
    kubectl.apply(deployment("blue", 6))
    kubectl("rollout", "status", "deployment/blue", "--timeout=60s")
    nodes = [pod["spec"]["nodeName"] for pod in pods(kubectl).values()]
    assert sorted(nodes) == ["node01", "node01", "node02", "node02", "node03", "node03"]


def test_c05_two_lost_nodes_are_evicted_one_after_the_other_and_a_third_is_not(three_workers: Cluster, is_long: bool) -> None:
    """One node in ten seconds; from 55 % on (and at least three) it is rather the control plane that is cut off, and no further node is evicted."""
    kubectl = three_workers.kubectl
    control_plane.edit(three_workers, "kubeadm", MANAGER, timings("kubeadm", is_long))
    for machine in ("node01", "node02"):  # for good: the cluster ends with this test
        three_workers("machine", "kill", machine)
    wait_unknown(kubectl, "node01", "node02", is_long=is_long)
    times = eventually(lambda: sorted(no_execute(kubectl, node) for node in ("node01", "node02")), all, 60, "both are tainted")
    assert seconds(*times) >= 9
    three_workers("machine", "kill", "node03")
    wait_unknown(kubectl, "node03", is_long=is_long)
    only = "--field-selector=involvedObject.name=node03,reason=NodeEvictionStopped"
    said = eventually(lambda: kubectl("get", "events", only), lambda text: "node03" in text)
    assert "its pods are not evicted while its zone is in state PartialDisruption" in said
    assert no_execute(kubectl, "node03") == ""
