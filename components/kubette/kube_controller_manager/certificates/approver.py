"""Approves kubelet client certificates when the asker may have them: TLS bootstrap and its renewal (upstream's csrapproving)."""

from typing import Any

from kubette.apimachinery import meta, timestamps
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.component_base import logs
from kubette.kube_controller_manager import objects
from kubette.kube_controller_manager.certificates import requests
from kubette.kube_controller_manager.context import Context

Object = dict[str, Any]

log = logs.logger(__name__)

_RECOGNIZERS = (
    (requests.is_self_node_client, "selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
    (requests.is_node_client, "nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
)


class CSRApprover:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("certificate-controller")
        self._clock = context.clock
        self._requests = context.informer(resources.CERTIFICATESIGNINGREQUESTS)
        self._controller = context.controller("certificate_approving", self.reconcile, (self._requests,), workers=1)
        enqueue = self._controller.enqueue
        self._requests.add_handler(Handler(enqueue, lambda _, new: enqueue(new)))

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, name: str) -> Result:
        csr = self._requests.get(name)
        if csr is None or (objects.status(csr)).get("certificate") or requests.is_decided(csr):
            return DONE
        if csr["spec"].get("signerName") != requests.KUBE_APISERVER_CLIENT_KUBELET:
            return DONE
        try:
            request = requests.parse(csr)
        except requests.RequestError as error:
            log.v(2, "Certificate request could not be read", csr=name, err=error)
            return DONE
        tried = []
        for recognizes, subresource, message in _RECOGNIZERS:
            if not recognizes(csr, request):
                continue
            tried.append(subresource)
            if await self._may(csr, subresource):
                await self._approve(csr, message)
                return DONE
        if tried:
            log.info("Recognized certificate request, but its asker may not have it approved", csr=name, subresources=",".join(tried))
        return DONE

    async def _may(self, csr: Object, subresource: str) -> bool:
        spec = csr["spec"]
        attributes = {"group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create", "subresource": subresource}
        review: Object = {
            "user": spec.get("username", ""),
            "uid": spec.get("uid", ""),
            "groups": spec.get("groups") or [],
            "resourceAttributes": attributes,
        }
        if spec.get("extra"):
            review["extra"] = spec["extra"]
        answer = await self._client.create(resources.SUBJECTACCESSREVIEWS, "", {"spec": review})
        return bool((answer.get("status") or {}).get("allowed"))

    async def _approve(self, csr: Object, message: str) -> None:
        changed = requests.with_condition(csr, "Approved", "AutoApproved", message, timestamps.format_time(self._clock.wall()))
        await self._client.update(resources.CERTIFICATESIGNINGREQUESTS, changed, "approval")
        log.info("Approved certificate request", csr=meta.name(csr))
