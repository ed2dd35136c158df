"""`kubeadm join`: discovery, TLS bootstrap of the kubelet, and for a control plane its certificates, etcd member and static Pods."""

import asyncio
import base64
import datetime
from collections.abc import Sequence
from typing import Any

import yaml

from kubette.apimachinery.status import ApiError
from kubette.client import resources
from kubette.client.rest import Client
from kubette.component_base import version
from kubette.kubeadm import cluster_api, cluster_config, config, discovery, dry_run, etcd_members, kubeconfigs, release_words, shared_certs
from kubette.kubeadm.config import Cluster, ConfigError
from kubette.kubeadm.phases import certs, control_plane, kubeconfig, kubelet_start, preflight, upload, wait_control_plane
from kubette.kubeadm.phases.context import Context, PhaseError, write_yaml
from kubette.kubeadm.phases.workflow import Phase
from kubette.stdx import files

_PAUSE_S = 0.05


async def _discover(context: Context) -> dict[str, Any]:
    """The bootstrap kubeconfig; a phase that is run alone finds the cluster for itself."""
    wanted = context.discovery
    assert wanted is not None, "join without a way to discover the cluster"
    if not context.bootstrap:
        if wanted.file:
            context.bootstrap = discovery.from_file(wanted.file, context.token)
        else:
            server, ca = await discovery.discover(wanted.endpoint, wanted.token, list(wanted.pins), context.timeouts["discovery"])
            context.bootstrap = kubeconfigs.with_token(server, "kubernetes", "tls-bootstrap-token-user", ca, context.token)
        async with cluster_api.connect(context.bootstrap) as client:
            await _read_configuration(context, client)
    return context.bootstrap


async def _preflight(context: Context, _: Sequence[str]) -> None:
    preflight.run(context, joining=True)
    await _discover(context)
    preflight.run_with_cluster(context)
    if context.control_plane and not context.cluster.control_plane_endpoint:
        reason = (
            "unable to add a new control plane instance to a cluster that doesn't have a stable controlPlaneEndpoint address\n\n"
            "Please ensure that:\n* The cluster has a stable controlPlaneEndpoint address."
        )
        raise PhaseError("preflight", "\nOne or more conditions for hosting a new control plane instance is not satisfied.\n\n" + reason)
    if context.control_plane:
        await preflight.pull_images(context)


async def _prepare(context: Context, chosen: Sequence[str]) -> None:
    """Shared CAs from the cluster, own certificates, kubeconfigs and manifests; etcd comes later, as a member."""
    if not context.control_plane:
        return
    bootstrap = await _discover(context)
    if "download-certs" in chosen and context.certificate_key:
        await _download_certs(context, bootstrap)
    now = datetime.datetime.now(datetime.UTC)
    if "certs" in chosen:
        missing = [path for path in shared_certs.files_of(context.cluster, context.pki).values() if not path.exists()]
        if missing:
            raise ConfigError(f"failure loading certificate for CA: couldn't load the certificate file {missing[0]}: no such file or directory")
        certs.run(context, now)
    if "kubeconfig" in chosen:
        kubeconfig.run(context, now, kubeconfig.JOINING)
    if "control-plane" in chosen:
        control_plane.run(context)


async def _download_certs(context: Context, bootstrap: dict[str, Any]) -> None:
    context.say('[download-certs] Downloading the certificates in Secret "kubeadm-certs" in the "kube-system" Namespace')
    context.say(f'[download-certs] Saving the certificates to the folder: "{context.pki}"')
    async with cluster_api.connect(bootstrap) as client:

        async def read() -> dict[str, str]:
            found = await client.get(resources.SECRETS, "kube-system", "kubeadm-certs")
            data: dict[str, str] = found["data"]
            return data

        shared_certs.decrypt(shared_certs.files_of(context.cluster, context.pki), context.certificate_key, await cluster_api.retried(read))


async def _kubelet_start(context: Context, _: Sequence[str]) -> None:
    bootstrap = await _discover(context)
    async with cluster_api.connect(bootstrap) as client:
        await _check_name_is_free(context, client)
    if not context.control_plane:
        context.pki.mkdir(parents=True, exist_ok=True)
        ca = base64.b64decode(bootstrap["clusters"][0]["cluster"]["certificate-authority-data"])
        files.write_atomic(context.pki / "ca.crt", ca)
    write_yaml(context.kubernetes_dir / "bootstrap-kubelet.conf", bootstrap)
    context.manifests_dir.mkdir(parents=True, exist_ok=True)
    await kubelet_start.run(context)
    if not context.dry_run:
        await wait_control_plane.wait_kubelet(context)


async def _kubelet_wait_bootstrap(context: Context, _: Sequence[str]) -> None:
    if context.dry_run:
        dry_run.show_directory(context)
        context.say("[kubelet-start] Would wait for the kubelet to perform the TLS Bootstrap")
        return
    await _wait_bootstrap(context)


