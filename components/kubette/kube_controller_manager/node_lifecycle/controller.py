"""Watches over nodes: one reconcile a node, on each change and each monitor period."""

import asyncio
from typing import Any

from kubette.apimachinery import meta, status, timestamps
from kubette.client import events, resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.client.rest import PatchType
from kubette.client.store import by_node
from kubette.component_base import logs
from kubette.kube_controller_manager import objects
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.node_lifecycle import plan
from kubette.stdx.tasks import Scope

Object = dict[str, Any]

LEASE_NAMESPACE = "kube-node-lease"

log = logs.logger(__name__)


class NodeLifecycleController:
    def __init__(self, context: Context) -> None:
        self._options = context.options
        self._client = context.client_of("node-controller")
        self._recorder = context.recorder("node-controller", self._client)
        self._clock = context.clock
        self._nodes = context.informer(resources.NODES)
        self._leases = context.informer(resources.LEASES, namespace=LEASE_NAMESPACE)
        self._pods = context.informer(resources.PODS, {"node": by_node})
        self._health: dict[str, plan.Health] = {}
        self._was_ready: dict[str, str] = {}
        self._stopped: set[str] = set()  # nodes whose eviction is withheld, and that were told so
        self._zone_states: dict[str, plan.ZoneState] = {}
        self._limiters: dict[str, plan.Limiter] = {}
        self._all_full = False
        self._unseen: set[str] = set()  # of this period's round
        self._round_began = 0.0
        self._rounds = context.registry.histogram(
            "node_collector_update_all_nodes_health_duration_seconds", "Duration in seconds for NodeController to update the health of all nodes."
        )
        self._zone_health = context.registry.gauge("node_collector_zone_health", "Gauge measuring percentage of healthy nodes per zone.", ("zone",))
        self._rates = plan.Rates(
            self._options.node_eviction_rate, self._options.secondary_node_eviction_rate, self._options.large_cluster_size_threshold
        )
        self._controller = context.controller("node_lifecycle_controller", self.reconcile, (self._nodes, self._leases, self._pods), workers=8)
        self._nodes.add_handler(Handler(self._added, lambda _, new: self._controller.enqueue(new), self._deleted))

    def _added(self, node: Object) -> None:
        name = meta.name(node)
        message = f"Node {name} event: Registered Node {name} in Controller"
        self._recorder.event(_reference(node), events.NORMAL, "RegisteredNode", message)
        self._controller.enqueue(node)

    def _deleted(self, node: Object) -> None:
        name = meta.name(node)
        self._health.pop(name, None)
        self._was_ready.pop(name, None)
        self._stopped.discard(name)
        self._recorder.event(_reference(node), events.NORMAL, "RemovingNode", f"Node {name} event: Removing Node {name} from Controller")

    async def run(self) -> None:
        async with Scope() as scope:
            scope.start(self._monitor(), "node monitor")
            scope.start(self._controller.run(), "node lifecycle")
            await scope.wait()

    async def _monitor(self) -> None:
        """Every period: look at the zones as a whole, then at each node."""
        await self._nodes.wait_synced()
        while True:
            began = self._clock.monotonic()
            self._update_zones()
            self._unseen, self._round_began = {meta.name(node) for node in self._nodes.list()}, began
            for node in self._nodes.list():
                self._controller.enqueue(node)
            await asyncio.sleep(self._options.node_monitor_period)

    def _update_zones(self) -> None:
        zones: dict[str, list[bool]] = {}
        for node in self._nodes.list():
            # A node that has just fallen silent counts already: else the one that makes it too many would be the last to be evicted.
            zones.setdefault(plan.zone_of(node), []).append(plan.ready_status(node) == "True" and not self._is_silent(node))
        states = {zone: plan.zone_state(ready, self._options.unhealthy_zone_threshold) for zone, ready in zones.items()}
        for zone, state in states.items():
            if self._zone_states.get(zone, plan.ZoneState.NORMAL) != state:
                log.info("Controller detected that zone is now in new state", zone=zone, newState=state.value)
        # A cluster in which no node was ever ready is starting, not cut off; but then nothing runs that could be evicted either.
        self._all_full = bool(states) and all(s is plan.ZoneState.FULL for s in states.values())
        self._zone_states = states
        for zone, ready in zones.items():
            limiter = self._limiters.setdefault(zone, plan.Limiter())
            limiter.rate = self._rates.of(states[zone], len(ready), self._all_full)
            self._zone_health.set(100 * sum(ready) / len(ready), zone)

    async def reconcile(self, name: str) -> Result:
        result = await self._update_health(name)
        if name in self._unseen:
            self._unseen.remove(name)
            if not self._unseen:
                self._rounds.observe(self._clock.monotonic() - self._round_began)
        return result

    async def _update_health(self, name: str) -> Result:
        node = self._nodes.get(name)
        if node is None:
            return DONE
        wall = self._clock.wall()
        if self._is_silent(node):
            node = await self._mark_unknown(node, wall)
        await self._note_transition(node)
        return await self._taint(node)

    def _is_silent(self, node: Object) -> bool:
        """Look for signs of life; whether the last one is too long ago."""
        name, now, options = meta.name(node), self._clock.monotonic(), self._options
        health = plan.observe(self._health.get(name), node, self._leases.get(f"{LEASE_NAMESPACE}/{name}"), now, self._clock.wall())
        self._health[name] = health
        return plan.is_silent(node, health, options.node_monitor_grace_period, options.node_startup_grace_period, now)

    async def _mark_unknown(self, node: Object, wall: float) -> Object:
        conditions = plan.silent_conditions(node, wall)
        current = objects.status(node).get("conditions") or []
        if all(c in current for c in conditions):
            return node
        log.info("Node was silent for its grace period, its conditions became Unknown", node=meta.name(node))
        return await self._client.update(resources.NODES, objects.with_status(node, {**objects.status(node), "conditions": conditions}), "status")

    async def _note_transition(self, node: Object) -> None:
        """A node that stops being ready takes its pods out of service at once; they stay where they are."""
        name, ready = meta.name(node), plan.ready_status(node)
        before = self._was_ready.get(name)
        if ready != "True" and (before == "True" or (before is None and meta.condition(node, "Ready") is not None)):
            if before == "True":
                self._recorder.event(_reference(node), events.NORMAL, "NodeNotReady", f"Node {name} status is now: NodeNotReady")
            await self._mark_pods_not_ready(name)
        if ready == "True":
            self._stopped.discard(name)
        self._was_ready[name] = ready

    async def _mark_pods_not_ready(self, name: str) -> None:
        stamp = timestamps.format_time(self._clock.wall())
        for pod in self._pods.store.by_index("node", name):
            if not meta.is_condition_true(pod, "Ready"):
                continue
            conditions = [
                {**c, "status": "False", "lastTransitionTime": stamp} if c["type"] == "Ready" else c for c in objects.status(pod)["conditions"]
            ]
            try:
                await self._client.update(resources.PODS, objects.with_status(pod, {**objects.status(pod), "conditions": conditions}), "status")
            except status.ApiError as error:
                if error.code not in (404, 409):
                    raise
                continue
            self._recorder.event({**pod, "apiVersion": "v1", "kind": "Pod"}, events.WARNING, "NodeNotReady", "Node is not ready")

    def _note_stopped(self, node: Object, zone: str) -> None:
        """Say once for each outage why the pods of a node stay where they are. (Upstream says it in its log alone.)"""
        name = meta.name(node)
        if name in self._stopped:
            return
        self._stopped.add(name)
        state = self._zone_states.get(zone, plan.ZoneState.INITIAL)
        message = f"Node {name} event: its pods are not evicted while its zone is in state {state.value}: too many of its nodes are not ready"
        self._recorder.event(_reference(node), events.WARNING, "NodeEvictionStopped", message)

    async def _taint(self, node: Object) -> Result:
        wanted = None if self._all_full else plan.no_execute_key(node)
        wait_s = 0.0
        if wanted is not None and not any(plan.has_no_execute(node, key) for key in (plan.NOT_READY, plan.UNREACHABLE)):
            # Swapping one for the other evicts nobody anew; adding the first is what the zone's rate limits.
            zone = plan.zone_of(node)
            limiter = self._limiters.setdefault(zone, plan.Limiter(self._rates.normal))
            if limiter.rate <= 0:
                self._note_stopped(node, zone)
            wait_s = limiter.try_take(self._clock.monotonic())
            wanted = None if wait_s else wanted
        taints = plan.with_taints(node, plan.no_schedule_keys(node), wanted, self._clock.wall())
        if taints is not None:
            # A merge patch guarded by the version we decided on: the list is replaced as a whole.
            metadata = {"resourceVersion": meta.resource_version(node)}
            await self._client.patch(resources.NODES, "", meta.name(node), {"metadata": metadata, "spec": {"taints": taints}}, PatchType.MERGE)
        return Result(wait_s or None)


def _reference(node: Object) -> Object:
    return {"kind": "Node", "name": meta.name(node), "uid": meta.uid(node), "apiVersion": "v1"}
