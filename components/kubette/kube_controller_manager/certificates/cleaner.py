"""Deletes certificate requests that are done or forgotten (upstream's csrcleaner)."""

import asyncio
import base64
from typing import Any

from kubette.apimachinery import meta, status, timestamps
from kubette.client import resources
from kubette.component_base import logs
from kubette.kube_controller_manager import objects
from kubette.kube_controller_manager.context import Context

Object = dict[str, Any]

log = logs.logger(__name__)

PERIOD_S = 3600.0
DECIDED_S = 3600.0  # approved, denied or failed
PENDING_S = 24 * 3600.0


def why_delete(csr: Object, certificate_expired: bool, now: float) -> str | None:
    """Pure: the reason to delete a request, None to keep it."""
    if certificate_expired:
        return "its certificate has expired"
    conditions = {c["type"]: c for c in objects.status(csr).get("conditions") or []}
    for kind in ("Approved", "Denied", "Failed"):
        condition = conditions.get(kind)
        stamp = condition.get("lastUpdateTime") if condition else None
        if stamp and now - timestamps.parse_time(stamp) > DECIDED_S:
            return f"it was {kind} more than an hour ago"
    created = meta.creation_timestamp(csr)
    if not conditions and created and now - timestamps.parse_time(created) > PENDING_S:
        return "it was pending for more than a day"
    return None


def _is_expired(csr: Object, now: float) -> bool:
    encoded = objects.status(csr).get("certificate")
    if not encoded:
        return False
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificates(base64.b64decode(encoded))[0]
    except (ValueError, IndexError):
        return False
    return certificate.not_valid_after_utc.timestamp() < now


class CSRCleaner:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("certificate-controller")
        self._clock = context.clock
        self._requests = context.informer(resources.CERTIFICATESIGNINGREQUESTS)

    async def run(self) -> None:
        await self._requests.wait_synced()
        while True:
            for csr in self._requests.list():
                now = self._clock.wall()
                reason = why_delete(csr, _is_expired(csr, now), now)
                if reason is not None:
                    await self._delete(csr, reason)
            await asyncio.sleep(PERIOD_S)

    async def _delete(self, csr: Object, reason: str) -> None:
        try:
            await self._client.delete(resources.CERTIFICATESIGNINGREQUESTS, "", meta.name(csr), uid=meta.uid(csr))
            log.info("Deleted certificate request", csr=meta.name(csr), reason=reason)
        except status.ApiError as error:
            log.v(2, "Certificate request not deleted", csr=meta.name(csr), err=error)
