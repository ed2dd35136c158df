"""Nodes, endpoints, certificates, tokens, garbage, quotas: the pure parts of the controllers that carry a cluster."""

import base64
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubette.apimachinery import timestamps
from kubette.client import resources
from kubette.kube_controller_manager import controllers
from kubette.kube_controller_manager.bootstrap import tokens
from kubette.kube_controller_manager.certificates import requests
from kubette.kube_controller_manager.clusterrole_aggregation.controller import aggregate
from kubette.kube_controller_manager.disruption import plan as disruption
from kubette.kube_controller_manager.endpoints import plan as endpoints
from kubette.kube_controller_manager.endpointslice import plan as slices
from kubette.kube_controller_manager.garbage_collector import graph
from kubette.kube_controller_manager.node_ipam import plan as ipam
from kubette.kube_controller_manager.node_lifecycle import plan as lifecycle
from kubette.kube_controller_manager.resource_quota import usage
from kubette.kube_controller_manager.taint_eviction import plan as eviction

Object = dict[str, Any]
NOW = 1_800_000_000.0


def test_the_flag_that_chooses_controllers_knows_old_names_and_refuses_unknown_ones() -> None:
    names = [e.name for e in controllers.selected(["*", "bootstrapsigner", "-job"])]
    assert "bootstrap-signer-controller" in names
    assert "token-cleaner-controller" not in names
    assert "job-controller" not in names
    with pytest.raises(controllers.UnknownController, match='"nope" is not in the list of known controllers'):
        controllers.selected(["nope"])


# Node IPAM


def test_every_node_gets_its_own_subnet_and_services_keep_theirs() -> None:
    sets = ipam.cidr_sets("10.244.0.0/22", "10.244.1.0/24", {4: 24, 6: 64})
    given_out = [ipam.allocate_all(sets) for _ in range(4)]
    assert given_out == [["10.244.0.0/24"], ["10.244.2.0/24"], ["10.244.3.0/24"], None]
    ipam.release_all(sets, ["10.244.2.0/24"])
    assert ipam.allocate_all(sets) == ["10.244.2.0/24"]


@given(st.lists(st.booleans(), max_size=40))
def test_no_subnet_is_given_twice(steps: list[bool]) -> None:
    sets = ipam.cidr_sets("10.0.0.0/20,fd00::/60", "", {4: 24, 6: 64})
    held: list[list[str]] = []
    for allocate in steps:
        if allocate:
            found = ipam.allocate_all(sets)
            if found is not None:
                assert found not in held
                held.append(found)
        elif held:
            ipam.release_all(sets, held.pop(0))


def test_ranges_that_cannot_work_are_refused() -> None:
    with pytest.raises(ipam.CIDRError):
        ipam.cidr_sets("10.0.0.0/25", "", {4: 24, 6: 64})
    with pytest.raises(ipam.CIDRError, match="invalid CIDR address"):
        ipam.cidr_sets("nonsense", "", {4: 24, 6: 64})


# Node lifecycle and taint eviction


