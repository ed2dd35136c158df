"""Phases etcd and control-plane: the static Pod manifests."""

from pathlib import Path

from kubette.kubeadm import config, manifests
from kubette.kubeadm.phases.context import Context, write_yaml


def run_etcd(context: Context, initial_cluster: dict[str, str] | None = None) -> None:
    """etcd's manifest; `initial_cluster` names the members of a cluster that this machine joins."""
    Path(config.ETCD_DATA_DIR).mkdir(parents=True, exist_ok=True)
    Path(config.ETCD_DATA_DIR).chmod(0o700)
    context.say(f'[etcd] Creating static Pod manifest for local etcd in "{config.MANIFESTS_DIR}"')
    members = initial_cluster or {context.local.node_name: f"https://{context.local.advertise_address}:2380"}
    document = manifests.etcd(context.cluster, context.local, members, "existing" if initial_cluster else "new")
    write_yaml(Path(config.MANIFESTS_DIR) / "etcd.yaml", document)


def run(context: Context) -> None:
    context.say(f'[control-plane] Using manifest folder "{config.MANIFESTS_DIR}"')
    documents = {
        "kube-apiserver": manifests.kube_apiserver(context.cluster, context.local),
        "kube-controller-manager": manifests.kube_controller_manager(context.cluster, context.local),
        "kube-scheduler": manifests.kube_scheduler(context.cluster, context.local),
    }
    for name, document in documents.items():
        context.say(f'[control-plane] Creating static Pod manifest for "{name}"')
        write_yaml(Path(config.MANIFESTS_DIR) / f"{name}.yaml", document)
