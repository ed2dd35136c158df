"""How the server's own parts read what is stored: straight from the watch caches."""

from typing import Any

from kubette.apimachinery.status import ApiError
from kubette.kube_apiserver.resources import Resources
from kubette.kube_apiserver.storage import keys
from kubette.kube_apiserver.storage.store import Store

Object = dict[str, Any]


class CacheLister:
    """`admission.interfaces.Lister`. What is not found is looked for once more behind a consistent read: a write through another server,
    or one whose event is still on its way, must not look like an absence."""

    def __init__(self) -> None:
        self._resources: Resources | None = None
        self._lists: dict[tuple[str, str, str], tuple[tuple[int, int], list[Object]]] = {}

    def bind(self, resources: Resources) -> None:
        """The plugins are built before the resources; this joins them."""
        self._resources = resources

    async def _store(self, group: str, resource: str) -> Store | None:
        assert self._resources is not None, "lister used before bind"
        found = self._resources.by_group(group, resource)
        if found is None or found.store is None:
            return None
        if not found.store.cacher.ready:
            await found.store.wait_ready()
        return found.store

    async def get(self, group: str, resource: str, namespace: str, name: str) -> Object | None:
        store = await self._store(group, resource)
        if store is None or not name:
            return None
        found = store.cacher.items.get(keys.relative_key(store.kind, namespace, name))
        if found is None:
            try:
                found = await store.find(namespace, name)
            except ApiError:
                return None
        return found.shared() if found is not None else None

    async def list(self, group: str, resource: str, namespace: str = "") -> list[Object]:
        store = await self._store(group, resource)
        if store is None:
            return []
        cacher = store.cacher
        stamp = (cacher.incarnation, cacher.end)
        kept = self._lists.get((group, resource, namespace))
        if kept is not None and kept[0] == stamp:
            return kept[1]
        objects = [cacher.items[key].shared() for key in cacher.select(namespace)]
        if len(self._lists) > 1000:  # namespaces come and go
            self._lists.clear()
        self._lists[group, resource, namespace] = (stamp, objects)
        return objects

    async def version(self, group: str, resource: str) -> int:
        store = await self._store(group, resource)
        return store.cacher.incarnation << 48 | store.cacher.end if store is not None else 0
