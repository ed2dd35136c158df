"""`kubeadm init`: the phases in upstream's order."""

import datetime

from kubette.kubeadm import cluster_api, config, pki, rbac
from kubette.kubeadm.phases import certs, control_plane, kubeconfig, kubelet_start, preflight, upload, wait_control_plane
from kubette.kubeadm.phases.context import Context, PhaseError


async def run(context: Context) -> None:
    """Raises PhaseError naming the phase that failed."""
    now = datetime.datetime.now(datetime.UTC)
    context.say(f"[init] Using Kubernetes version: {context.cluster.kubernetes_version}")
    preflight.run(context, joining=False)
    certs.run(context, now)
    kubeconfig.run(context, now)
    control_plane.run_etcd(context)
    control_plane.run(context)
    await kubelet_start.run(context)
    await wait_control_plane.run(context)
    async with cluster_api.connect(context.super_admin_conf) as client:
        await cluster_api.retried(lambda: cluster_api.ensure(client, rbac.cluster_admins()))
    async with cluster_api.connect(context.admin_conf) as client:
        try:
            await upload.run(context, client)
        except* Exception as group:
            failure: BaseException = group
            while isinstance(failure, BaseExceptionGroup):
                failure = failure.exceptions[0]
            raise PhaseError("upload", str(failure) or type(failure).__name__) from failure


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
        key = f" --certificate-key {context.certificate_key}" if context.upload_certs else ""
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
