"""What `kubette up` tells kubeadm in a file, because flags cannot say it: that the API servers keep an audit log, and that etcd may be elsewhere."""

from typing import Any

from kubette.api import releases
from kubette.cli import external_etcd
from kubette.machines import interpreter, spec

CONFIG = "root/kubeadm-config.yaml"
AUDIT_POLICY, AUDIT_LOGS = "etc/kubernetes/audit-policy.yaml", "var/log/kubernetes/audit"
AUDIT_FLAGS = {
    "audit-log-maxbackup": "2",
    "audit-log-maxsize": "20",
    "audit-log-path": f"/{AUDIT_LOGS}/audit.log",
    "audit-policy-file": f"/{AUDIT_POLICY}",
}


def audit_policy() -> str:
    """What the API servers record (`kubette trace` reads it)."""
    return (interpreter.source_root() / "manifests" / "audit-policy.yaml").read_text()


def configuration(cluster: spec.Cluster, token: str, certificate_key: str) -> list[dict[str, Any]]:
    """InitConfiguration and ClusterConfiguration for the first control plane."""
    first = cluster.control_planes[0]
    is_old = releases.parse(cluster.kubernetes_version).minor <= 30
    version = f"kubeadm.k8s.io/{'v1beta3' if is_old else 'v1beta4'}"
    init: dict[str, Any] = {
        "apiVersion": version,
        "kind": "InitConfiguration",
        "bootstrapTokens": [{"token": token}],
        "localAPIEndpoint": {"advertiseAddress": first.address},
        "nodeRegistration": {"name": first.name},
    }
    document: dict[str, Any] = {
        "apiVersion": version,
        "kind": "ClusterConfiguration",
        "kubernetesVersion": cluster.kubernetes_version,
        "networking": {"podSubnet": spec.POD_NETWORK},
        "apiServer": {
            "certSANs": ["127.0.0.1", "localhost", spec.LOAD_BALANCER_ADDRESS],
            "extraArgs": AUDIT_FLAGS if is_old else [{"name": name, "value": value} for name, value in AUDIT_FLAGS.items()],
            "extraVolumes": [
                {"name": "audit-policy", "hostPath": f"/{AUDIT_POLICY}", "mountPath": f"/{AUDIT_POLICY}", "readOnly": True, "pathType": "File"},
                {"name": "audit-logs", "hostPath": f"/{AUDIT_LOGS}", "mountPath": f"/{AUDIT_LOGS}", "pathType": "DirectoryOrCreate"},
            ],
        },
    }
    if cluster.external_etcd:
        document["etcd"] = {"external": external_etcd.as_seen_by_kubeadm(cluster)}
    if len(cluster.control_planes) > 1:
        init["certificateKey"] = certificate_key
        document["controlPlaneEndpoint"] = cluster.endpoint
    return [init, document]
