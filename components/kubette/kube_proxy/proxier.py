"""The loop: whenever Services, EndpointSlices or the node change, compute the ports and bring the back-end up to date."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from kubette.client import resources
from kubette.client.informer import Informer
from kubette.client.rest import Client
from kubette.component_base import logs
from kubette.component_base.metrics import Registry
from kubette.kube_proxy.change_tracker import ServicePort, service_ports
from kubette.stdx.clock import Clock
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)

_NOT_HEADLESS = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name"
_RETRY_S = 1.0


class Backend(Protocol):
    """What makes the ports work."""

    async def prepare(self) -> None: ...

    async def apply(self, ports: Sequence[ServicePort]) -> None: ...

    async def cleanup(self) -> None: ...


class Proxier:
    """Level-triggered: many changes at once are one pass."""

    def __init__(self, client: Client, backend: Backend, node: str, clock: Clock, registry: Registry, min_sync_s: float) -> None:
        self._backend, self._node, self._clock, self._min_sync_s = backend, node, clock, min_sync_s
        self._services = Informer(client, resources.SERVICES, label_selector=_NOT_HEADLESS)
        self._slices = Informer(client, resources.ENDPOINTSLICES, label_selector=_NOT_HEADLESS)
        self._nodes = Informer(client, resources.NODES, field_selector=f"metadata.name={node}")
        self._dirty = asyncio.Event()
        for informer in (self._services, self._slices):
            informer.on_change(lambda _: self._dirty.set())
        self._duration = registry.histogram("kubeproxy_sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds")
        self._last = registry.gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced")
        self.last_queued = 0.0
        self.last_updated = 0.0

    def healthy(self, timeout_s: float) -> bool:
        """Whether no change has waited for longer than the timeout."""
        waiting = self.last_queued > self.last_updated
        return not waiting or self._clock.monotonic() - self.last_queued < timeout_s

    def node_eligible(self) -> bool:
        """False on a node that is going away: load balancers should not send more."""
        node = self._nodes.get(self._node)
        if node is None:
            return True
        taints = (node.get("spec") or {}).get("taints") or ()
        return not node["metadata"].get("deletionTimestamp") and all(t["key"] != "ToBeDeletedByClusterAutoscaler" for t in taints)

    async def run(self) -> None:
        await self._backend.prepare()
        async with Scope() as scope:
            for informer in (self._services, self._slices, self._nodes):
                scope.start(informer.run(), f"informer {informer.resource.resource}")
            # Rules before both lists are known would take endpoints away that are there.
            await self._services.wait_synced()
            await self._slices.wait_synced()
            self._dirty.set()
            scope.start(self._sync_for_ever(), "sync")
            await scope.wait()

    async def _sync_for_ever(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            self.last_queued = self._clock.monotonic()
            try:
                await self._sync()
            except (RuntimeError, OSError, TimeoutError) as error:
                log.error("Failed to sync proxy rules", err=error)
                self._dirty.set()
                await asyncio.sleep(_RETRY_S)
                continue
            await asyncio.sleep(self._min_sync_s)

    async def _sync(self) -> None:
        started = self._clock.monotonic()
        await self._backend.apply(service_ports(self._services.list(), self._slices.list(), self._node))
        self.last_updated = self._clock.monotonic()
        self._duration.observe(self.last_updated - started)
        self._last.set(self._clock.wall())
