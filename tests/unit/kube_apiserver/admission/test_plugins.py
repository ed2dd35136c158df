"""What admission adds and refuses."""

import random
from typing import Any

import pytest

from kubette.apimachinery.status import ApiError
from kubette.component_base.run import StartupError
from kubette.kube_apiserver.admission import nodes, plugins
from kubette.kube_apiserver.admission.interfaces import AdmissionAttributes, Operation
from kubette.kube_apiserver.admission.limits import LimitRanger, ResourceQuota
from kubette.kube_apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from kubette.kube_apiserver.admission.pods import DefaultTolerationSeconds, Priority, ServiceAccount
from kubette.kube_apiserver.auth.interfaces import UserInfo
from unit.kube_apiserver.auth.test_rbac import ALICE, Objects

KUBELET = UserInfo("system:node:node01", groups=("system:nodes",))


def obj(kind: str, name: str, namespace: str = "", **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, "namespace": namespace}, **fields}


def pod_create(spec: dict[str, Any], user: UserInfo = ALICE) -> AdmissionAttributes:
    body = obj("Pod", "web", "default", spec=spec)
    return AdmissionAttributes(Operation.create, "", "v1", "Pod", "pods", "", "default", "web", user, body)


async def test_a_pod_gets_its_account_token_and_tolerations() -> None:
    attrs = pod_create({"containers": [{"name": "c"}]})
    await ServiceAccount(Objects(obj("ServiceAccount", "default", "default")), random.Random(1)).admit(attrs)
    await DefaultTolerationSeconds().admit(attrs)
    assert attrs.object is not None
    spec = attrs.object["spec"]
    assert spec["serviceAccountName"] == "default"
    assert spec["containers"][0]["volumeMounts"][0]["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3607
    assert {t["key"]: t["tolerationSeconds"] for t in spec["tolerations"]} == {
        "node.kubernetes.io/not-ready": 300,
        "node.kubernetes.io/unreachable": 300,
    }


async def test_a_missing_account_or_priority_class_is_named() -> None:
    with pytest.raises(ApiError, match='error looking up service account default/ghost: serviceaccount "ghost" not found'):
        await ServiceAccount(Objects(), random.Random(1)).admit(pod_create({"serviceAccountName": "ghost", "containers": []}))
    with pytest.raises(ApiError, match="no PriorityClass with name gold was found"):
        await Priority(Objects()).admit(pod_create({"priorityClassName": "gold"}))


async def test_nothing_is_created_in_a_namespace_that_is_going() -> None:
    going = obj("Namespace", "default", status={"phase": "Terminating"})
    with pytest.raises(ApiError, match="because it is being terminated"):
        await NamespaceLifecycle(Objects(going)).validate(pod_create({}))
    with pytest.raises(ApiError) as missing:
        await NamespaceLifecycle(Objects()).validate(pod_create({}))
    assert missing.value.code == 404
    delete = AdmissionAttributes(Operation.delete, "", "v1", "Namespace", "namespaces", "", "default", "default", ALICE)
    with pytest.raises(ApiError, match="this namespace may not be deleted"):
        await NamespaceLifecycle(Objects()).validate(delete)


@pytest.mark.parametrize(
    ("label", "bad"),
    [
        ("kubernetes.io/hostname", False),
        ("node.kubernetes.io/flavour", False),
        ("example.com/mine", False),
        ("node-role.kubernetes.io/control-plane", True),
        ("node-restriction.kubernetes.io/fence", True),
        ("x.node-restriction.kubernetes.io/fence", True),
    ],
)
def test_labels_a_kubelet_may_set(label: str, bad: bool) -> None:
    assert nodes.forbidden_labels({label: "x"}) == ([label] if bad else [])


async def test_a_kubelet_creates_only_mirror_pods_of_its_own() -> None:
    restriction = nodes.NodeRestriction(Objects())
    attrs = pod_create({"nodeName": "node01", "containers": []}, KUBELET)
    with pytest.raises(ApiError, match="can only create mirror pods"):
        await restriction.validate(attrs)
    assert attrs.object is not None
    attrs.object["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    await restriction.validate(attrs)
    attrs.object["spec"]["nodeName"] = "node02"
    with pytest.raises(ApiError, match="can only create pods with spec.nodeName set to itself"):
        await restriction.validate(attrs)


async def test_limit_range_fills_in_and_bounds() -> None:
    item = {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}
    ranger = LimitRanger(Objects(obj("LimitRange", "limits", "default", spec={"limits": [item]})))
    attrs = pod_create({"containers": [{"name": "c"}]})
    await ranger.admit(attrs)
    await ranger.validate(attrs)
    assert attrs.object is not None
    assert attrs.object["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}
    with pytest.raises(ApiError, match="maximum cpu usage per Container is 1, but limit is 2"):
        await ranger.validate(pod_create({"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]}))


async def test_quota_counts_what_is_there() -> None:
    quota = obj("ResourceQuota", "q", "default", spec={"hard": {"pods": "1"}})
    await ResourceQuota(Objects(quota)).validate(pod_create({"containers": []}))
    with pytest.raises(ApiError, match="exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"):
        await ResourceQuota(Objects(quota, obj("Pod", "other", "default", spec={}))).validate(pod_create({"containers": []}))


def test_an_unknown_plugin_is_refused() -> None:
    class Nobody:
        async def authorize(self, attrs: object) -> Any: ...

    with pytest.raises(StartupError, match='plugin "Initializers" is unknown'):
        plugins.build(Objects(), Nobody(), None, ["Initializers"], [])
