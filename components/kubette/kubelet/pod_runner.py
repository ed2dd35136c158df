"""Carries out a pod's actions through the CRI (kuberuntime's SyncPod and KillPod).

One instance for all pods; the pod's worker guarantees that only one call for a pod runs at a time. Failures of single containers are
remembered as their waiting reasons and do not stop the others.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kubette.component_base import logs
from kubette.cri import api_pb2
from kubette.kubelet import container_config, environment, event_texts, lifecycle_hooks, network_files, pod_spec
from kubette.kubelet.backoff import KeyedBackoff
from kubette.kubelet.container_config import BindMount, NodeFacts
from kubette.kubelet.cri_client import CriClient, CriError
from kubette.kubelet.images import ImageManager
from kubette.kubelet.pod_actions import PodActions
from kubette.kubelet.recorder import NORMAL, WARNING, EventRecorder
from kubette.kubelet.runtime_state import Container, ContainerState, PodRuntime
from kubette.kubelet.start_error import StartError
from kubette.stdx.clock import Clock

log = logs.logger(__name__)

MINIMUM_GRACE_S = 2  # always leave a container the time to notice
DEAD_ATTEMPTS_KEPT = 1  # for `kubectl logs --previous` (upstream's maximum-dead-containers-per-container)


class PodRunner:
    """`environment_of` and `mounts_of` answer what a container needs from the rest of the kubelet; both may raise StartError."""

    def __init__(
        self,
        cri: CriClient,
        images: ImageManager,
        recorder: EventRecorder,
        clock: Clock,
        release: tuple[int, int],
        node: NodeFacts,
        dns_of: Callable[[pod_spec.Pod], network_files.Dns],
        environment_of: Callable[[pod_spec.Pod, dict[str, Any], tuple[str, ...]], Awaitable[dict[str, str]]],
        mounts_of: Callable[[pod_spec.Pod, dict[str, Any], tuple[str, ...], dict[str, str], int], Awaitable[list[BindMount]]],
    ) -> None:
        self._cri, self._images, self._recorder, self._clock, self._release = cri, images, recorder, clock, release
        self.node = node
        self._dns_of, self._environment_of, self._mounts_of = dns_of, environment_of, mounts_of
        self._backoff = KeyedBackoff()
        # uid -> container name -> why it waits
        self.waiting: dict[str, dict[str, tuple[str, str]]] = {}
        # Containers whose postStart hook has not returned are not yet started.
        self.starting: set[str] = set()

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self.waiting.pop(uid, None)
        self._backoff.forget(f"{uid}/")
        self._images.forget(uid)

    # Bringing up

    async def sync(self, pod: pod_spec.Pod, runtime: PodRuntime, actions: PodActions) -> float | None:
        """Do what `actions` say. Answers in how many seconds to try again what failed, or None. Raises StartError when the sandbox failed."""
        uid = pod_spec.uid(pod)
        retries: list[float | None] = []
        if actions.kill_pod:
            if actions.create_sandbox and runtime.sandboxes:
                self._recorder.pod(pod, NORMAL, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
            await self.kill(pod, runtime, None)
        else:
            await asyncio.gather(*(self._kill_container(pod, k.container, k.message, k.reason, None) for k in actions.kill))
        await self._remove_old_attempts(runtime)
        if not (actions.create_sandbox or actions.start or actions.start_init or actions.start_ephemeral):
            return None
        config = container_config.sandbox_config(pod, actions.attempt, self._dns_of(pod), self.node)
        sandbox_id, ips = actions.sandbox_id, runtime.sandboxes[0].ips if runtime.sandboxes else ()
        if actions.create_sandbox:
            sandbox_id, ips = await self._create_sandbox(pod, config)
        for name in [*actions.start_ephemeral, *actions.start_init, *actions.start]:
            container = pod_spec.find_container(pod, name)
            if container is None:
                continue
            try:
                await self._start(pod, container, runtime, sandbox_id, config, ips)
                self.waiting.setdefault(uid, {}).pop(name, None)
            except StartError as error:
                self.waiting.setdefault(uid, {})[name] = (error.reason, error.message)
                retries.append(error.retry_after_s)
                log.v(2, "Container start failed", pod=pod_spec.key(pod), container=name, err=error)
                if name in actions.start_init:
                    break
        known = [delay for delay in retries if delay is not None]
        return None if not retries else min(known) if len(known) == len(retries) else min([*known, 10.0])

    async def _create_sandbox(self, pod: pod_spec.Pod, config: api_pb2.PodSandboxConfig) -> tuple[str, tuple[str, ...]]:
        Path(config.log_directory).mkdir(parents=True, exist_ok=True)
        try:
            sandbox_id = await self._cri.run_sandbox(config)
            status = await self._cri.sandbox_status(sandbox_id)
        except CriError as error:
            text = f"Failed to create pod sandbox: {error}"
            self._recorder.pod(pod, WARNING, "FailedCreatePodSandBox", text)
            raise StartError("CreatePodSandboxError", text) from error
        ips = tuple(ip for ip in (status.network.ip, *(e.ip for e in status.network.additional_ips)) if ip)
        log.v(2, "Created pod sandbox", pod=pod_spec.key(pod), sandbox=sandbox_id, ips=",".join(ips))
        return sandbox_id, ips

    async def _start(
        self,
        pod: pod_spec.Pod,
        container: dict[str, Any],
        runtime: PodRuntime,
        sandbox_id: str,
        config: api_pb2.PodSandboxConfig,
        ips: tuple[str, ...],
    ) -> None:
        """One container from image to postStart. Raises StartError."""
        name = container["name"]
        latest = runtime.latest(name)
        self._check_backoff(pod, container, latest)
        try:
            image = await self._images.ensure(pod, container, config)
        except StartError as error:
            self._recorder.pod(pod, WARNING, "Failed", f"Error: {error.reason}", name)
            raise
        attempt = latest.restart_count + 1 if latest is not None else attempts_in_logs(config.log_directory, name)
        try:
            variables = await self._environment_of(pod, container, ips)
            container_config.verify_run_as_non_root(pod, container, image.uid, image.user)
            mounts = await self._mounts_of(pod, container, ips, variables, attempt)
        except (environment.InvalidEnvironment, container_config.InvalidContainer, OSError) as error:
            self._recorder.pod(pod, WARNING, "Failed", f"Error: {error}", name)
            raise StartError("CreateContainerConfigError", str(error)) from error
        target = container.get("targetContainerName")
        target_container = runtime.latest(target) if target else None
        inputs = container_config.ContainerInputs(
            image.ref, attempt, variables, mounts, image.uid, image.user, target_container.id if target_container else ""
        )
        message = container_config.container_config(pod, container, inputs, self.node)
        (Path(config.log_directory) / name).mkdir(parents=True, exist_ok=True)
        try:
            container_id = await self._cri.create_container(sandbox_id, message, config)
        except CriError as error:
            self._recorder.pod(pod, WARNING, "Failed", f"Error: {error.message}", name)
            raise StartError("CreateContainerError", error.message) from error
        self._recorder.pod(pod, NORMAL, "Created", event_texts.created(self._release, name), name)
        hook = (container.get("lifecycle") or {}).get("postStart")
        if hook:
            self.starting.add(container_id)
        try:
            try:
                await self._cri.start_container(container_id)
            except CriError as error:
                self._recorder.pod(pod, WARNING, "Failed", f"Error: {error.message}", name)
                raise StartError("RunContainerError", error.message) from error
            self._recorder.pod(pod, NORMAL, "Started", event_texts.started(self._release, name), name)
            self._link_log(pod, name, container_id, f"{config.log_directory}/{name}/{attempt}.log")
            if hook:
                await self._post_start(pod, container, container_id, hook, ips)
        finally:
            self.starting.discard(container_id)

    async def _post_start(self, pod: pod_spec.Pod, container: dict[str, Any], container_id: str, hook: dict[str, Any], ips: tuple[str, ...]) -> None:
        try:
            await lifecycle_hooks.run(self._cri, container_id, pod, container, hook, ips[0] if ips else "127.0.0.1")
        except lifecycle_hooks.HookError as error:
            text = f"PostStartHook failed: {error}" if self._release >= (1, 32) else str(error)
            self._recorder.pod(pod, WARNING, "FailedPostStartHook", text, container["name"])
            running = Container(container_id, container["name"], ContainerState.RUNNING)
            await self._kill_container(pod, running, "FailedPostStartHook", "FailedPostStartHook", None)
            raise StartError("PostStartHookError", str(error)) from error

    def _check_backoff(self, pod: pod_spec.Pod, container: dict[str, Any], latest: Container | None) -> None:
        if latest is None or latest.state is not ContainerState.EXITED:
            return
        name = container["name"]
        key = f"{pod_spec.uid(pod)}/{name}/{pod_spec.container_hash(container)}"
        now = self._clock.wall()
        remaining_s = self._backoff.remaining_s(key, latest.finished_at, now)
        if remaining_s > 0:
            described = pod_spec.described(pod)
            self._recorder.pod(pod, WARNING, "BackOff", event_texts.restart_back_off(name, described), name)
            raise StartError("CrashLoopBackOff", event_texts.crash_loop(self._backoff.delay_s(key), name, described), remaining_s)
        self._backoff.next(key, latest.finished_at, now)

    def _link_log(self, pod: pod_spec.Pod, name: str, container_id: str, log_path: str) -> None:
        """/var/log/containers/<pod>_<namespace>_<container>-<id>.log, where log collectors look."""
        directory = Path(self.node.pod_logs_dir).parent / "containers"
        link = directory / f"{pod_spec.name(pod)}_{pod_spec.namespace(pod)}_{name}-{container_id}.log"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(log_path)
        except OSError as error:
            log.error("Failed to create legacy symbolic link", err=error, path=str(link))

    # Taking down

    async def kill(self, pod: pod_spec.Pod | None, runtime: PodRuntime, grace_s: int | None) -> None:
        """Stop all containers (sidecars last), then the sandboxes. `grace_s` overrides the pod's own period. Raises CriError."""
        running = runtime.running()
        sidecar_order = [c["name"] for c in pod_spec.init_containers(pod) if pod_spec.is_sidecar(c)] if pod is not None else []
        ordinary = [c for c in running if c.name not in sidecar_order]
        await asyncio.gather(*(self._kill_container(pod, c, "", "", grace_s) for c in ordinary))
        for name in reversed(sidecar_order):
            # Sidecars go in reverse order, each when all that may need it is gone.
            for sidecar in (c for c in running if c.name == name):
                await self._kill_container(pod, sidecar, "", "", grace_s)
        for sandbox in runtime.sandboxes:
            await self._cri.stop_sandbox(sandbox.id)

    async def _kill_container(self, pod: pod_spec.Pod | None, container: Container, message: str, reason: str, grace_override_s: int | None) -> None:
        spec = pod_spec.find_container(pod, container.name) if pod is not None else None
        if spec is None:
            spec = container_config.restore_container(container)
        grace_s = self._grace_s(pod, container, spec, reason) if grace_override_s is None else grace_override_s
        text = message or f"Stopping container {container.name}"
        if pod is not None:
            self._recorder.pod(pod, NORMAL, "Killing", text, container.name)
        hook = (spec.get("lifecycle") or {}).get("preStop")
        if hook and grace_s > 0 and container.state is ContainerState.RUNNING:
            grace_s -= await self._pre_stop(pod, spec, container, hook, grace_s)
        # However long the hook took, the container gets a moment.
        grace_s = max(grace_s, MINIMUM_GRACE_S)
        log.v(2, "Killing container with a grace period", pod=pod_spec.key(pod) if pod else "", container=container.name, gracePeriod=grace_s)
        try:
            await self._cri.stop_container(container.id, grace_s)
        except CriError as error:
            if error.code != "NotFound":
                raise

    def _grace_s(self, pod: pod_spec.Pod | None, container: Container, spec: dict[str, Any], reason: str) -> int:
        field = {"LivenessProbe": "livenessProbe", "StartupProbe": "startupProbe"}.get(reason)
        probe = spec.get(field) if field else None
        if probe and probe.get("terminationGracePeriodSeconds") is not None:
            return int(probe["terminationGracePeriodSeconds"])
        if pod is not None:
            return pod_spec.grace_period_s(pod)
        for name in ("deletionGracePeriod", "terminationGracePeriod"):
            value = container.annotations.get(f"io.kubernetes.pod.{name}")
            if value:
                return int(value)
        return MINIMUM_GRACE_S

    async def _pre_stop(self, pod: pod_spec.Pod | None, spec: dict[str, Any], container: Container, hook: dict[str, Any], grace_s: int) -> int:
        """Run the hook within the grace period; answers the seconds it took."""
        began = self._clock.monotonic()
        ip = "127.0.0.1"
        status = (pod or {}).get("status") or {}
        if pod is not None and not pod_spec.host_network(pod):
            ip = status.get("podIP") or ip
        try:
            async with asyncio.timeout(grace_s):
                await lifecycle_hooks.run(self._cri, container.id, pod or {}, spec, hook, ip)
        except TimeoutError:
            log.info("PreStop hook not completed in grace period", container=container.name, gracePeriod=grace_s)
        except lifecycle_hooks.HookError as error:
            if pod is not None:
                text = f"PreStopHook failed: {error}" if self._release >= (1, 32) else str(error)
                self._recorder.pod(pod, WARNING, "FailedPreStopHook", text, container.name)
        return int(self._clock.monotonic() - began)

    # Tidying

    async def _remove_old_attempts(self, runtime: PodRuntime) -> None:
        """Keep the newest dead attempts of each container only, and no sandbox but the newest."""
        by_name: dict[str, int] = {}
        removed: set[str] = set()
        for container in runtime.containers:
            if container.state is not ContainerState.EXITED:
                continue
            by_name[container.name] = by_name.get(container.name, 0) + 1
            if by_name[container.name] > DEAD_ATTEMPTS_KEPT:
                await self.remove_container(container)
                removed.add(container.id)
        for sandbox in runtime.sandboxes[1:]:
            if not any(c.sandbox_id == sandbox.id and c.id not in removed for c in runtime.containers):
                await self._ignore_missing(self._cri.remove_sandbox(sandbox.id))

    async def remove_container(self, container: Container) -> None:
        """The container, its log and the link to it."""
        await self._ignore_missing(self._cri.remove_container(container.id))
        if container.log_path:
            for path in [Path(container.log_path), *Path(container.log_path).parent.glob(f"{Path(container.log_path).name}.*")]:
                path.unlink(missing_ok=True)
        for link in (Path(self.node.pod_logs_dir).parent / "containers").glob(f"*-{container.id}.log"):
            link.unlink(missing_ok=True)

    async def remove_pod(self, runtime: PodRuntime, log_directory: str) -> None:
        """Everything the runtime and the log directory keep of a pod that is gone."""
        for container in runtime.containers:
            await self.remove_container(container)
        for sandbox in runtime.sandboxes:
            await self._ignore_missing(self._cri.stop_sandbox(sandbox.id))
            await self._ignore_missing(self._cri.remove_sandbox(sandbox.id))
        if log_directory:
            import shutil

            shutil.rmtree(log_directory, ignore_errors=True)

    async def _ignore_missing(self, call: Awaitable[None]) -> None:
        try:
            await call
        except CriError as error:
            if error.code != "NotFound":
                log.error("Failed to remove from the runtime", err=error)


def attempts_in_logs(log_directory: str, container: str) -> int:
    """The restart count to go on with when the runtime forgot the container but its logs are there."""
    try:
        names = os.listdir(f"{log_directory}/{container}")
    except OSError:
        return 0
    numbers = [int(n.partition(".")[0]) for n in names if ".log" in n and n.partition(".")[0].isdigit()]
    return max(numbers) + 1 if numbers else 0
