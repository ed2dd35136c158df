"""Pure: what the kubelet of a kubeadm cluster is told (upstream: cmd/kubeadm/app/componentconfigs/kubelet.go)."""

from collections.abc import Mapping
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
    flags = {"hostname-override": local.node_name, "node-ip": local.advertise_address}
    taints = local.registered_taints(control_plane=control_plane)
    if taints:
        flags["register-with-taints"] = ",".join(f"{taint['key']}={taint.get('value', '')}:{taint['effect']}" for taint in taints)
    flags |= local.kubelet_extra_args
    return f'KUBELET_KUBEADM_ARGS="{" ".join(f"--{name}={value}" for name, value in sorted(flags.items()))}"\n'


def merged(defaults: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`wanted` over `defaults`, object by object; a list is one value."""
    result = dict(defaults)
    for name, value in wanted.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if both else value
    return result
