"""Which services a change of a pod concerns: the informer part that both endpoint controllers share."""

from typing import Any

from kubette.apimachinery import meta
from kubette.client import resources
from kubette.client.controller import Controller
from kubette.client.informer import Handler, Informer
from kubette.client.store import by_namespace
from kubette.kube_controller_manager import service_pods
from kubette.kube_controller_manager.context import Context

Object = dict[str, Any]

NAMESPACE = "namespace"


class ServiceWatch:
    """Enqueues services into one controller when they or their pods change."""

    def __init__(self, context: Context) -> None:
        self.services: Informer = context.informer(resources.SERVICES, {NAMESPACE: by_namespace})
        self.pods: Informer = context.informer(resources.PODS, {NAMESPACE: by_namespace})

    def connect(self, controller: Controller) -> None:
        def services_of(pod: Object) -> None:
            if not meta.labels(pod):
                return
            for service in self.services.store.by_index(NAMESPACE, meta.namespace(pod)):
                if service_pods.selects(service, pod):
                    controller.enqueue(service)

        def pod_updated(old: Object, new: Object) -> None:
            if service_pods.significant(old) != service_pods.significant(new):
                services_of(new)
                if meta.labels(old) != meta.labels(new):
                    services_of(old)

        self.services.on_change(controller.enqueue)
        self.pods.add_handler(Handler(services_of, pod_updated, services_of))

    def members(self, service: Object, include_terminating: bool) -> list[Object]:
        """The service's pods that have an address, in a stable order."""
        candidates = self.pods.store.by_index(NAMESPACE, meta.namespace(service))
        found = [p for p in candidates if service_pods.selects(service, p) and service_pods.belongs(p, include_terminating)]
        return sorted(found, key=meta.name)
