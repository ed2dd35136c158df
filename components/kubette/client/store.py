"""Pure: an indexed set of objects by key, the cache behind every informer (client-go's Indexer and Lister).

A key is `namespace/name`, or `name` for a cluster-scoped object. Objects handed out are the cached ones: read-only by contract.
"""

from collections.abc import Callable, Iterable
from typing import Any

from kubette.apimachinery.meta import key as key_of
from kubette.apimachinery.meta import split_key

__all__ = ["IndexFunction", "Object", "Objects", "Store", "by_controller_uid", "by_namespace", "by_node", "key_of", "split_key"]

Object = dict[str, Any]
Objects = list[Object]  # `list` is a verb inside Store
IndexFunction = Callable[[Object], Iterable[str]]


def by_namespace(obj: Object) -> Iterable[str]:
    """The index that most listers want."""
    return (obj["metadata"].get("namespace", ""),)


def by_controller_uid(obj: Object) -> Iterable[str]:
    """The uid of the controlling owner."""
    return [r["uid"] for r in obj["metadata"].get("ownerReferences") or () if r.get("controller")]


def by_node(obj: Object) -> Iterable[str]:
    """The node a pod is bound to."""
    name = (obj.get("spec") or {}).get("nodeName")
    return (name,) if name else ()


class Store:
    """Objects by key, and keys by the values of each index. Index functions must depend on the object alone."""

    __slots__ = ("_index_functions", "_indexes", "_objects")

    def __init__(self, indexers: dict[str, IndexFunction] | None = None) -> None:
        self._objects: dict[str, Object] = {}
        self._index_functions = dict(indexers or {})
        self._indexes: dict[str, dict[str, dict[str, None]]] = {name: {} for name in self._index_functions}

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, key: str) -> bool:
        return key in self._objects

    def get(self, key: str) -> Object | None:
        return self._objects.get(key)

    def keys(self) -> tuple[str, ...]:
        return tuple(self._objects)

    def list(self) -> Objects:
        return [*self._objects.values()]

    def by_index(self, index: str, value: str) -> Objects:
        """The objects whose index function yields `value`, in the order they came."""
        return [self._objects[key] for key in self._indexes[index].get(value, ())]

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Add an index, also over the objects that are there. The same name twice is the same index."""
        if name in self._index_functions:
            return
        self._index_functions[name] = function
        self._indexes[name] = {}
        for key, obj in self._objects.items():
            for value in function(obj):
                self._indexes[name].setdefault(value, {})[key] = None

    def put(self, obj: Object) -> Object | None:
        """Insert or replace; answers what was there before."""
        key = key_of(obj)
        old = self._objects.get(key)
        self._objects[key] = obj
        for name, function in self._index_functions.items():
            before = list(function(old)) if old is not None else []
            after = list(function(obj))
            if before != after:
                self._unindex(name, key, before)
                for value in after:
                    self._indexes[name].setdefault(value, {})[key] = None
        return old

    def remove(self, key: str) -> Object | None:
        """Remove; answers what was there."""
        old = self._objects.pop(key, None)
        if old is not None:
            for name, function in self._index_functions.items():
                self._unindex(name, key, function(old))
        return old

    def _unindex(self, name: str, key: str, values: Iterable[str]) -> None:
        index = self._indexes[name]
        for value in values:
            keys = index.get(value)
            if keys is not None:
                keys.pop(key, None)
                if not keys:
                    del index[value]
