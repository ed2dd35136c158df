"""Wiring: builds every part of the runtime, serves CRI on its socket and streaming on 127.0.0.1 until it is cancelled."""

import contextlib
import importlib.metadata
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kubette.component_base import init_client, logs, notify
from kubette.component_base.run import StartupError
from kubette.cri import services
from kubette.runtime import (
    cgroups,
    containers,
    events,
    image_catalogue,
    image_service,
    images,
    pod_network,
    port_dialer,
    runtime_service,
    sandboxes,
    sessions,
    streaming,
)
from kubette.runtime import config as settings_module
from kubette.runtime import units as init_units
from kubette.runtime.errors import CriError
from kubette.stdx import clock, tasks

log = logs.logger(__name__)

# As containerd: requests and answers up to 16 MiB.
MESSAGE_BYTES_MAX = 16 << 20
STOP_GRACE_S = 1.0


class _Backend(streaming.Backend):
    """Streaming's way to containers and sandboxes."""

    def __init__(self, pods: sandboxes.Sandboxes, kept: containers.Containers, init: init_units.Units) -> None:
        self._sandboxes = pods
        self._containers = kept
        self._init = init

    @contextlib.asynccontextmanager
    async def session(self, ticket: streaming.ExecTicket | streaming.AttachTicket) -> AsyncIterator[sessions.Session]:
        container = self._containers.store.require(ticket.container_id, "failed to find container")
        if isinstance(ticket, streaming.ExecTicket):
            async with sessions.executing(
                container, self._containers.spec_path(container), self._containers.identity(container), ticket.command
            ) as execution:
                yield execution
            return
        try:
            async with self._init.attach(container.unit) as attachment:
                yield sessions.Attached(attachment, lambda: self._containers.wait_exit(container))
        except (init_client.InitError, init_client.InitUnavailable) as error:
            raise CriError("UNKNOWN", f"failed to attach to container: {error}") from error

    async def dial(self, sandbox_id: str, port: int) -> Any:
        sandbox = self._sandboxes.store.require(sandbox_id, "failed to find sandbox")
        if not sandbox.status.ready:
            raise CriError("UNKNOWN", "sandbox container is not running")
        return await port_dialer.dial(sandbox.status.network_namespace, port)


def _entry_points() -> dict[str, str]:
    return {e.name: e.value for e in importlib.metadata.distribution("kubette").entry_points if e.group == "console_scripts"}


def _handler(grpc: Any, method: services.Method, implementation: Any) -> Any:
    """A gRPC handler that turns CriError into its status and logs the call's failure once."""

    async def fail(context: Any, error: CriError) -> None:
        log.error(f"{method.name} failed", err=error)
        await context.abort(grpc.StatusCode[error.code], error.message)

    async def unary(request: Any, context: Any) -> Any:
        try:
            return await implementation(request)
        except CriError as error:
            await fail(context, error)
        except TimeoutError as error:
            await fail(context, CriError("DEADLINE_EXCEEDED", f"{error or 'context deadline exceeded'}"))
        except (OSError, init_client.InitError) as error:
            await fail(context, CriError("UNKNOWN", str(error)))

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        async for response in implementation(request):
            yield response

    options = {"request_deserializer": method.request.FromString, "response_serializer": method.response.SerializeToString}
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(stream, **options)
    return grpc.unary_unary_rpc_method_handler(unary, **options)


def _grpc_server(implementations: dict[str, Any]) -> Any:
    # Children of this process execute at once; gRPC's fork handlers would only slow them and log.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    import grpc
    import grpc.aio

    sizes = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX), ("grpc.max_send_message_length", MESSAGE_BYTES_MAX)]
    server = grpc.aio.server(options=sizes)
    for service, implementation in implementations.items():
        handlers = {m.name: _handler(grpc, m, getattr(implementation, m.name)) for m in services.methods(service)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    return server


def _bind_socket(address: str) -> None:
    path = Path(address)
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as probe:
        if path.exists() and probe.connect_ex(address) == 0:
            raise StartupError(f"failed to get listener for main endpoint: listen unix {address}: bind: address already in use")
    path.unlink(missing_ok=True)


async def serve(settings: settings_module.Settings) -> None:
    """Run until cancelled. The socket is there once everything behind it is."""
    now = clock.SYSTEM_CLOCK
    for directory in (settings.cri_root, settings.cri_state):
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartupError(f"mkdir {directory}: {(error.strerror or str(error)).lower()}") from error
    _bind_socket(settings.address)
    network = pod_network.PodNetwork(settings.cni_configuration, settings.cni_state, settings.network_namespaces)
    catalogue = image_catalogue.entries(image_catalogue.Host(has=lambda program: shutil.which(program) is not None))
    store = images.Images(settings.cri_root / "images.json", catalogue)
    broadcast = events.Broadcast()
    init = init_units.Units(settings.init_socket, lambda unit: service.unit_changed(unit), lambda units: service.units_listed(units))
    pods = sandboxes.Sandboxes(settings, network, init, now)
    groups = cgroups.Cgroups()
    groups.sweep(now.wall())
    kept = containers.Containers(settings, pods, store, init, now, _entry_points(), groups)
    server = streaming.Server(_Backend(pods, kept, init), now)
    service = runtime_service.RuntimeService(pods, kept, network, broadcast, server, now, init.connected.is_set, groups.enforced)
    grpc_server = _grpc_server({services.RUNTIME_SERVICE: service, services.IMAGE_SERVICE: image_service.ImageService(store, settings, now)})
    async with tasks.Scope() as scope, server.serving():
        scope.start(init.listen(), name="init")
        # What happened while nobody listened is taken over before anyone may ask.
        await init.connected.wait()
        grpc_server.add_insecure_port(f"unix://{settings.address}")
        await grpc_server.start()
        os.chmod(settings.address, 0o660)
        log.info("containerd successfully booted", address=settings.address, streaming=server.port)
        notify.ready()
        try:
            await scope.wait()
        finally:
            await grpc_server.stop(STOP_GRACE_S)
            Path(settings.address).unlink(missing_ok=True)
