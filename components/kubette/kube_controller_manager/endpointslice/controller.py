"""Keeps the EndpointSlices of every service that selects pods."""

from typing import Any

from kubette.apimachinery import meta, status
from kubette.client import events, resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.client.resources import Resource
from kubette.kube_controller_manager import service_pods
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.endpointslice import plan
from kubette.kube_controller_manager.service_watch import ServiceWatch

Object = dict[str, Any]

BY_SERVICE = "service"
ZONE = "topology.kubernetes.io/zone"
UNSEEN_RETRY_S = 1.0


def _by_service(one: Object) -> tuple[str, ...]:
    labels = meta.labels(one)
    name = labels.get(plan.SERVICE_NAME)
    return (f"{meta.namespace(one)}/{name}",) if name and labels.get(plan.MANAGED_BY) == plan.MANAGER else ()


class EndpointSliceController:
    resource: Resource = resources.ENDPOINTSLICES

    def __init__(self, context: Context) -> None:
        self._client = context.client_of("endpointslice-controller")
        self._recorder = context.recorder("endpoint-slice-controller", self._client)
        self._per_slice_max = context.options.max_endpoints_per_slice
        self._watch = ServiceWatch(context)
        self._nodes = context.informer(resources.NODES)
        self._slices = context.informer(self.resource, {BY_SERVICE: _by_service})
        caches = (self._watch.services, self._watch.pods, self._nodes, self._slices)
        self._controller = context.controller("endpoint_slice", self.reconcile, caches, context.options.concurrent_service_endpoint_syncs)
        self._watch.connect(self._controller)
        self._slices.on_change(self._slice_changed)
        self._nodes.add_handler(Handler(on_update=self._node_updated))
        # Slices we made that the cache does not show yet: counting without them would make them twice.
        self._unseen: dict[str, set[str]] = {}

    async def run(self) -> None:
        await self._controller.run()

    def _slice_changed(self, one: Object) -> None:
        for key in _by_service(one):
            self._unseen.get(key, set()).discard(meta.name(one))
            self._controller.enqueue_key(key)

    def _node_updated(self, old: Object, new: Object) -> None:
        if meta.labels(old).get(ZONE) != meta.labels(new).get(ZONE):
            for service in self._watch.services.list():
                self._controller.enqueue(service)

    async def reconcile(self, key: str) -> Result:
        service = self._watch.services.get(key)
        if service is None:
            self._unseen.pop(key, None)
            return DONE  # the garbage collector takes the slices: the service owns them
        if not service_pods.has_endpoints(service):
            return DONE
        if self._unseen.get(key):
            # The event of the slice brings us back; should it have been deleted unseen, this does.
            self._unseen[key].clear()
            return Result(UNSEEN_RETRY_S)
        members = self._watch.members(service, include_terminating=True)
        zones = {meta.name(n): zone for n in self._nodes.list() if (zone := meta.labels(n).get(ZONE))}
        existing = self._slices.store.by_index(BY_SERVICE, key)
        decided = plan.plan_slices(service, members, existing, zones, self._per_slice_max)
        try:
            await self._carry_out(key, decided)
        except status.ApiError as error:
            if any(c.get("reason") == "NamespaceTerminating" for c in error.details.get("causes") or ()):
                return DONE
            if not status.is_conflict(error) and not status.is_not_found(error):
                reference = {**service, "apiVersion": "v1", "kind": "Service"}
                message = f"Error updating Endpoint Slices for Service {key}: {error}"
                self._recorder.event(reference, events.WARNING, "FailedToUpdateEndpointSlices", message)
            raise
        return DONE

    async def _carry_out(self, key: str, decided: plan.Plan) -> None:
        # Additions before removals: a moment with an endpoint too many is better than one with too few.
        for one in decided.create:
            created = await self._client.create(self.resource, meta.namespace(one), one)
            if self._slices.get(f"{meta.namespace(one)}/{meta.name(created)}") is None:
                self._unseen.setdefault(key, set()).add(meta.name(created))
        for one in decided.update:
            await self._client.update(self.resource, one)
        for one in decided.delete:
            try:
                await self._client.delete(self.resource, meta.namespace(one), meta.name(one), uid=meta.uid(one))
            except status.ApiError as error:
                if not status.is_not_found(error):
                    raise
