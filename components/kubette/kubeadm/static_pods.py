"""The static Pods of this machine replaced one by one, each with its way back (upstream: phases/upgrade/staticpods.go).

Order matters: the old manifest is copied to the backup before the new one takes its place by one rename, so that at every moment, killed or not, the
kubelet sees a whole manifest, and running the upgrade again goes on where it stopped.
"""

import asyncio
import datetime
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kubette.client import resources
from kubette.client.rest import FAILURES, Client
from kubette.kubeadm import cluster_api, cluster_state, config, expiration, manifests, pki, renewal, timeouts
from kubette.kubeadm.phases import control_plane
from kubette.kubeadm.phases.context import Context, PhaseError, write_yaml

_PAUSE_S = 0.2
_HASH = "kubernetes.io/config.hash"
_CERTIFICATES = {
    # In the order in which upstream renews them.
    "etcd": ("etcd-server", "etcd-peer", "etcd-healthcheck-client"),
    "kube-apiserver": ("apiserver", "apiserver-kubelet-client", "front-proxy-client", "apiserver-etcd-client"),
    "kube-controller-manager": ("controller-manager.conf",),
    "kube-scheduler": ("scheduler.conf",),
}
_OWN_CERTIFICATES = ("admin.conf", "super-admin.conf")


@dataclass(slots=True)
class Run:
    """One upgrade of this machine's control plane."""

    context: Context
    client: Client
    renew: bool = True
    with_etcd: bool = True
    timeout_s: float = 0.0
    check_etcd: Callable[[], Awaitable[None]] | None = None  # asked before etcd is touched
    replaced: list[str] = field(default_factory=list)
    stamp: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d-%H-%M-%S"))

    def __post_init__(self) -> None:
        self.timeout_s = self.timeout_s or self.context.timeouts["upgradeManifests"]

    @property
    def backup(self) -> Path:
        return Path(config.KUBERNETES_DIR) / "tmp" / f"kubeadm-backup-manifests-{self.stamp}"

    @property
    def etcd_backup(self) -> Path:
        return Path(config.KUBERNETES_DIR) / "tmp" / f"kubeadm-backup-etcd-{self.stamp}"

    @property
    def fresh(self) -> Path:
        return Path(config.KUBERNETES_DIR) / "tmp" / f"kubeadm-upgraded-manifests{self.stamp}"


def wanted(context: Context, component: str) -> dict[str, Any]:
    """The manifest of the new release. Raises PhaseError."""
    return _wanted_etcd(context) if component == "etcd" else control_plane.document(context, component)


def _wanted_etcd(context: Context) -> dict[str, Any]:
    """etcd keeps the members and the data directory that its manifest names now: a restored backup is usually another directory than the first one."""
    flags, current = flags_of("etcd"), read("etcd")
    members = dict(pair.split("=", 1) for pair in flags["initial-cluster"].split(","))
    body = manifests.etcd(context.cluster, context.local, members, flags.get("initial-cluster-state", "new"))
    container = body["spec"]["containers"][0]
    container["command"] = [f"--data-dir={flags['data-dir']}" if word.startswith("--data-dir=") else word for word in container["command"]]
    container["volumeMounts"] = current["spec"]["containers"][0].get("volumeMounts", [])
    body["spec"]["volumes"] = current["spec"].get("volumes", [])
    return context.patches.apply("etcd", body, context.say)


def etcd_data_path() -> Path:
    """Where etcd's data is on this machine: the hostPath behind its --data-dir. Raises PhaseError."""
    current, data_dir = read("etcd"), flags_of("etcd")["data-dir"]
    paths = {volume["name"]: volume.get("hostPath", {}).get("path", "") for volume in current["spec"].get("volumes", [])}
    for mount in current["spec"]["containers"][0].get("volumeMounts", []):
        if Path(data_dir).is_relative_to(mount["mountPath"]) and paths.get(mount["name"]):
            return Path(paths[mount["name"]]) / Path(data_dir).relative_to(mount["mountPath"])
    return Path(data_dir)


def manifest_path(component: str) -> Path:
    return Path(config.MANIFESTS_DIR) / f"{component}.yaml"


def read(component: str) -> dict[str, Any]:
    """The manifest that is in place. Raises PhaseError."""
    path = manifest_path(component)
    try:
        body: dict[str, Any] = yaml.safe_load(path.read_text())
        if not body["spec"]["containers"][0]["command"]:
            raise ValueError("its container has no command")
    except (OSError, KeyError, TypeError, ValueError, IndexError, yaml.YAMLError) as error:
        raise PhaseError("control-plane", f"failed to read the static Pod manifest {path}: {error}") from error
    return body


def flags_of(component: str) -> dict[str, str]:
    """The command line of the manifest that is in place. Raises PhaseError."""
    words = read(component)["spec"]["containers"][0]["command"][1:]
    pairs = (word.removeprefix("--").partition("=") for word in words)
    return {name: value for name, _, value in pairs}


def _needs_upgrade(component: str, fresh: dict[str, Any]) -> bool:
    """etcd is restarted for another etcd alone; the others for any difference."""
    current = read(component)
    if component != "etcd":
        return current != fresh
    images = [body["spec"]["containers"][0]["image"] for body in (current, fresh)]
    return bool(images[0] != images[1])


def remove_leftovers() -> None:
    """The new manifests of an upgrade that was killed before it put them in place."""
    for leftover in (Path(config.KUBERNETES_DIR) / "tmp").glob("kubeadm-upgraded-manifests*"):
        shutil.rmtree(leftover, ignore_errors=True)


