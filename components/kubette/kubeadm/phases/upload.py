"""Phases upload-config, upload-certs, mark-control-plane, bootstrap-token, kubelet-finalize and addon: what init writes into the cluster."""

import datetime
from collections.abc import Sequence
from pathlib import Path

import yaml

from kubette.client import resources
from kubette.client.rest import Client, PatchType
from kubette.kubeadm import addons, cluster_api, kubeconfigs, rbac, shared_certs, tokens
from kubette.kubeadm.phases.context import Context, write_yaml

_CERTS_TTL_S = 2 * 3600.0
_KUBELET_CERTIFICATE = "/var/lib/kubelet/pki/kubelet-client-current.pem"
LABELS = ("node-role.kubernetes.io/control-plane", "node.kubernetes.io/exclude-from-external-load-balancers")


RBAC_LINES = (
    "to allow Node Bootstrap tokens to get nodes",
    "to allow Node Bootstrap tokens to post CSRs in order for nodes to get long term certificate credentials",
    "to allow the csrapprover controller automatically approve CSRs from a Node Bootstrap Token",
    "to allow certificate rotation for all node client certificates in the cluster",
)


CONFIG_MAPS = {"kubeadm": "kubeadm-config", "kubelet": "kubelet-config"}


async def upload_config(context: Context, client: Client, chosen: Sequence[str] = tuple(CONFIG_MAPS)) -> None:
    """kubeadm-config and kubelet-config, readable by those who join."""
    data: dict[str, dict[str, str]] = {}
    if "kubeadm" in chosen:
        context.say('[upload-config] Storing the configuration used in ConfigMap "kubeadm-config" in the "kube-system" Namespace')
        data["kubeadm-config"] = {"ClusterConfiguration": cluster_api.dump(context.cluster.to_dict())}
    if "kubelet" in chosen:
        context.say('[kubelet] Creating a ConfigMap "kubelet-config" in namespace kube-system with the configuration for the kubelets in the cluster')
        data["kubelet-config"] = {"kubelet": cluster_api.dump(context.kubelet_document())}
    maps = [cluster_api.config_map(name, "kube-system", content) for name, content in data.items()]
    # The administrator's rights were granted a moment ago; the API server may not have seen them yet.
    await cluster_api.retried(lambda: cluster_api.ensure_all(client, [*maps, *rbac.config_readers()]))


async def upload_certs(context: Context, client: Client) -> None:
    """The shared certificates, readable with the certificate key for two hours."""
    if not context.upload_certs:
        context.say("[upload-certs] Skipping phase. Please see --upload-certs")
        return
    context.certificate_key = context.certificate_key or shared_certs.new_key()
    context.say('[upload-certs] Storing the certificates in Secret "kubeadm-certs" in the "kube-system" Namespace')
    context.say(f"[upload-certs] Using certificate key:\n{context.shown_certificate_key}")
    data = shared_certs.encrypt(shared_certs.files_of(context.cluster, context.pki), context.certificate_key)
    body = cluster_api.secret("kubeadm-certs", "kube-system", "Opaque", data)
    # The token cleaner deletes this short-lived token, and the garbage collector the certificates that it owns.
    short_lived = tokens.body(
        tokens.new(), _CERTS_TTL_S, datetime.datetime.now(datetime.UTC), "Proxy for managing TTL for the kubeadm-certs secret", ()
    )
    for usage in ("authentication", "signing"):
        del short_lived["data"][f"usage-bootstrap-{usage}"]
    owner = await client.create(resources.SECRETS, "kube-system", short_lived)
    metadata = owner["metadata"]
    body["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Secret", "name": metadata["name"], "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}
    ]
    await cluster_api.ensure_all(client, [body, *rbac.kubeadm_certs_readers()])


async def mark_control_plane(context: Context, client: Client) -> None:
    """Label and taint this machine's Node, as soon as its kubelet has registered it."""
    name = context.local.node_name
    context.say(f"[mark-control-plane] Marking the node {name} as control-plane by adding the labels: [{' '.join(LABELS)}]")
    wanted = context.local.registered_taints(control_plane=True)
    if wanted:
        words = " ".join(f"{taint['key']}:{taint['effect']}" for taint in wanted)
        context.say(f"[mark-control-plane] Marking the node {name} as control-plane by adding the taints [{words}]")

    async def mark() -> None:
        node = await client.get(resources.NODES, "", name)
        taints = node["spec"].get("taints") or []
        there = {(taint["key"], taint["effect"]) for taint in taints}
        taints = [*taints, *(taint for taint in wanted if (taint["key"], taint["effect"]) not in there)]
        patch = {
            "metadata": {"labels": dict.fromkeys(LABELS, ""), "resourceVersion": node["metadata"]["resourceVersion"]},
            "spec": {"taints": taints},
        }
        await client.patch(resources.NODES, "", name, patch, PatchType.MERGE)

    await cluster_api.retried(mark)


async def bootstrap_token(context: Context, client: Client) -> None:
    """The token, the rights that go with it, and cluster-info for anonymous readers."""
    now = datetime.datetime.now(datetime.UTC)
    wishes = context.bootstrap_tokens or [{"token": context.token}]
    bodies = []
    for wish in wishes:
        token = wish.get("token") or tokens.new()
        bodies.append(tokens.from_wish({"description": tokens.DEFAULT_DESCRIPTION} | wish | {"token": token}, context.token_ttl_s, now))
        if wish is wishes[0]:
            context.token = token
        if not context.skip_token_print:
            context.say(f"[bootstrap-token] Using token: {token}")
    context.say("[bootstrap-token] Configuring bootstrap tokens, cluster-info ConfigMap, RBAC Roles")
    for line in RBAC_LINES:
        context.say(f"[bootstrap-token] Configured RBAC rules {line}")
    context.say('[bootstrap-token] Creating the "cluster-info" ConfigMap in the "kube-public" namespace')
    public = kubeconfigs.document(f"https://{context.local.endpoint(context.cluster)}", "", "", (context.pki / "ca.crt").read_bytes(), {})
    public |= {"contexts": None, "current-context": "", "users": None}
    info = cluster_api.config_map("cluster-info", "kube-public", {"kubeconfig": cluster_api.dump(public)})
    await cluster_api.ensure_all(client, [*bodies, info, *rbac.bootstrap()])


ADDONS = {"coredns": "CoreDNS", "kube-proxy": "kube-proxy"}


async def apply_addons(context: Context, client: Client, chosen: Sequence[str] = tuple(ADDONS)) -> None:
    server = f"https://{context.local.endpoint(context.cluster)}"
    found = {"coredns": addons.coredns(context.cluster), "kube-proxy": addons.kube_proxy(context.cluster, server, context.proxy_configuration)}
    wanted = [name for name in chosen if found[name]]
    await cluster_api.ensure_all(client, [body for name in wanted for body in found[name]])
    for name in wanted:
        context.say(f"[addons] Applied essential addon: {ADDONS[name]}")


def finalize_kubelet(context: Context) -> None:
    """Point kubelet.conf at the certificate that the kubelet rotates, once the kubelet has put it there."""
    path = context.kubernetes_dir / "kubelet.conf"
    if not Path(_KUBELET_CERTIFICATE).exists():
        return
    context.say(f'[kubelet-finalize] Updating "{path}" to point to a rotatable kubelet client certificate and key')
    document = yaml.safe_load(path.read_text())
    for user in document["users"]:
        user["user"] = {"client-certificate": _KUBELET_CERTIFICATE, "client-key": _KUBELET_CERTIFICATE}
    write_yaml(path, document)
