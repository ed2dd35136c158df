"""Pure: changing objects whose original is shared: copies, and paths into them."""

from typing import Any

Object = dict[str, Any]


def copy(value: Any) -> Any:
    """A deep copy of JSON values. Cached objects are read-only; whoever changes one changes a copy."""
    if isinstance(value, dict):
        return {k: copy(v) for k, v in value.items()}
    if isinstance(value, list):
        return [copy(v) for v in value]
    return value


def spec(obj: Object) -> Object:
    """`spec`, never None; not to be written to."""
    return obj.get("spec") or {}


def status(obj: Object) -> Object:
    """`status`, never None; not to be written to."""
    return obj.get("status") or {}


def with_status(obj: Object, new_status: Object) -> Object:
    """The object with another status, for an update of its status subresource."""
    return {**obj, "status": new_status}


def set_condition(conditions: list[Object], new: Object) -> list[Object]:
    """The list with `new` in it: an equal (type, status, reason) keeps the old entry, an equal status its transition time."""
    kept = []
    for old in conditions:
        if old["type"] != new["type"]:
            kept.append(old)
        elif old.get("status") == new.get("status") and old.get("reason") == new.get("reason"):
            return conditions
        elif old.get("status") == new.get("status") and "lastTransitionTime" in old:
            new = {**new, "lastTransitionTime": old["lastTransitionTime"]}
    return [*kept, new]


def without_condition(conditions: list[Object], type: str) -> list[Object]:
    return [c for c in conditions if c["type"] != type]


def find_condition(conditions: list[Object], type: str) -> Object | None:
    return next((c for c in conditions if c["type"] == type), None)


def without_zeros(new_status: Object, *keys: str) -> Object:
    """Without those of `keys` that are zero: upstream's types leave them out (omitempty)."""
    return {k: v for k, v in new_status.items() if v or k not in keys}
