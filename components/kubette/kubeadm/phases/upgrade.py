"""`kubeadm upgrade apply` and `kubeadm upgrade node` on this machine: their phases in upstream's order (upstream: cmd/phases/upgrade)."""

import datetime
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml
from cryptography.x509.oid import NameOID

from kubette.api import releases
from kubette.api.releases import Release
from kubette.client import resources
from kubette.client.rest import Client
from kubette.kubeadm import (
    cluster_api,
    cluster_state,
    config,
    container_runtime,
    dry_run,
    etcd_members,
    images,
    pki,
    rbac,
    release_words,
    static_pods,
    timeouts,
    upgrade_health,
    upgrade_policy,
)
from kubette.kubeadm.config import Cluster, Local
from kubette.kubeadm.phases import control_plane, preflight, upgrade_addons, upload
from kubette.kubeadm.phases.context import Context, PhaseError, write_yaml
from kubette.kubeadm.phases.workflow import Phase
from kubette.kubeadm.upgrade_policy import Allowed

_KUBELET_CERTIFICATE = Path("/var/lib/kubelet/pki/kubelet-client-current.pem")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    allowed: Allowed = field(default_factory=Allowed)
    force: bool = False
    renew: bool = True
    with_etcd: bool = True
    ignored: frozenset[str] = frozenset()


@dataclass(slots=True)
class Upgrade:
    """One run: the way to the cluster, what it is to become, and this machine."""

    client: Client
    context: Context  # its cluster has the wanted version
    kubeadm: Release
    options: Options
    words: release_words.Words
    confirm: Callable[[], None] = lambda: None
    instance: bool = False  # `upgrade node`: the cluster has its version, this machine follows

    @property
    def say(self) -> Callable[[str], None]:
        return self.context.say

    @property
    def wanted(self) -> str:
        return self.context.cluster.kubernetes_version


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
    found = await client.get(resources.CONFIGMAPS, "kube-system", "kubelet-config")
    context.kubelet_configuration = yaml.safe_load(found["data"]["kubelet"])
    return context


# The phases


async def _apply_preflight(upgrade: Upgrade, _: Sequence[str]) -> None:
    """Raises PhaseError and ConfigError for what speaks against the upgrade."""
    say, options, cluster = upgrade.say, upgrade.options, upgrade.context.cluster
    if upgrade.words.phased:
        say("[upgrade/preflight] Running preflight checks")
    if not upgrade.context.control_plane:
        raise PhaseError("preflight", "this machine runs no control plane; use 'kubeadm upgrade node' on it")
    await check_cluster(upgrade.client, cluster, options.ignored, say, with_job=not upgrade.context.dry_run)
    state = await cluster_state.read(upgrade.client)
    say(upgrade.words.chosen.format(upgrade.wanted))
    say(f"[upgrade/versions] Cluster version: {state.cluster}")
    say(f"[upgrade/versions] kubeadm version: {state.kubeadm}")
    found = upgrade_policy.objections(releases.parse(upgrade.wanted), state.cluster, state.kubeadm, state.kubelets, options.allowed)
    refusal = upgrade_policy.refusal(found, options.force)
    if refusal:
        raise PhaseError("preflight", f"{upgrade.words.refused} {refusal}", named=upgrade.words.phased)
    if found.skippable:
        say(
            f"[upgrade/version] Found {len(found.skippable)} potential version compatibility errors but skipping "
            f"since the --force flag is set: \n\n{upgrade_policy.bullets(found.skippable)}"
        )
    upgrade.confirm()
    await _pull_images(upgrade)


async def _node_preflight(upgrade: Upgrade, _: Sequence[str]) -> None:
    prefix = "upgrade/preflight" if upgrade.words.phased else "preflight"
    upgrade.say(f"[{prefix}] Running pre-flight checks")
    preflight.judge(preflight.root(), upgrade.options.ignored, upgrade.say)
    if images.minor_of(upgrade.wanted) > upgrade.kubeadm.minor:
        reason = f"this version of kubeadm only supports deploying clusters with the control plane version <= {upgrade.kubeadm}"
        raise PhaseError("preflight", f"{reason}. Current version: {upgrade.wanted}")
    if upgrade.context.control_plane:
        await _pull_images(upgrade)
    else:
        upgrade.say(f"[{prefix}] Skipping prepull. Not a control plane node.")


async def check_cluster(client: Client, cluster: Cluster, ignored: frozenset[str], say: Callable[[str], None], with_job: bool = True) -> None:
    """Raises PhaseError when the cluster is in no state to be upgraded."""
    say("[upgrade] Running cluster health checks")
    findings = await cluster_state.unhealthy(client)
    if with_job:
        findings += await upgrade_health.create_job(client, cluster.kubernetes_version, cluster.image_repository)
    preflight.judge(findings, ignored, say)


async def _pull_images(upgrade: Upgrade) -> None:
    say, cluster, prefix = upgrade.say, upgrade.context.cluster, upgrade.words.pull_prefix
    if upgrade.context.dry_run:
        say(f"[{prefix}] Would pull the required images (like 'kubeadm config images pull')")
        return
    say(f"[{prefix}] Pulling images required for setting up a Kubernetes cluster")
    say(f"[{prefix}] This might take a minute or two, depending on the speed of your internet connection")
    say(f"[{prefix}] You can also perform this action beforehand using 'kubeadm config images pull'")
    for image in images.required(cluster.kubernetes_version, cluster.image_repository, not cluster.etcd_external):
        await container_runtime.pull(upgrade.context.local.cri_socket, image)


