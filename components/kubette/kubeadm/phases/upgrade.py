"""`kubeadm upgrade apply` and `kubeadm upgrade node` on this machine (upstream: cmd/upgrade and phases/upgrade)."""

import datetime
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from cryptography.x509.oid import NameOID

from kubette.apimachinery.status import ApiError
from kubette.client import resources
from kubette.client.rest import Client
from kubette.component_base import version
from kubette.kubeadm import (
    addons,
    cluster_api,
    cluster_config,
    cluster_state,
    config,
    container_runtime,
    etcd_members,
    images,
    pki,
    rbac,
    static_pods,
)
from kubette.kubeadm.config import Cluster, ConfigError, Local
from kubette.kubeadm.phases import upload
from kubette.kubeadm.phases.context import Context, PhaseError, write_yaml

_KUBELET_CERTIFICATE = Path("/var/lib/kubelet/pki/kubelet-client-current.pem")


def is_control_plane() -> bool:
    return static_pods.manifest_path("kube-apiserver").exists()


def _node_name() -> str:
    """As the kubelet's certificate has it: system:node:NAME. Raises ConfigError."""
    name = pki.load_certificate(_KUBELET_CERTIFICATE).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    return str(name).removeprefix("system:node:")


async def context_of(client: Client, cluster: Cluster, say: Callable[[str], None]) -> Context:
    """This machine as it is set up, with the cluster's own configuration of kubelets and proxies. Raises ConfigError, PhaseError."""
    address, port = "", config.API_PORT
    if is_control_plane():
        flags = static_pods.flags_of("kube-apiserver")
        address, port = flags["advertise-address"], int(flags.get("secure-port", config.API_PORT))
    context = Context(cluster, Local(_node_name(), address, port), say, control_plane=is_control_plane())
    context.kubelet_configuration = await _stored(client, "kubelet-config", "kubelet")
    return context


async def _stored(client: Client, name: str, key: str) -> dict[str, Any]:
    found = await client.get(resources.CONFIGMAPS, "kube-system", name)
    document: dict[str, Any] = yaml.safe_load(found["data"][key])
    return document


async def pull_images(context: Context) -> None:
    say = context.say
    say("[upgrade/preflight] Pulling images required for setting up a Kubernetes cluster")
    say("[upgrade/preflight] This might take a minute or two, depending on the speed of your internet connection")
    say("[upgrade/preflight] You can also perform this action beforehand using 'kubeadm config images pull'")
    for image in images.required(context.cluster.kubernetes_version, context.cluster.image_repository):
        await container_runtime.pull(context.local.cri_socket, image)


async def control_plane(run: static_pods.Run) -> None:
    say, wanted = run.context.say, run.context.cluster.kubernetes_version
    timeout = f"{int(run.timeout_s // 60)}m{int(run.timeout_s % 60)}s"
    say(f'[upgrade/control-plane] Upgrading your static Pod-hosted control plane to version "{wanted}" (timeout: {timeout})...')
    run.check_etcd = lambda: etcd_members.check_health(run.context.pki, run.client)
    await static_pods.upgrade(run)
    say("[upgrade/control-plane] The control plane instance for this node was successfully upgraded!")


def kubelet_config(context: Context) -> None:
    """Write this machine's config.yaml anew; the old one is kept."""
    path = Path(config.KUBELET_DIR) / "config.yaml"
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d-%H-%M-%S")
    backup = Path(config.KUBERNETES_DIR) / "tmp" / f"kubeadm-kubelet-config{stamp}"
    backup.mkdir(parents=True, exist_ok=True)
    if path.exists():
        context.say(f"[upgrade/kubelet-config] Backing up kubelet config file to {backup / path.name}")
        shutil.copy2(path, backup / path.name)
    context.say(f'[kubelet-start] Writing kubelet configuration to file "{path}"')
    write_yaml(path, context.kubelet_document(), mode=0o644)
    context.say("[upgrade/kubelet-config] The kubelet configuration for this node was successfully upgraded!")


