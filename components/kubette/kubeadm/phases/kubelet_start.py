"""Phase kubelet-start: the kubelet's configuration, and its unit started by systemctl."""

import asyncio

from kubette.kubeadm import kubelet_config
from kubette.kubeadm.phases.context import Context, PhaseError, write_yaml
from kubette.stdx import files

_SYSTEMCTL_TIMEOUT_S = 30.0


def write(context: Context) -> None:
    """Write config.yaml and kubeadm-flags.env."""
    directory = context.kubelet_dir
    directory.mkdir(parents=True, exist_ok=True)
    environment = directory / "kubeadm-flags.env"
    context.say(f'[kubelet-start] Writing kubelet environment file with flags to file "{environment}"')
    files.write_atomic(environment, kubelet_config.kubeadm_flags_env(context.local, control_plane=context.control_plane))
    context.say(f'[kubelet-start] Writing kubelet configuration to file "{directory / "config.yaml"}"')
    write_yaml(directory / "config.yaml", context.machines_kubelet_document(), mode=0o644)


async def systemctl(verb: str, unit: str) -> None:
    """Raises PhaseError with what systemctl printed."""
    process = await asyncio.create_subprocess_exec("systemctl", verb, unit, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    async with asyncio.timeout(_SYSTEMCTL_TIMEOUT_S):
        output, _ = await process.communicate()
    if process.returncode:
        raise PhaseError("kubelet-start", f"couldn't {verb} the {unit} service: {output.decode(errors='replace').strip()}")


async def run(context: Context) -> None:
    """Stop the kubelet that waits for its configuration, write that, start it."""
    if context.dry_run:
        write(context)
        return
    await systemctl("stop", "kubelet")
    write(context)
    context.say("[kubelet-start] Starting the kubelet")
    await systemctl("start", "kubelet")
