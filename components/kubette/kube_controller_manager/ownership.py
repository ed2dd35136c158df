"""Pure: which children a controller owns, should adopt, or must release (controller_ref_manager.go).

A child with another controller is never touched. An orphan that matches is adopted unless one of the two is going away; an owned child
that no longer matches is released. Ownership is by uid: an owner recreated under the same name inherits nothing by name (INV-C4).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import meta
from kubette.apimachinery.selectors import Selector

Object = dict[str, Any]


@dataclass(slots=True)
class Claims:
    """The outcome: `owned` already, `adopt` these, `release` those."""

    owned: list[Object] = field(default_factory=list)
    adopt: list[Object] = field(default_factory=list)
    release: list[Object] = field(default_factory=list)


def claim(owner: Object, selector: Selector, candidates: Iterable[Object]) -> Claims:
    """Sort candidates (children of the owner's namespace) into claims."""
    claims = Claims()
    owner_uid = meta.uid(owner)
    going = meta.is_being_deleted(owner)
    for child in candidates:
        ref = meta.controller_of(child)
        matches = selector.matches(meta.labels(child))
        if ref is not None:
            if ref.get("uid") != owner_uid:
                continue
            if matches or going:
                if matches:
                    claims.owned.append(child)
            else:
                claims.release.append(child)
        elif matches and not going and not meta.is_being_deleted(child):
            claims.adopt.append(child)
    return claims


def adoption_patch(owner: Object, api_version: str, kind: str, child: Object, finalizers: tuple[str, ...] = ()) -> Object:
    """A strategic merge patch that makes `owner` the controller, valid only for this very child."""
    metadata: Object = {"ownerReferences": [meta.controller_reference(owner, api_version, kind)], "uid": meta.uid(child)}
    if finalizers:
        metadata["finalizers"] = list(finalizers)
    return {"metadata": metadata}


def release_patch(owner: Object, child: Object) -> Object:
    """A strategic merge patch that takes the owner's reference away."""
    return {"metadata": {"ownerReferences": [{"$patch": "delete", "uid": meta.uid(owner)}], "uid": meta.uid(child)}}
