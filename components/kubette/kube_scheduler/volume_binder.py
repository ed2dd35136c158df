"""Writes down which volumes a pod was given, and waits until its claims are bound, before the pod is (upstream: volumebinding/binder.go, PreBind)."""

import asyncio
from typing import Any

from kubette.api import volumes
from kubette.apimachinery import meta
from kubette.client import resources
from kubette.client.informer import InformerFactory
from kubette.client.rest import Client
from kubette.kube_scheduler.framework import Storage
from kubette.kube_scheduler.plugins.volume_binding import Choice

Object = dict[str, Any]

BIND_TIMEOUT_S = 600.0  # upstream's bindTimeoutSeconds


class BindError(Exception):
    """The claims were not bound; the pod is to be decided anew."""


class VolumeBinder:
    """The scheduler's picture of claims, volumes and classes, and its writes to them."""

    def __init__(self, client: Client, factory: InformerFactory) -> None:
        self._client = client
        self._claims = factory.informer(resources.PERSISTENTVOLUMECLAIMS)
        self._volumes = factory.informer(resources.PERSISTENTVOLUMES)
        self._classes = factory.informer(resources.STORAGECLASSES)
        self.caches = (self._claims, self._volumes, self._classes)
        self._change = asyncio.Event()
        self._claims.on_change(self._changed)

    def _changed(self, _: Object) -> None:
        self._change.set()
        self._change = asyncio.Event()

    def storage(self) -> Storage:
        return Storage(
            {meta.key(one): one for one in self._claims.list()},
            {meta.name(one): one for one in self._volumes.list()},
            {meta.name(one): one for one in self._classes.list()},
        )

    async def bind(self, chosen: Choice, node: str) -> None:
        """Reserve the volumes, tell the provisioners which node it is, wait for the binder. Raises BindError, and what the client raises."""
        for claim, volume in chosen.reserve:
            await self._client.update(resources.PERSISTENTVOLUMES, volumes.reserved_for(volume, claim))
        for claim in chosen.provision:
            marks = {**meta.annotations(claim), volumes.SELECTED_NODE: node}
            await self._client.update(resources.PERSISTENTVOLUMECLAIMS, {**claim, "metadata": {**claim["metadata"], "annotations": marks}})
        waiting = [claim for claim, _ in chosen.reserve] + list(chosen.provision)
        try:
            async with asyncio.timeout(BIND_TIMEOUT_S):
                while not all(self._is_bound(claim) for claim in waiting):
                    await self._change.wait()
        except TimeoutError:
            raise BindError("binding volumes: context deadline exceeded") from None

    def _is_bound(self, claim: Object) -> bool:
        """Raises BindError for a claim that is gone."""
        now = self._claims.get(meta.key(claim))
        if now is None or meta.uid(now) != meta.uid(claim):
            raise BindError(f'binding volumes: persistentvolumeclaim "{meta.name(claim)}" not found')
        return volumes.BIND_COMPLETED in meta.annotations(now)
