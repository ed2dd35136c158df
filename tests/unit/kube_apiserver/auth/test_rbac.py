"""RBAC and the Node authorizer over the default roles, with objects in a dict."""

from typing import Any

import pytest

from kubette.kube_apiserver.admission.grants import EscalationCheck
from kubette.kube_apiserver.admission.interfaces import AdmissionAttributes, Operation
from kubette.kube_apiserver.auth import default_roles, rbac_rules
from kubette.kube_apiserver.auth.interfaces import AuthzAttributes, UserInfo
from kubette.kube_apiserver.auth.node import NodeAuthorizer
from kubette.kube_apiserver.auth.rbac import Rbac

_RBAC = "rbac.authorization.k8s.io"


class Objects:
    """A Lister over given objects."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.objects = list(objects)

    async def get(self, group: str, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        return next((o for o in await self.list(group, resource, namespace) if o["metadata"]["name"] == name), None)

    async def list(self, group: str, resource: str, namespace: str = "") -> list[dict[str, Any]]:
        kind = resource.removesuffix("s").lower()
        found = [o for o in self.objects if o["kind"].lower() == kind]
        return [o for o in found if not namespace or o["metadata"].get("namespace") == namespace]


def account(name: str) -> UserInfo:
    return UserInfo(f"system:serviceaccount:kube-system:{name}", groups=("system:serviceaccounts", "system:authenticated"))


SCHEDULER = UserInfo("system:kube-scheduler", groups=("system:authenticated",))
ANONYMOUS = UserInfo("system:anonymous", groups=("system:unauthenticated",))
ALICE = UserInfo("alice", groups=("system:authenticated",))


def ask(user: UserInfo, verb: str, resource: str, group: str = "", subresource: str = "", namespace: str = "", name: str = "") -> AuthzAttributes:
    return AuthzAttributes(user, verb, group, "v1", resource, subresource, namespace, name)


@pytest.mark.parametrize(
    ("attrs", "allowed"),
    [
        (ask(SCHEDULER, "create", "pods", subresource="binding", namespace="default"), True),
        (ask(SCHEDULER, "delete", "nodes"), False),
        (ask(account("deployment-controller"), "create", "replicasets", "apps", namespace="default"), True),
        (ask(account("deployment-controller"), "create", "pods", namespace="default"), False),
        (ask(account("token-cleaner"), "delete", "secrets", namespace="kube-system"), True),
        (ask(account("token-cleaner"), "delete", "secrets", namespace="default"), False),
        (ask(ALICE, "create", "selfsubjectaccessreviews", "authorization.k8s.io"), True),
        (ask(ALICE, "list", "pods", namespace="default"), False),
        (AuthzAttributes(ANONYMOUS, "get", path="/healthz", is_resource=False), True),
        (AuthzAttributes(ANONYMOUS, "get", path="/apis", is_resource=False), False),
        (AuthzAttributes(ALICE, "get", path="/apis/apps/v1", is_resource=False), True),
    ],
)
async def test_default_roles_decide_as_documented(attrs: AuthzAttributes, allowed: bool) -> None:
    assert (await Rbac(Objects(*default_roles.load())).authorize(attrs)).allowed is allowed


def test_reconciliation_adds_what_is_missing_and_keeps_what_was_added() -> None:
    wanted = next(o for o in default_roles.load() if o["metadata"]["name"] == "system:basic-user" and o["kind"] == "ClusterRole")
    assert default_roles.reconciled(wanted, None) is wanted
    assert default_roles.reconciled(wanted, wanted) is None
    extra = {"verbs": ["get"], "nonResourceURLs": ["/mine"]}
    changed = default_roles.reconciled(wanted, {**wanted, "rules": [extra]})
    assert changed is not None
    assert changed["rules"] == [extra, *wanted["rules"]]
    frozen = {**wanted, "rules": [], "metadata": {**wanted["metadata"], "annotations": {default_roles.AUTOUPDATE: "false"}}}
    assert default_roles.reconciled(wanted, frozen) is None


def test_a_rule_covers_what_it_names_and_no_more() -> None:
    owned = [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]
    wanted = [{"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]}]
    missing = rbac_rules.uncovered(owned, wanted)
    assert [rbac_rules.describe(rule) for rule in missing] == ['{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}']


async def test_nobody_grants_more_than_he_has() -> None:
    rbac = Rbac(Objects(*default_roles.load()))
    check = EscalationCheck(rbac, rbac)
    role = {"kind": "ClusterRole", "metadata": {"name": "r"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}
    attrs = AdmissionAttributes(Operation.create, _RBAC, "v1", "ClusterRole", "clusterroles", "", "", "r", ALICE, role)
    assert check.handles(attrs)
    with pytest.raises(Exception, match="is attempting to grant RBAC permissions not currently held"):
        await check.validate(attrs)
    attrs.user = UserInfo("root", groups=("system:masters",))
    assert not check.handles(attrs)


async def test_the_reason_names_binding_role_and_subject() -> None:
    def role(kind: str, name: str, **metadata: str) -> dict[str, Any]:
        return {"kind": kind, "metadata": {"name": name, **metadata}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}

    def binding(kind: str, name: str, to: str, subject: dict[str, str], **metadata: str) -> dict[str, Any]:
        return {"kind": kind, "metadata": {"name": name, **metadata}, "roleRef": {"kind": to, "name": "reader"}, "subjects": [subject]}

    robot = UserInfo("system:serviceaccount:default:robot")
    authorizer = Rbac(
        Objects(
            role("ClusterRole", "reader"),
            role("Role", "reader", namespace="default"),
            binding("ClusterRoleBinding", "readers", "ClusterRole", {"kind": "User", "name": "ann"}),
            binding("ClusterRoleBinding", "all", "ClusterRole", {"kind": "Group", "name": "crew"}),
            binding("RoleBinding", "robots", "Role", {"kind": "ServiceAccount", "name": "robot"}, namespace="default"),
        )
    )

    async def reason(user: UserInfo) -> str:
        return (await authorizer.authorize(ask(user, "get", "pods", namespace="default"))).reason

    assert await reason(UserInfo("ann")) == 'RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to User "ann"'
    assert await reason(UserInfo("bob", groups=("crew",))) == 'RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to Group "crew"'
    assert await reason(robot) == 'RBAC: allowed by RoleBinding "robots/default" of Role "reader" to ServiceAccount "robot/default"'
    assert await reason(UserInfo("eve")) == ""


async def test_a_node_reads_only_the_secrets_of_its_own_pods() -> None:
    pod = {
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "nodeName": "node01",
            "serviceAccountName": "default",
            "containers": [],
            "volumes": [{"name": "s", "secret": {"secretName": "tls"}}],
        },
    }
    authorizer = NodeAuthorizer(Objects(pod))

    async def may(node: str, *rest: str, **more: str) -> bool:
        user = UserInfo(f"system:node:{node}", groups=("system:nodes", "system:authenticated"))
        return (await authorizer.authorize(ask(user, *rest, **more))).allowed

    assert await may("node01", "get", "secrets", namespace="default", name="tls")
    assert not await may("node02", "get", "secrets", namespace="default", name="tls")
    assert not await may("node01", "get", "secrets", namespace="default", name="other")
    assert not await may("node01", "list", "secrets", namespace="default")
    assert await may("node01", "create", "serviceaccounts", subresource="token", namespace="default", name="default")
    assert not await may("node02", "create", "serviceaccounts", subresource="token", namespace="default", name="default")
    assert await may("node01", "update", "leases", group="coordination.k8s.io", namespace="kube-node-lease", name="node01")
    assert not await may("node01", "update", "leases", group="coordination.k8s.io", namespace="kube-node-lease", name="node02")
    assert await may("node01", "patch", "nodes", subresource="status", name="node01")


def test_every_verb_of_the_table_is_a_verb() -> None:
    verbs = {verb for o in default_roles.load() for rule in o.get("rules") or () for verb in rule["verbs"]}
    assert all(verb == verb.lower() for verb in verbs), sorted(verbs)
