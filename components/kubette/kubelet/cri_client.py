"""The container runtime as the kubelet sees it: CRI calls with timeouts, errors in gRPC's Go words (upstream's cri-client).

Every call names its limit; a pull is limited by its progress, not by the clock. Nothing here retries: the pod's next sync does.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from kubette.cri import api_pb2, services
from kubette.kubelet.runtime_state import Container, ContainerState, PodRuntime, Sandbox

MESSAGE_BYTES_MAX = 16 << 20  # upstream's maxMsgSize
CALL_TIMEOUT_S = 120.0
PULL_TIMEOUT_S = 3600.0
POD_UID_LABEL = "io.kubernetes.pod.uid"
_CODE_NAMES = {"CANCELLED": "Canceled"}
_STATES = (ContainerState.CREATED, ContainerState.RUNNING, ContainerState.EXITED, ContainerState.UNKNOWN)


class CriError(Exception):
    """The runtime answered with an error; `code` is gRPC's name (`NotFound`, `Unavailable`)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"rpc error: code = {code} desc = {message}")
        self.code, self.message = code, message


def _error(error: grpc.RpcError) -> CriError:
    name = error.code().name  # type: ignore[attr-defined]
    code = _CODE_NAMES.get(name) or "".join(part.capitalize() for part in name.split("_"))
    return CriError(code, str(error.details() or ""))  # type: ignore[attr-defined]


