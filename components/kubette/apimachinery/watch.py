"""Pure: the frames of a watch: `{"type": ..., "object": ...}`, one JSON object a line."""

from typing import Any

ADDED = "ADDED"
MODIFIED = "MODIFIED"
DELETED = "DELETED"
BOOKMARK = "BOOKMARK"
ERROR = "ERROR"

_HEADS = {name: b'{"type":"' + name.encode() + b'","object":' for name in (ADDED, MODIFIED, DELETED, BOOKMARK, ERROR)}


def frame(type: str, encoded_object: bytes) -> bytes:
    """A line made from the object's shared bytes: an object is encoded once however many watch it."""
    return _HEADS[type] + encoded_object + b"}\n"


def bookmark(api_version: str, kind: str, resource_version: str, *, initial_events_end: bool = False) -> dict[str, Any]:
    """An object that carries nothing but how far the watch has come."""
    metadata: dict[str, Any] = {"resourceVersion": resource_version, "creationTimestamp": None}
    if initial_events_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {"kind": kind, "apiVersion": api_version, "metadata": metadata}
