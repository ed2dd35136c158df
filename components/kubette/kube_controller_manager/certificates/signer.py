"""Signs approved requests of the built-in signers (upstream's csrsigning)."""

import base64
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


class CSRSigner:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("certificate-controller")
        self._options = context.options
        self._clock = context.clock
        self._requests = context.informer(resources.CERTIFICATESIGNINGREQUESTS)
        self._controller = context.controller("certificate_signing", self.reconcile, (self._requests,), workers=1)
        enqueue = self._controller.enqueue
        self._requests.add_handler(Handler(enqueue, lambda _, new: enqueue(new)))

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, name: str) -> Result:
        csr = self._requests.get(name)
        if csr is None or csr["spec"].get("signerName") not in requests.SIGNERS or not requests.waits_for_signature(csr):
            return DONE
        try:
            certificate = self._sign(csr)
        except requests.RequestError as error:
            await self._fail(csr, str(error))
            return DONE
        signed = {**objects.status(csr), "certificate": base64.b64encode(certificate).decode()}
        await self._client.update(resources.CERTIFICATESIGNINGREQUESTS, objects.with_status(csr, signed), "status")
        log.info("Signed certificate request", csr=name)
        return DONE

    def _sign(self, csr: Object) -> bytes:
        from kubette.kube_controller_manager.certificates.authority import Authority

        spec = csr["spec"]
        usages = list(spec.get("usages") or [])
        requests.validate_for_signer(spec["signerName"], requests.parse(csr), set(usages))
        duration_s = self._options.cluster_signing_duration
        if spec.get("expirationSeconds"):
            # Shorter than ten minutes would be over before it is used; longer than ours is not given.
            duration_s = min(duration_s, max(600.0, float(spec["expirationSeconds"])))
        authority = Authority(self._options.cluster_signing_cert_file, self._options.cluster_signing_key_file)
        return authority.sign(requests.pem_of(csr), usages, duration_s, self._clock.wall())

    async def _fail(self, csr: Object, message: str) -> None:
        if csr["spec"]["signerName"] == requests.LEGACY_UNKNOWN:
            log.info("Ignored a request that cannot be signed", csr=meta.name(csr), err=message)
            return  # the legacy signer never says no
        changed = requests.with_condition(csr, "Failed", "SignerValidationFailure", message, timestamps.format_time(self._clock.wall()))
        await self._client.update(resources.CERTIFICATESIGNINGREQUESTS, changed, "status")
