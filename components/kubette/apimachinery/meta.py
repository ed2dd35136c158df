"""Pure: typed reading of `metadata` on plain dicts: names, keys, labels, owners, finalizers, deletion."""

from typing import Any

Object = dict[str, Any]

ORPHAN_DEPENDENTS = "orphan"
DELETE_DEPENDENTS = "foregroundDeletion"


def metadata(obj: Object) -> dict[str, Any]:
    """The object's metadata, made if absent."""
    found = obj.get("metadata")
    if not isinstance(found, dict):
        found = obj["metadata"] = {}
    return found


def name(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("name") or "")


def namespace(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("namespace") or "")


def uid(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("uid") or "")


def key(obj: Object) -> str:
    """`namespace/name`, or `name` for cluster-scoped objects (client-go's MetaNamespaceKeyFunc)."""
    space = namespace(obj)
    return f"{space}/{name(obj)}" if space else name(obj)


def split_key(key: str) -> tuple[str, str]:
    """The namespace (empty if none) and the name."""
    space, slash, rest = key.partition("/")
    return (space, rest) if slash else ("", key)


def labels(obj: Object) -> dict[str, str]:
    """Never None; do not write to it (see `metadata`)."""
    return (obj.get("metadata") or {}).get("labels") or {}


def annotations(obj: Object) -> dict[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}


def resource_version(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("resourceVersion") or "")


def generation(obj: Object) -> int:
    return int((obj.get("metadata") or {}).get("generation") or 0)


def creation_timestamp(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("creationTimestamp") or "")


def deletion_timestamp(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("deletionTimestamp") or "")


def is_being_deleted(obj: Object) -> bool:
    return bool((obj.get("metadata") or {}).get("deletionTimestamp"))


def finalizers(obj: Object) -> list[str]:
    return (obj.get("metadata") or {}).get("finalizers") or []


def owner_references(obj: Object) -> list[dict[str, Any]]:
    return (obj.get("metadata") or {}).get("ownerReferences") or []


def controller_of(obj: Object) -> dict[str, Any] | None:
    """The owner reference whose `controller` is true."""
    return next((ref for ref in owner_references(obj) if ref.get("controller")), None)


def is_controlled_by(obj: Object, owner: Object) -> bool:
    ref = controller_of(obj)
    return ref is not None and ref.get("uid") == uid(owner)


def controller_reference(owner: Object, api_version: str, kind: str) -> dict[str, Any]:
    """The reference a controller puts on what it makes (metav1.NewControllerRef)."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name(owner),
        "uid": uid(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def condition(obj: Object, type: str) -> dict[str, Any] | None:
    """The entry of `status.conditions` of that type."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one.get("type") == type), None)


def is_condition_true(obj: Object, type: str) -> bool:
    found = condition(obj, type)
    return found is not None and found.get("status") == "True"
