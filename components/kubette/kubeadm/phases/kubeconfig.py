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


def run(context: Context, now: datetime.datetime, chosen: Sequence[str] = tuple(PHASES)) -> None:
    """Write those of the chosen kubeconfig files that are missing."""
    context.say(f'[kubeconfig] Using kubeconfig folder "{context.kubernetes_dir}"')
    names = [PHASES[name] for name in chosen]
    missing = [name for name in names if not (context.kubernetes_dir / name).exists()]
    authority = pki.load_authority(context.pki, "ca")
    keys = dict(zip(missing, pki.new_keys(len(missing)), strict=True))
    for name in names:
        if name not in keys:
            context.say(f'[kubeconfig] Using existing kubeconfig file: "{context.kubernetes_dir / name}"')
            continue
        context.say(f'[kubeconfig] Writing "{name}" kubeconfig file')
        common_name, organization = _FILES[name]
        common_name = common_name.format(node=context.local.node_name)
        leaf = pki.Leaf(Path(name).stem, "ca", common_name, (organization,) if organization else (), client=True)
        certificate = pki.sign(leaf, keys[name], authority, now, pki.validities(context.cluster)[1])
        server = context.local.local_endpoint() if name in _LOCAL else context.local.endpoint(context.cluster)
        document = kubeconfigs.with_certificate(
            f"https://{server}",
            context.cluster.cluster_name,
            common_name,
            pki.pem(authority.certificate),
            pki.pem(certificate),
            pki.key_pem(keys[name]),
        )
        write_yaml(context.kubernetes_dir / name, document)
