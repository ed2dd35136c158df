"""Keeps the Endpoints object of every service that selects pods."""

from typing import Any

from kubette.apimachinery import status
from kubette.client import events, resources
from kubette.client.controller import DONE, Result
from kubette.client.store import split_key
from kubette.component_base import version
from kubette.kube_controller_manager import service_pods
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.endpoints import plan
from kubette.kube_controller_manager.service_watch import ServiceWatch

Object = dict[str, Any]


class EndpointsController:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("endpoint-controller")
        self._recorder = context.recorder("endpoint-controller", self._client)
        self._watch = ServiceWatch(context)
        self._endpoints = context.informer(resources.ENDPOINTS)
        caches = (self._watch.services, self._watch.pods, self._endpoints)
        self._controller = context.controller("endpoint", self.reconcile, caches, context.options.concurrent_endpoint_syncs)
        self._watch.connect(self._controller)
        self._endpoints.on_change(self._controller.enqueue)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result:
        service, existing = self._watch.services.get(key), self._endpoints.get(key)
        if service is None:
            await self._delete_leftover(key, existing)
            return DONE
        if not service_pods.has_endpoints(service):
            return DONE
        members = self._watch.members(service, include_terminating=bool((service["spec"]).get("publishNotReadyAddresses")))
        wanted = plan.plan_endpoints(service, members, existing, managed_label=version.major_minor() >= (1, 33))
        if wanted is None:
            return DONE
        try:
            if existing is None:
                await self._client.create(resources.ENDPOINTS, split_key(key)[0], wanted)
            else:
                await self._client.update(resources.ENDPOINTS, wanted)
        except status.ApiError as error:
            if any(c.get("reason") == "NamespaceTerminating" for c in error.details.get("causes") or ()):
                return DONE
            if not status.is_conflict(error) and not status.is_already_exists(error):
                verb, reason = ("create", "FailedToCreateEndpoint") if existing is None else ("update", "FailedToUpdateEndpoint")
                reference = {**wanted, "apiVersion": "v1", "kind": "Endpoints"}
                self._recorder.event(reference, events.WARNING, reason, f"Failed to {verb} endpoint {key}: {error}")
            raise
        return DONE

    async def _delete_leftover(self, key: str, existing: Object | None) -> None:
        """The service is gone; an Endpoints object of its name that nobody else keeps up goes too."""
        if existing is None or "control-plane.alpha.kubernetes.io/leader" in ((existing["metadata"].get("annotations")) or {}):
            return
        namespace, name = split_key(key)
        if (existing["metadata"].get("annotations") or {}).get(service_pods.TRIGGER_TIME) is None:
            return  # not made by us: the API server's own, or an administrator's
        try:
            await self._client.delete(resources.ENDPOINTS, namespace, name, uid=existing["metadata"].get("uid", ""))
        except status.ApiError as error:
            if not status.is_not_found(error):
                raise
