"""The addons that kubeadm applies, as objects: CoreDNS and kube-proxy (templates in `manifests/addons/`)."""

from pathlib import Path
from string import Template
from typing import Any

import yaml

from kubette.kubeadm import images, kubelet_config
from kubette.kubeadm.config import Cluster


def _objects(name: str, values: dict[str, str]) -> list[dict[str, Any]]:
    path = Path(__file__).resolve().parents[3] / "manifests" / "addons" / f"{name}.yaml"
    return [document for document in yaml.safe_load_all(Template(path.read_text()).substitute(values)) if document]


def coredns(cluster: Cluster) -> list[dict[str, Any]]:
    if cluster.disabled("dns"):
        return []
    image = images.coredns(cluster.kubernetes_version, cluster.image_repository, *cluster.image_of("dns"))
    return _objects("coredns", {"image": image, "dns_domain": cluster.dns_domain, "dns_ip": cluster.dns_ip})


def kube_proxy(cluster: Cluster, server: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """`wanted` is the KubeProxyConfiguration of the configuration file; it overrules ours."""
    if cluster.disabled("proxy"):
        return []
    image = images.component("kube-proxy", cluster.kubernetes_version, cluster.image_repository)
    found = _objects("kube-proxy", {"image": image, "server": server, "pod_subnet": cluster.pod_subnet or '""'})
    if wanted:
        for each in found:
            if each["kind"] == "ConfigMap":
                ours = yaml.safe_load(each["data"]["config.conf"])
                each["data"]["config.conf"] = yaml.safe_dump(kubelet_config.merged(ours, wanted), sort_keys=False)
    return found


def proxy_configuration(cluster: Cluster) -> dict[str, Any]:
    """Our KubeProxyConfiguration."""
    found = _objects("kube-proxy", {"image": "", "server": "", "pod_subnet": cluster.pod_subnet or '""'})
    configuration: dict[str, Any] = yaml.safe_load(next(each for each in found if each["kind"] == "ConfigMap")["data"]["config.conf"])
    return configuration
