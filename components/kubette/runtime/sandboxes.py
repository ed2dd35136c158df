"""Pod sandboxes: a pause process that holds the pod's namespaces, a pinned network namespace, an address, and the pod's files in /etc.

Counterpart of containerd's sandbox_run.go, sandbox_stop.go, sandbox_remove.go. A sandbox is ready exactly as long as its pause process lives, which init
tells; so a reboot makes every sandbox NotReady, as on a real node, and the kubelet makes new ones.
"""

import asyncio
import json
import os
import secrets
import socket
from pathlib import Path
from typing import Any

from kubette.component_base import logs
from kubette.cri import api_pb2
from kubette.runtime import config as settings_module
from kubette.runtime import launch_spec, records, syscalls, units
from kubette.runtime.errors import CriError
from kubette.runtime.pod_network import PodNetwork
from kubette.stdx import clock, files

log = logs.logger(__name__)

SANDBOXES_MAX = 1000
SHM_BYTES = 64 << 20  # docker's and containerd's default
STOP_TIMEOUT_S = 10.0
# A program that does nothing but wait for input, under any Linux; the second where `cat` is one name of a multi-call program.
PAUSE_PROGRAMS = ("/usr/bin/cat", "/bin/cat", "/bin/dash", "/bin/sh")


def pause_program() -> str:
    for path in PAUSE_PROGRAMS:
        real = os.path.realpath(path)
        if os.access(real, os.X_OK) and os.path.basename(real) in ("cat", "dash", "bash", "sh"):
            return real
    raise CriError("UNKNOWN", "failed to create containerd task: this machine has neither cat nor a shell to play pause")


