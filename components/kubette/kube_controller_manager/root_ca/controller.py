"""Publishes --root-ca-file into every namespace and repairs it when someone changes it."""

from pathlib import Path
from typing import Any

from kubette.apimachinery import meta, status
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.kube_controller_manager.context import Context

Object = dict[str, Any]

NAME = "kube-root-ca.crt"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or"
    " kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
)


class RootCAPublisher:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("root-ca-cert-publisher")
        self._ca = Path(context.options.root_ca_file).read_text()
        self._namespaces = context.informer(resources.NAMESPACES)
        self._config_maps = context.informer(resources.CONFIGMAPS, field_selector=f"metadata.name={NAME}")
        self._controller = context.controller("root_ca_cert_publisher", self.reconcile, (self._namespaces, self._config_maps))
        enqueue = self._controller.enqueue
        self._namespaces.add_handler(Handler(enqueue, lambda _, new: enqueue(new)))
        self._config_maps.add_handler(Handler(on_update=lambda _, new: self._enqueue_namespace(new), on_delete=self._enqueue_namespace))

    def _enqueue_namespace(self, config_map: Object) -> None:
        self._controller.enqueue_key(meta.namespace(config_map))

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, name: str) -> Result:
        namespace = self._namespaces.get(name)
        if namespace is None or meta.is_being_deleted(namespace):
            return DONE
        existing = self._config_maps.get(f"{name}/{NAME}")
        annotations = {"kubernetes.io/description": DESCRIPTION}
        data = {"ca.crt": self._ca}
        if existing is None:
            try:
                await self._client.create(resources.CONFIGMAPS, name, {"metadata": {"name": NAME, "annotations": annotations}, "data": data})
            except status.ApiError as error:
                if not status.is_already_exists(error) and not (error.code == 403 and "being terminated" in error.message):
                    raise
        elif existing.get("data") != data or not meta.annotations(existing).get("kubernetes.io/description"):
            metadata = {**existing["metadata"], "annotations": {**meta.annotations(existing), **annotations}}
            await self._client.update(resources.CONFIGMAPS, {**existing, "metadata": metadata, "data": data})
        return DONE
