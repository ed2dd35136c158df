"""Pure: the members of the cluster: ids, URLs, attributes, the cluster's version. Changed only by applied entries.

Ids are etcd's: the first eight bytes of a SHA-1, so that every member computes the same ones from `--initial-cluster`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kubette.raft.messages import ConfChange, ConfChangeType


@dataclass(frozen=True, slots=True)
class Member:
    """One member. It has no name until it has started and said it."""

    id: int
    peer_urls: tuple[str, ...]
    name: str = ""
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False

    @property
    def started(self) -> bool:
        return bool(self.name)


def member_id(peer_urls: Iterable[str], token: str, now: int | None = None) -> int:
    """The id of a member; `now` (Unix seconds) is part of it when it is added to a running cluster."""
    text = "".join(sorted(peer_urls)) + token + ("" if now is None else str(now))
    return int.from_bytes(hashlib.sha1(text.encode(), usedforsecurity=False).digest()[:8], "big")


def cluster_id(member_ids: Iterable[int]) -> int:
    """The id of a cluster that begins with these members."""
    content = b"".join(each.to_bytes(8, "big") for each in sorted(member_ids))
    return int.from_bytes(hashlib.sha1(content, usedforsecurity=False).digest()[:8], "big")


def parse_initial_cluster(text: str) -> dict[str, tuple[str, ...]]:
    """`name=url,name=url`: a name may stand several times. Raises ValueError."""
    urls: dict[str, list[str]] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, separator, url = part.partition("=")
        if not separator or not name:
            raise ValueError(f'invalid initial-cluster entry "{part}": must be name=url')
        urls.setdefault(name, []).append(url)
    return {name: tuple(sorted(each)) for name, each in urls.items()}


def bootstrap(initial: Mapping[str, tuple[str, ...]], token: str) -> dict[str, Member]:
    """The members of a new cluster by name."""
    return {name: Member(member_id(urls, token), urls, name) for name, urls in initial.items()}


def to_json(member: Member) -> bytes:
    """etcd's own form: what a configuration change carries, and what the `members` bucket holds."""
    document: dict[str, object] = {"id": member.id, "peerURLs": list(member.peer_urls)}
    if member.is_learner:
        document["isLearner"] = True
    if member.name:
        document["name"] = member.name
    if member.client_urls:
        document["clientURLs"] = list(member.client_urls)
    return json.dumps(document, separators=(",", ":")).encode()


def from_json(data: bytes) -> Member:
    """Raises ValueError."""
    document = json.loads(data)
    return Member(
        int(document["id"]),
        tuple(document.get("peerURLs") or ()),
        document.get("name", ""),
        tuple(document.get("clientURLs") or ()),
        bool(document.get("isLearner", False)),
    )


class MembershipError(Exception):
    """A change that is refused; `kind` is the name of the error in etcd_api.errors."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(slots=True)
class Membership:
    """The members in force, and those that are gone for good."""

    members: dict[int, Member] = field(default_factory=dict)
    removed: dict[int, None] = field(default_factory=dict)
    version: str = ""  # the cluster's, agreed on
    max_learners: int = 1  # this member's setting (--max-learners)

    def sorted(self) -> list[Member]:
        return sorted(self.members.values(), key=lambda member: member.id)

    def voters(self) -> list[Member]:
        return [member for member in self.sorted() if not member.is_learner]

    def check_add(self, member: Member) -> None:
        """Raises MembershipError when `member` cannot be added."""
        if member.id in self.removed or member.id in self.members:
            raise MembershipError("MEMBER_EXIST")
        taken = {url for each in self.members.values() for url in each.peer_urls}
        if taken.intersection(member.peer_urls):
            raise MembershipError("PEER_URL_EXIST")
        if member.is_learner and sum(each.is_learner for each in self.members.values()) >= self.max_learners:
            raise MembershipError("TOO_MANY_LEARNERS")

    def check_remove(self, member: int) -> None:
        if member in self.removed or member not in self.members:
            raise MembershipError("MEMBER_NOT_FOUND")

    def check_promote(self, member: int) -> None:
        self.check_remove(member)
        if not self.members[member].is_learner:
            raise MembershipError("MEMBER_NOT_LEARNER")

    def check_update(self, member: int, peer_urls: Iterable[str]) -> None:
        self.check_remove(member)
        taken = {url for each in self.members.values() if each.id != member for url in each.peer_urls}
        if taken.intersection(peer_urls):
            raise MembershipError("PEER_URL_EXIST")

    def check_change(self, change: ConfChange, context: bytes) -> None:
        """The checks again, when the entry is applied: the world may have changed since it was proposed."""
        for kind, node in change.changes:
            if kind in (ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE):
                known = self.members.get(node)
                if known is not None and known.is_learner and kind is ConfChangeType.ADD_NODE and _is_promotion(context):
                    continue
                self.check_add(from_json(context) if context else Member(node, ()))
            elif kind is ConfChangeType.REMOVE_NODE:
                self.check_remove(node)
            elif kind is ConfChangeType.UPDATE_NODE:
                self.check_update(node, from_json(context).peer_urls)

    def apply_change(self, change: ConfChange, context: bytes) -> None:
        """A configuration change is in force."""
        for kind, node in change.changes:
            if kind is ConfChangeType.REMOVE_NODE:
                self.members.pop(node, None)
                self.removed[node] = None
            elif kind is ConfChangeType.ADD_NODE and node in self.members and _is_promotion(context):
                self.members[node] = replace(self.members[node], is_learner=False)
            elif kind is ConfChangeType.UPDATE_NODE:
                self.members[node] = replace(self.members[node], peer_urls=from_json(context).peer_urls)
            elif context:
                member = from_json(context)
                self.members[node] = replace(member, id=node, is_learner=kind is ConfChangeType.ADD_LEARNER_NODE)

    def set_attributes(self, member: int, name: str, client_urls: Iterable[str]) -> None:
        if member in self.members:
            self.members[member] = replace(self.members[member], name=name, client_urls=tuple(client_urls))


def promotion_context(member: Member) -> bytes:
    """What the change that makes a voter of a learner carries."""
    document = json.loads(to_json(replace(member, is_learner=False)))
    return json.dumps({**document, "isPromote": True}, separators=(",", ":")).encode()


def _is_promotion(context: bytes) -> bool:
    return bool(context) and bool(json.loads(context).get("isPromote"))