class Sandboxes:
    """Makes, stops, removes and describes sandboxes."""

    def __init__(self, settings: settings_module.Settings, network: PodNetwork, init: units.Units, now: clock.Clock) -> None:
        self.store: records.Store[records.Sandbox] = records.Store(
            settings.cri_root / "sandboxes", records.Sandbox, api_pb2.PodSandboxConfig, records.SandboxStatus, "sandbox"
        )
        self._settings = settings
        self._network = network
        self._init = init
        self._clock = now
        self._gone: dict[str, asyncio.Event] = {}

    # -- files

    def state_directory(self, sandbox_id: str) -> Path:
        return self._settings.cri_state / "sandboxes" / sandbox_id

    def shm(self, sandbox: records.Sandbox) -> str:
        if sandbox.config.linux.security_context.namespace_options.ipc == api_pb2.NODE:
            return "/dev/shm"
        return str(self.state_directory(sandbox.id) / "shm")

    def etc_files(self, sandbox: records.Sandbox) -> dict[str, str]:
        """The sandbox's files that its containers see in /etc."""
        directory = self.store.path(sandbox.id)
        return {f"/etc/{name}": str(directory / name) for name in ("hostname", "hosts", "resolv.conf")}

    def hostname(self, sandbox: records.Sandbox) -> str:
        own = sandbox.config.linux.security_context.namespace_options.network != api_pb2.NODE
        return (sandbox.config.hostname if own else "") or socket.gethostname()

    def namespaces(self, sandbox: records.Sandbox) -> dict[str, str | None]:
        """What a container of the sandbox joins; pid is the container's own unless the pod shares one or uses the machine's."""
        options = sandbox.config.linux.security_context.namespace_options
        held = f"/proc/{sandbox.status.pid}/ns"
        own_network = options.network != api_pb2.NODE
        return {
            "net": sandbox.status.network_namespace if own_network else None,
            "ipc": f"{held}/ipc" if options.ipc != api_pb2.NODE else None,
            "uts": f"{held}/uts" if own_network else None,
            "pid": f"{held}/pid" if options.pid == api_pb2.POD else None,
        }

    def _write_etc(self, sandbox: records.Sandbox) -> None:
        directory = self.store.path(sandbox.id)
        hostname = self.hostname(sandbox)
        own_network = sandbox.config.linux.security_context.namespace_options.network != api_pb2.NODE
        hosts = launch_spec.hosts_file(hostname, sandbox.status.ip) if own_network else _text("/etc/hosts")
        resolv = launch_spec.resolv_conf(sandbox.config.dns_config) or _text("/etc/resolv.conf")
        for name, text in (("hostname", hostname + "\n"), ("hosts", hosts), ("resolv.conf", resolv)):
            files.write_atomic(directory / name, text)

    # -- life

    async def run(self, config: api_pb2.PodSandboxConfig, handler: str) -> str:
        """RunPodSandbox. On failure everything made so far is taken back."""
        if handler not in ("", "runc"):
            raise CriError("UNKNOWN", f'failed to get sandbox runtime: no runtime for "{handler}" is configured')
        meta = config.metadata
        if not meta.name or not meta.uid or not meta.namespace:
            raise CriError("INVALID_ARGUMENT", "sandbox config must include metadata")
        if len(self.store) >= SANDBOXES_MAX:
            raise CriError("RESOURCE_EXHAUSTED", f"failed to create sandbox: {SANDBOXES_MAX} sandboxes are on this machine already")
        name = _name(meta)
        for other in self.store:
            if _name(other.config.metadata) == name:
                raise CriError("UNKNOWN", f'failed to reserve sandbox name "{name}": name "{name}" is reserved for "{other.id}"')
        status = records.SandboxStatus(created_at=int(self._clock.wall() * 1e9), runtime_handler=handler)
        sandbox = records.Sandbox(secrets.token_hex(32), config, status)
        self.store.add(sandbox)
        try:
            await self._start(sandbox)
        except BaseException:
            await self._take_back(sandbox)
            self.store.remove(sandbox.id)
            raise
        log.info("RunPodSandbox returned", pod=f"{meta.namespace}/{meta.name}", sandbox=sandbox.id[:12], ip=status.ip)
        return sandbox.id

    async def _start(self, sandbox: records.Sandbox) -> None:
        status, config = sandbox.status, sandbox.config
        options = config.linux.security_context.namespace_options
        bundle = self._settings.task(sandbox.id)
        bundle.mkdir(parents=True, mode=0o711)
        if options.network != api_pb2.NODE:
            status.network_namespace = self._network.make_namespace(sandbox.id)
            try:
                status.ip = self._network.attach(sandbox.id, status.network_namespace, _ports(config))
            except (CriError, OSError) as error:
                raise CriError("UNKNOWN", f'failed to setup network for sandbox "{sandbox.id}": {error}') from error
        self._write_etc(sandbox)
        if options.ipc != api_pb2.NODE:
            shm = Path(self.shm(sandbox))
            shm.mkdir(parents=True, mode=0o1777)
            syscalls.mount("shm", str(shm), "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC, f"mode=1777,size={SHM_BYTES}")
        (bundle / "pause").symlink_to(pause_program())
        places = {name: str(bundle / name) for name in ("pause", "pid_file", "error_file")}
        spec = launch_spec.sandbox(config, status.network_namespace or None, self.hostname(sandbox), places)
        files.write_atomic(bundle / "config.json", json.dumps(spec))
        await launch(self._init, sandbox.unit, f"cri sandbox {config.metadata.namespace}/{config.metadata.name}", bundle, "null", "journal")
        status.pid = int((bundle / "pid_file").read_text())
        status.ready = True
        self.store.save(sandbox)

    async def stop(self, sandbox: records.Sandbox) -> None:
        """Kill the pause process and give the network back; doing it again is no error. The containers are stopped already."""
        sandbox.status.ready = False
        await self._take_back(sandbox)
        self.store.save(sandbox)

    async def _take_back(self, sandbox: records.Sandbox) -> None:
        gone = self._gone.setdefault(sandbox.id, asyncio.Event())
        if sandbox.status.pid:
            await self._init.kill(sandbox.unit, 9, whom="all")
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await gone.wait()
            except TimeoutError as error:
                raise CriError("DEADLINE_EXCEEDED", f'failed to stop sandbox container "{sandbox.id}": its pause process does not die') from error
            sandbox.status.pid = 0
        self._gone.pop(sandbox.id, None)
        if sandbox.status.network_namespace:
            self._network.detach(sandbox.id, _ports(sandbox.config), sandbox.status.ip)
            self._network.remove_namespace(sandbox.status.network_namespace)
            sandbox.status.network_namespace = ""
        state = self.state_directory(sandbox.id)
        if (state / "shm").is_dir():
            try:
                syscalls.umount(str(state / "shm"))
            except OSError:
                pass  # never mounted, or a reboot took it
            (state / "shm").rmdir()
            state.rmdir()
        await self._init.forget(sandbox.unit)
        _remove_bundle(self._settings.task(sandbox.id))

    async def remove(self, sandbox: records.Sandbox) -> None:
        """Stop it and forget it. Its containers are gone already."""
        await self.stop(sandbox)
        self.store.remove(sandbox.id)

    # -- what init tells

    def unit_gone(self, sandbox: records.Sandbox) -> None:
        """The pause process has ended."""
        gone = self._gone.get(sandbox.id)
        if gone is not None:
            gone.set()
        if sandbox.status.ready:
            sandbox.status.ready = False
            sandbox.status.pid = 0
            self.store.save(sandbox)
            log.info("Sandbox exited", sandbox=sandbox.id[:12])
        elif gone is None:
            sandbox.status.pid = 0

    # -- description

    def status_message(self, sandbox: records.Sandbox) -> api_pb2.PodSandboxStatus:
        return api_pb2.PodSandboxStatus(
            id=sandbox.id,
            metadata=sandbox.config.metadata,
            state=sandbox.state,
            created_at=sandbox.status.created_at,
            network=api_pb2.PodSandboxNetworkStatus(ip=sandbox.status.ip),
            linux=api_pb2.LinuxPodSandboxStatus(namespaces=api_pb2.Namespace(options=sandbox.config.linux.security_context.namespace_options)),
            labels=sandbox.labels,
            annotations=dict(sandbox.config.annotations),
            runtime_handler=sandbox.status.runtime_handler,
        )

    def list_message(self, sandbox: records.Sandbox) -> api_pb2.PodSandbox:
        return api_pb2.PodSandbox(
            id=sandbox.id,
            metadata=sandbox.config.metadata,
            state=sandbox.state,
            created_at=sandbox.status.created_at,
            labels=sandbox.labels,
            annotations=dict(sandbox.config.annotations),
            runtime_handler=sandbox.status.runtime_handler,
        )


async def launch(init: units.Units, unit: str, description: str, bundle: Path, stdin: str, stdout: str) -> None:
    """Have init run the launcher for the bundle's specification. Raises CriError with the launcher's text when the container does not start."""
    (bundle / "error_file").unlink(missing_ok=True)
    failure = ""
    try:
        await init.call(
            "StartTransientUnit",
            name=unit,
            properties={
                "Description": description,
                "Type": "forking",
                "ExecStart": [*settings_module.launcher_command(), "create", str(bundle / "config.json")],
                "PIDFile": str(bundle / "pid_file"),
                "Slice": "kubepods.slice",
                "KillMode": "control-group",
                "StandardInput": stdin,
                "StandardOutput": stdout,
            },
        )
    except Exception as error:
        if not hasattr(error, "message"):
            raise
        failure = str(error)
    if (bundle / "error_file").exists():
        failure = (bundle / "error_file").read_text()
    elif failure and (bundle / "pid_file").exists():
        failure = ""  # it ran, and was over before init could look: an exit, not a failed start
    if failure:
        text = f"failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: {failure}"
        raise CriError("UNKNOWN", f"failed to create containerd task: {text}: unknown")


def _remove_bundle(bundle: Path) -> None:
    for name in ("pause", "pid_file", "error_file", "config.json"):
        (bundle / name).unlink(missing_ok=True)
    if bundle.is_dir():
        bundle.rmdir()


def _name(meta: api_pb2.PodSandboxMetadata) -> str:
    return f"{meta.name}_{meta.namespace}_{meta.uid}_{meta.attempt}"


def _ports(config: api_pb2.PodSandboxConfig) -> list[dict[str, Any]]:
    return [
        {"protocol": api_pb2.Protocol.Name(p.protocol), "host_port": p.host_port, "container_port": p.container_port, "host_ip": p.host_ip}
        for p in config.port_mappings
        if p.host_port
    ]


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
