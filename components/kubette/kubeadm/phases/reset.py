"""`kubeadm reset`: its phases undo init or join on this machine; what is not kubeadm's is left alone and named (upstream: cmd/phases/reset)."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from kubette.kubeadm import config, etcd_members, static_pods
from kubette.kubeadm.phases import kubelet_start, preflight
from kubette.kubeadm.phases.context import PhaseError
from kubette.kubeadm.phases.workflow import Phase

_CONFIGS = ("admin.conf", "super-admin.conf", "kubelet.conf", "bootstrap-kubelet.conf", "controller-manager.conf", "scheduler.conf")


@dataclass(slots=True)
class Reset:
    """One run of it. `confirm` raises ConfigError when the user does not want to."""

    say: Callable[[str], None]
    confirm: Callable[[], None] = lambda: None
    dry_run: bool = False
    certificates_dir: str = config.PKI_DIR
    cri_socket: str = config.CRI_SOCKET
    cleanup_tmp_dir: bool = False
    ignored: frozenset[str] = frozenset()
    etcd_data: Path | None = None  # emptied when its member left


async def _preflight(reset: Reset, _: Sequence[str]) -> None:
    reset.confirm()
    reset.say("[preflight] Running pre-flight checks")
    preflight.judge(preflight.root(), reset.ignored, reset.say)


async def _remove_etcd_member(reset: Reset, _: Sequence[str]) -> None:
    say, manifest = reset.say, Path(config.MANIFESTS_DIR) / "etcd.yaml"
    try:
        data = static_pods.etcd_data_path() if manifest.exists() else Path(config.ETCD_DATA_DIR)
    except PhaseError:
        # Whose data would it be? Nothing is deleted on a guess.
        say("[reset] No etcd config found. Assuming external etcd")
        say("[reset] Please, manually reset etcd to prevent further issues")
        return
    if reset.dry_run:
        if manifest.exists():
            say("[reset] Would remove the etcd member on this node from the etcd cluster")
            say(f"[reset] Would delete contents of the etcd data directory: {data}")
        return
    if manifest.exists():
        try:
            command = yaml.safe_load(manifest.read_text())["spec"]["containers"][0]["command"]
            peer = next(word.split("=", 1)[1] for word in command if word.startswith("--initial-advertise-peer-urls="))
            await etcd_members.leave(Path(reset.certificates_dir), peer)
        except Exception as error:
            # A machine that is cut off must still be resettable; the operator removes the member by hand.
            say(f"W [reset] Failed to remove etcd member: {error}, please manually remove this etcd member using etcdctl")
    if data.is_dir():
        _empty(data)
        reset.etcd_data = data
        say(f"[reset] Deleted contents of the etcd data directory: {data}")


async def _cleanup_node(reset: Reset, _: Sequence[str]) -> None:
    say = reset.say
    directories = [config.MANIFESTS_DIR, config.KUBELET_DIR, reset.certificates_dir]
    if reset.cleanup_tmp_dir:
        directories.append(f"{config.KUBERNETES_DIR}/tmp")
    paths = [Path(config.KUBERNETES_DIR) / name for name in _CONFIGS]
    shown = f"[{' '.join(map(str, paths))}]"
    if reset.dry_run:
        say("[reset] Would stop the kubelet service")
        say(f'[reset] Would unmount mounted directories in "{config.KUBELET_DIR}"')
        say("[reset] Would remove Kubernetes-managed containers")
        say(f"[reset] Would delete contents of directories: [{' '.join(directories)}]")
        say(f"[reset] Would delete files: {shown}")
        return
    say("[reset] Stopping the kubelet service")
    try:
        await kubelet_start.systemctl("stop", "kubelet")
    except PhaseError as error:
        say(f"W [reset] The kubelet service could not be stopped by kubeadm: [{error}]")
    await _remove_containers(reset)
    say(f"[reset] Deleting contents of directories: [{' '.join(directories)}]")
    for directory in directories:
        _empty(Path(directory))
    if reset.etcd_data:
        _empty(reset.etcd_data)  # The kubelet may have started etcd once more in between.
    say(f"[reset] Deleting files: {shown}")
    for path in paths:
        path.unlink(missing_ok=True)


PHASES: tuple[Phase[Reset], ...] = (
    Phase("preflight", "Run reset pre-flight checks", _preflight),
    Phase("remove-etcd-member", "Remove a local etcd member.", _remove_etcd_member),
    Phase("cleanup-node", "Run cleanup node.", _cleanup_node),
)


async def _remove_containers(reset: Reset) -> None:
    """Every pod of this machine goes, through the runtime that made it."""
    import grpc

    from kubette.cri import api_pb2 as cri
    from kubette.cri import services

    async with grpc.aio.insecure_channel(reset.cri_socket) as channel:
        runtime = services.Stub(channel, services.RUNTIME_SERVICE)
        try:
            found = await runtime.ListPodSandbox(cri.ListPodSandboxRequest(), timeout=10)
            for sandbox in found.items:
                await runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox.id), timeout=60)
                await runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id), timeout=60)
        except grpc.aio.AioRpcError as error:
            reset.say(f"W [reset] Failed to remove containers: {error.details()}")


def _empty(directory: Path) -> None:
    if not directory.is_dir():
        return
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


EPILOGUE = """
The reset process does not perform cleanup of CNI plugin configuration,
network filtering rules and kubeconfig files.

For information on how to perform this cleanup manually, please see:
    https://k8s.io/docs/reference/setup-tools/kubeadm/kubeadm-reset/
"""
