"""Informers: a read-only cache of a resource that tells its handlers what changed, shared by everyone in the process (client-go's SharedInformer).

Handlers are plain functions called in order, in the one task of the informer; they only put keys into queues. A handler added late is
told of every cached object as an addition. Cached objects are shared: whoever wants to change one copies it first.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kubette.client.reflector import Reflector
from kubette.client.resources import Resource
from kubette.client.rest import Client
from kubette.client.store import IndexFunction, Objects, Store, key_of
from kubette.component_base import logs
from kubette.stdx.tasks import Scope

Object = dict[str, Any]
Transform = Callable[[Object], Object]

log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class Handler:
    """What to call on a change. `on_update` gets (old, new)."""

    on_add: Callable[[Object], None] | None = None
    on_update: Callable[[Object, Object], None] | None = None
    on_delete: Callable[[Object], None] | None = None


def drop_managed_fields(obj: Object) -> Object:
    """The default transform: no controller reads managedFields, and they are half of a small object."""
    obj["metadata"].pop("managedFields", None)
    return obj


class Informer:
    """A cache of one resource (or a selection of it) and its handlers."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        indexers: dict[str, IndexFunction] | None = None,
        transform: Transform = drop_managed_fields,
        metadata_only: bool = False,
    ) -> None:
        self.resource = resource
        self.store = Store(indexers)
        self._transform = transform
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        self._reflector = Reflector(client, resource, self, namespace, label_selector, field_selector, metadata_only=metadata_only)

    @property
    def has_synced(self) -> bool:
        """Whether the first list is in the cache and told to the handlers."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    def add_handler(self, handler: Handler) -> None:
        self._handlers.append(handler)
        if handler.on_add is not None:
            for obj in self.store.list():
                self._call(handler.on_add, obj)

    def on_change(self, function: Callable[[Object], None]) -> None:
        """One function for additions, updates (the new object) and deletions (the last known object)."""
        self.add_handler(Handler(function, lambda _old, new: function(new), function))

    def get(self, key: str) -> Object | None:
        return self.store.get(key)

    def list(self) -> Objects:
        return self.store.list()

    async def run(self) -> None:
        """Fill the cache until cancelled."""
        await self._reflector.run()

    # The reflector's sink

    def replace(self, objects: Objects) -> None:
        present = {key_of(o) for o in objects}
        for key in set(self.store.keys()) - present:
            self._remove(key)
        for obj in objects:
            self._put(obj)
        self._synced.set()

    def apply(self, kind: str, obj: Object) -> None:
        if kind == "DELETED":
            # The event carries the object's last state, newer than the cached one.
            self.store.put(self._transform(obj))
            self._remove(key_of(obj))
        else:
            self._put(obj)

    def _put(self, obj: Object) -> None:
        obj = self._transform(obj)
        old = self.store.put(obj)
        if old is None:
            for handler in self._handlers:
                if handler.on_add is not None:
                    self._call(handler.on_add, obj)
            return
        if old["metadata"].get("uid") != obj["metadata"].get("uid"):
            # Deleted and recreated between two lists: two objects, two notices.
            self._notify_delete(old)
            for handler in self._handlers:
                if handler.on_add is not None:
                    self._call(handler.on_add, obj)
        elif old["metadata"].get("resourceVersion") != obj["metadata"].get("resourceVersion"):
            for handler in self._handlers:
                if handler.on_update is not None:
                    self._call(handler.on_update, old, obj)

    def _remove(self, key: str) -> None:
        old = self.store.remove(key)
        if old is not None:
            self._notify_delete(old)

    def _notify_delete(self, obj: Object) -> None:
        for handler in self._handlers:
            if handler.on_delete is not None:
                self._call(handler.on_delete, obj)

    def _call(self, function: Callable[..., None], *objects: Object) -> None:
        try:
            function(*objects)
        except Exception as error:
            # A handler's bug must not stop the cache that everyone else reads.
            log.error("Informer handler failed", err=error, resource=self.resource.group_resource)


class InformerFactory:
    """The informers of one process: the same question is asked once. `start` runs those not yet running."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._informers: dict[tuple[Any, ...], Informer] = {}
        self._started: set[tuple[Any, ...]] = set()

    def informer(
        self,
        resource: Resource,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        indexers: dict[str, IndexFunction] | None = None,
        transform: Transform | None = None,
    ) -> Informer:
        """The shared informer of this selection; missing indexes are added. Only the first caller's `transform` counts."""
        key = (resource, namespace, label_selector, field_selector)
        informer = self._informers.get(key)
        if informer is None:
            informer = Informer(self._client, resource, namespace, label_selector, field_selector, transform=transform or drop_managed_fields)
            self._informers[key] = informer
        for name, function in (indexers or {}).items():
            informer.store.add_index(name, function)
        return informer

    def find(self, resource: Resource) -> Informer | None:
        """The informer of all objects of a resource, if someone asked for it."""
        return self._informers.get((resource, "", "", ""))

    def start(self, scope: Scope) -> None:
        """Run every informer that is not running yet, as tasks of `scope`."""
        for key, informer in self._informers.items():
            if key not in self._started:
                self._started.add(key)
                scope.start(informer.run(), f"informer {informer.resource.group_resource}")

    async def wait_synced(self) -> None:
        """Until every informer made so far has its first list."""
        await wait_synced(self._informers.values())


async def wait_synced(informers: Iterable[Informer]) -> None:
    """Until all of them have their first list."""
    for informer in list(informers):
        await informer.wait_synced()
