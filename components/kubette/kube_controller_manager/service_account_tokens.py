"""A controller's own identity: a token for its service account in kube-system, asked for by TokenRequest and renewed in time.

This is upstream's dynamic client builder, what --use-service-account-credentials switches on.
"""

import asyncio
from typing import Any

from kubette.apimachinery import status
from kubette.client import resources
from kubette.client.rest import Client
from kubette.stdx.clock import Clock

NAMESPACE = "kube-system"
EXPIRATION_S = 3600
RENEW_AFTER = 0.8  # of its life


class ServiceAccountTokens:
    """Tokens of one service account. `root` is the client that may create accounts and their tokens."""

    def __init__(self, root: Client, account: str, clock: Clock) -> None:
        self._root, self._account, self._clock = root, account, clock
        self._token = ""
        self._renew_at = 0.0
        self._asking = asyncio.Lock()

    def invalidate(self) -> None:
        self._token = ""

    async def token(self) -> str:
        """A token that is good for a while; the first call makes the account if need be."""
        if not self._token or self._clock.monotonic() >= self._renew_at:
            async with self._asking:
                if not self._token or self._clock.monotonic() >= self._renew_at:
                    await self._renew()
        return self._token

    async def _renew(self) -> None:
        body: dict[str, Any] = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": EXPIRATION_S}}
        try:
            answer = await self._request(body)
        except status.ApiError as error:
            if not status.is_not_found(error):
                raise
            await self._ensure_account()
            answer = await self._request(body)
        self._token = answer["status"]["token"]
        life_s = float((answer.get("spec") or {}).get("expirationSeconds") or EXPIRATION_S)
        self._renew_at = self._clock.monotonic() + life_s * RENEW_AFTER

    async def _request(self, body: dict[str, Any]) -> dict[str, Any]:
        return await self._root.create(resources.SERVICEACCOUNTS, NAMESPACE, body, name=self._account, subresource="token")

    async def _ensure_account(self) -> None:
        """The account, and its namespace when a new cluster's has not been made yet (creating that needs rights we may not have)."""
        for resource, namespace, name in ((resources.NAMESPACES, "", NAMESPACE), (resources.SERVICEACCOUNTS, NAMESPACE, self._account)):
            try:
                await self._root.get(resource, namespace, name)
                continue
            except status.ApiError as error:
                if not status.is_not_found(error):
                    raise
            try:
                await self._root.create(resource, namespace, {"metadata": {"name": name}})
            except status.ApiError as error:
                if not status.is_already_exists(error):
                    raise
