"""Pure: the objects that let a joining machine in (upstream: cmd/kubeadm/app/phases/bootstraptoken, uploadconfig, kubelet)."""

from typing import Any

_RBAC = "rbac.authorization.k8s.io"
BOOTSTRAP_GROUP = "system:bootstrappers:kubeadm:default-node-token"
NODES_GROUP = "system:nodes"
ADMINS_GROUP = "kubeadm:cluster-admins"


def _subject(kind: str, name: str) -> dict[str, str]:
    return {"apiGroup": _RBAC, "kind": kind, "name": name}


def _binding(kind: str, name: str, role_kind: str, role: str, subjects: list[dict[str, str]], namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    role_ref = {"apiGroup": _RBAC, "kind": role_kind, "name": role}
    return {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": metadata, "roleRef": role_ref, "subjects": subjects}


def _role(kind: str, name: str, rules: list[dict[str, Any]], namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": metadata, "rules": rules}


def _readable_configmap(role: str, configmap: str, namespace: str, subjects: list[dict[str, str]]) -> list[dict[str, Any]]:
    rule = {"apiGroups": [""], "resourceNames": [configmap], "resources": ["configmaps"], "verbs": ["get"]}
    return [_role("Role", role, [rule], namespace), _binding("RoleBinding", role, "Role", role, subjects, namespace)]


def cluster_admins() -> dict[str, Any]:
    """Makes admin.conf's group an administrator; applied with super-admin.conf."""
    return _binding("ClusterRoleBinding", ADMINS_GROUP, "ClusterRole", "cluster-admin", [_subject("Group", ADMINS_GROUP)])


def config_readers() -> list[dict[str, Any]]:
    """Joining machines and nodes read `kubeadm-config` and `kubelet-config`."""
    groups = [_subject("Group", BOOTSTRAP_GROUP), _subject("Group", NODES_GROUP)]
    return [
        *_readable_configmap("kubeadm:nodes-kubeadm-config", "kubeadm-config", "kube-system", groups),
        *_readable_configmap("kubeadm:kubelet-config", "kubelet-config", "kube-system", [groups[1], groups[0]]),
    ]


def bootstrap() -> list[dict[str, Any]]:
    """What a bootstrap token may do: look at nodes, post a CSR, have it approved; and certificate rotation for nodes."""
    bootstrappers, nodes = [_subject("Group", BOOTSTRAP_GROUP)], [_subject("Group", NODES_GROUP)]
    anonymous = [_subject("User", "system:anonymous")]
    approver = "system:certificates.k8s.io:certificatesigningrequests:"
    return [
        _role("ClusterRole", "kubeadm:get-nodes", [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]),
        _binding("ClusterRoleBinding", "kubeadm:get-nodes", "ClusterRole", "kubeadm:get-nodes", bootstrappers),
        _binding("ClusterRoleBinding", "kubeadm:kubelet-bootstrap", "ClusterRole", "system:node-bootstrapper", bootstrappers),
        _binding("ClusterRoleBinding", "kubeadm:node-autoapprove-bootstrap", "ClusterRole", approver + "nodeclient", bootstrappers),
        _binding("ClusterRoleBinding", "kubeadm:node-autoapprove-certificate-rotation", "ClusterRole", approver + "selfnodeclient", nodes),
        *_readable_configmap("kubeadm:bootstrap-signer-clusterinfo", "cluster-info", "kube-public", anonymous),
    ]


def kubeadm_certs_readers() -> list[dict[str, Any]]:
    """Joining control planes read the encrypted certificates."""
    rule = {"apiGroups": [""], "resourceNames": ["kubeadm-certs"], "resources": ["secrets"], "verbs": ["get"]}
    name = "kubeadm:kubeadm-certs"
    subjects = [_subject("Group", BOOTSTRAP_GROUP)]
    return [_role("Role", name, [rule], "kube-system"), _binding("RoleBinding", name, "Role", name, subjects, "kube-system")]