def node(ready: str = "True", taints: list[Object] | None = None, heartbeat: str = "1") -> Object:
    condition = {"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat}
    return {
        "metadata": {"name": "n", "creationTimestamp": timestamps.format_time(NOW)},
        "spec": {"taints": taints or []},
        "status": {"conditions": [condition]},
    }


def test_a_lease_alone_keeps_a_node_alive() -> None:
    health = lifecycle.observe(None, node(), {"spec": {"renewTime": "a"}}, now=0.0, wall=NOW)
    health = lifecycle.observe(health, node(), {"spec": {"renewTime": "b"}}, now=30.0, wall=NOW)
    assert not lifecycle.is_silent(node(), health, 40.0, 60.0, now=69.0)
    health = lifecycle.observe(health, node(), {"spec": {"renewTime": "b"}}, now=69.0, wall=NOW)
    assert lifecycle.is_silent(node(), health, 40.0, 60.0, now=71.0)


def test_a_silent_node_becomes_unknown_in_all_that_its_kubelet_would_say() -> None:
    found = {c["type"]: c for c in lifecycle.silent_conditions(node(), NOW)}
    assert found["Ready"]["reason"] == "NodeStatusUnknown"
    assert found["Ready"]["message"] == "Kubelet stopped posting node status."
    assert found["DiskPressure"]["reason"] == "NodeStatusNeverUpdated"


def test_taints_follow_conditions_and_those_of_others_stay() -> None:
    foreign = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}
    sick = node("Unknown", [foreign])
    taints = lifecycle.with_taints(sick, lifecycle.no_schedule_keys(sick), lifecycle.no_execute_key(sick), NOW)
    assert taints is not None
    assert [(t["key"], t["effect"]) for t in taints] == [
        ("dedicated", "NoSchedule"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoSchedule"),
    ]
    well = node("True", taints)
    assert lifecycle.with_taints(well, lifecycle.no_schedule_keys(well), lifecycle.no_execute_key(well), NOW) == [foreign]
    assert lifecycle.with_taints(node("True", [foreign]), [], None, NOW) is None
    cordoned = {**node(), "spec": {"unschedulable": True}}
    assert lifecycle.no_schedule_keys(cordoned) == ["node.kubernetes.io/unschedulable"]


def test_a_zone_in_trouble_is_evicted_slowly_and_a_cluster_cut_off_not_at_all() -> None:
    assert lifecycle.zone_state([True, True, False], 0.55) is lifecycle.ZoneState.NORMAL
    assert lifecycle.zone_state([False, False, False, True], 0.55) is lifecycle.ZoneState.PARTIAL
    assert lifecycle.zone_state([False, False], 0.55) is lifecycle.ZoneState.FULL
    rates = lifecycle.Rates(0.1, 0.01, 50)
    assert rates.of(lifecycle.ZoneState.PARTIAL, 10, all_full=False) == 0.0
    assert rates.of(lifecycle.ZoneState.PARTIAL, 51, all_full=False) == 0.01
    assert rates.of(lifecycle.ZoneState.FULL, 10, all_full=True) == 0.0
    limiter = lifecycle.Limiter(0.1)
    assert [limiter.try_take(0.0), limiter.try_take(4.0), limiter.try_take(10.0)] == [0.0, 6.0, 0.0]


@pytest.mark.parametrize(
    ("tolerations", "stay"),
    [
        ([], 0.0),
        ([{"operator": "Exists"}], None),
        ([{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}], 300.0),
        ([{"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute"}], None),
        ([{"key": "k", "value": "other", "effect": "NoExecute"}], 0.0),
        ([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}], 0.0),
    ],
)
def test_how_long_a_pod_may_stay(tolerations: list[Object], stay: float | None) -> None:
    assert eviction.stay_s([{"key": "k", "value": "v", "effect": "NoExecute"}], tolerations) == stay


# Endpoints


def service(**spec: Any) -> Object:
    ports = [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]
    return {
        "metadata": {"name": "s", "namespace": "d", "uid": "svc"},
        "spec": {"selector": {"app": "s"}, "clusterIP": "10.96.0.5", "ports": ports, **spec},
    }


def backend(number: int, ready: bool = True, deleting: bool = False, port: int = 8080) -> Object:
    metadata: Object = {"name": f"p{number}", "namespace": "d", "uid": f"u{number}", "labels": {"app": "s"}}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    containers = [{"name": "c", "ports": [{"name": "web", "containerPort": port, "protocol": "TCP"}]}]
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "metadata": metadata,
        "spec": {"nodeName": "n", "containers": containers},
        "status": {"phase": "Running", "podIP": f"10.244.0.{number}", "conditions": [condition]},
    }


