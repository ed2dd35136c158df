"""Signs the ConfigMap cluster-info in kube-public with every bootstrap token that may (upstream's bootstrapsigner)."""

from typing import Any

from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.kube_controller_manager.bootstrap import tokens
from kubette.kube_controller_manager.context import Context

Object = dict[str, Any]

CLUSTER_INFO = "kube-public/cluster-info"


class BootstrapSigner:
    """One key: the ConfigMap. Tokens that end take their signature with them."""

    def __init__(self, context: Context) -> None:
        self._client = context.client_of("bootstrap-signer")
        self._clock = context.clock
        self._config_maps = context.informer(resources.CONFIGMAPS, namespace="kube-public", field_selector="metadata.name=cluster-info")
        self._secrets = context.informer(resources.SECRETS, namespace=tokens.NAMESPACE, field_selector=f"type={tokens.SECRET_TYPE}")
        self._controller = context.controller("bootstrap_signer", self.reconcile, (self._config_maps, self._secrets), workers=1)
        for informer in (self._config_maps, self._secrets):
            informer.on_change(lambda _: self._controller.enqueue_key(CLUSTER_INFO))

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result:
        config_map = self._config_maps.get(key)
        if config_map is None:
            return DONE
        now = self._clock.wall()
        secrets = self._secrets.list()
        pairs = dict(pair for s in secrets if (pair := tokens.signing_token(s, now)) is not None)
        data = tokens.signed_data(config_map.get("data") or {}, pairs)
        if data != (config_map.get("data") or {}):
            await self._client.update(resources.CONFIGMAPS, {**config_map, "data": data})
        ends = [at - now for s in secrets if (at := tokens.expires_at(s)) is not None and at > now]
        return Result(min(ends)) if ends else DONE