async def _control_plane(upgrade: Upgrade, _: Sequence[str]) -> None:
    say, context = upgrade.say, upgrade.context
    if not context.control_plane:
        say(
            "[upgrade/control-plane] Skipping phase. Not a control plane node."
            if upgrade.words.phased
            else "[upgrade] Skipping phase. Not a control plane node."
        )
        return
    if context.dry_run:
        say(f'[upgrade/control-plane] Would upgrade your static Pod-hosted control plane to version "{upgrade.wanted}"')
        for component in control_plane.PHASES.values():
            body = cluster_api.dump(static_pods.wanted(context, component))
            dry_run.show_files([(static_pods.manifest_path(component), body)], say)
        return
    run = static_pods.Run(context, upgrade.client, renew=upgrade.options.renew, with_etcd=upgrade.options.with_etcd)
    run.check_etcd = lambda: etcd_members.check_health(context.pki, upgrade.client)
    if upgrade.instance:
        prefix = "upgrade/control-plane" if upgrade.words.phased else "upgrade"
        say(f'[{prefix}] Upgrading your Static Pod-hosted control plane instance to version "{upgrade.wanted}"...')
    else:
        say(f"{upgrade.words.upgrading.format(upgrade.wanted)} (timeout: {timeouts.text(run.timeout_s)})...")
    await static_pods.upgrade(run)
    if upgrade.words.phased:
        say("[upgrade/control-plane] The control plane instance for this node was successfully upgraded!")
    elif upgrade.instance:
        say("[upgrade] The control plane instance for this node was successfully updated!")


async def _upload_config(upgrade: Upgrade, chosen: Sequence[str]) -> None:
    await upload.upload_config(upgrade.context, upgrade.client, chosen)


async def _kubelet_config(upgrade: Upgrade, _: Sequence[str]) -> None:
    """Write this machine's config.yaml anew; the old one is kept."""
    context, path = upgrade.context, Path(config.KUBELET_DIR) / "config.yaml"
    if context.dry_run:
        dry_run.show_files([(path, cluster_api.dump(context.machines_kubelet_document()))], context.say)
        return
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d-%H-%M-%S")
    backup = Path(config.KUBERNETES_DIR) / "tmp" / f"kubeadm-kubelet-config-{stamp}"
    backup.mkdir(parents=True, exist_ok=True)
    if path.exists():
        context.say(f"[upgrade] Backing up kubelet config file to {backup / path.name}")
        shutil.copy2(path, backup / path.name)
    context.say(f'[kubelet-start] Writing kubelet configuration to file "{path}"')
    write_yaml(path, context.machines_kubelet_document(), mode=0o644)
    if upgrade.words.phased:
        context.say("[upgrade/kubelet-config] The kubelet configuration for this node was successfully upgraded!")


async def _bootstrap_token(upgrade: Upgrade, _: Sequence[str]) -> None:
    if upgrade.words.phased:
        upgrade.say("[upgrade/bootstrap-token] Configuring bootstrap token and cluster-info RBAC rules")
    for line in upload.RBAC_LINES:
        upgrade.say(f"[bootstrap-token] Configured RBAC rules {line}")
    await cluster_api.ensure_all(upgrade.client, rbac.bootstrap())


async def _addon(upgrade: Upgrade, chosen: Sequence[str]) -> None:
    if upgrade.context.control_plane or upgrade.words.phased:
        await upgrade_addons.run(upgrade.context, upgrade.client, chosen)


async def _post_upgrade(upgrade: Upgrade, _: Sequence[str]) -> None:
    """What stays behind when kubeadm is killed is of no use to the next one."""
    if not upgrade.context.dry_run:
        static_pods.remove_leftovers()


_ADDON = Phase("addon", "Upgrade the default kubeadm addons", _addon, tuple(upload.ADDONS))
_KUBELET = Phase("kubelet-config", "Upgrade the kubelet configuration for this node", _kubelet_config)
_POST = Phase("post-upgrade", "Run post upgrade tasks", _post_upgrade)
_CONTROL_PLANE = Phase("control-plane", "Upgrade the control plane", _control_plane)

APPLY: tuple[Phase[Upgrade], ...] = (
    Phase("preflight", "Run preflight checks before upgrade", _apply_preflight),
    _CONTROL_PLANE,
    Phase("upload-config", "Upload the kubeadm and kubelet configurations to ConfigMaps", _upload_config, tuple(upload.CONFIG_MAPS)),
    _KUBELET,
    Phase("bootstrap-token", "Configures bootstrap token and cluster-info RBAC rules", _bootstrap_token),
    _ADDON,
    _POST,
)
NODE: tuple[Phase[Upgrade], ...] = (
    Phase("preflight", "Run upgrade node pre-flight checks", _node_preflight),
    replace(_CONTROL_PLANE, short="Upgrade the control plane instance deployed on this node, if any"),
    _KUBELET,
    _ADDON,
    _POST,
)
