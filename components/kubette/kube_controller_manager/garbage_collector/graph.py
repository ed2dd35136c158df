"""Pure: who owns whom, by uid (upstream's graph_builder).

Nodes are objects seen by the monitors. An owner that was never seen is simply absent; whether it exists is then asked of the server,
for a reference may point to what the monitors have not told yet.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kubette.apimachinery import meta
from kubette.client.resources import Resource

Object = dict[str, Any]


@dataclass(slots=True)
class Node:
    """One object: where to find it, whom it belongs to, and how it is being deleted."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    owners: tuple[Object, ...]
    deleting: bool
    foreground: bool  # waits for its dependents
    orphaning: bool  # will let its dependents go free

    @property
    def owner_uids(self) -> tuple[str, ...]:
        return tuple(o["uid"] for o in self.owners)

    def blocks(self, owner_uid: str) -> bool:
        """Whether the owner's foreground deletion waits for this one."""
        return any(o["uid"] == owner_uid and o.get("blockOwnerDeletion") for o in self.owners)


def node_of(resource: Resource, obj: Object) -> Node:
    deleting = meta.is_being_deleted(obj)
    finalizers = meta.finalizers(obj)
    return Node(
        resource,
        meta.namespace(obj),
        meta.name(obj),
        meta.uid(obj),
        tuple(meta.owner_references(obj)),
        deleting,
        deleting and meta.DELETE_DEPENDENTS in finalizers,
        deleting and meta.ORPHAN_DEPENDENTS in finalizers,
    )


class Graph:
    """Nodes and the reverse edges. Every change answers the uids that must be looked at."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._dependents: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, uid: str) -> Node | None:
        return self._nodes.get(uid)

    def dependents(self, uid: str) -> list[Node]:
        return [self._nodes[u] for u in self._dependents.get(uid, ())]

    def put(self, node: Node) -> list[str]:
        """An object appeared or changed."""
        old = self._nodes.get(node.uid)
        self._nodes[node.uid] = node
        before = set(old.owner_uids) if old is not None else set()
        after = set(node.owner_uids)
        for uid in sorted(before - after):
            self._unlink(uid, node.uid)
        for uid in sorted(after - before):
            self._dependents.setdefault(uid, {})[node.uid] = None
        attention: list[str] = []
        # A waiting owner may now have one blocker less, or one more to wait for.
        attention += [uid for uid in sorted(before | after) if uid in self._nodes and self._nodes[uid].foreground]
        if node.foreground and (old is None or not old.foreground):
            attention += [d.uid for d in self.dependents(node.uid)]
        # Dependents need a look when an owner is not known here; what is being deleted needs one for its finalizers.
        if any(uid not in self._nodes for uid in after) or node.foreground or node.orphaning or self._has_foreground_owner(node):
            attention.append(node.uid)
        return list(dict.fromkeys(attention))

    def _has_foreground_owner(self, node: Node) -> bool:
        return any(uid in self._nodes and self._nodes[uid].foreground for uid in node.owner_uids)

    def remove(self, uid: str) -> list[str]:
        """An object is gone: its dependents are to be judged, and its waiting owners."""
        node = self._nodes.pop(uid, None)
        if node is None:
            return []
        for owner in node.owner_uids:
            self._unlink(owner, uid)
        waiting = [o for o in node.owner_uids if o in self._nodes and self._nodes[o].foreground]
        return [d.uid for d in self.dependents(uid)] + waiting

    def _unlink(self, owner: str, dependent: str) -> None:
        found = self._dependents.get(owner)
        if found is not None:
            found.pop(dependent, None)
            if not found:
                del self._dependents[owner]

    def blocking(self, uid: str) -> list[Node]:
        """The dependents an owner in foreground deletion waits for."""
        return [d for d in self.dependents(uid) if d.blocks(uid)]

    def uids(self) -> Iterable[str]:
        return list(self._nodes)
