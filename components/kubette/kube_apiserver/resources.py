"""The served resources: for each its kind, schema, strategy and store. Built once in `app.py`; lookups are dict reads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kubette.api import conversions
from kubette.api.kinds import Kind, KindTable
from kubette.apimachinery.schema import Schema, Schemas
from kubette.kube_apiserver.registry import strategies
from kubette.kube_apiserver.registry.strategy import Strategy
from kubette.kube_apiserver.storage import record
from kubette.kube_apiserver.storage.record import Record
from kubette.kube_apiserver.storage.store import Store

Object = dict[str, Any]


@dataclass(slots=True)
class Resource:
    """One served group-version of one resource. Kinds that are only answered (reviews) have no store."""

    kind: Kind
    stored: Kind
    schema: Schema | None
    strategy: Strategy
    store: Store | None
    minor: int = 0

    @property
    def is_stored_version(self) -> bool:
        return self.kind.api_version == self.stored.api_version

    def to_served(self, obj: Object) -> Object:
        return obj if self.is_stored_version else conversions.convert(obj, self.kind.gv)

    def to_stored(self, obj: Object) -> Object:
        return obj if self.is_stored_version else conversions.convert(obj, self.stored.gv)

    def encoded(self, found: Record) -> bytes:
        """The record in this group-version; shared bytes when it is stored in it."""
        if self.is_stored_version:
            return found.data
        return found.view(self.kind.api_version, self._encode)

    def _encode(self, found: Record) -> bytes:
        obj = self.to_served(found.object())
        revision = obj["metadata"].get("resourceVersion", "0")
        return record.with_revision(record.head_of(self.kind.api_version, self.kind.kind), record.encode(obj), int(revision))


class Resources:
    """Every served resource, by group, version and name."""

    def __init__(self, table: KindTable, schemas: Schemas, store_of: Callable[[Kind], Store], disabled: frozenset[str]) -> None:
        self.table = table
        self.schemas = schemas
        self._stores: dict[str, Store] = {}
        self._resources: dict[tuple[str, str, str], Resource] = {}
        self._by_group: dict[tuple[str, str], Resource] = {}
        for kind in table.kinds:
            if kind.api_version in disabled or f"{kind.api_version}/{kind.resource}" in disabled:
                continue
            stored = table.by_resource(kind.stored_gv.group, kind.stored_gv.version, kind.resource) or kind
            store = None
            if kind.stored:
                store = self._stores.get(stored.storage_prefix)
                if store is None:
                    store = self._stores[stored.storage_prefix] = store_of(stored)
            schema = schemas.for_gvk(kind.group, kind.version, kind.kind)
            resource = Resource(kind, stored, schema, strategies.strategy_for(stored), store, table.minor)
            self._resources[kind.group, kind.version, kind.resource] = resource
            if (kind.group, kind.resource) not in self._by_group or resource.is_stored_version:
                self._by_group[kind.group, kind.resource] = resource

    def find(self, group: str, version: str, resource: str) -> Resource | None:
        return self._resources.get((group, version, resource))

    def by_group(self, group: str, resource: str) -> Resource | None:
        """The resource in the version it is stored in, for the server's own use."""
        return self._by_group.get((group, resource))

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._resources.values())

    def stores(self) -> Iterator[Store]:
        return iter(self._stores.values())

    def serves(self, group: str, version: str) -> bool:
        return any(key[:2] == (group, version) for key in self._resources)
