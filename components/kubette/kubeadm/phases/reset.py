"""`kubeadm reset`: undo init or join on this machine; what is not kubeadm's is left alone and named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import yaml

from kubette.kubeadm import config, etcd_members, static_pods
from kubette.kubeadm.phases import kubelet_start
from kubette.kubeadm.phases.context import PhaseError

_CONFIGS = ("admin.conf", "super-admin.conf", "kubelet.conf", "bootstrap-kubelet.conf", "controller-manager.conf", "scheduler.conf")


async def run(say: Callable[[str], None]) -> None:
    say("[preflight] Running pre-flight checks")
    manifest = Path(config.MANIFESTS_DIR) / "etcd.yaml"
    data = Path(config.ETCD_DATA_DIR)
    if manifest.exists():
        try:
            data = static_pods.etcd_data_path()
        except PhaseError as error:
            say(f"W [reset] Failed to evaluate the {str(data)!r} directory. Skipping its deletion and cleanup: {error}")
        await _leave_etcd(manifest, say)
    say("[reset] Stopping the kubelet service")
    try:
        await kubelet_start.systemctl("stop", "kubelet")
    except PhaseError as error:
        say(f"W [reset] The kubelet service could not be stopped by kubeadm: [{error}]")
    await _remove_containers(say)
    say(f"[reset] Deleting contents of directories: [{config.MANIFESTS_DIR} {config.KUBELET_DIR} {config.PKI_DIR}]")
    for directory in (config.MANIFESTS_DIR, config.KUBELET_DIR, config.PKI_DIR, str(data)):
        _empty(Path(directory))
    if data.is_dir():
        say(f"[reset] Deleted contents of the etcd data directory: {data}")
    paths = [Path(config.KUBERNETES_DIR) / name for name in _CONFIGS]
    say(f"[reset] Deleting files: [{' '.join(map(str, paths))}]")
    for path in paths:
        path.unlink(missing_ok=True)


async def _leave_etcd(manifest: Path, say: Callable[[str], None]) -> None:
    try:
        command = yaml.safe_load(manifest.read_text())["spec"]["containers"][0]["command"]
        peer = next(word.split("=", 1)[1] for word in command if word.startswith("--initial-advertise-peer-urls="))
        await etcd_members.leave(Path(config.PKI_DIR), peer)
    except Exception as error:
        # A machine that is cut off must still be resettable; the operator removes the member by hand.
        say(f"W [reset] Failed to remove etcd member: {error}, please manually remove this etcd member using etcdctl")


async def _remove_containers(say: Callable[[str], None]) -> None:
    """Every pod of this machine goes, through the runtime that made it."""
    import grpc

    from kubette.cri import api_pb2 as cri
    from kubette.cri import services

    async with grpc.aio.insecure_channel(config.CRI_SOCKET) as channel:
        runtime = services.Stub(channel, services.RUNTIME_SERVICE)
        try:
            found = await runtime.ListPodSandbox(cri.ListPodSandboxRequest(), timeout=10)
            for sandbox in found.items:
                await runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox.id), timeout=60)
                await runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id), timeout=60)
        except grpc.aio.AioRpcError as error:
            say(f"W [reset] Failed to remove containers: {error.details()}")


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
