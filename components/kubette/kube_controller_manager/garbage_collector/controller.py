"""Watches the metadata of every kind that can be deleted, and deletes what lost its owners (upstream's garbagecollector).

Nothing is deleted on the graph's word alone: object and owners are read from the server first, and the deletion carries the uid and
version that were judged.
"""

import asyncio
from collections import OrderedDict
from typing import Any

from kubette.apimachinery import meta, status
from kubette.client.controller import DONE, Result
from kubette.client.discovery import Discovery, discover
from kubette.client.informer import Handler, Informer
from kubette.client.resources import Resource
from kubette.client.rest import FAILURES, PatchType
from kubette.component_base import logs
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.garbage_collector import graph
from kubette.stdx.tasks import Scope

Object = dict[str, Any]

log = logs.logger(__name__)

DISCOVERY_PERIOD_S = 30.0
ABSENT_OWNERS_MAX = 500
IGNORED = frozenset({("", "events"), ("events.k8s.io", "events")})


def _metadata_only(obj: Object) -> Object:
    """Whatever the server answered: only what the graph needs is kept."""
    kept = ("name", "namespace", "uid", "resourceVersion", "ownerReferences", "finalizers", "deletionTimestamp")
    return {"metadata": {k: v for k, v in obj["metadata"].items() if k in kept}}