async def _etcd_join(context: Context, _: Sequence[str]) -> None:
    if context.control_plane and context.cluster.etcd_external:
        context.say("[etcd] External etcd mode. Skipping the creation of a manifest for local etcd")
    elif context.control_plane and context.dry_run:
        context.say("[etcd] Would add this machine as a member of the existing etcd cluster")
    elif context.control_plane:
        async with cluster_api.connect(context.admin_conf) as client:
            await etcd_members.join(context, client)


async def _wait(context: Context, _: Sequence[str]) -> None:
    if context.control_plane and not context.dry_run:
        await wait_control_plane.wait_components(context)


async def _control_plane_join(context: Context, chosen: Sequence[str]) -> None:
    """Its phase `etcd` is the older place of etcd-join, for who runs it alone: a member that is there is left as it is."""
    if "etcd" in chosen and not (context.manifests_dir / "etcd.yaml").exists():
        await _etcd_join(context, chosen)
    if context.control_plane and "mark-control-plane" in chosen:
        async with cluster_api.connect(context.admin_conf, context.told, offline=True) as client:
            await upload.mark_control_plane(context, client)


PHASES = (
    Phase("preflight", "Run join pre-flight checks", _preflight),
    Phase(
        "control-plane-prepare",
        "Prepare the machine for serving a control plane",
        _prepare,
        ("download-certs", "certs", "kubeconfig", "control-plane"),
    ),
    Phase("kubelet-start", "Write kubelet settings, certificates and (re)start the kubelet", _kubelet_start),
    Phase("kubelet-wait-bootstrap", "Wait for the kubelet to bootstrap itself", _kubelet_wait_bootstrap),
    Phase("etcd-join", "Join etcd for control plane nodes", _etcd_join),
    # The API server needs the etcd member, and marking needs the API server.
    Phase("wait-control-plane", "Wait for the control plane to start", _wait),
    Phase("control-plane-join", "Join a machine as a control plane instance", _control_plane_join, ("etcd", "mark-control-plane")),
)


async def _read_configuration(context: Context, client: Client) -> None:
    words = release_words.of(version.major_minor()[1])
    context.say(f"[preflight] {words.config_read}")
    context.say(f"[preflight] {words.config_hint}")

    async def read() -> tuple[dict[str, str], dict[str, str]]:
        cluster = await client.get(resources.CONFIGMAPS, "kube-system", "kubeadm-config")
        kubelet = await client.get(resources.CONFIGMAPS, "kube-system", "kubelet-config")
        return cluster["data"], kubelet["data"]

    # A machine may join while init is still uploading: the rights of the token and the two ConfigMaps arrive within moments.
    cluster, kubelet = await cluster_api.retried(read)
    context.cluster = Cluster.from_dict(yaml.safe_load(cluster["ClusterConfiguration"]))
    cluster_config.check_age(context.cluster)
    context.kubelet_configuration = yaml.safe_load(kubelet["kubelet"])


async def _check_name_is_free(context: Context, client: Client) -> None:
    name = context.local.node_name
    try:
        node = await client.get(resources.NODES, "", name)
    except ApiError as error:
        if error.code != 404:
            raise
        return
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", ()))
    if ready:
        reason = (
            f'a Node with name "{name}" and status "Ready" already exists in the cluster. You must delete the existing Node '
            "or change the name of this new joining Node"
        )
        raise PhaseError("kubelet-start", reason)


async def _wait_bootstrap(context: Context) -> None:
    context.say("[kubelet-start] Waiting for the kubelet to perform the TLS Bootstrap")
    path = context.kubernetes_dir / "kubelet.conf"
    try:
        async with asyncio.timeout(context.timeouts["tlsBootstrap"]):
            while not path.exists():  # noqa: ASYNC110 - another process makes the file; it appears once
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError:
        raise PhaseError("kubelet-start", "timed out waiting for the kubelet to perform the TLS Bootstrap") from None
    (context.kubernetes_dir / "bootstrap-kubelet.conf").unlink(missing_ok=True)


async def stable_address(endpoint: str) -> str:
    """The address this machine uses towards `host:port`: what the other machines know it by."""
    host, _, port = endpoint.rpartition(":")
    loop = asyncio.get_running_loop()
    transport, _protocol = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(host, int(port)))
    try:
        address: str = transport.get_extra_info("sockname")[0]
        return address
    finally:
        transport.close()


def epilogue(context: Context) -> str:
    if not context.control_plane:
        return """
This node has joined the cluster:
* Certificate signing request was sent to apiserver and a response was received.
* The Kubelet was informed of the new secure connection details.

Run 'kubectl get nodes' on the control-plane to see this node join the cluster.
"""
    return f"""
This node has joined the cluster and a new control plane instance was created:

* Certificate signing request was sent to apiserver and approval was received.
* The Kubelet was informed of the new secure connection details.
* Control plane label and taint were applied to the new node.
* The Kubernetes control plane instances scaled up.
* A new etcd member was added to the local/stacked etcd cluster.

To start administering your cluster from this node, you need to run the following as a regular user:

	mkdir -p $HOME/.kube
	sudo cp -i {config.KUBERNETES_DIR}/admin.conf $HOME/.kube/config
	sudo chown $(id -u):$(id -g) $HOME/.kube/config

Run 'kubectl get nodes' to see this node join the cluster.
"""
