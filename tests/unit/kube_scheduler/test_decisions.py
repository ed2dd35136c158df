"""The article's example and the rules around it: what fits, what is best, what is said when nothing fits."""

from typing import Any

import pytest

from kubette.kube_scheduler import preemption
from kubette.kube_scheduler.framework import FitError, Snapshot
from kubette.kube_scheduler.node_info import NodeInfo, requests
from kubette.kube_scheduler.plugins import default_profile

PROFILE = default_profile.profile()


def node(name: str, cpu: str = "4", taints: list[dict[str, str]] | None = None, unschedulable: bool = False, **labels: str) -> NodeInfo:
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}}
    spec: dict[str, Any] = {"taints": taints or [], "unschedulable": unschedulable}
    return NodeInfo({"metadata": metadata, "spec": spec, "status": {"allocatable": {"cpu": cpu, "memory": "16Gi", "pods": "110"}}})


def pod(name: str, cpu: str = "", priority: int = 0, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    resources = {"requests": {"cpu": cpu}} if cpu else {}
    containers = [{"name": "c", "image": "x", "resources": resources}]
    return {
        "metadata": {"name": name, "namespace": "default", "labels": labels or {}},
        "spec": {"containers": containers, "priority": priority, **spec},
    }


def fitting(subject: dict[str, Any], *nodes: NodeInfo) -> list[str]:
    return [n.name for n in PROFILE.feasible(subject, Snapshot(nodes))]


def best(subject: dict[str, Any], *nodes: NodeInfo) -> str:
    snapshot = Snapshot(nodes)
    scores = PROFILE.ranked(subject, snapshot, PROFILE.feasible(subject, snapshot))
    return max(sorted(scores), key=lambda name: scores[name])


def refusal(subject: dict[str, Any], *nodes: NodeInfo) -> str:
    with pytest.raises(FitError) as failure:
        PROFILE.feasible(subject, Snapshot(nodes))
    return str(failure.value)


def test_the_articles_example_goes_to_the_node_with_most_left() -> None:
    nodes = [node("n1", "4"), node("n2", "4"), node("n3", "12"), node("n4", "16")]
    assert fitting(pod("web", "10"), *nodes) == ["n3", "n4"]
    assert best(pod("web", "10"), *nodes) == "n4"
    assert refusal(pod("web", "20"), *nodes) == "0/4 nodes are available: 4 Insufficient cpu."


def test_reasons_are_counted_and_sorted() -> None:
    taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    text = refusal(pod("web", "10"), node("cp", "16", [taint]), node("a", "1"), node("b", "16", unschedulable=True))
    assert text == (
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
        "1 node(s) were unschedulable."
    )
    assert refusal(pod("web")) == "no nodes available to schedule pods"


def test_selector_affinity_and_ports() -> None:
    nodes = [node("a", zone="x"), node("b", zone="y")]
    assert fitting(pod("p", nodeSelector={"zone": "y"}), *nodes) == ["b"]
    terms = [{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["y"]}]}]
    required = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    assert fitting(pod("p", affinity=required), *nodes) == ["a"]
    ports = [{"name": "c", "image": "x", "ports": [{"containerPort": 80, "hostPort": 8080}]}]
    nodes[0].add_pod(pod("taken", containers=ports))
    assert fitting(pod("p", containers=ports), *nodes) == ["b"]


def test_anti_affinity_keeps_replicas_apart_and_refuses_the_third() -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}
    spec = {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}, "labels": {"app": "db"}}
    nodes = [node("a"), node("b")]
    nodes[0].add_pod(pod("db-0", **spec))
    assert fitting(pod("db-1", **spec), *nodes) == ["b"]
    nodes[1].add_pod(pod("db-1", **spec))
    assert "2 node(s) didn't match pod anti-affinity rules" in refusal(pod("db-2", **spec), *nodes)


def test_topology_spread_bounds_the_skew() -> None:
    selector = {"matchLabels": {"app": "web"}}
    constraint = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}
    nodes = [node("a"), node("b")]
    nodes[0].add_pod(pod("w0", labels={"app": "web"}))
    assert fitting(pod("w1", labels={"app": "web"}, topologySpreadConstraints=[constraint]), *nodes) == ["b"]


def test_init_containers_count_by_their_peak_and_sidecars_by_their_sum() -> None:
    def container(cpu: str, **more: str) -> dict[str, Any]:
        return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}

    body = pod("p", containers=[container("1")], initContainers=[container("2", restartPolicy="Always"), container("4")])
    assert requests(body)["cpu"] == 6000
    body["spec"]["initContainers"].pop()
    assert requests(body)["cpu"] == 3000


def test_preemption_takes_the_least_important_and_spares_what_still_fits() -> None:
    nodes = [node("a", "4")]
    for name, cpu, priority in (("low", "2", 1), ("mid", "1", 5), ("tiny", "500m", 1)):
        nodes[0].add_pod(pod(name, cpu, priority))
    vip = pod("vip", "2", 10)
    snapshot = Snapshot(nodes)
    with pytest.raises(FitError) as failure:
        PROFILE.feasible(vip, snapshot)
    verdict = preemption.preempt(PROFILE, vip, snapshot, failure.value, [])
    assert verdict.candidate is not None
    assert [v["metadata"]["name"] for v in verdict.candidate.victims] == ["low"]
    too_big = pod("huge", "8", 10)
    with pytest.raises(FitError) as failure:
        PROFILE.feasible(too_big, snapshot)
    verdict = preemption.preempt(PROFILE, too_big, snapshot, failure.value, [])
    assert verdict.message == "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