class CriClient:
    """Both services over one channel; use as an async context manager."""

    def __init__(self, endpoint: str, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._channel: Any = None
        self._runtime: Any = None
        self._images: Any = None

    async def __aenter__(self) -> "CriClient":
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.enable_http_proxy", 0),
        ]
        self._channel = grpc.aio.insecure_channel(self.endpoint, options=options)
        self._runtime = services.Stub(self._channel, services.RUNTIME_SERVICE)
        self._images = services.Stub(self._channel, services.IMAGE_SERVICE)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def _call(self, method: Any, request: Any, timeout_s: float = 0) -> Any:
        try:
            return await method(request, timeout=timeout_s or self._timeout_s)
        except grpc.RpcError as error:
            raise _error(error) from error

    # The runtime itself

    async def version(self) -> api_pb2.VersionResponse:
        answer: api_pb2.VersionResponse = await self._call(self._runtime.Version, api_pb2.VersionRequest(version="v1"), 5)
        return answer

    async def status(self) -> dict[str, tuple[bool, str, str]]:
        """Condition type -> (status, reason, message)."""
        answer = await self._call(self._runtime.Status, api_pb2.StatusRequest(), 10)
        return {c.type: (c.status, c.reason, c.message) for c in answer.status.conditions}

    async def uses_cgroups(self) -> str:
        """The cgroup driver (`systemd`, `cgroupfs`) or nothing when the runtime does not say one."""
        try:
            answer = await self._call(self._runtime.RuntimeConfig, api_pb2.RuntimeConfigRequest(), 10)
        except CriError as error:
            if error.code == "Unimplemented":
                return ""
            raise
        if not answer.HasField("linux"):
            return ""
        return "cgroupfs" if answer.linux.cgroup_driver == api_pb2.CGROUPFS else "systemd"

    async def update_pod_cidr(self, pod_cidr: str) -> None:
        config = api_pb2.RuntimeConfig(network_config=api_pb2.NetworkConfig(pod_cidr=pod_cidr))
        await self._call(self._runtime.UpdateRuntimeConfig, api_pb2.UpdateRuntimeConfigRequest(runtime_config=config), 10)

    async def events(self) -> AsyncIterator[api_pb2.ContainerEventResponse]:
        """The stream of container events; ends or raises when the runtime goes."""
        try:
            async for event in self._runtime.GetContainerEvents(api_pb2.GetEventsRequest()):
                yield event
        except grpc.RpcError as error:
            raise _error(error) from error

    # Sandboxes and containers

    async def run_sandbox(self, config: api_pb2.PodSandboxConfig, runtime_handler: str = "") -> str:
        request = api_pb2.RunPodSandboxRequest(config=config, runtime_handler=runtime_handler)
        return str((await self._call(self._runtime.RunPodSandbox, request, 2 * self._timeout_s)).pod_sandbox_id)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        await self._call(self._runtime.StopPodSandbox, api_pb2.StopPodSandboxRequest(pod_sandbox_id=sandbox_id))

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self._call(self._runtime.RemovePodSandbox, api_pb2.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id))

    async def create_container(self, sandbox_id: str, config: api_pb2.ContainerConfig, sandbox: api_pb2.PodSandboxConfig) -> str:
        request = api_pb2.CreateContainerRequest(pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox)
        return str((await self._call(self._runtime.CreateContainer, request)).container_id)

    async def start_container(self, container_id: str) -> None:
        await self._call(self._runtime.StartContainer, api_pb2.StartContainerRequest(container_id=container_id))

    async def stop_container(self, container_id: str, grace_s: int) -> None:
        request = api_pb2.StopContainerRequest(container_id=container_id, timeout=grace_s)
        await self._call(self._runtime.StopContainer, request, self._timeout_s + grace_s)

    async def remove_container(self, container_id: str) -> None:
        await self._call(self._runtime.RemoveContainer, api_pb2.RemoveContainerRequest(container_id=container_id))

    async def reopen_log(self, container_id: str) -> None:
        await self._call(self._runtime.ReopenContainerLog, api_pb2.ReopenContainerLogRequest(container_id=container_id))

    async def list_sandboxes(self, uid: str = "") -> list[api_pb2.PodSandbox]:
        chosen = api_pb2.PodSandboxFilter(label_selector={POD_UID_LABEL: uid}) if uid else None
        return list((await self._call(self._runtime.ListPodSandbox, api_pb2.ListPodSandboxRequest(filter=chosen))).items)

    async def list_containers(self, uid: str = "") -> list[api_pb2.Container]:
        chosen = api_pb2.ContainerFilter(label_selector={POD_UID_LABEL: uid}) if uid else None
        return list((await self._call(self._runtime.ListContainers, api_pb2.ListContainersRequest(filter=chosen))).containers)

    async def container_status(self, container_id: str) -> api_pb2.ContainerStatus:
        answer = await self._call(self._runtime.ContainerStatus, api_pb2.ContainerStatusRequest(container_id=container_id))
        status: api_pb2.ContainerStatus = answer.status
        return status

    async def sandbox_status(self, sandbox_id: str) -> api_pb2.PodSandboxStatus:
        answer = await self._call(self._runtime.PodSandboxStatus, api_pb2.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id))
        status: api_pb2.PodSandboxStatus = answer.status
        return status

    async def pod(self, uid: str) -> PodRuntime:
        """Everything about one pod, newest first. What disappears while we ask is left out."""
        sandboxes, containers = await asyncio.gather(self.list_sandboxes(uid), self.list_containers(uid))
        sandbox_states = await asyncio.gather(*(self._or_gone(self.sandbox_status(s.id)) for s in sandboxes))
        container_states = await asyncio.gather(*(self._or_gone(self.container_status(c.id)) for c in containers))
        parents = {c.id: c.pod_sandbox_id for c in containers}
        name = sandboxes[0].metadata.name if sandboxes else ""
        namespace = sandboxes[0].metadata.namespace if sandboxes else ""
        return PodRuntime(
            uid,
            name,
            namespace,
            tuple(sorted((_sandbox(s) for s in sandbox_states if s is not None), key=lambda s: (s.created_at, s.attempt), reverse=True)),
            tuple(
                sorted(
                    (_container(c, parents[c.id]) for c in container_states if c is not None),
                    key=lambda c: (c.created_at, c.restart_count),
                    reverse=True,
                )
            ),
        )

    async def _or_gone(self, call: Any) -> Any:
        try:
            return await call
        except CriError as error:
            if error.code == "NotFound":
                return None
            raise

    # Streaming and exec

    async def exec_sync(self, container_id: str, command: list[str], timeout_s: float) -> tuple[int, bytes]:
        """Exit code and output. A command that takes longer is killed by the runtime and raises DeadlineExceeded."""
        request = api_pb2.ExecSyncRequest(container_id=container_id, cmd=command, timeout=max(1, int(timeout_s)))
        answer = await self._call(self._runtime.ExecSync, request, timeout_s + 10)
        return int(answer.exit_code), bytes(answer.stdout) + bytes(answer.stderr)

    async def exec_url(self, container_id: str, command: list[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        request = api_pb2.ExecRequest(container_id=container_id, cmd=command, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr)
        return str((await self._call(self._runtime.Exec, request)).url)

    async def attach_url(self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        request = api_pb2.AttachRequest(container_id=container_id, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr)
        return str((await self._call(self._runtime.Attach, request)).url)

    async def port_forward_url(self, sandbox_id: str, ports: list[int]) -> str:
        request = api_pb2.PortForwardRequest(pod_sandbox_id=sandbox_id, port=ports)
        return str((await self._call(self._runtime.PortForward, request)).url)

    # Statistics

    async def container_stats(self) -> list[api_pb2.ContainerStats]:
        return list((await self._call(self._runtime.ListContainerStats, api_pb2.ListContainerStatsRequest())).stats)

    async def sandbox_stats(self) -> list[api_pb2.PodSandboxStats]:
        """Network figures by pod; a runtime that has none answers nothing."""
        try:
            return list((await self._call(self._runtime.ListPodSandboxStats, api_pb2.ListPodSandboxStatsRequest())).stats)
        except CriError as error:
            if error.code == "Unimplemented":
                return []
            raise

    # Images

    async def images(self) -> list[api_pb2.Image]:
        return list((await self._call(self._images.ListImages, api_pb2.ListImagesRequest())).images)

    async def image(self, reference: str) -> api_pb2.Image | None:
        answer = await self._call(self._images.ImageStatus, api_pb2.ImageStatusRequest(image=api_pb2.ImageSpec(image=reference)))
        return answer.image if answer.HasField("image") and answer.image.id else None

    async def pull(self, reference: str, auth: api_pb2.AuthConfig | None, sandbox: api_pb2.PodSandboxConfig | None) -> str:
        spec = api_pb2.ImageSpec(image=reference, user_specified_image=reference)
        request = api_pb2.PullImageRequest(image=spec, auth=auth, sandbox_config=sandbox)
        return str((await self._call(self._images.PullImage, request, PULL_TIMEOUT_S)).image_ref)

    async def remove_image(self, reference: str) -> None:
        await self._call(self._images.RemoveImage, api_pb2.RemoveImageRequest(image=api_pb2.ImageSpec(image=reference)))


def _sandbox(status: api_pb2.PodSandboxStatus) -> Sandbox:
    network = status.network
    ips = tuple(ip for ip in (network.ip, *(extra.ip for extra in network.additional_ips)) if ip)
    on_node = status.linux.namespaces.options.network == api_pb2.NODE
    return Sandbox(status.id, status.metadata.attempt, status.state == api_pb2.SANDBOX_READY, status.created_at / 1e9, ips, on_node)


def _container(status: api_pb2.ContainerStatus, sandbox_id: str) -> Container:
    annotations = dict(status.annotations)
    state = _STATES[min(status.state, 3)]
    message = status.message
    if state is ContainerState.EXITED:
        message = termination_message(status, annotations) or message
    user = status.user.linux if status.HasField("user") and status.user.HasField("linux") else None
    return Container(
        id=status.id,
        name=status.metadata.name,
        state=state,
        sandbox_id=sandbox_id,
        created_at=status.created_at / 1e9,
        started_at=status.started_at / 1e9,
        finished_at=status.finished_at / 1e9,
        exit_code=status.exit_code,
        image=status.image.user_specified_image or status.image.image,
        image_id=status.image_ref,
        reason=status.reason,
        message=message,
        restart_count=int(annotations.get("io.kubernetes.container.restartCount") or 0),
        spec_hash=annotations.get("io.kubernetes.container.hash", ""),
        log_path=status.log_path,
        annotations=annotations,
        uid=user.uid if user else None,
        gid=user.gid if user else None,
    )


TERMINATION_MESSAGE_BYTES_MAX = 4096
FALLBACK_BYTES_MAX, FALLBACK_LINES_MAX = 2048, 80


def termination_message(status: api_pb2.ContainerStatus, annotations: dict[str, str]) -> str:
    """What the container wrote to its terminationMessagePath, or with FallbackToLogsOnError the end of its log."""
    path = annotations.get("io.kubernetes.container.terminationMessagePath")
    text = ""
    if path:
        for mount in status.mounts:
            if mount.container_path == path:
                try:
                    with open(mount.host_path, "rb") as file:
                        file.seek(max(0, file.seek(0, 2) - TERMINATION_MESSAGE_BYTES_MAX))
                        text = file.read(TERMINATION_MESSAGE_BYTES_MAX).decode(errors="replace")
                except OSError as error:
                    text = f"Error on reading termination log {mount.host_path}: {error.strerror}"
    fallback = annotations.get("io.kubernetes.container.terminationMessagePolicy") == "FallbackToLogsOnError"
    if not text and fallback and status.exit_code != 0 and status.log_path:
        from kubette.kubelet import cri_logs

        try:
            with open(status.log_path, "rb") as file:
                file.seek(max(0, file.seek(0, 2) - 4 * FALLBACK_BYTES_MAX))
                raw = file.read().split(b"\n")[-FALLBACK_LINES_MAX:]
        except OSError:
            return ""
        lines = [line.text for line in map(cri_logs.parse, raw) if line is not None]
        text = b"".join(lines)[-FALLBACK_BYTES_MAX:].decode(errors="replace")
    return text
