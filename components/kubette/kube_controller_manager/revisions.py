"""Pure: ControllerRevisions: the remembered templates of DaemonSets and StatefulSets (pkg/controller/history)."""

from collections.abc import Sequence
from typing import Any

import orjson

from kubette.apimachinery import meta, names

Object = dict[str, Any]

HASH_LABEL = "controller-revision-hash"


def hash_data(data: Object, collision_count: int | None) -> str:
    encoded = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    if collision_count is not None:
        encoded += collision_count.to_bytes(8, "little")
    value = 0x811C9DC5
    for byte in encoded:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return names.safe_suffix(str(value))


def new_revision(
    owner: Object, api_version: str, kind: str, data: Object, number: int, labels: dict[str, str], collision_count: int | None
) -> Object:
    """A revision named after its content."""
    hash_value = hash_data(data, collision_count)
    metadata: Object = {
        "name": f"{meta.name(owner)[:223]}-{hash_value}",
        "namespace": meta.namespace(owner),
        "labels": {**labels, HASH_LABEL: hash_value},
        "ownerReferences": [meta.controller_reference(owner, api_version, kind)],
    }
    annotations = {k: v for k, v in meta.annotations(owner).items() if k != "kubectl.kubernetes.io/last-applied-configuration"}
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "data": data, "revision": number}


def next_number(revisions: Sequence[Object]) -> int:
    return max((int(r.get("revision") or 0) for r in revisions), default=0) + 1


def oldest_first(revisions: Sequence[Object]) -> list[Object]:
    return sorted(revisions, key=lambda r: (int(r.get("revision") or 0), meta.creation_timestamp(r), meta.name(r)))


def find_equal(revisions: Sequence[Object], data: Object) -> list[Object]:
    """Those that remember the same data, oldest first."""
    return [r for r in oldest_first(revisions) if r.get("data") == data]


def surplus(revisions: Sequence[Object], live_names: set[str], limit: int) -> list[Object]:
    """What to forget: the oldest beyond the limit, never one that is in use."""
    unused = [r for r in oldest_first(revisions) if meta.name(r) not in live_names]
    return unused[: max(0, len(unused) - limit)]
