"""Keeps the `default` service account in every namespace that is not going away."""

from typing import Any

from kubette.apimachinery import meta, status
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.kube_controller_manager.context import Context

Object = dict[str, Any]

NAME = "default"


def needs_account(namespace: Object | None) -> bool:
    return namespace is not None and (namespace.get("status") or {}).get("phase") != "Terminating" and not meta.is_being_deleted(namespace)


class ServiceAccountController:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("service-account-controller")
        self._namespaces = context.informer(resources.NAMESPACES)
        self._accounts = context.informer(resources.SERVICEACCOUNTS)
        caches = (self._namespaces, self._accounts)
        self._controller = context.controller("serviceaccount", self.reconcile, caches, context.options.concurrent_serviceaccount_syncs)
        enqueue = self._controller.enqueue
        self._namespaces.add_handler(Handler(enqueue, lambda _, new: enqueue(new)))
        self._accounts.add_handler(Handler(on_delete=lambda account: self._controller.enqueue_key(meta.namespace(account))))

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, name: str) -> Result:
        if needs_account(self._namespaces.get(name)) and self._accounts.get(f"{name}/{NAME}") is None:
            try:
                await self._client.create(resources.SERVICEACCOUNTS, name, {"metadata": {"name": NAME, "namespace": name}})
            except status.ApiError as error:
                # It is there already (the cache lags), or the namespace began to go away just now.
                if not status.is_already_exists(error) and not (error.code == 403 and "being terminated" in error.message):
                    raise
        return DONE