class Slices:
    """The slices of one service on a server that does what it is told."""

    def __init__(self) -> None:
        self.held: dict[str, Object] = {}
        self.numbers = itertools.count()

    def sync(self, members: list[Object], per_slice: int = 3, **spec: Any) -> tuple[int, int, int]:
        found = slices.plan_slices(service(**spec), members, list(self.held.values()), {"n": "zone-a"}, per_slice)
        for one in found.create:
            name = f"s-{next(self.numbers)}"
            self.held[name] = {**one, "metadata": {**one["metadata"], "name": name}}
        for one in found.update:
            self.held[one["metadata"]["name"]] = one
        for one in found.delete:
            del self.held[one["metadata"]["name"]]
        return len(found.create), len(found.update), len(found.delete)

    def addresses(self) -> list[str]:
        return sorted(a for s in self.held.values() for e in s["endpoints"] for a in e["addresses"])


@given(st.lists(st.sets(st.integers(1, 12)), min_size=1, max_size=6))
def test_slices_always_hold_exactly_the_members_and_are_never_too_large(history: list[set[int]]) -> None:
    world = Slices()
    for members in history:
        world.sync([backend(n) for n in sorted(members)])
        assert world.addresses() == sorted(f"10.244.0.{n}" for n in members)
        assert all(len(s["endpoints"]) <= 3 for s in world.held.values())
        assert world.held, "a service always has a slice"
        assert world.sync([backend(n) for n in sorted(members)]) == (0, 0, 0), "a second look changes nothing"


def test_one_changed_endpoint_costs_one_write() -> None:
    world = Slices()
    world.sync([backend(n) for n in range(1, 8)])
    assert world.sync([backend(n, ready=n != 5) for n in range(1, 8)]) == (0, 1, 0)


