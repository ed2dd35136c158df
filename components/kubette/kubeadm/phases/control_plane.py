"""Phases etcd and control-plane: the static Pod manifests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubette.kubeadm import manifests, pki
from kubette.kubeadm.phases.context import Context, write_yaml


def run_etcd(context: Context, initial_cluster: dict[str, str] | None = None) -> None:
    """etcd's manifest; `initial_cluster` names the members of a cluster that this machine joins."""
    if context.cluster.etcd_external:
        context.say("[etcd] External etcd mode. Skipping the creation of a manifest for local etcd")
        return
    data = Path(context.cluster.etcd_data_dir)
    if context.dry_run:
        context.say(f'[etcd] Would ensure that "{data}" directory is present')
    else:
        data.mkdir(parents=True, exist_ok=True)
        data.chmod(0o700)
    context.say(f'[etcd] Creating static Pod manifest for local etcd in "{context.manifests_dir}"')
    members = initial_cluster or {context.local.node_name: f"https://{context.local.advertise_address}:2380"}
    body = manifests.etcd(context.cluster, context.local, members, "existing" if initial_cluster else "new")
    write_yaml(context.manifests_dir / "etcd.yaml", context.patches.apply("etcd", body, context.say))


PHASES = {"apiserver": "kube-apiserver", "controller-manager": "kube-controller-manager", "scheduler": "kube-scheduler"}


def document(context: Context, component: str) -> dict[str, Any]:
    """The manifest of one component as this release, its configuration and the patches want it."""
    match component:
        case "kube-apiserver":
            body = manifests.kube_apiserver(context.cluster, context.local)
        case "kube-controller-manager":
            body = manifests.kube_controller_manager(context.cluster, context.local, pki.is_external(context.pki, "ca"))
        case _:
            body = manifests.kube_scheduler(context.cluster, context.local)
    return context.patches.apply(component, body, context.say)


def run(context: Context, chosen: Sequence[str] = tuple(PHASES)) -> None:
    context.say(f'[control-plane] Using manifest folder "{context.manifests_dir}"')
    for name in chosen:
        context.say(f'[control-plane] Creating static Pod manifest for "{PHASES[name]}"')
        write_yaml(context.manifests_dir / f"{PHASES[name]}.yaml", document(context, PHASES[name]))
