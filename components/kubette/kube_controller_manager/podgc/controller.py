"""Every 20 s: removes the pods that `plan.py` names."""

import asyncio
from typing import Any

from kubette.apimachinery import meta, status, timestamps
from kubette.client import resources
from kubette.client.rest import FAILURES, PatchType
from kubette.component_base import logs
from kubette.kube_controller_manager import pods
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.podgc import plan

Object = dict[str, Any]

log = logs.logger(__name__)

PERIOD_S = 20.0
QUARANTINE_S = 40.0  # a node just deleted may only be re-registering


class PodGCController:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("pod-garbage-collector")
        self._threshold = context.options.terminated_pod_gc_threshold
        self._clock = context.clock
        self._pods = context.informer(resources.PODS)
        self._nodes = context.informer(resources.NODES)
        self._missing_since: dict[str, float] = {}

    async def run(self) -> None:
        await self._pods.wait_synced()
        await self._nodes.wait_synced()
        while True:
            for removal in await self._removals():
                await self._remove(removal)
            await asyncio.sleep(PERIOD_S)

    async def _removals(self) -> list[plan.Removal]:
        all_pods = self._pods.list()
        found = plan.surplus_terminated(all_pods, self._threshold)
        found += plan.on_out_of_service_nodes(all_pods, self._nodes.list())
        found += plan.unscheduled_terminating(all_pods)
        missing = plan.on_missing_nodes(all_pods, {meta.name(n) for n in self._nodes.list()})
        now = self._clock.monotonic()
        self._missing_since = {name: self._missing_since.get(name, now) for name in missing}
        for name, orphans in missing.items():
            if now - self._missing_since[name] >= QUARANTINE_S and await self._is_gone(name):
                found += [plan.orphaned(p) for p in orphans]
        return found

    async def _is_gone(self, name: str) -> bool:
        """The cache may be behind: ask the server."""
        try:
            await self._client.get(resources.NODES, "", name)
        except FAILURES as error:
            return status.is_not_found(error)
        return False

    async def _remove(self, removal: plan.Removal) -> None:
        pod = removal.pod
        namespace, name = meta.namespace(pod), meta.name(pod)
        log.info("PodGC is force deleting Pod", pod=meta.key(pod), why=removal.why)
        try:
            if not pods.is_terminal(pod):
                await self._fail(pod, removal)
            await self._client.delete(resources.PODS, namespace, name, uid=meta.uid(pod), grace_period_s=0)
        except FAILURES as error:
            if not status.is_not_found(error):
                log.error("Failed to garbage collect pod", err=error, pod=meta.key(pod))

    async def _fail(self, pod: Object, removal: plan.Removal) -> None:
        """What counts pods (a Job) must see how this one ended."""
        change: Object = {"phase": "Failed"}
        if removal.reason:
            stamp = timestamps.format_time(self._clock.wall())
            change["conditions"] = [
                {"type": "DisruptionTarget", "status": "True", "reason": removal.reason, "message": removal.message, "lastTransitionTime": stamp}
            ]
        patch = {"metadata": {"uid": meta.uid(pod)}, "status": change}
        await self._client.patch(resources.PODS, meta.namespace(pod), meta.name(pod), patch, PatchType.STRATEGIC, "status")