def test_a_terminating_pod_serves_but_is_not_ready() -> None:
    world = Slices()
    world.sync([backend(1, deleting=True)])
    (one,) = world.held.values()
    assert one["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}
    assert one["endpoints"][0]["zone"] == "zone-a"
    assert one["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]


def test_endpoints_sort_ready_from_not_ready_and_share_ports() -> None:
    found = endpoints.subsets(service(), [backend(2), backend(1), backend(3, ready=False), backend(4, port=9090)])
    assert [a["ip"] for a in found[0]["addresses"]] == ["10.244.0.1", "10.244.0.2"]
    assert [a["ip"] for a in found[0]["notReadyAddresses"]] == ["10.244.0.3"]
    assert found[1]["ports"] == [{"name": "http", "port": 9090, "protocol": "TCP"}]
    written = endpoints.plan_endpoints(service(), [backend(1)], None, managed_label=True)
    assert written is not None
    assert endpoints.plan_endpoints(service(), [backend(1)], written, managed_label=True) is None


# Certificates and tokens


def test_only_a_nodes_plain_identity_is_approved() -> None:
    good = requests.Request("system:node:n1", ("system:nodes",))
    usages = {"digital signature", "client auth"}
    requests.validate_kubelet_client(good, usages)
    for bad, wanted in (
        (requests.Request("system:node:n1", ("system:nodes", "system:masters")), usages),
        (requests.Request("admin", ("system:nodes",)), usages),
        (requests.Request("system:node:n1", ("system:nodes",), dns_names=("x",)), usages),
        (good, usages | {"server auth"}),
        (good, {"client auth"}),
    ):
        with pytest.raises(requests.RequestError):
            requests.validate_kubelet_client(bad, wanted)
    csr = {
        "metadata": {"name": "c"},
        "spec": {"signerName": requests.KUBE_APISERVER_CLIENT_KUBELET, "usages": sorted(usages), "username": "system:node:n1"},
    }
    assert requests.is_self_node_client(csr, good)
    assert not requests.is_self_node_client({**csr, "spec": {**csr["spec"], "username": "system:bootstrap:abcdef"}}, good)


def secret(**fields: str) -> Object:
    data = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-signing": "true",
        **{k.replace("_", "-"): v for k, v in fields.items()},
    }
    return {"metadata": {"name": "bootstrap-token-abcdef"}, "data": {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}}


def test_only_living_signing_tokens_sign() -> None:
    assert tokens.signing_token(secret(), NOW) == ("abcdef", "0123456789abcdef")
    assert tokens.signing_token(secret(expiration=timestamps.format_time(NOW - 1)), NOW) is None
    assert tokens.signing_token(secret(usage_bootstrap_signing="false"), NOW) is None
    assert tokens.signing_token({**secret(), "metadata": {"name": "other"}}, NOW) is None
    data = tokens.signed_data({"kubeconfig": "x", "jws-kubeconfig-gone00": "old"}, {"abcdef": "0123456789abcdef"})
    assert sorted(data) == ["jws-kubeconfig-abcdef", "kubeconfig"]
    header, payload, _ = data["jws-kubeconfig-abcdef"].split(".")
    assert (base64.urlsafe_b64decode(header + "=="), payload) == (b'{"alg":"HS256","kid":"abcdef"}', "")


# Garbage collection


def owned(uid: str, *owner_uids: str, finalizers: tuple[str, ...] = (), block: bool = True) -> graph.Node:
    metadata: Object = {
        "name": uid,
        "uid": uid,
        "namespace": "d",
        "ownerReferences": [{"uid": o, "kind": "X", "apiVersion": "v1", "name": o, "blockOwnerDeletion": block} for o in owner_uids],
    }
    if finalizers:
        metadata |= {"finalizers": list(finalizers), "deletionTimestamp": "2026-01-01T00:00:00Z"}
    return graph.node_of(resources.PODS, {"metadata": metadata})


def test_dependents_are_looked_at_when_their_owner_goes_or_was_never_seen() -> None:
    world = graph.Graph()
    assert world.put(owned("pod", "rs")) == ["pod"]
    world.put(owned("rs"))
    assert world.put(owned("pod2", "rs")) == []
    assert sorted(world.remove("rs")) == ["pod", "pod2"]


def test_a_foreground_owner_waits_for_its_blocking_dependents() -> None:
    world = graph.Graph()
    world.put(owned("rs"))
    world.put(owned("pod", "rs"))
    world.put(owned("free", "rs", block=False))
    assert set(world.put(owned("rs", finalizers=("foregroundDeletion",)))) == {"pod", "free", "rs"}
    assert [n.uid for n in world.blocking("rs")] == ["pod"]
    assert "rs" in world.remove("pod")
    assert world.blocking("rs") == []


# Quotas, budgets, roles


def test_a_quota_counts_requests_of_living_pods_and_objects_by_name() -> None:
    pod = {
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]},
        "status": {"phase": "Running"},
    }
    done = {**pod, "status": {"phase": "Succeeded"}}
    quota = {"spec": {"hard": {"pods": "10", "requests.cpu": "4", "memory": "8Gi", "count/deployments.apps": "5"}}}
    assert usage.needed_resources(quota["spec"]["hard"]) == {"pods", "deployments.apps"}
    contents = {"pods": [pod, pod, done], "deployments.apps": [{"metadata": {"name": "d"}}]}
    assert usage.used(quota, contents) == {"pods": "2", "requests.cpu": "1", "memory": "2Gi", "count/deployments.apps": "1"}


def test_a_budget_allows_what_is_healthy_beyond_what_must_be() -> None:
    members = [backend(n) for n in range(1, 4)] + [backend(4, ready=False)]

    def allowed(scale: int = 4, **spec: Any) -> int:
        found, _ = disruption.new_status({"metadata": {"generation": 1}, "spec": spec}, members, scale, NOW)
        return int(found["disruptionsAllowed"])

    assert allowed(minAvailable=2) == 1
    assert allowed(maxUnavailable=1) == 0
    assert allowed(maxUnavailable="50%") == 1
    assert allowed(minAvailable="100%") == 0


def test_an_aggregated_role_is_the_sum_of_the_matching_ones() -> None:
    rules = [{"verbs": ["get"], "resources": ["pods"], "apiGroups": [""]}]
    part = {"metadata": {"name": "part", "labels": {"to": "view"}}, "rules": rules}
    twin = {"metadata": {"name": "twin", "labels": {"to": "view"}}, "rules": rules}
    role = {
        "metadata": {"name": "view", "labels": {"to": "view"}},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]},
        "rules": [],
    }
    assert aggregate(role, [role, twin, part]) == rules
