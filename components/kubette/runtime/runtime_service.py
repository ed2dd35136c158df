"""runtime.v1.RuntimeService: each call found, carried out, and answered with containerd's errors.

The class holds no state of its own: it joins sandboxes, containers, network, sessions and statistics. Streaming calls only hand out addresses of the
streaming server.
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from kubette.component_base import logs
from kubette.cri import api_pb2
from kubette.runtime import config as settings_module
from kubette.runtime import containers, events, pod_network, records, sandboxes, sessions, stats, streaming
from kubette.runtime.errors import CriError
from kubette.stdx import clock

log = logs.logger(__name__)


def _selected(labels: dict[str, str], selector: Any) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


class RuntimeService:
    """Methods are named as in api.proto; each takes and answers messages. Streaming methods are async generators."""

    def __init__(
        self,
        pods: sandboxes.Sandboxes,
        units: containers.Containers,
        network: pod_network.PodNetwork,
        broadcast: events.Broadcast,
        server: streaming.Server,
        now: clock.Clock,
        init_connected: Callable[[], bool],
        enforced: list[str],
    ) -> None:
        self._sandboxes = pods
        self._containers = units
        self._network = network
        self._events = broadcast
        self._streaming = server
        self._clock = now
        self._init_connected = init_connected
        self._enforced = enforced
        self._stats = stats.Collector(now)
        self._starting: set[str] = set()  # containers whose StartContainer is under way

    # -- the runtime itself

    async def Version(self, request: api_pb2.VersionRequest) -> api_pb2.VersionResponse:
        return api_pb2.VersionResponse(
            version="0.1.0",
            runtime_name=settings_module.RUNTIME_NAME,
            runtime_version=settings_module.RUNTIME_VERSION,
            runtime_api_version=settings_module.API_VERSION,
        )

    async def Status(self, request: api_pb2.StatusRequest) -> api_pb2.StatusResponse:
        runtime = api_pb2.RuntimeCondition(type="RuntimeReady", status=self._init_connected())
        if not runtime.status:
            runtime.reason, runtime.message = "InitNotReady", "the machine's init does not answer"
        network = api_pb2.RuntimeCondition(type="NetworkReady", status=bool(self._network.pod_cidr()))
        if not network.status:
            network.reason, network.message = "NetworkPluginNotReady", pod_network.NOT_READY
        response = api_pb2.StatusResponse(
            status=api_pb2.RuntimeStatus(conditions=[runtime, network]),
            runtime_handlers=[api_pb2.RuntimeHandler(name=name, features=api_pb2.RuntimeHandlerFeatures()) for name in ("", "runc")],
            features=api_pb2.RuntimeFeatures(supplemental_groups_policy=False),
        )
        if request.verbose:
            response.info["config"] = json.dumps({"podCIDR": self._network.pod_cidr(), "enforcedLimits": self._enforced, "seccomp": "unsupported"})
        return response

    async def UpdateRuntimeConfig(self, request: api_pb2.UpdateRuntimeConfigRequest) -> api_pb2.UpdateRuntimeConfigResponse:
        self._network.set_pod_cidr(request.runtime_config.network_config.pod_cidr)
        return api_pb2.UpdateRuntimeConfigResponse()

    async def RuntimeConfig(self, request: api_pb2.RuntimeConfigRequest) -> api_pb2.RuntimeConfigResponse:
        return api_pb2.RuntimeConfigResponse(linux=api_pb2.LinuxRuntimeConfiguration(cgroup_driver=api_pb2.SYSTEMD))

    # -- sandboxes

    async def RunPodSandbox(self, request: api_pb2.RunPodSandboxRequest) -> api_pb2.RunPodSandboxResponse:
        sandbox_id = await self._sandboxes.run(request.config, request.runtime_handler)
        self._publish(sandbox_id, sandbox_id, api_pb2.CONTAINER_CREATED_EVENT)
        self._publish(sandbox_id, sandbox_id, api_pb2.CONTAINER_STARTED_EVENT)
        return api_pb2.RunPodSandboxResponse(pod_sandbox_id=sandbox_id)

    async def StopPodSandbox(self, request: api_pb2.StopPodSandboxRequest) -> api_pb2.StopPodSandboxResponse:
        sandbox = self._sandboxes.store.get(request.pod_sandbox_id)
        if sandbox is not None:
            was_ready = sandbox.status.ready
            for container in self._containers.of_sandbox(sandbox.id):
                await self._containers.stop(container, 0)
            await self._sandboxes.stop(sandbox)
            if was_ready:
                self._publish(sandbox.id, sandbox.id, api_pb2.CONTAINER_STOPPED_EVENT)
        return api_pb2.StopPodSandboxResponse()

    async def RemovePodSandbox(self, request: api_pb2.RemovePodSandboxRequest) -> api_pb2.RemovePodSandboxResponse:
        sandbox = self._sandboxes.store.get(request.pod_sandbox_id)
        if sandbox is not None:
            for container in self._containers.of_sandbox(sandbox.id):
                await self._containers.remove(container)
            await self._sandboxes.remove(sandbox)
            self._events.publish(
                api_pb2.ContainerEventResponse(
                    container_id=sandbox.id, container_event_type=api_pb2.CONTAINER_DELETED_EVENT, created_at=self._now_ns()
                )
            )
        return api_pb2.RemovePodSandboxResponse()

    async def PodSandboxStatus(self, request: api_pb2.PodSandboxStatusRequest) -> api_pb2.PodSandboxStatusResponse:
        sandbox = self._sandbox(request.pod_sandbox_id, "an error occurred when try to find sandbox")
        response = api_pb2.PodSandboxStatusResponse(
            status=self._sandboxes.status_message(sandbox),
            containers_statuses=[self._containers.status_message(c) for c in self._containers.of_sandbox(sandbox.id)],
            timestamp=self._now_ns(),
        )
        if request.verbose:
            info = {
                "pid": sandbox.status.pid,
                "processStatus": "running" if sandbox.status.ready else "deleted",
                "netNsClosed": not sandbox.status.network_namespace,
            }
            response.info["info"] = json.dumps(
                {**info, "runtimeType": "io.containerd.runc.v2", "unit": sandbox.unit, "netns": sandbox.status.network_namespace}
            )
        return response

    async def ListPodSandbox(self, request: api_pb2.ListPodSandboxRequest) -> api_pb2.ListPodSandboxResponse:
        wanted, items = request.filter, []
        for sandbox in self._sandboxes.store:
            if wanted.id and not sandbox.id.startswith(wanted.id):
                continue
            if wanted.HasField("state") and sandbox.state != wanted.state.state:
                continue
            if _selected(sandbox.labels, wanted.label_selector):
                items.append(self._sandboxes.list_message(sandbox))
        return api_pb2.ListPodSandboxResponse(items=items)

    async def UpdatePodSandboxResources(self, request: api_pb2.UpdatePodSandboxResourcesRequest) -> api_pb2.UpdatePodSandboxResourcesResponse:
        sandbox = self._sandbox(request.pod_sandbox_id, "failed to find sandbox")
        sandbox.config.linux.resources.CopyFrom(request.resources)
        sandbox.config.linux.overhead.CopyFrom(request.overhead)
        return api_pb2.UpdatePodSandboxResourcesResponse()

    # -- containers

    async def CreateContainer(self, request: api_pb2.CreateContainerRequest) -> api_pb2.CreateContainerResponse:
        sandbox = self._sandbox(request.pod_sandbox_id, f'failed to find sandbox id "{request.pod_sandbox_id}"')
        container_id = self._containers.create(sandbox, request.config, request.sandbox_config)
        self._publish(container_id, sandbox.id, api_pb2.CONTAINER_CREATED_EVENT)
        return api_pb2.CreateContainerResponse(container_id=container_id)

    async def StartContainer(self, request: api_pb2.StartContainerRequest) -> api_pb2.StartContainerResponse:
        container = self._container(request.container_id)
        self._starting.add(container.id)
        try:
            await self._containers.start(container)
            self._publish(container.id, container.status.sandbox_id, api_pb2.CONTAINER_STARTED_EVENT)
            if container.status.state == api_pb2.CONTAINER_EXITED:
                self._publish(container.id, container.status.sandbox_id, api_pb2.CONTAINER_STOPPED_EVENT)
        finally:
            self._starting.discard(container.id)
        return api_pb2.StartContainerResponse()

    async def StopContainer(self, request: api_pb2.StopContainerRequest) -> api_pb2.StopContainerResponse:
        container = self._containers.store.get(request.container_id)
        if container is not None:
            await self._containers.stop(container, request.timeout)
        return api_pb2.StopContainerResponse()

    async def RemoveContainer(self, request: api_pb2.RemoveContainerRequest) -> api_pb2.RemoveContainerResponse:
        container = self._containers.store.get(request.container_id)
        if container is not None:
            await self._containers.remove(container)
            self._publish(container.id, container.status.sandbox_id, api_pb2.CONTAINER_DELETED_EVENT)
        return api_pb2.RemoveContainerResponse()

    async def ListContainers(self, request: api_pb2.ListContainersRequest) -> api_pb2.ListContainersResponse:
        wanted, found = request.filter, []
        for container in self._containers.store:
            if wanted.id and not container.id.startswith(wanted.id):
                continue
            if wanted.pod_sandbox_id and not container.status.sandbox_id.startswith(wanted.pod_sandbox_id):
                continue
            if wanted.HasField("state") and container.status.state != wanted.state.state:
                continue
            if _selected(container.labels, wanted.label_selector):
                found.append(self._containers.list_message(container))
        return api_pb2.ListContainersResponse(containers=found)

    async def ContainerStatus(self, request: api_pb2.ContainerStatusRequest) -> api_pb2.ContainerStatusResponse:
        container = self._container(request.container_id)
        response = api_pb2.ContainerStatusResponse(status=self._containers.status_message(container))
        if request.verbose:
            spec = json.loads((self._containers.store.path(container.id) / "spec").read_text())
            info = {
                "sandboxID": container.status.sandbox_id,
                "pid": container.status.pid,
                "runtimeType": "io.containerd.runc.v2",
                "unit": container.unit,
            }
            response.info["info"] = json.dumps({**info, "snapshotKey": container.id, "runtimeSpec": {k: v for k, v in spec.items() if k != "root"}})
        return response

    async def UpdateContainerResources(self, request: api_pb2.UpdateContainerResourcesRequest) -> api_pb2.UpdateContainerResourcesResponse:
        container = self._container(request.container_id)
        self._containers.update_resources(container, request.linux)
        return api_pb2.UpdateContainerResourcesResponse()

    async def ReopenContainerLog(self, request: api_pb2.ReopenContainerLogRequest) -> api_pb2.ReopenContainerLogResponse:
        container = self._running(request.container_id)
        await self._containers.reopen_log(container)
        return api_pb2.ReopenContainerLogResponse()

    # -- exec, attach, port-forward

    async def ExecSync(self, request: api_pb2.ExecSyncRequest) -> api_pb2.ExecSyncResponse:
        container = self._running(request.container_id)
        stdout, stderr, code = await sessions.run_to_end(
            container, self._containers.spec_path(container), self._containers.identity(container), list(request.cmd), float(request.timeout)
        )
        return api_pb2.ExecSyncResponse(stdout=stdout, stderr=stderr, exit_code=code)

    async def Exec(self, request: api_pb2.ExecRequest) -> api_pb2.ExecResponse:
        container = self._running(request.container_id)
        if request.tty and request.stderr:
            raise CriError("INVALID_ARGUMENT", "tty and stderr cannot both be true")
        if not (request.stdin or request.stdout or request.stderr):
            raise CriError("INVALID_ARGUMENT", "one of stdin, stdout, or stderr must be set")
        command = sessions.Command(list(request.cmd), request.tty, request.stdin, request.stdout, request.stderr)
        return api_pb2.ExecResponse(url=self._streaming.url("exec", streaming.ExecTicket(container.id, command)))

    async def Attach(self, request: api_pb2.AttachRequest) -> api_pb2.AttachResponse:
        container = self._running(request.container_id)
        if request.tty and request.stderr:
            raise CriError("INVALID_ARGUMENT", "tty and stderr cannot both be true")
        command = sessions.Command([], request.tty, request.stdin, request.stdout, request.stderr)
        return api_pb2.AttachResponse(url=self._streaming.url("attach", streaming.AttachTicket(container.id, command)))

    async def PortForward(self, request: api_pb2.PortForwardRequest) -> api_pb2.PortForwardResponse:
        sandbox = self._sandbox(request.pod_sandbox_id, "failed to find sandbox")
        if not sandbox.status.ready:
            raise CriError("UNKNOWN", "sandbox container is not running")
        return api_pb2.PortForwardResponse(url=self._streaming.url("portforward", streaming.PortForwardTicket(sandbox.id, tuple(request.port))))

    # -- statistics and events

    async def ContainerStats(self, request: api_pb2.ContainerStatsRequest) -> api_pb2.ContainerStatsResponse:
        container = self._container(request.container_id)
        return api_pb2.ContainerStatsResponse(stats=self._stats.container(container, self._containers.layer(container)))

    async def ListContainerStats(self, request: api_pb2.ListContainerStatsRequest) -> api_pb2.ListContainerStatsResponse:
        wanted = request.filter
        found = [
            self._stats.container(c, self._containers.layer(c))
            for c in self._containers.store
            if c.status.state == api_pb2.CONTAINER_RUNNING
            and c.id.startswith(wanted.id)
            and c.status.sandbox_id.startswith(wanted.pod_sandbox_id)
            and _selected(c.labels, wanted.label_selector)
        ]
        return api_pb2.ListContainerStatsResponse(stats=found)

    async def PodSandboxStats(self, request: api_pb2.PodSandboxStatsRequest) -> api_pb2.PodSandboxStatsResponse:
        sandbox = self._sandbox(request.pod_sandbox_id, "an error occurred when trying to find sandbox")
        return api_pb2.PodSandboxStatsResponse(stats=self._pod_stats(sandbox))

    async def ListPodSandboxStats(self, request: api_pb2.ListPodSandboxStatsRequest) -> api_pb2.ListPodSandboxStatsResponse:
        wanted = request.filter
        found = [
            self._pod_stats(s)
            for s in self._sandboxes.store
            if s.status.ready and s.id.startswith(wanted.id) and _selected(s.labels, wanted.label_selector)
        ]
        return api_pb2.ListPodSandboxStatsResponse(stats=found)

    def _pod_stats(self, sandbox: records.Sandbox) -> api_pb2.PodSandboxStats:
        running = [c for c in self._containers.of_sandbox(sandbox.id) if c.status.state == api_pb2.CONTAINER_RUNNING]
        return self._stats.sandbox(sandbox, [(c, self._containers.layer(c)) for c in running])

    async def ListMetricDescriptors(self, request: api_pb2.ListMetricDescriptorsRequest) -> api_pb2.ListMetricDescriptorsResponse:
        return api_pb2.ListMetricDescriptorsResponse(descriptors=stats.DESCRIPTORS)

    async def ListPodSandboxMetrics(self, request: api_pb2.ListPodSandboxMetricsRequest) -> api_pb2.ListPodSandboxMetricsResponse:
        return api_pb2.ListPodSandboxMetricsResponse(pod_metrics=[stats.metrics(self._pod_stats(s)) for s in self._sandboxes.store if s.status.ready])

    async def GetContainerEvents(self, request: api_pb2.GetEventsRequest) -> AsyncIterator[api_pb2.ContainerEventResponse]:
        async for event in self._events.stream():
            yield event

    # -- what init tells

    def unit_changed(self, unit: dict[str, Any]) -> None:
        """A unit of ours changed its state."""
        name = str(unit.get("Id") or unit.get("name") or "")
        if not (name.startswith("cri-") and name.endswith(".scope")):
            return
        record_id = name.removeprefix("cri-").removesuffix(".scope")
        container = self._containers.store.get(record_id)
        if container is not None:
            # Of one that is being started, StartContainer tells the end, after it has told the start.
            if self._containers.unit_changed(container, unit) and container.id not in self._starting:
                self._publish(container.id, container.status.sandbox_id, api_pb2.CONTAINER_STOPPED_EVENT)
            return
        sandbox = self._sandboxes.store.get(record_id)
        if sandbox is not None and unit.get("ActiveState") in ("inactive", "failed"):
            was_ready = sandbox.status.ready
            self._sandboxes.unit_gone(sandbox)
            if was_ready:
                self._publish(sandbox.id, sandbox.id, api_pb2.CONTAINER_STOPPED_EVENT)

    def units_listed(self, units: dict[str, dict[str, Any]]) -> None:
        """All units of ours, at (re)connection: catch up with what was not seen."""
        for sandbox in self._sandboxes.store:
            unit = units.get(sandbox.unit)
            if unit is None or unit.get("ActiveState") in ("inactive", "failed"):
                self._sandboxes.unit_gone(sandbox)
        for container in self._containers.store:
            unit = units.get(container.unit)
            ended = self._containers.unit_missing(container) if unit is None else self._containers.unit_changed(container, unit)
            if ended:
                self._publish(container.id, container.status.sandbox_id, api_pb2.CONTAINER_STOPPED_EVENT)
        self._network.release_leftovers({s.id for s in self._sandboxes.store})

    # -- helpers

    def _now_ns(self) -> int:
        return int(self._clock.wall() * 1e9)

    def _publish(self, container_id: str, sandbox_id: str, kind: api_pb2.ContainerEventType) -> None:
        if not self._events.watched:
            return
        event = api_pb2.ContainerEventResponse(container_id=container_id, container_event_type=kind, created_at=self._now_ns())
        sandbox = self._sandboxes.store.get(sandbox_id)
        if sandbox is not None:
            event.pod_sandbox_status.CopyFrom(self._sandboxes.status_message(sandbox))
            event.containers_statuses.extend(self._containers.status_message(c) for c in self._containers.of_sandbox(sandbox.id))
        self._events.publish(event)

    def _sandbox(self, prefix: str, doing: str) -> records.Sandbox:
        return self._sandboxes.store.require(prefix, doing)

    def _container(self, prefix: str) -> records.Container:
        return self._containers.store.require(prefix, f'an error occurred when try to find container "{prefix}"')

    def _running(self, prefix: str) -> records.Container:
        container = self._container(prefix)
        if container.status.state != api_pb2.CONTAINER_RUNNING:
            raise CriError("UNKNOWN", f"container is in {api_pb2.ContainerState.Name(container.status.state)} state")
        return container
