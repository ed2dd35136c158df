"""Pure: what the kubelet of a kubeadm cluster is told (upstream: cmd/kubeadm/app/componentconfigs/kubelet.go)."""

from typing import Any

from kubette.kubeadm import config
from kubette.kubeadm.config import Cluster, Local


def kubelet_configuration(cluster: Cluster) -> dict[str, Any]:
    """The KubeletConfiguration shared by all machines; stored in the ConfigMap `kubelet-config`."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"cacheTTL": "0s", "enabled": True},
            "x509": {"clientCAFile": f"{cluster.certificates_dir}/ca.crt"},
        },
        "authorization": {"mode": "Webhook", "webhook": {"cacheAuthorizedTTL": "0s", "cacheUnauthorizedTTL": "0s"}},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [cluster.dns_ip],
        "clusterDomain": cluster.dns_domain,
        "containerRuntimeEndpoint": config.CRI_SOCKET,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "kind": "KubeletConfiguration",
        "rotateCertificates": True,
        "staticPodPath": config.MANIFESTS_DIR,
    }


def kubeadm_flags_env(local: Local, *, control_plane: bool) -> str:
    """`/var/lib/kubelet/kubeadm-flags.env`: what differs from machine to machine."""
    flags = [f"--hostname-override={local.node_name}", f"--node-ip={local.advertise_address}"]
    if control_plane:
        flags.append("--register-with-taints=node-role.kubernetes.io/control-plane=:NoSchedule")
    return f'KUBELET_KUBEADM_ARGS="{" ".join(flags)}"\n'
