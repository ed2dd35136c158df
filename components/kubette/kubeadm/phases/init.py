"""`kubeadm init`: its phases in upstream's order."""

import datetime
from collections.abc import Awaitable, Callable, Sequence

from kubette.client.rest import Client
from kubette.kubeadm import cluster_api, config, dry_run, pki, rbac
from kubette.kubeadm.phases import certs, control_plane, kubeconfig, kubelet_start, preflight, upload, wait_control_plane
from kubette.kubeadm.phases.context import Context
from kubette.kubeadm.phases.workflow import Phase


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


async def _preflight(context: Context, _: Sequence[str]) -> None:
    context.say(f"[init] Using Kubernetes version: {context.cluster.kubernetes_version}")
    preflight.run(context, joining=False)
    await preflight.pull_images(context)


async def _certs(context: Context, chosen: Sequence[str]) -> None:
    certs.run(context, _now(), chosen)


async def _kubeconfig(context: Context, chosen: Sequence[str]) -> None:
    kubeconfig.run(context, _now(), chosen)


async def _etcd(context: Context, _: Sequence[str]) -> None:
    control_plane.run_etcd(context)


async def _control_plane(context: Context, chosen: Sequence[str]) -> None:
    control_plane.run(context, chosen)


async def _kubelet_start(context: Context, _: Sequence[str]) -> None:
    await kubelet_start.run(context)


async def _wait(context: Context, _: Sequence[str]) -> None:
    """Healthy also means: admin.conf may do what the next phases do."""
    if context.dry_run:
        dry_run.show_directory(context)
        return
    await wait_control_plane.run(context)
    async with cluster_api.connect(context.super_admin_conf) as client:
        await cluster_api.retried(lambda: cluster_api.ensure(client, rbac.cluster_admins()))


async def _finalize(context: Context, _: Sequence[str]) -> None:
    upload.finalize_kubelet(context)


async def _show_join_command(context: Context, _: Sequence[str]) -> None:
    context.say(epilogue(context))


def _as_admin(work: Callable[[Context, Client, Sequence[str]], Awaitable[None]]) -> Callable[[Context, Sequence[str]], Awaitable[None]]:
    async def run(context: Context, chosen: Sequence[str]) -> None:
        async with cluster_api.connect(context.admin_conf, context.told, offline=True) as client:
            await work(context, client, chosen)

    return run


PHASES = (
    Phase("preflight", "Run pre-flight checks", _preflight),
    Phase("certs", "Certificate generation", _certs, tuple(certs.STEMS)),
    Phase(
        "kubeconfig",
        "Generate all kubeconfig files necessary to establish the control plane and the admin kubeconfig file",
        _kubeconfig,
        tuple(kubeconfig.PHASES),
    ),
    Phase("etcd", "Generate static Pod manifest file for local etcd", _etcd, ("local",)),
    Phase(
        "control-plane",
        "Generate all static Pod manifest files necessary to establish the control plane",
        _control_plane,
        tuple(control_plane.PHASES),
    ),
    Phase("kubelet-start", "Write kubelet settings and (re)start the kubelet", _kubelet_start),
    Phase("wait-control-plane", "Wait for the control plane to start", _wait),
    Phase("upload-config", "Upload the kubeadm and kubelet configuration to a ConfigMap", _as_admin(upload.upload_config), tuple(upload.CONFIG_MAPS)),
    Phase("upload-certs", "Upload certificates to kubeadm-certs", _as_admin(lambda context, client, _: upload.upload_certs(context, client))),
    Phase("mark-control-plane", "Mark a node as a control-plane", _as_admin(lambda context, client, _: upload.mark_control_plane(context, client))),
    Phase(
        "bootstrap-token",
        "Generates bootstrap tokens used to join a node to a cluster",
        _as_admin(lambda context, client, _: upload.bootstrap_token(context, client)),
        beside=True,
    ),
    Phase("kubelet-finalize", "Updates settings relevant to the kubelet after TLS bootstrap", _finalize, ("enable-client-cert-rotation",)),
    Phase("addon", "Install required addons for passing conformance tests", _as_admin(upload.apply_addons), tuple(upload.ADDONS)),
    Phase("show-join-command", "Show the join command for control-plane and worker node", _show_join_command),
)


def epilogue(context: Context) -> str:
    """What init prints last: how to use the cluster, how others join."""
    endpoint = context.local.endpoint(context.cluster)
    pin = pki.public_key_hash(pki.load_certificate(context.pki / "ca.crt"))
    worker = f"kubeadm join {endpoint} --token {context.token if not context.skip_token_print else '<value withheld>'} \\\n\t--discovery-token-ca-cert-hash {pin}"
    text = f"""
Your Kubernetes control-plane has initialized successfully!

To start using your cluster, you need to run the following as a regular user:

  mkdir -p $HOME/.kube
  sudo cp -i {config.KUBERNETES_DIR}/admin.conf $HOME/.kube/config
  sudo chown $(id -u):$(id -g) $HOME/.kube/config

Alternatively, if you are the root user, you can run:

  export KUBECONFIG={config.KUBERNETES_DIR}/admin.conf

You should now deploy a pod network to the cluster.
Run "kubectl apply -f [podnetwork].yaml" with one of the options listed at:
  https://kubernetes.io/docs/concepts/cluster-administration/addons/
"""
    if context.cluster.control_plane_endpoint:
        key = f" --certificate-key {context.shown_certificate_key}" if context.upload_certs else ""
        text += f"""
You can now join any number of control-plane nodes running the following command on each as root:

  {worker} \\
\t--control-plane{key}
"""
    return (
        text
        + f"""
Then you can join any number of worker nodes by running the following on each as root:

{worker}"""
    )