async def upgrade(run: Run) -> None:
    """Every component in turn. Raises PhaseError after everything is back as it was."""
    say = run.context.say
    remove_leftovers()
    run.fresh.mkdir(parents=True, exist_ok=True)
    say(f'[upgrade/staticpods] Writing new Static Pod manifests to "{run.fresh}"')
    components = [name for name in cluster_state.STATIC_PODS if name != "etcd" or (run.with_etcd and manifest_path("etcd").exists())]
    for component in components:
        write_yaml(run.fresh / f"{component}.yaml", wanted(run.context, component))
    try:
        for component in components:
            say(f'[upgrade/staticpods] Preparing for "{component}" upgrade')
            await _upgrade_one(run, component)
    except BaseException as error:
        _roll_back(run)
        if not isinstance(error, (PhaseError, OSError, TimeoutError)):
            raise
        raise PhaseError(
            "control-plane",
            f"couldn't upgrade control plane. kubeadm has tried to recover everything into the earlier state. Errors faced: {error}",
        ) from error
    finally:
        shutil.rmtree(run.fresh, ignore_errors=True)
    if run.renew:
        _renew(run, _OWN_CERTIFICATES)


async def _upgrade_one(run: Run, component: str) -> None:
    say, current, fresh = run.context.say, manifest_path(component), run.fresh / f"{component}.yaml"
    if not _needs_upgrade(component, yaml.safe_load(fresh.read_text())):
        say(f"[upgrade/staticpods] Current and new manifests of {component} are equal, skipping upgrade")
        # An upgrade that was killed right after the replacement has not seen whether the component came up.
        await _wait(run, component, "")
        return
    if component == "etcd" and run.check_etcd:
        await run.check_etcd()
    before = await _pod_hash(run, component)
    if run.renew:
        _renew(run, _CERTIFICATES[component])
    if component == "etcd":
        shutil.copytree(etcd_data_path(), run.etcd_backup / "etcd", dirs_exist_ok=True)
    run.backup.mkdir(parents=True, exist_ok=True)
    kept = run.backup / current.name
    shutil.copy2(current, kept)
    run.replaced.append(component)
    fresh.replace(current)
    say(f'[upgrade/staticpods] Moving new manifest to "{current}" and backing up old manifest to "{kept}"')
    say("[upgrade/staticpods] Waiting for the kubelet to restart the component")
    say(f"[upgrade/staticpods] This can take up to {timeouts.text(run.timeout_s)}")
    await _wait(run, component, before)
    # The API server may still be looking for an etcd that was just restarted.
    found, _ = await cluster_api.retried(lambda: run.client.list_all(resources.PODS, "kube-system", label_selector=f"component={component}"))
    say(f"[apiclient] Found {len(found)} Pods for label selector component={component}")
    say(f'[upgrade/staticpods] Component "{component}" upgraded successfully!')
    if component == "etcd" and run.check_etcd:
        say("[upgrade/etcd] Waiting for etcd to become available")
        await run.check_etcd()


def _pod_name(run: Run, component: str) -> str:
    return f"{component}-{run.context.local.node_name}"


async def _pod_hash(run: Run, component: str) -> str:
    """What the kubelet says it runs; it is asked again while the API server is away. Raises TimeoutError."""
    deadline = asyncio.get_running_loop().time() + run.timeout_s
    while True:
        try:
            pod = await run.client.get(resources.PODS, "kube-system", _pod_name(run, component))
            return str(pod["metadata"].get("annotations", {}).get(_HASH, ""))
        except (*FAILURES, TimeoutError) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"failed to get the hash of the static Pod {_pod_name(run, component)}: {error}") from error
        await asyncio.sleep(_PAUSE_S)


async def _wait(run: Run, component: str, before: str) -> None:
    """Until the mirror Pod carries another hash than `before` and is Ready. Raises TimeoutError that says what it waited for."""
    loop = asyncio.get_running_loop()
    deadline, reason = loop.time() + run.timeout_s, "timed out waiting for the condition"
    while loop.time() < deadline:
        try:
            pod = await run.client.get(resources.PODS, "kube-system", _pod_name(run, component))
            if pod["metadata"].get("annotations", {}).get(_HASH, "") == before:
                reason = f"static Pod hash for component {component} on Node {run.context.local.node_name} did not change"
            elif cluster_state.is_ready(pod):
                return
            else:
                reason = f"the component {component} did not become healthy"
        except (*FAILURES, TimeoutError) as error:
            reason = str(error)
        await asyncio.sleep(_PAUSE_S)
    raise TimeoutError(f"{reason} after {timeouts.text(run.timeout_s)}")


def _roll_back(run: Run) -> None:
    """The old manifests return; etcd's only when etcd itself failed: a newer etcd serves the older API server, and its data stays."""
    failed = run.replaced[-1:] == ["etcd"]
    for component in run.replaced:
        if component == "etcd" and not failed:
            continue
        restored = run.fresh / f"restored-{component}.yaml"
        shutil.copy2(run.backup / f"{component}.yaml", restored)
        restored.replace(manifest_path(component))
        run.context.say(f'[upgrade/staticpods] Rolled back "{manifest_path(component)}" from "{run.backup / f"{component}.yaml"}"')


def _renew(run: Run, names: tuple[str, ...]) -> None:
    place = renewal.Place(run.context.pki, Path(config.KUBERNETES_DIR))
    known = {managed.name: managed for managed in expiration.MANAGED}
    chosen = [known[name] for name in names if place.read(known[name])]
    for managed in chosen:
        run.context.say(f"[upgrade/staticpods] Renewing {managed.name} certificate")
        if place.is_external(managed.authority):
            run.context.say(f"[upgrade/staticpods] External CA detected, {managed.name} certificate can't be renewed")
    usable = [managed for managed in chosen if not place.is_external(managed.authority)]
    now = datetime.datetime.now(datetime.UTC)
    renewal.renew(place, usable, now, lambda _: None, pki.validities(run.context.cluster)[1])