class GarbageCollector:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("generic-garbage-collector")
        self._context = context
        self._graph = graph.Graph()
        self._discovery = Discovery()
        self._monitors: dict[Resource, Informer] = {}
        self._monitor_tasks: dict[Resource, asyncio.Task[Any]] = {}
        self._absent: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._controller = context.controller("garbage_collector_attempt_to_delete", self.reconcile, (), context.options.concurrent_gc_syncs)

    async def run(self) -> None:
        async with Scope() as scope:
            await self._sync_monitors(scope)
            # Judging before everything has been seen once would only cause questions to the server.
            for informer in list(self._monitors.values()):
                await informer.wait_synced()
            scope.start(self._keep_monitors(scope), "garbage collector discovery")
            scope.start(self._controller.run(), "garbage collector")
            await scope.wait()

    # Monitors

    async def _keep_monitors(self, scope: Scope) -> None:
        while True:
            await asyncio.sleep(DISCOVERY_PERIOD_S)
            await self._sync_monitors(scope)

    async def _sync_monitors(self, scope: Scope) -> None:
        """Follow the kinds the server has; kinds of a group that cannot be asked stay as they are."""
        try:
            found = await discover(self._client)
        except FAILURES as error:
            log.error("Discovery failed", err=error)
            return
        wanted = {
            d.resource for d in found.resources if {"delete", "list", "watch"} <= d.verbs and (d.resource.group, d.resource.resource) not in IGNORED
        }
        self._discovery = found
        for resource in sorted(wanted - set(self._monitors), key=lambda r: r.group_resource):
            self._start_monitor(resource, scope)
        for resource in set(self._monitors) - wanted:
            if resource.api_version not in found.failed:
                self._stop_monitor(resource)

    def _start_monitor(self, resource: Resource, scope: Scope) -> None:
        shared = self._context.informers.find(resource)
        if shared is None:
            # Read with the rights of the process: the shared informers' identity.
            informer = Informer(self._client, resource, transform=_metadata_only, metadata_only=True)
            self._monitor_tasks[resource] = scope.start(informer.run(), f"garbage collector {resource.group_resource}")
        else:
            informer = shared
        self._monitors[resource] = informer
        informer.add_handler(Handler(lambda o: self._put(resource, o), lambda _, o: self._put(resource, o), lambda o: self._remove(o)))

    def _stop_monitor(self, resource: Resource) -> None:
        informer = self._monitors.pop(resource)
        task = self._monitor_tasks.pop(resource, None)
        if task is not None:
            task.cancel()
        for obj in informer.list():
            self._remove(obj)

    def _put(self, resource: Resource, obj: Object) -> None:
        for uid in self._graph.put(graph.node_of(resource, obj)):
            self._controller.enqueue_key(uid)

    def _remove(self, obj: Object) -> None:
        for uid in self._graph.remove(meta.uid(obj)):
            self._controller.enqueue_key(uid)

    # Judging

    async def reconcile(self, uid: str) -> Result:
        node = self._graph.get(uid)
        if node is None or self._is_well(node):
            return DONE
        live = await self._read(node.resource, node.namespace, node.name)
        if live is None or meta.uid(live) != uid:
            return DONE  # gone, or another object of that name: the monitor will say so
        node = graph.node_of(node.resource, live)
        if node.orphaning:
            await self._orphan_dependents(node, live)
            return DONE
        if node.foreground:
            await self._continue_foreground(node, live)
            return DONE
        if node.deleting or not node.owners:
            return DONE
        solid, dangling, waiting = await self._classify(node)
        if solid:
            if dangling or waiting:
                await self._drop_references(node, live, [o["uid"] for o in dangling + waiting])
        elif waiting and self._graph.dependents(uid):
            if any(d.foreground for d in self._graph.dependents(uid)):
                await self._unblock(node, live)  # a circle: nobody would ever be first
            await self._delete(node, live, "Foreground")
        else:
            finalizers = meta.finalizers(live)
            policy = "Orphan" if meta.ORPHAN_DEPENDENTS in finalizers else "Foreground" if meta.DELETE_DEPENDENTS in finalizers else "Background"
            await self._delete(node, live, policy)
        return DONE

    def _is_well(self, node: graph.Node) -> bool:
        """Nothing to do as far as the graph knows: should one of the owners go, we are called again."""
        if node.foreground or node.orphaning:
            return False
        owners = [self._graph.get(uid) for uid in node.owner_uids]
        return all(owner is not None and not owner.foreground for owner in owners)

    async def _read(self, resource: Resource, namespace: str, name: str) -> Object | None:
        try:
            return await self._client.get(resource, namespace, name)
        except status.ApiError as error:
            if status.is_not_found(error):
                return None
            raise

    async def _classify(self, node: graph.Node) -> tuple[list[Object], list[Object], list[Object]]:
        """The owners that keep it, that are gone, that wait for it to go."""
        solid: list[Object] = []
        dangling: list[Object] = []
        waiting: list[Object] = []
        for owner in node.owners:
            found = await self._owner(node, owner)
            if found is None:
                dangling.append(owner)
            elif meta.is_being_deleted(found) and meta.DELETE_DEPENDENTS in meta.finalizers(found):
                waiting.append(owner)
            else:
                solid.append(owner)
        return solid, dangling, waiting

    async def _owner(self, node: graph.Node, owner: Object) -> Object | None:
        """The owner as the server has it; None when it surely does not exist."""
        if (owner["uid"], node.namespace) in self._absent:
            return None
        resource = self._discovery.by_kind(owner["apiVersion"], owner["kind"])
        if resource is None:
            # An unknown kind proves nothing: its API may be down, or not installed yet.
            raise status.ApiError(404, "NotFound", f"no matches for kind {owner['kind']!r} in version {owner['apiVersion']!r}")
        if resource.namespaced and not node.namespace:
            log.warning("Cluster-scoped object refers to a namespaced owner", name=node.name, owner=f"{owner['kind']}/{owner['name']}")
            return {"metadata": {"uid": owner["uid"]}}  # an invalid reference must never cause a deletion
        found = await self._read(resource, node.namespace if resource.namespaced else "", owner["name"])
        if found is None or meta.uid(found) != owner["uid"]:
            self._absent[owner["uid"], node.namespace] = None
            if len(self._absent) > ABSENT_OWNERS_MAX:
                self._absent.popitem(last=False)
            return None
        return found

    # Acting

    async def _delete(self, node: graph.Node, live: Object, policy: str) -> None:
        log.v(2, "Deleting item", kind=node.resource.kind, item=f"{node.namespace}/{node.name}", propagationPolicy=policy)
        try:
            await self._client.delete(
                node.resource, node.namespace, node.name, uid=node.uid, resource_version=meta.resource_version(live), propagation_policy=policy
            )
        except status.ApiError as error:
            if not status.is_not_found(error):
                raise

    async def _patch(self, node: graph.Node, live: Object, changes: Object) -> None:
        """A merge patch of metadata, valid only for the version judged."""
        metadata = {"uid": node.uid, "resourceVersion": meta.resource_version(live), **changes}
        try:
            await self._client.patch(node.resource, node.namespace, node.name, {"metadata": metadata}, PatchType.MERGE)
        except status.ApiError as error:
            if not status.is_not_found(error):
                raise

    async def _drop_references(self, node: graph.Node, live: Object, uids: list[str]) -> None:
        kept = [o for o in meta.owner_references(live) if o["uid"] not in uids]
        await self._patch(node, live, {"ownerReferences": kept or None})

    async def _unblock(self, node: graph.Node, live: Object) -> None:
        unblocked = [{**o, "blockOwnerDeletion": False} for o in meta.owner_references(live)]
        await self._patch(node, live, {"ownerReferences": unblocked})
        raise status.conflict(node.resource.group_resource, node.name)  # judged anew with its new version

    async def _continue_foreground(self, node: graph.Node, live: Object) -> None:
        blocking = self._graph.blocking(node.uid)
        if not blocking:
            await self._remove_finalizer(node, live, meta.DELETE_DEPENDENTS)
            return
        for dependent in blocking:
            if not dependent.foreground:
                self._controller.enqueue_key(dependent.uid)

    async def _orphan_dependents(self, node: graph.Node, live: Object) -> None:
        for dependent in self._graph.dependents(node.uid):
            found = await self._read(dependent.resource, dependent.namespace, dependent.name)
            if found is not None and meta.uid(found) == dependent.uid:
                await self._drop_references(dependent, found, [node.uid])
        await self._remove_finalizer(node, live, meta.ORPHAN_DEPENDENTS)

    async def _remove_finalizer(self, node: graph.Node, live: Object, finalizer: str) -> None:
        kept = [f for f in meta.finalizers(live) if f != finalizer]
        await self._patch(node, live, {"finalizers": kept or None})
