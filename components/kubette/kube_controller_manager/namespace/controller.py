"""Empties terminating namespaces, whatever kinds of objects the server has, and lets them go."""

import asyncio
from typing import Any

from kubette.apimachinery import meta, status
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.client.discovery import discover
from kubette.client.informer import Handler
from kubette.client.resources import Discovered
from kubette.client.rest import FAILURES
from kubette.component_base import logs
from kubette.kube_controller_manager import objects
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.namespace import plan

Object = dict[str, Any]

log = logs.logger(__name__)

PARALLEL_KINDS = 8
RECHECK_S = 1.0  # upstream waits half the longest grace period; asking again early costs little in a small cluster
RECHECK_S_MAX = 15.0


class NamespaceController:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("namespace-controller")
        self._clock = context.clock
        self._namespaces = context.informer(resources.NAMESPACES)
        self._controller = context.controller("namespace", self.reconcile, (self._namespaces,), context.options.concurrent_namespace_syncs)
        self._namespaces.add_handler(Handler(self._changed, lambda _, new: self._changed(new)))
        self._attempts: dict[str, int] = {}

    def _changed(self, namespace: Object) -> None:
        if meta.is_being_deleted(namespace):
            self._controller.enqueue(namespace)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, name: str) -> Result:
        namespace = self._namespaces.get(name)
        if namespace is None or not meta.is_being_deleted(namespace):
            self._attempts.pop(name, None)
            return DONE
        if plan.FINALIZER not in (objects.spec(namespace).get("finalizers") or []):
            return DONE
        remains = await self._empty(name)
        conditions = plan.conditions(objects.status(namespace).get("conditions") or [], remains, self._clock.wall())
        new_status = {**objects.status(namespace), "phase": "Terminating", "conditions": conditions}
        if new_status != objects.status(namespace):
            namespace = await self._client.update(resources.NAMESPACES, objects.with_status(namespace, new_status), "status")
        if remains.nothing:
            kept = [f for f in objects.spec(namespace)["finalizers"] if f != plan.FINALIZER]
            await self._client.update(resources.NAMESPACES, {**namespace, "spec": {**objects.spec(namespace), "finalizers": kept}}, "finalize")
            log.info("Namespace has been emptied", namespace=name)
            self._attempts.pop(name, None)
            return DONE
        attempt = self._attempts[name] = self._attempts.get(name, 0) + 1
        return Result(min(RECHECK_S_MAX, RECHECK_S * 1.5 ** min(attempt - 1, 20)))

    async def _empty(self, namespace: str) -> plan.Remains:
        remains = plan.Remains()
        try:
            found = await discover(self._client)
        except FAILURES as error:
            remains.discovery_failed = {"": str(error)}
            return remains
        remains.discovery_failed = found.failed
        for group in plan.order(found.resources):
            limit = asyncio.Semaphore(PARALLEL_KINDS)
            await asyncio.gather(*(self._empty_kind(limit, namespace, d, remains) for d in group))
            if remains.counts or remains.errors:
                break
        return remains

    async def _empty_kind(self, limit: asyncio.Semaphore, namespace: str, found: Discovered, remains: plan.Remains) -> None:
        async with limit:
            try:
                await self._delete_all(namespace, found)
                left = await self._left(namespace, found)
            except FAILURES as error:
                if status.is_not_found(error) or (isinstance(error, status.ApiError) and error.code == 405):
                    return  # the kind vanished, or cannot be listed: nothing can be there
                remains.errors.append(f"{found.resource.group_resource}: {error}")
                return
            if left:
                remains.counts[f"{found.resource.resource}.{found.resource.group}"] = len(left)
                for obj in left:
                    for finalizer in meta.finalizers(obj):
                        remains.finalizers[finalizer] = remains.finalizers.get(finalizer, 0) + 1

    async def _delete_all(self, namespace: str, found: Discovered) -> None:
        if "deletecollection" in found.verbs:
            await self._client.delete_collection(found.resource, namespace, propagation_policy="Background")
            return
        for obj in await self._left(namespace, found):
            try:
                await self._client.delete(found.resource, namespace, meta.name(obj), propagation_policy="Background")
            except status.ApiError as error:
                if not status.is_not_found(error):
                    raise

    async def _left(self, namespace: str, found: Discovered) -> list[Object]:
        if "list" not in found.verbs:
            return []
        answer = await self._client.list(found.resource, namespace, metadata_only=True)
        return answer.get("items") or []
