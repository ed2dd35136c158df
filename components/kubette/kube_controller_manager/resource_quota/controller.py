"""Recomputes what namespaces use of their quotas: on a quota's change, when something is deleted, and every --resource-quota-sync-period.

Additions are counted by the API server's admission; this controller repairs the sum and gives back what went away.
"""

import asyncio
from typing import Any

from kubette.apimachinery import meta
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.client.discovery import Discovery, discover
from kubette.client.informer import Handler
from kubette.client.rest import FAILURES
from kubette.client.store import by_namespace
from kubette.component_base import logs
from kubette.kube_controller_manager import objects, pods
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.resource_quota import usage
from kubette.stdx.tasks import Scope

Object = dict[str, Any]

log = logs.logger(__name__)

NAMESPACE = "namespace"
_CACHED = {"pods": resources.PODS, "services": resources.SERVICES}


class ResourceQuotaController:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("resourcequota-controller")
        self._period_s = context.options.resource_quota_sync_period
        self._quotas = context.informer(resources.RESOURCEQUOTAS, {NAMESPACE: by_namespace})
        self._caches = {name: context.informer(r, {NAMESPACE: by_namespace}) for name, r in _CACHED.items()}
        caches = (self._quotas, *self._caches.values())
        self._controller = context.controller(
            "resource_quota_controller_resource_changes", self.reconcile, caches, context.options.concurrent_resource_quota_syncs
        )
        self._quotas.add_handler(Handler(self._controller.enqueue, self._quota_updated))
        self._caches["pods"].add_handler(Handler(on_update=self._pod_updated, on_delete=self._replenish))
        self._caches["services"].add_handler(Handler(on_delete=self._replenish))
        self._discovery = Discovery()

    def _quota_updated(self, old: Object, new: Object) -> None:
        if objects.spec(old) != objects.spec(new):
            self._controller.enqueue(new)

    def _pod_updated(self, old: Object, new: Object) -> None:
        if pods.is_terminal(new) and not pods.is_terminal(old):
            self._replenish(new)

    def _replenish(self, obj: Object) -> None:
        for quota in self._quotas.store.by_index(NAMESPACE, meta.namespace(obj)):
            self._controller.enqueue(quota)

    async def run(self) -> None:
        async with Scope() as scope:
            scope.start(self._resync(), "quota resync")
            scope.start(self._controller.run(), "quota")
            await scope.wait()

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            for quota in self._quotas.list():
                self._controller.enqueue(quota)

    async def reconcile(self, key: str) -> Result:
        quota = self._quotas.get(key)
        if quota is None:
            return DONE
        hard = objects.spec(quota).get("hard") or {}
        contents = {name: await self._contents(name, meta.namespace(quota)) for name in sorted(usage.needed_resources(hard))}
        found = {"hard": hard, "used": usage.used(quota, contents)}
        if found != {"hard": objects.status(quota).get("hard") or {}, "used": objects.status(quota).get("used") or {}}:
            await self._client.update(resources.RESOURCEQUOTAS, objects.with_status(quota, found), "status")
        return DONE

    async def _contents(self, group_resource: str, namespace: str) -> list[Object]:
        """From the cache for what is cached anyway, else asked of the server: quotas on other kinds are rare."""
        if group_resource in self._caches:
            return self._caches[group_resource].store.by_index(NAMESPACE, namespace)
        resource = next((d.resource for d in self._discovery.resources if d.resource.group_resource == group_resource), None)
        if resource is None:
            try:
                self._discovery = await discover(self._client)
            except FAILURES as error:
                log.error("Discovery failed", err=error)
            resource = next((d.resource for d in self._discovery.resources if d.resource.group_resource == group_resource), None)
        if resource is None:
            return []  # no such kind: nothing of it is used
        items, _ = await self._client.list_all(resource, namespace, metadata_only=group_resource not in usage.EVALUATORS)
        return items
