"""Deletes bootstrap tokens when they expire (upstream's tokencleaner)."""

from typing import Any

from kubette.apimachinery import meta, status
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.component_base import logs
from kubette.kube_controller_manager.bootstrap import tokens
from kubette.kube_controller_manager.context import Context

Object = dict[str, Any]

log = logs.logger(__name__)


class TokenCleaner:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("token-cleaner")
        self._clock = context.clock
        self._secrets = context.informer(resources.SECRETS, namespace=tokens.NAMESPACE, field_selector=f"type={tokens.SECRET_TYPE}")
        self._controller = context.controller("token_cleaner", self.reconcile, (self._secrets,), workers=1)
        enqueue = self._controller.enqueue
        self._secrets.add_handler(Handler(enqueue, lambda _, new: enqueue(new)))

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result:
        secret = self._secrets.get(key)
        expires = tokens.expires_at(secret) if secret is not None else None
        if secret is None or expires is None:
            return DONE
        left_s = expires - self._clock.wall()
        if left_s > 0:
            return Result(left_s)
        try:
            # The version too: a token that was prolonged meanwhile must live.
            await self._client.delete(
                resources.SECRETS, tokens.NAMESPACE, meta.name(secret), uid=meta.uid(secret), resource_version=meta.resource_version(secret)
            )
            log.info("Deleted expired bootstrap token", secret=key)
        except status.ApiError as error:
            if not status.is_not_found(error):
                raise
        return DONE
