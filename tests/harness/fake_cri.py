"""A small container runtime for tests of the kubelet: CRI over a unix socket, containers are plain child processes of this one.

No namespaces, no images: any image exists unless its name contains "missing"; a container runs its command (`image` without one sleeps).
A sandbox's address is of 127.0.0.0/8, so that probes reach a server the test starts. Run it as a program: `python fake_cri.py SOCKET`.
"""

import asyncio
import itertools
import os
import signal
import sys
import time
from typing import Any

import grpc

from kubette.cri import api_pb2, services


class FakeRuntime:
    """All state in dictionaries; methods are named like the RPCs."""

    def __init__(self) -> None:
        self.sandboxes: dict[str, Any] = {}
        self.containers: dict[str, Any] = {}
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.images: dict[str, int] = {}
        self.listeners: set[asyncio.Queue[Any]] = set()
        self.pod_cidr = ""
        self._ids = itertools.count(1)
        self._tasks: set[asyncio.Task[Any]] = set()

    def _emit(self, container: Any, kind: int) -> None:
        sandbox = self.sandboxes.get(container["sandbox"])
        event = api_pb2.ContainerEventResponse(container_id=container["status"].id, container_event_type=kind, created_at=time.time_ns())
        if sandbox:
            event.pod_sandbox_status.CopyFrom(sandbox["status"])
        for queue in self.listeners:
            queue.put_nowait(event)

    async def Version(self, request, context):
        return api_pb2.VersionResponse(version="0.1.0", runtime_name="containerd", runtime_version="2.0.0-fake", runtime_api_version="v1")

    async def Status(self, request, context):
        ready = bool(self.pod_cidr)
        answer = api_pb2.StatusResponse()
        answer.status.conditions.add(type="RuntimeReady", status=True)
        why = ("", "") if ready else ("NetworkPluginNotReady", "Network plugin returns error: cni plugin not initialized")
        answer.status.conditions.add(type="NetworkReady", status=ready, reason=why[0], message=why[1])
        return answer

    async def UpdateRuntimeConfig(self, request, context):
        self.pod_cidr = request.runtime_config.network_config.pod_cidr
        return api_pb2.UpdateRuntimeConfigResponse()

    async def RuntimeConfig(self, request, context):
        return api_pb2.RuntimeConfigResponse()

    async def RunPodSandbox(self, request, context):
        number = next(self._ids)
        config = request.config
        status = api_pb2.PodSandboxStatus(id=f"{number:064x}", metadata=config.metadata, state=api_pb2.SANDBOX_READY, created_at=time.time_ns())
        status.labels.update(config.labels)
        status.annotations.update(config.annotations)
        status.linux.namespaces.options.CopyFrom(config.linux.security_context.namespace_options)
        if config.linux.security_context.namespace_options.network != api_pb2.NODE:
            status.network.ip = f"127.10.{number // 250}.{number % 250 + 1}"
        self.sandboxes[status.id] = {"status": status, "config": config}
        return api_pb2.RunPodSandboxResponse(pod_sandbox_id=status.id)

    async def StopPodSandbox(self, request, context):
        if sandbox := self.sandboxes.get(request.pod_sandbox_id):
            for container in list(self.containers.values()):
                if container["sandbox"] == request.pod_sandbox_id:
                    await self._stop(container, 0)
            sandbox["status"].state = api_pb2.SANDBOX_NOTREADY
        return api_pb2.StopPodSandboxResponse()

    async def RemovePodSandbox(self, request, context):
        await self.StopPodSandbox(api_pb2.StopPodSandboxRequest(pod_sandbox_id=request.pod_sandbox_id), context)
        for key in [k for k, c in self.containers.items() if c["sandbox"] == request.pod_sandbox_id]:
            del self.containers[key]
        self.sandboxes.pop(request.pod_sandbox_id, None)
        return api_pb2.RemovePodSandboxResponse()

    async def PodSandboxStatus(self, request, context):
        if request.pod_sandbox_id not in self.sandboxes:
            await context.abort(grpc.StatusCode.NOT_FOUND, "an error occurred when try to find sandbox: not found")
        return api_pb2.PodSandboxStatusResponse(status=self.sandboxes[request.pod_sandbox_id]["status"])

    async def ListPodSandbox(self, request, context):
        items = []
        for sandbox in self.sandboxes.values():
            status = sandbox["status"]
            if all(status.labels.get(k) == v for k, v in request.filter.label_selector.items()):
                items.append(
                    api_pb2.PodSandbox(id=status.id, metadata=status.metadata, state=status.state, created_at=status.created_at, labels=status.labels)
                )
        return api_pb2.ListPodSandboxResponse(items=items)

    async def CreateContainer(self, request, context):
        config = request.config
        status = api_pb2.ContainerStatus(
            id=f"{next(self._ids):064x}",
            metadata=config.metadata,
            state=api_pb2.CONTAINER_CREATED,
            created_at=time.time_ns(),
            image=config.image,
            image_ref=config.image.image,
            log_path=os.path.join(request.sandbox_config.log_directory, config.log_path),
            mounts=config.mounts,
        )
        status.labels.update(config.labels)
        status.annotations.update(config.annotations)
        container = self.containers[status.id] = {"status": status, "config": config, "sandbox": request.pod_sandbox_id, "exited": asyncio.Event()}
        self._emit(container, api_pb2.CONTAINER_CREATED_EVENT)
        return api_pb2.CreateContainerResponse(container_id=status.id)

    async def StartContainer(self, request, context):
        container = self.containers[request.container_id]
        config, status = container["config"], container["status"]
        command = [*config.command, *config.args] or ["sleep", "1000000"]
        environment = {**os.environ, **{e.key: e.value.decode() for e in config.envs}}
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment, start_new_session=True
            )
        except OSError as error:
            status.state, status.exit_code, status.reason = api_pb2.CONTAINER_EXITED, 128, "StartError"
            status.finished_at = time.time_ns()
            await context.abort(grpc.StatusCode.UNKNOWN, f'failed to create containerd task: exec: "{command[0]}": {error.strerror}')
        self.processes[status.id] = process
        status.state, status.started_at = api_pb2.CONTAINER_RUNNING, time.time_ns()
        self._emit(container, api_pb2.CONTAINER_STARTED_EVENT)
        task = asyncio.get_running_loop().create_task(self._follow(container, process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return api_pb2.StartContainerResponse()

    async def _follow(self, container, process):
        status = container["status"]
        with open(status.log_path, "ab", buffering=0) as log:
            async for line in process.stdout:
                stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() % 10**9:09d}Z"
                log.write(f"{stamp} stdout F ".encode() + line.rstrip(b"\n") + b"\n")
        code = await process.wait()
        status.exit_code = 128 - code if code < 0 else code
        status.reason = "Completed" if code == 0 else "Error"
        status.finished_at, status.state = time.time_ns(), api_pb2.CONTAINER_EXITED
        container["exited"].set()
        self._emit(container, api_pb2.CONTAINER_STOPPED_EVENT)

    async def _stop(self, container, timeout):
        process = self.processes.get(container["status"].id)
        if process is None or container["status"].state != api_pb2.CONTAINER_RUNNING:
            return
        if timeout > 0:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(container["exited"].wait(), timeout)
                return
            except TimeoutError:
                pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        await container["exited"].wait()

    async def StopContainer(self, request, context):
        if container := self.containers.get(request.container_id):
            await self._stop(container, request.timeout)
        return api_pb2.StopContainerResponse()

    async def RemoveContainer(self, request, context):
        if container := self.containers.get(request.container_id):
            await self._stop(container, 0)
            self.containers.pop(request.container_id, None)
            self._emit(container, api_pb2.CONTAINER_DELETED_EVENT)
        return api_pb2.RemoveContainerResponse()

    async def ListContainers(self, request, context):
        found = []
        for container in self.containers.values():
            status = container["status"]
            if all(status.labels.get(k) == v for k, v in request.filter.label_selector.items()):
                found.append(
                    api_pb2.Container(
                        id=status.id,
                        pod_sandbox_id=container["sandbox"],
                        metadata=status.metadata,
                        image=status.image,
                        image_ref=status.image_ref,
                        state=status.state,
                        created_at=status.created_at,
                        labels=status.labels,
                        annotations=status.annotations,
                    )
                )
        return api_pb2.ListContainersResponse(containers=found)

    async def ContainerStatus(self, request, context):
        if request.container_id not in self.containers:
            await context.abort(grpc.StatusCode.NOT_FOUND, "not found")
        return api_pb2.ContainerStatusResponse(status=self.containers[request.container_id]["status"])

    async def ReopenContainerLog(self, request, context):
        return api_pb2.ReopenContainerLogResponse()

    async def ExecSync(self, request, context):
        process = await asyncio.create_subprocess_exec(*request.cmd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        out, err = await process.communicate()
        return api_pb2.ExecSyncResponse(stdout=out, stderr=err, exit_code=process.returncode)

    async def ListContainerStats(self, request, context):
        return api_pb2.ListContainerStatsResponse()

    async def ListPodSandboxStats(self, request, context):
        return api_pb2.ListPodSandboxStatsResponse()

    async def GetContainerEvents(self, request, context):
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self.listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.listeners.discard(queue)

    async def ListImages(self, request, context):
        return api_pb2.ListImagesResponse(images=[self._image(name) for name in self.images])

    def _image(self, name):
        return api_pb2.Image(id=f"sha256:{name}", repo_tags=[name], size=1000)

    async def ImageStatus(self, request, context):
        name = request.image.image.removeprefix("sha256:")
        return api_pb2.ImageStatusResponse(image=self._image(name)) if name in self.images else api_pb2.ImageStatusResponse()

    async def PullImage(self, request, context):
        name = request.image.image
        if "missing" in name:
            await context.abort(grpc.StatusCode.NOT_FOUND, f'failed to pull and unpack image "{name}": not found')
        self.images[name] = 1
        return api_pb2.PullImageResponse(image_ref=f"sha256:{name}")

    async def RemoveImage(self, request, context):
        self.images.pop(request.image.image.removeprefix("sha256:"), None)
        return api_pb2.RemoveImageResponse()

    async def ImageFsInfo(self, request, context):
        return api_pb2.ImageFsInfoResponse()

    async def close(self) -> None:
        for container in list(self.containers.values()):
            await self._stop(container, 0)


async def start(socket: str) -> tuple[Any, FakeRuntime]:
    """A serving runtime on a unix socket."""
    runtime = FakeRuntime()
    server = grpc.aio.server()
    for service in (services.RUNTIME_SERVICE, services.IMAGE_SERVICE):
        handlers = {}
        for method in services.methods(service):
            implementation = getattr(runtime, method.name, None)
            if implementation is None:
                continue
            make = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
            handlers[method.name] = make(implementation, method.request.FromString, method.response.SerializeToString)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"unix://{socket}")
    await server.start()
    return server, runtime


async def _main(socket: str) -> None:
    server, runtime = await start(socket)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runtime.close()
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
