"""The Node authorizer: a kubelet may do what its node needs, and read only what its own pods refer to.

Counterpart upstream: plugin/pkg/auth/authorizer/node. The graph of references is read off the pods that are bound to the node.
"""

from collections.abc import Iterator
from typing import Any

from kubette.kube_apiserver.admission.interfaces import Lister
from kubette.kube_apiserver.auth import default_roles, rbac_rules
from kubette.kube_apiserver.auth.interfaces import ALLOW, NO_OPINION, AuthzAttributes, Decision, UserInfo, Verdict

NODE_PREFIX = "system:node:"
NODES_GROUP = "system:nodes"


def node_name(user: UserInfo) -> str:
    """The node whose kubelet this user is, or ""."""
    if NODES_GROUP in user.groups and user.name.startswith(NODE_PREFIX):
        return user.name.removeprefix(NODE_PREFIX)
    return ""


def references(pod: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Pure: (resource, name) of every Secret, ConfigMap and claim that a pod's spec names."""
    spec = pod.get("spec") or {}
    for secret in spec.get("imagePullSecrets") or ():
        yield "secrets", secret.get("name", "")
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ()), *(spec.get("ephemeralContainers") or ())]:
        yield from _container_references(container)
    for volume in spec.get("volumes") or ():
        yield from _volume_references(pod, volume)


def _container_references(container: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for source in container.get("envFrom") or ():
        yield "configmaps", (source.get("configMapRef") or {}).get("name", "")
        yield "secrets", (source.get("secretRef") or {}).get("name", "")
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        yield "configmaps", (source.get("configMapKeyRef") or {}).get("name", "")
        yield "secrets", (source.get("secretKeyRef") or {}).get("name", "")


def _volume_references(pod: dict[str, Any], volume: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "secrets", (volume.get("secret") or {}).get("secretName", "")
    yield "configmaps", (volume.get("configMap") or {}).get("name", "")
    yield "persistentvolumeclaims", (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
    if "ephemeral" in volume:
        yield "persistentvolumeclaims", f"{pod['metadata']['name']}-{volume['name']}"
    for source in (volume.get("projected") or {}).get("sources") or ():
        yield "secrets", (source.get("secret") or {}).get("name", "")
        yield "configmaps", (source.get("configMap") or {}).get("name", "")


class NodeAuthorizer:
    """Asked before RBAC; has no opinion about anyone who is not a node."""

    def __init__(self, lister: Lister) -> None:
        self._lister = lister
        self._rules = next(o["rules"] for o in default_roles.load() if o["kind"] == "ClusterRole" and o["metadata"]["name"] == "system:node")

    async def authorize(self, attrs: AuthzAttributes) -> Decision:
        node = node_name(attrs.user)
        if not node:
            return NO_OPINION
        if attrs.is_resource:
            match (attrs.group, attrs.resource):
                case ("", "secrets" | "configmaps" | "persistentvolumeclaims"):
                    return await self._referenced(attrs, node)
                case ("", "persistentvolumes"):
                    return await self._bound_volume(attrs, node)
                case ("", "serviceaccounts"):
                    return await self._token_of_own_pod(attrs, node)
                case ("coordination.k8s.io", "leases"):
                    return self._own_lease(attrs, node)
                case ("storage.k8s.io", "csinodes"):
                    return self._own_csinode(attrs, node)
        return ALLOW if any(rbac_rules.allows(rule, attrs) for rule in self._rules) else NO_OPINION

    async def _own_pods(self, node: str, namespace: str = "") -> list[dict[str, Any]]:
        return [pod for pod in await self._lister.list("", "pods", namespace) if (pod.get("spec") or {}).get("nodeName") == node]

    async def _referenced(self, attrs: AuthzAttributes, node: str) -> Decision:
        if attrs.resource == "persistentvolumeclaims" and attrs.subresource == "status":
            if attrs.verb not in ("get", "update", "patch"):
                return _refused("can only get or update status")
        elif attrs.subresource or attrs.verb not in ("get", "list", "watch") or not attrs.name:
            return _refused("can only read resources of this type")
        # A list or watch of a single object carries its name: that is how a kubelet follows one ConfigMap.
        for pod in await self._own_pods(node, attrs.namespace):
            if (attrs.resource, attrs.name) in references(pod):
                return ALLOW
        return _refused(f"no relationship found between node '{node}' and this object")

    async def _bound_volume(self, attrs: AuthzAttributes, node: str) -> Decision:
        if attrs.verb != "get" or attrs.subresource:
            return _refused("can only get individual resources of this type")
        volume = await self._lister.get("", "persistentvolumes", "", attrs.name)
        claim = ((volume or {}).get("spec") or {}).get("claimRef") or {}
        for pod in await self._own_pods(node, claim.get("namespace", "")) if claim else ():
            if ("persistentvolumeclaims", str(claim.get("name"))) in references(pod):
                return ALLOW
        return _refused(f"no relationship found between node '{node}' and this object")

    async def _token_of_own_pod(self, attrs: AuthzAttributes, node: str) -> Decision:
        if attrs.subresource != "token" or attrs.verb != "create":
            return _refused("can only create tokens for individual service accounts")
        for pod in await self._own_pods(node, attrs.namespace):
            if (pod["spec"].get("serviceAccountName") or "default") == attrs.name:
                return ALLOW
        return _refused(f"no relationship found between node '{node}' and this object")

    def _own_lease(self, attrs: AuthzAttributes, node: str) -> Decision:
        if attrs.namespace != "kube-node-lease":
            return _refused('can only access leases in the "kube-node-lease" system namespace')
        if attrs.verb not in ("get", "create", "update", "patch", "delete"):
            return _refused("can only get, create, update, patch, or delete a node lease")
        if attrs.verb != "create" and attrs.name != node:
            return _refused("can only access node lease with the same name as the requesting node")
        return ALLOW

    def _own_csinode(self, attrs: AuthzAttributes, node: str) -> Decision:
        if attrs.verb not in ("get", "create", "update", "patch", "delete"):
            return _refused("can only get, create, update, patch, or delete a CSINode")
        if attrs.verb != "create" and attrs.name != node:
            return _refused("can only access CSINode with the same name as the requesting node")
        return ALLOW


def _refused(reason: str) -> Decision:
    return Decision(Verdict.no_opinion, reason)
