"""What runs in the cluster right now: the versions of its components and kubelets, and its health (upstream: phases/upgrade/health.go)."""

import asyncio
from pathlib import Path
from typing import Any

import yaml

from kubette.api import releases
from kubette.client import resources
from kubette.client.rest import Client
from kubette.component_base import version
from kubette.kubeadm import config
from kubette.kubeadm.upgrade_policy import State

STATIC_PODS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"


async def read(client: Client) -> State:
    """Raises what the client raises."""
    async with asyncio.TaskGroup() as group:
        info = group.create_task(client.request("GET", "/version"))
        nodes = group.create_task(client.list_all(resources.NODES, ""))
        pods = group.create_task(client.list_all(resources.PODS, "kube-system", label_selector="tier=control-plane"))
        sets = group.create_task(client.list_all(resources.DAEMONSETS, "kube-system", field_selector="metadata.name=kube-proxy"))
        deployments = group.create_task(client.list_all(resources.DEPLOYMENTS, "kube-system", label_selector="k8s-app=kube-dns"))
    components: dict[str, dict[str, list[str]]] = {}
    for pod in sorted(pods.result()[0], key=lambda pod: str(pod["metadata"]["name"])):
        component = pod["metadata"]["labels"].get("component", "")
        if component in STATIC_PODS:
            components.setdefault(component, {}).setdefault(_tag(pod["spec"]), []).append(pod["spec"]["nodeName"])
    # A DaemonSet's version is read as a version, and so loses its `v` on upstream's screens too.
    components["kube-proxy"] = {_tag(each["spec"]["template"]["spec"]).removeprefix("v"): [""] for each in sets.result()[0]}
    components["CoreDNS"] = {_tag(each["spec"]["template"]["spec"]): [""] for each in deployments.result()[0]}
    kubelets: dict[str, list[str]] = {}
    for node in sorted(nodes.result()[0], key=lambda node: str(node["metadata"]["name"])):
        kubelets.setdefault(node["status"]["nodeInfo"]["kubeletVersion"], []).append(node["metadata"]["name"])
    return State(releases.parse(info.result()["gitVersion"]), releases.parse(version.git_version()), components, kubelets)


def _tag(pod_spec: dict[str, Any]) -> str:
    return str(pod_spec["containers"][0]["image"]).rpartition(":")[2]


async def unhealthy(client: Client) -> list[tuple[str, str]]:
    """(check, what is wrong): reasons not to begin an upgrade."""
    found = []
    nodes, _ = await client.list_all(resources.NODES, "", label_selector=_CONTROL_PLANE_LABEL)
    not_ready = [node["metadata"]["name"] for node in nodes if not is_ready(node)]
    if not nodes:
        found.append(("ControlPlaneNodesReady", "failed to list control-plane nodes: there are none"))
    if not_ready:
        found.append(("ControlPlaneNodesReady", f"there are NotReady control-planes in the cluster: [{' '.join(not_ready)}]"))
    manifests = [f"{config.MANIFESTS_DIR}/{name}.yaml" for name in STATIC_PODS[1:]]
    missing = [path for path in manifests if not Path(path).exists()]
    if missing:
        found.append(
            (
                "StaticPodManifest",
                f"The control plane seems to be Static Pod-hosted, but some of the manifests don't seem to exist on disk: [{' '.join(missing)}]",
            )
        )
    return found


def is_ready(body: dict[str, Any]) -> bool:
    """A Node's or a Pod's condition Ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in body.get("status", {}).get("conditions") or ())


async def config_versions(client: Client) -> dict[str, str]:
    """API group -> version of the configurations that kubeadm keeps for kube-proxy and the kubelets."""
    found = {}
    for name, key in (("kube-proxy", "config.conf"), ("kubelet-config", "kubelet")):
        bodies, _ = await client.list_all(resources.CONFIGMAPS, "kube-system", field_selector=f"metadata.name={name}")
        if not bodies:
            continue  # kube-proxy may be left out
        body = bodies[0]
        group, _, api_version = yaml.safe_load(body["data"][key])["apiVersion"].rpartition("/")
        found[group] = api_version
    return found
