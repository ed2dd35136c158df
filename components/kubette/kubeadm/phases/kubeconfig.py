"""Phase kubeconfig: credentials for the administrator, the kubelet and the control plane's clients."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from kubette.kubeadm import kubeconfigs, pki
from kubette.kubeadm.phases.context import Context, write_yaml

_FILES = {
    "admin.conf": ("kubernetes-admin", "kubeadm:cluster-admins"),
    "super-admin.conf": ("kubernetes-super-admin", "system:masters"),
    "kubelet.conf": ("system:node:{node}", "system:nodes"),
    "controller-manager.conf": ("system:kube-controller-manager", ""),
    "scheduler.conf": ("system:kube-scheduler", ""),
}
# These two talk to the API server of their own machine: a controller must not meet a newer server through the balancer.
_LOCAL = {"controller-manager.conf", "scheduler.conf"}


# phase name -> file. A joining control plane gets neither super-admin.conf nor a kubelet.conf from here.
PHASES = {Path(name).stem: name for name in _FILES}
JOINING = ("admin", "controller-manager", "scheduler")


def server_of(context: Context, name: str) -> str:
    return f"https://{context.local.local_endpoint() if name in _LOCAL else context.local.endpoint(context.cluster)}"


def leaf(name: str, node_name: str) -> pki.Leaf:
    """The client certificate inside a file."""
    common_name, organization = _FILES[name]
    return pki.Leaf(Path(name).stem, "ca", common_name.format(node=node_name), (organization,) if organization else (), client=True)


def run(context: Context, now: datetime.datetime, chosen: Sequence[str] = tuple(PHASES)) -> None:
    """Write those of the chosen kubeconfig files that are missing."""
    context.say(f'[kubeconfig] Using kubeconfig folder "{context.kubernetes_dir}"')
    names = [PHASES[name] for name in chosen]
    missing = [name for name in names if not (context.kubernetes_dir / name).exists()]
    # With an external CA whoever has its key has made the files: then its key is not asked for.
    authority = pki.load_authority(context.pki, "ca") if missing else None
    keys = dict(zip(missing, pki.new_keys(len(missing)), strict=True))
    for name in names:
        if name not in keys:
            context.say(f'[kubeconfig] Using existing kubeconfig file: "{context.kubernetes_dir / name}"')
            continue
        assert authority is not None
        context.say(f'[kubeconfig] Writing "{name}" kubeconfig file')
        wanted = leaf(name, context.local.node_name)
        certificate = pki.sign(wanted, keys[name], authority, now, pki.validities(context.cluster)[1])
        server = server_of(context, name)
        document = kubeconfigs.with_certificate(
            server,
            context.cluster.cluster_name,
            wanted.common_name,
            pki.pem(authority.certificate),
            pki.pem(certificate),
            pki.key_pem(keys[name]),
        )
        write_yaml(context.kubernetes_dir / name, document)
