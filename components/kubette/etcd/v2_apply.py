"""Pure: what a v2 request of the log does to the v2 store; and the members and the version, which etcd up to 3.5 keeps there too."""

import json
from collections.abc import Callable

from kubette.etcd.membership import Member
from kubette.etcd.v2_store import Event, V2Error, V2Store
from kubette.etcd_api.metadata_pb2 import Request
from kubette.raft.messages import ConfChange, ConfChangeType

KEYS = "/1"  # where users' keys live
_MEMBERS, _REMOVED, _VERSION = "/0/members", "/0/removed_members", "/0/version"


def apply(store: V2Store, request: Request) -> Event | None:
    """Raises V2Error. Nothing is answered to SYNC, which lets time pass."""
    method = request.Method
    if method == "PUT":
        return _put(store, request)
    if method == "POST":
        return store.create(request.Path, request.Val, request.Dir, unique=True, expiration=request.Expiration)
    if method == "DELETE":
        if request.PrevIndex or request.PrevValue:
            return store.compare_and_delete(request.Path, request.PrevValue, request.PrevIndex)
        return store.delete(request.Path, request.Dir, request.Recursive)
    if method == "QGET":
        return store.get(request.Path, request.Recursive, request.Sorted)
    if method == "SYNC":
        store.expire(request.Time)
    return None


def _put(store: V2Store, request: Request) -> Event:
    conditional = bool(request.PrevIndex or request.PrevValue)
    if request.HasField("PrevExist") and not request.PrevExist:
        return store.create(request.Path, request.Val, request.Dir, expiration=request.Expiration)
    if conditional:
        return store.compare_and_swap(
            request.Path, request.PrevValue, request.PrevIndex, request.Val, expiration=request.Expiration, refresh=request.Refresh
        )
    if request.HasField("PrevExist"):
        return store.update(request.Path, request.Val, expiration=request.Expiration, refresh=request.Refresh)
    return store.set(request.Path, request.Val, request.Dir, expiration=request.Expiration, refresh=request.Refresh)


# The cluster's own nodes


def member_path(request: Request) -> int:
    """The member whose attributes the request sets; 0 when it is another request."""
    parts = request.Path.strip("/").split("/")
    if request.Method == "PUT" and len(parts) == 4 and parts[:2] == ["0", "members"] and parts[3] == "attributes":
        return int(parts[2], 16)
    return 0


def sets_version(request: Request) -> bool:
    return request.Method == "PUT" and request.Path == _VERSION


def record_version(store: V2Store, version: str) -> None:
    store.set(_VERSION, version)


def record_attributes(store: V2Store, member: Member) -> None:
    attributes: dict[str, object] = {"name": member.name} if member.name else {}
    if member.client_urls:
        attributes["clientURLs"] = list(member.client_urls)
    store.set(f"{_MEMBERS}/{member.id:x}/attributes", json.dumps(attributes, separators=(",", ":")))


def record_change(store: V2Store, change: ConfChange, member_of: Callable[[int], Member | None]) -> None:
    """A configuration change is in force; `member_of` answers how a member is now."""
    for kind, node in change.changes:
        path = f"{_MEMBERS}/{node:x}"
        member = member_of(node)
        try:
            if kind is ConfChangeType.REMOVE_NODE:
                store.delete(path, recursive=True)
                store.create(f"{_REMOVED}/{node:x}")
            elif member is not None:
                store.set(f"{path}/raftAttributes", _raft_attributes(member))
        except V2Error:
            continue  # a store that began with a snapshot of etcd 3.6, which has none


def seed(store: V2Store, members: list[Member], removed: list[int], version: str) -> None:
    """Fill a new store with what a snapshot without one says about the cluster."""
    for member in members:
        store.set(f"{_MEMBERS}/{member.id:x}/raftAttributes", _raft_attributes(member))
        if member.started:
            record_attributes(store, member)
    for node in removed:
        store.set(f"{_REMOVED}/{node:x}")
    if version:
        record_version(store, version)


def members(store: V2Store) -> dict[int, Member]:
    """The members that a store of etcd up to 3.5 knows."""
    found = {}
    folder = store.root
    for name in _MEMBERS.strip("/").split("/"):
        if name not in folder.children:
            return {}
        folder = folder.children[name]
    for name, node in folder.children.items():
        values = {each: json.loads(child.value or "{}") for each, child in node.children.items()}
        raft, own = values.get("raftAttributes", {}), values.get("attributes", {})
        member = int(name, 16)
        urls = tuple(raft.get("peerURLs") or ())
        found[member] = Member(member, urls, own.get("name", ""), tuple(own.get("clientURLs") or ()), bool(raft.get("isLearner")))
    return found


def _raft_attributes(member: Member) -> str:
    learner = {"isLearner": True} if member.is_learner else {}
    return json.dumps({"peerURLs": list(member.peer_urls), **learner}, separators=(",", ":"))
