"""Keeps the node's object and its lease: registration, status, heartbeats, and the runtime's pod network (kubelet_node_status, nodelease).

The status is computed every `nodeStatusUpdateFrequency` and after each change that is told, but written only if it differs or the last
report is `nodeStatusReportFrequency` old. The lease is the heartbeat.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from kubette.apimachinery import status as api_status
from kubette.apimachinery import timestamps
from kubette.apimachinery.status import ApiError
from kubette.client import resources
from kubette.client.informer import Informer
from kubette.client.rest import Client, PatchType
from kubette.client.transport import TransportError
from kubette.component_base import logs, version
from kubette.kubelet import eviction, machine, node_status
from kubette.kubelet.config import Config
from kubette.kubelet.cri_client import CriClient, CriError
from kubette.kubelet.recorder import NORMAL, EventRecorder
from kubette.stdx.clock import Clock

log = logs.logger(__name__)

Object = dict[str, Any]

LEASE_NAMESPACE = "kube-node-lease"
RUNTIME_CHECK_S = 5.0  # upstream's updateRuntimeUp
RUNTIME_CHECK_NOT_READY_S = 0.5  # a node that waits for its network is looked at more often, as upstream does while it starts
REGISTER_RETRY_S_MAX = 7.0
FAILURES = (ApiError, TransportError)


class NodeAgent:
    """`pleg_error` answers why the PLEG is unhealthy; `network_ready` is called when the pods' network became usable."""

    def __init__(
        self,
        config: Config,
        client: Client | None,
        cri: CriClient,
        recorder: EventRecorder,
        clock: Clock,
        facts: node_status.Machine,
        pleg_error: Callable[[], str],
        network_ready: Callable[[], None],
        node_changed: Callable[[], None],
        port: Callable[[], int],
    ) -> None:
        self._config, self._client, self._cri, self._recorder, self._clock, self.machine = config, client, cri, recorder, clock, facts
        self._pleg_error, self._network_ready, self._node_changed, self._port = pleg_error, network_ready, node_changed, port
        self.informer = Informer(client, resources.NODES, field_selector=f"metadata.name={config.node_name}") if client else None
        if self.informer is not None:
            self.informer.on_change(self._observed)
        self.addresses = config.node_ips or (machine.default_address(),)
        self.runtime_version = ""
        self.pressure = eviction.PressureState(config.pressure_transition_s)
        self.shutting_down = False
        self._conditions: dict[str, tuple[bool, str, str]] | None = None
        self._runtime_failure = ""
        self._pod_cidr = ""
        self._images: tuple[Object, ...] = ()
        self._reported_at = float("-inf")
        self._told: dict[str, str] = {}
        self._registered = asyncio.Event()
        self._wake = asyncio.Event()
        self._check_runtime = asyncio.Event()

    # What others ask

    def node(self) -> Object | None:
        """The node's object as the API server has it."""
        return self.informer.get(self._config.node_name) if self.informer is not None else None

    def allocatable(self) -> Mapping[str, str]:
        reserved = [self._config.system_reserved, self._config.kube_reserved]
        return node_status.allocatable(self.machine, self._config.max_pods, reserved, self._config.eviction_hard)

    def network_error(self) -> str:
        """Why pods cannot have a network, empty if they can."""
        return node_status.network_error((self._conditions or {}).get("NetworkReady"))

    def labels(self) -> dict[str, str]:
        return {**node_status.default_labels(self._config.hostname, self.machine.architecture), **self._config.node_labels}

    def poke(self) -> None:
        """Something in the status may have changed."""
        self._wake.set()

    # The runtime's readiness

    async def watch_runtime(self) -> None:
        """Know whether the runtime and its network are ready, until cancelled."""
        if self._config.pod_cidr and self._client is None:
            self._pod_cidr = self._config.pod_cidr
        given = ""
        while True:
            before = self._conditions, self._runtime_failure
            try:
                if not self.runtime_version:
                    answer = await self._cri.version()
                    self.runtime_version = f"{answer.runtime_name}://{answer.runtime_version}"
                if self._pod_cidr != given or (self._pod_cidr and self._runtime_failure):
                    await self._cri.update_pod_cidr(self._pod_cidr)
                    given = self._pod_cidr
                    log.info("Updating runtime config through cri with podcidr", CIDR=given)
                self._conditions = await self._cri.status()
                self._runtime_failure = ""
            except CriError as error:
                self._runtime_failure = "container runtime is down"
                if before[1] != self._runtime_failure:
                    log.error("Container runtime sanity check failed", err=error)
            if (self._conditions, self._runtime_failure) != before:
                self._wake.set()
                if not self.network_error():
                    self._network_ready()
            ready = not self._runtime_failure and not self.network_error()
            self._check_runtime.clear()
            try:
                async with asyncio.timeout(RUNTIME_CHECK_S if ready else RUNTIME_CHECK_NOT_READY_S):
                    await self._check_runtime.wait()
            except TimeoutError:
                continue

    def _observed(self, node: Object) -> None:
        cidr = (node.get("spec") or {}).get("podCIDR") or ""
        if cidr and cidr != self._pod_cidr:
            self._pod_cidr = cidr
            self._check_runtime.set()
        self._node_changed()

    # Registration and status

    def facts(self) -> node_status.Facts:
        """All that the status is made of, now."""
        conditions = self._conditions or {}
        problems = [self._runtime_failure] if self._runtime_failure else [node_status.runtime_error(conditions.get("RuntimeReady"))]
        problems.append(self.network_error())
        if error := self._pleg_error():
            problems.append(f"PLEG is not healthy: {error}")
        if self.shutting_down:
            problems.append("node is shutting down")
        now = self._clock.monotonic()
        reserved = {**self._config.kube_reserved, **self._config.system_reserved}
        return node_status.Facts(
            node_name=self._config.node_name,
            hostname=self._config.hostname,
            machine=self.machine,
            release=version.major_minor(),
            git_version=version.git_version(),
            runtime_version=self.runtime_version,
            addresses=tuple(self.addresses),
            port=self._port(),
            max_pods=self._config.max_pods,
            reserved=reserved,
            eviction_hard=self._config.eviction_hard,
            pressure=frozenset(c for c in eviction.RESOURCE_OF if self.pressure.has(c, now)),
            not_ready=tuple(dict.fromkeys(p for p in problems if p)),
            images=self._images,
        )

    async def run(self) -> None:
        """Register, then report until cancelled."""
        if self._client is None:
            return
        if self._config.register_node:
            await self._register()
        self._registered.set()
        self._recorder.node(NORMAL, "Starting", "Starting kubelet.")
        while True:
            self._wake.clear()
            try:
                await self._report()
            except FAILURES as error:
                log.error("Error updating node status, will retry", err=error)
            try:
                async with asyncio.timeout(self._config.status_update_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _register(self) -> None:
        assert self._client is not None
        delay_s = 0.1
        while True:
            node = node_status.initial_node(self.facts(), self._config.node_labels, self._config.taints, None, self._clock.wall())
            log.info("Attempting to register node", node=self._config.node_name)
            try:
                await self._client.create(resources.NODES, "", node)
                self._reported_at = self._clock.monotonic()
                log.info("Successfully registered node", node=self._config.node_name)
                return
            except ApiError as error:
                if api_status.is_already_exists(error):
                    if await self._reconcile(node):
                        return
                else:
                    log.error("Unable to register node with API server", err=error, node=self._config.node_name)
            except TransportError as error:
                log.error("Unable to register node with API server", err=error, node=self._config.node_name)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, REGISTER_RETRY_S_MAX)

    async def _reconcile(self, wanted: Object) -> bool:
        """The node exists: make its labels and annotation what a kubelet of this configuration sets."""
        assert self._client is not None
        try:
            node = await self._client.get(resources.NODES, "", self._config.node_name)
            metadata: Object = {}
            for field in ("labels", "annotations"):
                shown = node["metadata"].get(field) or {}
                missing = {k: v for k, v in wanted["metadata"][field].items() if shown.get(k) != v}
                if missing:
                    metadata[field] = missing
            if metadata:
                await self._client.patch(resources.NODES, "", self._config.node_name, {"metadata": metadata})
            log.info("Node was previously registered", node=self._config.node_name)
            return True
        except FAILURES as error:
            log.error("Unable to register node with API server", err=error, node=self._config.node_name)
            return False

    async def _report(self) -> None:
        assert self._client is not None
        now = self._clock.monotonic()
        await self._list_images()
        shown = self.node() if self.informer is not None and self.informer.has_synced else None
        if shown is None:
            shown = await self._client.get(resources.NODES, "", self._config.node_name)
        old = shown.get("status") or {}
        new = node_status.compute_status(self.facts(), old, self._clock.wall())
        own = {name: old.get(name) for name in new}
        changed = node_status.without_heartbeats({k: v for k, v in own.items() if v is not None}) != node_status.without_heartbeats(new)
        if not changed and now - self._reported_at < self._config.status_report_s:
            return
        patch = {"status": node_status.status_patch(old, new)}
        await self._client.patch(resources.NODES, "", self._config.node_name, patch, PatchType.STRATEGIC, "status")
        self._reported_at = now
        self._tell(new["conditions"])

    def _tell(self, conditions: list[Object]) -> None:
        for condition in conditions:
            reason = node_status.EVENT_REASONS.get((condition["type"], condition["status"]))
            if reason and self._told.get(condition["type"]) != condition["status"]:
                first = condition["type"] not in self._told
                self._told[condition["type"]] = condition["status"]
                if not (first and reason == "NodeNotReady"):
                    self._recorder.node(NORMAL, reason, f"Node {self._config.node_name} status is now: {reason}")

    async def _list_images(self) -> None:
        try:
            images = await self._cri.images()
        except CriError:
            return
        self._images = node_status.image_list(([*i.repo_digests, *i.repo_tags], int(i.size)) for i in images)

    # The heartbeat

    async def heartbeat(self) -> None:
        """Renew the node's lease until cancelled."""
        if self._client is None:
            return
        await self._registered.wait()
        period_s = self._config.lease_duration_s * 0.25
        lease: Object | None = None
        failures = 0
        while True:
            try:
                lease = await self._renew(lease)
                failures = 0
            except FAILURES as error:
                lease, failures = None, failures + 1
                log.error("Failed to update lease", err=error)
            await asyncio.sleep(period_s if failures == 0 else min(0.2 * 2**failures, 7.0, period_s))

    async def _renew(self, lease: Object | None) -> Object:
        assert self._client is not None
        name, stamp = self._config.node_name, timestamps.format_micro_time(self._clock.wall())
        if lease is None:
            try:
                lease = await self._client.get(resources.LEASES, LEASE_NAMESPACE, name)
            except ApiError as error:
                if not api_status.is_not_found(error):
                    raise
                metadata: Object = {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [await self._owner()]}
                spec = {"holderIdentity": name, "leaseDurationSeconds": self._config.lease_duration_s, "renewTime": stamp}
                return await self._client.create(resources.LEASES, LEASE_NAMESPACE, {"metadata": metadata, "spec": spec})
        if not lease["metadata"].get("ownerReferences"):
            lease = {**lease, "metadata": {**lease["metadata"], "ownerReferences": [await self._owner()]}}
        spec = {**lease["spec"], "holderIdentity": name, "leaseDurationSeconds": self._config.lease_duration_s, "renewTime": stamp}
        return await self._client.update(resources.LEASES, {**lease, "spec": spec})

    async def _owner(self) -> Object:
        """The node that the lease goes with. There is no lease of a node that is not there: it would stay for ever."""
        assert self._client is not None
        name = self._config.node_name
        try:
            node = await self._client.get(resources.NODES, "", name)
        except FAILURES as error:
            log.error("Failed to get node when trying to set owner ref to the node lease", err=error, node=name)
            raise
        return {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
