"""NodeRestriction and TaintNodesByCondition: what a kubelet may write (upstream: plugin/pkg/admission/noderestriction)."""

from typing import Any

from kubette.kube_apiserver.admission.interfaces import AdmissionAttributes, Lister, Operation, Plugin, forbidden
from kubette.kube_apiserver.admission.pods import is_mirror
from kubette.kube_apiserver.auth.node import node_name, references

_NOT_READY_TAINT = {"effect": "NoSchedule", "key": "node.kubernetes.io/not-ready"}
# Labels below kubernetes.io and k8s.io that a kubelet may set on its own Node.
_KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
    }
)
_KUBELET_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_RESTRICTED = "node-restriction.kubernetes.io"


class TaintNodesByCondition(Plugin):
    """A new Node is tainted not-ready until the node lifecycle controller has seen it ready."""

    name = "TaintNodesByCondition"

    def handles(self, attrs: AdmissionAttributes) -> bool:
        return attrs.operation is Operation.create and attrs.resource == "nodes" and not attrs.subresource

    async def admit(self, attrs: AdmissionAttributes) -> None:
        assert attrs.object is not None
        taints = attrs.object.setdefault("spec", {}).setdefault("taints", [])
        if not any(t.get("key") == _NOT_READY_TAINT["key"] and t.get("effect") == "NoSchedule" for t in taints):
            taints.append(dict(_NOT_READY_TAINT))


def _in_group(label: str, domain: str) -> bool:
    prefix, slash, _ = label.partition("/")
    return bool(slash) and (prefix == domain or prefix.endswith("." + domain))


def forbidden_labels(labels: dict[str, str]) -> list[str]:
    """Pure: which of these labels a kubelet may not set or change."""
    bad = []
    for label in labels:
        reserved = _in_group(label, "kubernetes.io") or _in_group(label, "k8s.io")
        if _in_group(label, _RESTRICTED) or (
            reserved and label not in _KUBELET_LABELS and not any(_in_group(label, domain) for domain in _KUBELET_NAMESPACES)
        ):
            bad.append(label)
    return sorted(bad)


class NodeRestriction(Plugin):
    """A kubelet changes its own Node, the Pods bound to it and its own Lease, nothing else."""

    name = "NodeRestriction"

    def __init__(self, lister: Lister) -> None:
        self._lister = lister

    def handles(self, attrs: AdmissionAttributes) -> bool:
        return bool(node_name(attrs.user))

    async def validate(self, attrs: AdmissionAttributes) -> None:
        node = node_name(attrs.user)
        match (attrs.group, attrs.resource, attrs.subresource):
            case ("", "pods", ""):
                await self._pod(attrs, node)
            case ("", "pods", "status"):
                self._pod_status(attrs, node)
            case ("", "pods", "eviction"):
                await self._eviction(attrs, node)
            case ("", "nodes", _):
                self._node(attrs, node)
            case ("", "serviceaccounts", "token"):
                await self._token(attrs, node)
            case ("coordination.k8s.io", "leases", _):
                self._lease(attrs, node)

    async def _pod(self, attrs: AdmissionAttributes, node: str) -> None:
        if attrs.operation is Operation.create:
            pod = attrs.object
            assert pod is not None
            if not is_mirror(pod):
                raise forbidden(attrs, f'pod does not have "kubernetes.io/config.mirror" annotation, node "{node}" can only create mirror pods')
            if pod["spec"].get("nodeName") != node:
                raise forbidden(attrs, f'node "{node}" can only create pods with spec.nodeName set to itself')
            if pod["spec"].get("serviceAccountName"):
                raise forbidden(attrs, f'node "{node}" can not create pods that reference a service account')
            if any(name for _, name in references(pod)):
                raise forbidden(attrs, f'node "{node}" can not create pods that reference secrets, configmaps or persistentvolumeclaims')
            owners = pod["metadata"].get("ownerReferences") or []
            if any(o.get("kind") != "Node" or o.get("name") != node for o in owners):
                raise forbidden(attrs, f'node "{node}" can only create pods with an owner reference set to itself')
        elif attrs.operation is Operation.delete:
            pod = attrs.old_object or await self._lister.get("", "pods", attrs.namespace, attrs.name)
            if pod is not None and (pod.get("spec") or {}).get("nodeName") != node:
                raise forbidden(attrs, f'node "{node}" can only delete pods with spec.nodeName set to itself')
        else:
            raise forbidden(attrs, f"unexpected operation {attrs.operation}")

    def _pod_status(self, attrs: AdmissionAttributes, node: str) -> None:
        if attrs.old_object is not None and (attrs.old_object.get("spec") or {}).get("nodeName") != node:
            raise forbidden(attrs, f'node "{node}" can only update pod status for pods with spec.nodeName set to itself')
        before = (attrs.old_object or {}).get("metadata", {}).get("labels") or {}
        after = (attrs.object or {}).get("metadata", {}).get("labels") or {}
        if attrs.object is not None and before != after:
            raise forbidden(attrs, f'node "{node}" cannot update labels through pod status')

    async def _eviction(self, attrs: AdmissionAttributes, node: str) -> None:
        pod = await self._lister.get("", "pods", attrs.namespace, attrs.name)
        if pod is not None and (pod.get("spec") or {}).get("nodeName") != node:
            raise forbidden(attrs, f'node "{node}" can only evict pods with spec.nodeName set to itself')

    def _node(self, attrs: AdmissionAttributes, node: str) -> None:
        if attrs.name != node and not (attrs.operation is Operation.create and not attrs.name):
            raise forbidden(attrs, f'node "{node}" is not allowed to modify node "{attrs.name}"')
        if attrs.object is None:
            return
        after = attrs.object["metadata"].get("labels") or {}
        if attrs.operation is Operation.create:
            changed = after
        else:
            before = (attrs.old_object or {}).get("metadata", {}).get("labels") or {}
            changed = {k: "" for k in {*before, *after} if before.get(k) != after.get(k)}
            if not attrs.subresource and _taints(attrs.object) != _taints(attrs.old_object):
                raise forbidden(attrs, f'node "{node}" is not allowed to modify taints')
        bad = forbidden_labels(changed)
        if bad:
            verb = "set" if attrs.operation is Operation.create else "modify"
            raise forbidden(attrs, f"is not allowed to {verb} the following labels: {', '.join(bad)}")

    async def _token(self, attrs: AdmissionAttributes, node: str) -> None:
        request = (attrs.object or {}).get("spec") or {}
        reference = request.get("boundObjectRef")
        if not reference:
            raise forbidden(attrs, "node requested token not bound to a pod")
        if reference.get("kind") != "Pod" or not reference.get("uid"):
            raise forbidden(attrs, "node requested token not bound to a pod")
        pod = await self._lister.get("", "pods", attrs.namespace, reference["name"])
        if pod is None or pod["metadata"]["uid"] != reference["uid"]:
            raise forbidden(attrs, f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record")
        if pod["spec"].get("nodeName") != node:
            raise forbidden(attrs, "node requested token bound to a pod scheduled on a different node")

    def _lease(self, attrs: AdmissionAttributes, node: str) -> None:
        if attrs.namespace != "kube-node-lease":
            raise forbidden(attrs, 'can only access leases in the "kube-node-lease" system namespace')
        name = attrs.name or (attrs.object or {}).get("metadata", {}).get("name", "")
        if name != node:
            raise forbidden(attrs, f'node "{node}" can only access a lease with the same name as the node')


def _taints(node: dict[str, Any] | None) -> list[Any]:
    return ((node or {}).get("spec") or {}).get("taints") or []
