"""ConfigMaps and Secrets that pods refer to, each followed by a watch of its own while a pod needs it (util/manager's watch strategy).

A node may read only what its pods refer to, one by one: the Node authorizer allows no list of all.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from kubette.client import resources
from kubette.client.informer import Informer
from kubette.client.rest import Client
from kubette.kubelet.start_error import StartError
from kubette.stdx.tasks import Scope

Object = dict[str, Any]
Key = tuple[str, str, str]  # configmaps|secrets, namespace, name

SYNC_TIMEOUT_S = 10.0
_RESOURCES = {"configmaps": resources.CONFIGMAPS, "secrets": resources.SECRETS}


class ObjectCache:
    """`changed(uid)` is called for every pod that uses an object that changed."""

    def __init__(self, client: Client | None, scope: Scope, changed: Callable[[str], None]) -> None:
        self._client, self._scope, self._changed = client, scope, changed
        self._informers: dict[Key, tuple[Informer, asyncio.Task[Any]]] = {}
        self._users: dict[Key, set[str]] = {}

    async def get(self, uid: str, kind: str, namespace: str, name: str) -> Object | None:
        """The object as the API server has it, None if it does not exist. Raises StartError when that cannot be known."""
        if self._client is None:
            raise StartError("CreateContainerConfigError", f'cannot read {kind[:-1]} "{name}": the kubelet runs without an API server')
        key = (kind, namespace, name)
        self._users.setdefault(key, set()).add(uid)
        if key not in self._informers:
            informer = Informer(self._client, _RESOURCES[kind], namespace, field_selector=f"metadata.name={name}")
            informer.on_change(lambda _: self._tell(key))
            self._informers[key] = informer, self._scope.start(informer.run(), name=f"watch {kind} {namespace}/{name}")
        informer, _ = self._informers[key]
        try:
            async with asyncio.timeout(SYNC_TIMEOUT_S):
                await informer.wait_synced()
        except TimeoutError:
            raise StartError("CreateContainerConfigError", f"failed to sync {kind[:-1]} cache: timed out waiting for the condition") from None
        return informer.get(f"{namespace}/{name}")

    def _tell(self, key: Key) -> None:
        for uid in sorted(self._users.get(key, ())):
            self._changed(uid)

    def release(self, uid: str) -> None:
        """The pod is gone; what no other pod uses is no longer followed."""
        for key in list(self._users):
            self._users[key].discard(uid)
            if not self._users[key]:
                del self._users[key]
                _, task = self._informers.pop(key, (None, None))
                if task is not None:
                    task.cancel()

    def statistics(self) -> dict[str, int]:
        return {"watched": len(self._informers)}
