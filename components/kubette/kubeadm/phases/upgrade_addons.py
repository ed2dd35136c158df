"""CoreDNS and kube-proxy in an upgrade: brought to the new release once every API server is there; what their users changed stays."""

from collections.abc import Sequence
from typing import Any

import yaml

from kubette.apimachinery.status import ApiError
from kubette.client import resources
from kubette.client.rest import Client
from kubette.kubeadm import addons, cluster_api, cluster_state
from kubette.kubeadm.config import Cluster
from kubette.kubeadm.phases import upload
from kubette.kubeadm.phases.context import Context

_NOUNS = {"coredns": "a DNS server", "kube-proxy": "kube-proxy"}


async def run(context: Context, client: Client, chosen: Sequence[str]) -> None:
    if not context.control_plane:
        for name in chosen:
            context.say(f"[upgrade/addon] Skipping the addon/{name} phase. Not a control plane node.")
        return
    behind = await _behind(context, client)
    if behind:
        context.say(f"[upgrade/addon] Skipping upgrade of addons because control plane instances [{' '.join(behind)}] have not been upgraded")
        return
    for name in chosen:
        if await _config_map(client, name) is None:
            context.say(
                f'[upgrade/addon] the ConfigMap "{name}" in the namespace "kube-system" was not found. '
                f"Assuming that {_NOUNS[name]} was not deployed for this cluster."
            )
            continue
        bodies = await _coredns(context.cluster, client) if name == "coredns" else await _kube_proxy(context, client)
        await cluster_api.ensure_all(client, bodies)
        context.say(f"[addons] Applied essential addon: {upload.ADDONS[name]}")


async def _behind(context: Context, client: Client) -> list[str]:
    """The machines whose API server is of another release. A dry run would have upgraded this one."""
    servers = (await cluster_state.read(client)).components.get("kube-apiserver", {})
    nodes = [node for tag, nodes in sorted(servers.items()) if tag != context.cluster.kubernetes_version for node in nodes]
    return [node for node in nodes if not (context.dry_run and node == context.local.node_name)]


async def _config_map(client: Client, name: str) -> dict[str, Any] | None:
    """None for an addon that init was told to skip: an upgrade does not bring it."""
    try:
        return await client.get(resources.CONFIGMAPS, "kube-system", name)
    except ApiError as error:
        if error.code != 404:
            raise
        return None


async def _kube_proxy(context: Context, client: Client) -> list[dict[str, Any]]:
    found = await client.get(resources.CONFIGMAPS, "kube-system", "kube-proxy")
    context.proxy_configuration = yaml.safe_load(found["data"]["config.conf"])
    server = f"https://{context.local.endpoint(context.cluster)}"
    return addons.kube_proxy(context.cluster, server, context.proxy_configuration)


async def _coredns(cluster: Cluster, client: Client) -> list[dict[str, Any]]:
    """CoreDNS of the new release with the Corefile and the replicas it has."""
    bodies = addons.coredns(cluster)
    for body in bodies:
        if body["kind"] == "ConfigMap":
            body["data"] = (await client.get(resources.CONFIGMAPS, "kube-system", body["metadata"]["name"]))["data"]
        if body["kind"] == "Deployment":
            deployments, _ = await client.list_all(resources.DEPLOYMENTS, "kube-system", field_selector=f"metadata.name={body['metadata']['name']}")
            for current in deployments:
                body["spec"]["replicas"] = current["spec"]["replicas"]
    return bodies
