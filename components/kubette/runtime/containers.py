"""Containers: transient units of the machine's init, made by the launcher from a specification.

Counterpart of containerd's container_create.go, container_start.go, container_stop.go. What a container is, this module keeps (records); whether it runs and how
it ended, init knows and tells by events; so the runtime may be killed and restarted at any moment without a container noticing.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import stat
import sys
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from kubette.component_base import init_client, logs
from kubette.cri import api_pb2
from kubette.runtime import cgroups, images, launch_spec, records, sandboxes, units
from kubette.runtime import config as settings_module
from kubette.runtime.errors import CriError
from kubette.stdx import clock, files

log = logs.logger(__name__)

CONTAINERS_MAX = 5000
KILL_TIMEOUT_S = 30.0  # how long a SIGKILLed container may take to be gone
STARTING_S_MAX = 5.0  # how long after its start a program may still be on its way to its signal handlers
STARTING_LOOK_S = 0.05
EXIT_UNKNOWN = 255  # containerd's exit code for a container whose end nobody saw
EXIT_START_FAILED = 128


class Containers:
    """Creates, starts, stops, removes and describes containers."""

    def __init__(
        self,
        settings: settings_module.Settings,
        pods: sandboxes.Sandboxes,
        catalogue: images.Images,
        init: units.Units,
        now: clock.Clock,
        entry_points: dict[str, str],
        groups: cgroups.Cgroups,
    ) -> None:
        self.store: records.Store[records.Container] = records.Store(
            settings.cri_root / "containers", records.Container, api_pb2.ContainerConfig, records.ContainerStatus, "container"
        )
        self._settings = settings
        self._sandboxes = pods
        self._images = catalogue
        self._init = init
        self._clock = now
        self._entry_points = entry_points
        self._cgroups = groups
        self._exited: dict[str, asyncio.Event] = {}
        self._starting: set[str] = set()

    def of_sandbox(self, sandbox_id: str) -> list[records.Container]:
        return [c for c in self.store if c.status.sandbox_id == sandbox_id]

    def _now_ns(self) -> int:
        return int(self._clock.wall() * 1e9)

    # -- life

    def create(self, sandbox: records.Sandbox, config: api_pb2.ContainerConfig, sandbox_config: api_pb2.PodSandboxConfig) -> str:
        """CreateContainer: check everything that can be checked before a process exists, and remember it."""
        meta = config.metadata
        if not sandbox.status.ready:
            raise CriError("UNKNOWN", f'failed to find sandbox id "{sandbox.id}": sandbox container is not running')
        if len(self.store) >= CONTAINERS_MAX:
            raise CriError("RESOURCE_EXHAUSTED", f"failed to create container: {CONTAINERS_MAX} containers are on this machine already")
        for other in self.of_sandbox(sandbox.id):
            if (other.config.metadata.name, other.config.metadata.attempt) == (meta.name, meta.attempt):
                name = f"{meta.name}_{sandbox.config.metadata.name}_{sandbox.config.metadata.namespace}_{sandbox.config.metadata.uid}_{meta.attempt}"
                raise CriError("UNKNOWN", f'failed to reserve container name "{name}": name "{name}" is reserved for "{other.id}"')
        image = self._images.find(config.image.image)
        if image is None:
            raise CriError("NOT_FOUND", f'failed to create containerd container: failed to resolve image "{config.image.image}": not found')
        launch_spec.check_supported(config)
        launch_spec.argv(config, image.entry)
        self._check_mounts(config)
        directory = sandbox_config.log_directory or sandbox.config.log_directory
        status = records.ContainerStatus(
            sandbox_id=sandbox.id,
            image=config.image.user_specified_image or config.image.image,
            image_ref=image.name_by_digest,
            image_id=image.id,
            repository=image.repository,
            tag=image.tag,
            log_path=str(Path(directory) / config.log_path) if directory and config.log_path else "",
            created_at=self._now_ns(),
            resources=json_format.MessageToDict(config.linux.resources) if config.linux.HasField("resources") else {},
        )
        container = records.Container(secrets.token_hex(32), config, status)
        # The specification is made now, so that a wrong configuration is CreateContainerError and not a failed start.
        spec = self._specification(container, sandbox, image)
        user = spec["process"]["user"]
        status.uid, status.gid = int(user) if user.isdigit() else 0, spec["process"]["gid"] or 0
        self.store.add(container)
        files.write_atomic(self.store.path(container.id) / "spec", json.dumps(spec))
        return container.id

    def _check_mounts(self, config: api_pb2.ContainerConfig) -> None:
        for mount in config.mounts:
            if mount.host_path and not os.path.lexists(mount.host_path):
                text = f'failed to generate container spec: failed to generate spec: failed to stat "{mount.host_path}": stat {mount.host_path}: no such file or directory'
                raise CriError("UNKNOWN", text)

    def _specification(self, container: records.Container, sandbox: records.Sandbox, image: images.Pulled) -> dict[str, Any]:
        bundle = self._settings.task(container.id)
        namespaces = self._sandboxes.namespaces(sandbox)
        wanted = container.config.linux.security_context.namespace_options
        if wanted.pid == api_pb2.CONTAINER:
            namespaces["pid"] = "new"
        elif wanted.pid == api_pb2.NODE:
            namespaces["pid"] = None
        elif wanted.pid == api_pb2.TARGET:
            namespaces["pid"] = self._target_pid_namespace(wanted.target_id)
        else:
            namespaces["pid"] = namespaces["pid"] or "new"
        places = {
            "layer": str(self._settings.layer(container.id)),
            "fallback_layer": str(bundle / "layer"),
            "rootfs": str(bundle / "rootfs"),
            "shm": self._sandboxes.shm(sandbox),
            "pid_file": str(bundle / "pid_file"),
            "error_file": str(bundle / "error_file"),
            "etc": self._sandboxes.etc_files(sandbox),
        }
        return launch_spec.container(
            container.config,
            image.entry,
            image.tag,
            self._sandboxes.hostname(sandbox),
            namespaces,
            places,
            sys.executable,
            settings_module.interpreter_paths(),
            self._entry_points,
        )

    def _target_pid_namespace(self, target_id: str) -> str:
        target = self.store.get(target_id)
        if target is None or target.status.state != api_pb2.CONTAINER_RUNNING:
            raise CriError("INVALID_ARGUMENT", f'invalid target container: container "{target_id}" is not running')
        return f"/proc/{target.status.pid}/ns/pid"

    async def start(self, container: records.Container) -> None:
        """StartContainer. A container whose program cannot be executed has exited with 128, StartError, as containerd shows it."""
        status = container.status
        if status.state != api_pb2.CONTAINER_CREATED or container.id in self._starting:
            shown = api_pb2.ContainerState.Name(status.state)
            raise CriError("UNKNOWN", f'failed to start container "{container.id}": container is in {shown} state')
        self._starting.add(container.id)
        bundle = self._settings.task(container.id)
        try:
            bundle.mkdir(parents=True, mode=0o711, exist_ok=True)
            spec = json.loads((self.store.path(container.id) / "spec").read_text())
            spec["cgroups"] = self._cgroups.create(container.id, container.config.linux.resources)
            files.write_atomic(bundle / "config.json", json.dumps(spec))
            if status.log_path:
                Path(status.log_path).parent.mkdir(parents=True, exist_ok=True)
            stdin = "pty" if container.config.tty else "pipe" if container.config.stdin else "null"
            output = f"cri:{status.log_path}" if status.log_path else "null"
            await sandboxes.launch(self._init, container.unit, f"cri container {container.config.metadata.name}", bundle, stdin, output)
            status.started_at = self._now_ns()
            status.pid = int((bundle / "pid_file").read_text())
            self.store.save(container)
        except (CriError, OSError, TimeoutError) as error:
            self._finish(container, EXIT_START_FAILED, "StartError", str(error))
            status.started_at = 0
            self.store.save(container)
            await self._init.forget(container.unit)
            raise
        finally:
            self._starting.discard(container.id)
        # Its end may have been told before it was known as started.
        try:
            self.unit_changed(container, await self._init.call("GetUnit", name=container.unit))
        except init_client.InitError:
            self._finish(container, EXIT_UNKNOWN, "Unknown", "")

    async def stop(self, container: records.Container, timeout_s: float) -> None:
        """StopContainer: the stop signal, then SIGKILL when the time is up. Idempotent."""
        if container.status.state != api_pb2.CONTAINER_RUNNING:
            return
        exited = self._exited.setdefault(container.id, asyncio.Event())
        if timeout_s > 0:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._ask_to_stop(container, exited)
                    await exited.wait()
                return
            except TimeoutError:
                log.info("Stop timed out, killing container", container=container.id[:12], timeout=timeout_s)
        await self._init.kill(container.unit, signal.SIGKILL, whom="all")
        try:
            async with asyncio.timeout(KILL_TIMEOUT_S):
                await exited.wait()
        except TimeoutError as error:
            raise CriError("DEADLINE_EXCEEDED", f'failed to kill container "{container.id}": context deadline exceeded') from error

    async def _ask_to_stop(self, container: records.Container, exited: asyncio.Event) -> None:
        """The stop signal. The kernel throws away what the first process of a pid namespace does not catch, so a program that has just been
        started and has not got to its handlers would never hear of it: it is told again when it has."""
        number, pid = self.stop_signal(container), container.status.pid
        unheard = not _catches(pid, number)
        await self._init.kill(container.unit, number)
        while unheard and not exited.is_set() and self._now_ns() - container.status.started_at < STARTING_S_MAX * 1_000_000_000:
            await asyncio.sleep(STARTING_LOOK_S)
            if _catches(pid, number):
                await self._init.kill(container.unit, number)
                return

    def stop_signal(self, container: records.Container) -> int:
        """The pod's own, else the image's, else SIGTERM."""
        own = api_pb2.Signal.Name(container.config.stop_signal).removeprefix("SIGNAL_")
        if own != "RUNTIME_DEFAULT":
            return signal_number(own)
        image = self._images.find(container.status.image_id)
        return signal_number(image.entry.stop_signal if image is not None else "SIGTERM")

    async def remove(self, container: records.Container) -> None:
        """RemoveContainer, killing it if it runs."""
        if container.id in self._starting:
            raise CriError(
                "UNKNOWN", f'failed to set removing state for container "{container.id}": container is in starting state, can\'t be removed'
            )
        await self.stop(container, 0)
        await self._init.forget(container.unit)
        self._cgroups.remove(container.id)
        for directory in (self._settings.task(container.id), self._settings.layer(container.id)):
            await asyncio.to_thread(_remove_tree, directory)
        self.store.remove(container.id)
        self._exited.pop(container.id, None)

    async def reopen_log(self, container: records.Container) -> None:
        """ReopenContainerLog: init opens the log's path anew after the kubelet has renamed the file."""
        await self._init.call("ReopenLog", name=container.unit)

    def update_resources(self, container: records.Container, resources: api_pb2.LinuxContainerResources) -> None:
        """UpdateContainerResources: what is not given stays as it is."""
        merged = api_pb2.LinuxContainerResources()
        json_format.ParseDict(container.status.resources, merged)
        merged.MergeFrom(resources)
        container.status.resources = json_format.MessageToDict(merged)
        self._cgroups.update(container.id, resources)
        self.store.save(container)

    # -- for exec, attach and statistics

    def spec_path(self, container: records.Container) -> Path:
        return self._settings.task(container.id) / "config.json"

    def layer(self, container: records.Container) -> Path:
        return self._settings.layer(container.id)

    def identity(self, container: records.Container) -> dict[str, Any]:
        """Who the container's processes are, for a further one."""
        process = dict(json.loads(self.spec_path(container).read_text())["process"])
        return {key: value for key, value in process.items() if key not in ("argv", "env", "tty")}

    async def wait_exit(self, container: records.Container) -> int:
        """Block until the container has ended; answers its exit code."""
        if container.status.state == api_pb2.CONTAINER_RUNNING:
            await self._exited.setdefault(container.id, asyncio.Event()).wait()
        return container.status.exit_code

    # -- what init tells

    def unit_changed(self, container: records.Container, unit: dict[str, Any]) -> bool:
        """Take over what init says of a container's unit; answers whether it has now ended."""
        status = container.status
        if status.state != api_pb2.CONTAINER_RUNNING or container.id in self._starting or unit.get("ActiveState") not in ("inactive", "failed"):
            return False
        code = int(unit.get("ExecMainStatus") or 0)
        if unit.get("ExecMainCode") == "killed":
            code += 128
        finished = float(unit.get("ExecMainExitTimestamp") or 0) or self._clock.wall()
        reason = "OOMKilled" if code and self._cgroups.oom_killed(container.id) else "Error" if code else "Completed"
        self._finish(container, code, reason, "", int(finished * 1e9))
        self._cgroups.remove(container.id)
        return True

    def unit_missing(self, container: records.Container) -> bool:
        """No unit of a running container is left (a reboot): nobody saw its end."""
        if container.status.state != api_pb2.CONTAINER_RUNNING or container.id in self._starting:
            return False
        self._finish(container, EXIT_UNKNOWN, "Unknown", "")
        return True

    def _finish(self, container: records.Container, code: int, reason: str, message: str, at_ns: int = 0) -> None:
        status = container.status
        status.exit_code, status.reason, status.message = code, reason, message
        status.finished_at = max(at_ns or self._now_ns(), status.started_at)
        status.pid = 0
        self.store.save(container)
        exited = self._exited.pop(container.id, None)
        if exited is not None:
            exited.set()
        log.info("Container exited", container=container.id[:12], name=container.config.metadata.name, exitCode=code, reason=reason)

    # -- description

    def status_message(self, container: records.Container) -> api_pb2.ContainerStatus:
        status = container.status
        message = api_pb2.ContainerStatus(
            id=container.id,
            metadata=container.config.metadata,
            state=status.state,
            created_at=status.created_at,
            started_at=status.started_at,
            finished_at=status.finished_at,
            exit_code=status.exit_code,
            image=api_pb2.ImageSpec(image=status.image),
            image_ref=status.image_ref,
            image_id=status.image_id,
            reason=status.reason,
            message=status.message,
            labels=container.labels,
            annotations=dict(container.config.annotations),
            mounts=container.config.mounts,
            log_path=status.log_path,
            user=api_pb2.ContainerUser(
                linux=api_pb2.LinuxContainerUser(
                    uid=status.uid, gid=status.gid, supplemental_groups=container.config.linux.security_context.supplemental_groups
                )
            ),
            stop_signal=api_pb2.Signal.Name(api_pb2.Signal.Value(f"SIGNAL_{signal.Signals(self.stop_signal(container)).name}")),
        )
        if status.resources:
            json_format.ParseDict(status.resources, message.resources.linux)
        return message

    def list_message(self, container: records.Container) -> api_pb2.Container:
        status = container.status
        return api_pb2.Container(
            id=container.id,
            pod_sandbox_id=status.sandbox_id,
            metadata=container.config.metadata,
            image=container.config.image,
            image_ref=status.image_ref,
            image_id=status.image_id,
            state=status.state,
            created_at=status.created_at,
            labels=container.labels,
            annotations=dict(container.config.annotations),
        )


def signal_number(name: str) -> int:
    """`SIGQUIT`, `SIGRTMIN+3` or a number."""
    if name.isdigit():
        return int(name)
    base, _, plus = name.replace("PLUS", "+").partition("+")
    return int(getattr(signal, base, signal.SIGTERM)) + int(plus or 0)


def _remove_tree(directory: Path) -> None:
    """Remove a tree even where overlayfs left directories without permissions."""

    def allow(function: Any, path: str, _: Any) -> None:
        try:
            os.chmod(os.path.dirname(path), stat.S_IRWXU)
            if os.path.isdir(path) and not os.path.islink(path):
                os.chmod(path, stat.S_IRWXU)
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)
        except OSError:
            pass

    shutil.rmtree(directory, onerror=allow)


def _catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in text.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)