async def in_cluster(context: Context, client: Client) -> None:
    """The stored configuration, the rights of those who join, the addons: what is kept once for the whole cluster."""
    await upload.upload_config(context, client)
    kubelet_config(context)
    for line in upload.RBAC_LINES:
        context.say(f"[bootstrap-token] Configured RBAC rules {line}")
    await cluster_api.ensure_all(client, rbac.bootstrap())
    await apply_addons(context, client)


async def apply_addons(context: Context, client: Client) -> None:
    """CoreDNS and kube-proxy, once every API server has been upgraded; what their users changed stays."""
    state = await cluster_state.read(client)
    servers = state.components.get("kube-apiserver", {})
    behind = [node for tag, nodes in sorted(servers.items()) if tag != context.cluster.kubernetes_version for node in nodes]
    if behind:
        context.say(f"[upgrade/addon] Skipping upgrade of addons because control plane instances [{' '.join(behind)}] have not been upgraded")
        return
    bodies: list[dict[str, Any]] = []
    if await _deployed(client, "coredns", "a DNS server", context):
        bodies += await _coredns(context.cluster, client)
    if await _deployed(client, "kube-proxy", "kube-proxy", context):
        context.proxy_configuration = await _stored(client, "kube-proxy", "config.conf")
        server = f"https://{context.local.endpoint(context.cluster)}"
        bodies += addons.kube_proxy(context.cluster, server, context.proxy_configuration)
    await cluster_api.ensure_all(client, bodies)
    applied = {body["metadata"]["name"] for body in bodies}
    for name, shown in upload.ADDONS.items():
        if name in applied:
            context.say(f"[addons] Applied essential addon: {shown}")


async def _deployed(client: Client, name: str, noun: str, context: Context) -> bool:
    """Whether an addon is there: one that init was told to skip is not brought by an upgrade."""
    found = await _config_map(client, name)
    if found is None:
        context.say(
            f'[upgrade/addon] the ConfigMap "{name}" in the namespace "kube-system" was not found. Assuming that {noun} was not deployed for this cluster.'
        )
    return found is not None


async def _config_map(client: Client, name: str) -> dict[str, Any] | None:
    try:
        return await client.get(resources.CONFIGMAPS, "kube-system", name)
    except ApiError as error:
        if error.code != 404:
            raise
        return None


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


async def node(say: Callable[[str], None], *, renew: bool, with_etcd: bool, only_kubelet: bool = False, kubelet_version: str = "") -> None:
    """`kubeadm upgrade node`: this machine follows the cluster. Raises PhaseError, ConfigError."""
    kubeconfig = Path(config.KUBERNETES_DIR) / ("admin.conf" if is_control_plane() else "kubelet.conf")
    if not kubeconfig.exists():
        raise ConfigError(
            f'couldn\'t create a Kubernetes client from file "{kubeconfig}": failed to load admin kubeconfig: open {kubeconfig}: no such file or directory'
        )
    async with cluster_api.connect(kubeconfig) as client:
        await cluster_api.reachable(client)
        cluster = await cluster_config.fetch(client, "upgrade", say)
        own = version.git_version()
        if images.minor_of(cluster.kubernetes_version) > images.minor_of(own):
            raise PhaseError(
                "preflight",
                f"this version of kubeadm only supports deploying clusters with the control plane version <= {own}. "
                f"Current version: {cluster.kubernetes_version}",
            )
        if kubelet_version:
            cluster = replace(cluster, kubernetes_version=kubelet_version)
        context = await context_of(client, cluster, say)
        say("[upgrade/preflight] Running pre-flight checks")
        if context.control_plane and not only_kubelet:
            await pull_images(context)
            await control_plane(static_pods.Run(context, client, renew=renew, with_etcd=with_etcd))
        elif not only_kubelet:
            say("[upgrade/preflight] Skipping prepull. Not a control plane node.")
            say("[upgrade/control-plane] Skipping phase. Not a control plane node.")
        kubelet_config(context)
        if context.control_plane and not only_kubelet:
            await apply_addons(context, client)
    say("[upgrade] The configuration for this node was successfully updated!")
    say("[upgrade] Now you should go ahead and upgrade the kubelet package using your package manager.")
