"""Pure: the three kinds of patches: JSON (RFC 6902), merge (RFC 7396), strategic merge (upstream's, by the schema's patch marks).

Arguments are not changed; results share unchanged parts with them, so treat both as read-only.
"""

from typing import Any

from kubette.apimachinery.schema import Schema
from kubette.apimachinery.validation import copy

# Upstream's limit on operations of one JSON patch (--max-json-patch-operations).
JSON_PATCH_OPERATIONS_MAX = 10_000


class PatchError(ValueError):
    """The patch does not apply; the message is upstream's."""


# --- JSON patch -------------------------------------------------------------------------------------------------------


def json_patch(doc: Any, operations: list[dict[str, Any]]) -> Any:
    """RFC 6902; raises PatchError when an operation does not apply or a test fails."""
    if not isinstance(operations, list):
        raise PatchError("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    if len(operations) > JSON_PATCH_OPERATIONS_MAX:
        raise PatchError(f"The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}, got {len(operations)}")
    doc = copy(doc)
    for operation in operations:
        if not isinstance(operation, dict):
            raise PatchError("Invalid JSON Patch")
        doc = _operate(doc, operation)
    return doc


def _operate(doc: Any, operation: dict[str, Any]) -> Any:
    op, path = operation.get("op"), operation.get("path")
    if not isinstance(path, str):
        raise PatchError(f"{op} operation does not apply: doc is missing path: missing value")
    match op:
        case "add":
            return _add(doc, path, copy(operation.get("value")), "add")
        case "remove":
            return _remove(doc, path, "remove")[0]
        case "replace":
            if path == "":
                return copy(operation.get("value"))
            holder, key = _find(doc, path, "replace")
            if isinstance(holder, list):
                holder[_index(holder, key, "replace")] = copy(operation.get("value"))
            elif key not in holder:
                raise PatchError(f"replace operation does not apply: doc is missing key: {path}: missing value")
            else:
                holder[key] = copy(operation.get("value"))
            return doc
        case "move":
            doc, value = _remove(doc, str(operation.get("from")), "move")
            return _add(doc, path, value, "move")
        case "copy":
            return _add(doc, path, copy(_get(doc, str(operation.get("from")), "copy")), "copy")
        case "test":
            try:
                found = _get(doc, path, "test")
            except PatchError:
                if operation.get("value") is None:
                    return doc
                raise
            if found != operation.get("value") or isinstance(found, bool) != isinstance(operation.get("value"), bool):
                raise PatchError(f"testing value {path} failed: test failed")
            return doc
    raise PatchError(f"Unexpected kind: {op}")


def _tokens(path: str, op: str) -> list[str]:
    if path and not path.startswith("/"):
        raise PatchError(f"{op} operation does not apply: doc is missing path: {path}: missing value")
    return [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:]]


def _index(items: list[Any], token: str, op: str) -> int:
    try:
        index = int(token)
    except ValueError:
        raise PatchError(f'{op} operation does not apply: strconv.Atoi: parsing "{token}": invalid syntax') from None
    if not 0 <= index < len(items):
        raise PatchError(f"{op} operation does not apply: Unable to access invalid index: {index}: invalid index referenced")
    return index


def _get(doc: Any, path: str, op: str) -> Any:
    for token in _tokens(path, op):
        if isinstance(doc, list):
            doc = doc[_index(doc, token, op)]
        elif isinstance(doc, dict) and token in doc:
            doc = doc[token]
        else:
            raise PatchError(f"{op} operation does not apply: doc is missing path: {path}: missing value")
    return doc


def _find(doc: Any, path: str, op: str) -> tuple[Any, str]:
    """The container and key a path ends at."""
    parent, _, _ = path.rpartition("/")
    holder = _get(doc, parent, op)
    if not isinstance(holder, dict | list):
        raise PatchError(f"{op} operation does not apply: doc is missing path: {path}: missing value")
    return holder, _tokens(path, op)[-1]


def _add(doc: Any, path: str, value: Any, op: str) -> Any:
    if path == "":
        return value
    holder, key = _find(doc, path, op)
    if isinstance(holder, dict):
        holder[key] = value
    elif key == "-":
        holder.append(value)
    else:
        index = len(holder) if key == str(len(holder)) else _index(holder, key, op)
        holder.insert(index, value)
    return doc


def _remove(doc: Any, path: str, op: str) -> tuple[Any, Any]:
    if path == "":
        raise PatchError(f"{op} operation does not apply: doc is missing path: {path}: missing value")
    holder, key = _find(doc, path, op)
    if isinstance(holder, list):
        return doc, holder.pop(_index(holder, key, op))
    if key not in holder:
        raise PatchError(f"{op} operation does not apply: doc is missing key: {path}: missing value")
    return doc, holder.pop(key)


# --- merge patch ------------------------------------------------------------------------------------------------------


def merge_patch(doc: Any, patch: Any) -> Any:
    """RFC 7396: maps merge, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    out = dict(doc) if isinstance(doc, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge_patch(out.get(key), value)
    return out


# --- strategic merge patch --------------------------------------------------------------------------------------------

_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_SET_ORDER = "$setElementOrder/"


def strategic_merge_patch(doc: dict[str, Any], patch: dict[str, Any], schema: Schema | None) -> dict[str, Any]:
    """Lists marked `merge` merge by their key; directives in the patch (`$patch: delete`, …) say the rest."""
    if not isinstance(patch, dict):
        raise PatchError("Invalid JSON Patch")
    return _merge_map(doc, patch, schema)


def _merge_map(original: dict[str, Any], patch: dict[str, Any], schema: Schema | None) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {key: _plain(value) for key, value in patch.items() if value is not None and not _is_directive(key)}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise PatchError(f"Unknown patch type: {directive} in map")
    out = dict(original)
    retained = patch.get(_RETAIN_KEYS)
    if retained is not None:
        _check_retain_keys(patch, retained)
        out = {key: value for key, value in out.items() if key in retained}
    orders: dict[str, list[Any]] = {}
    deletions: dict[str, list[Any]] = {}
    for key, value in patch.items():
        if key.startswith(_SET_ORDER):
            orders[key.removeprefix(_SET_ORDER)] = _list(value, key)
        elif key.startswith(_DELETE_FROM):
            deletions[key.removeprefix(_DELETE_FROM)] = _list(value, key)
    for key, value in patch.items():
        if key in (_DIRECTIVE, _RETAIN_KEYS) or key.startswith((_SET_ORDER, _DELETE_FROM)):
            continue
        if value is None:
            out.pop(key, None)
            continue
        field = schema.property(key) if schema is not None else None
        out[key] = _merge_value(out.get(key), value, field, key, orders.get(key))
    for key, gone in deletions.items():
        if isinstance(out.get(key), list):
            out[key] = [item for item in out[key] if item not in gone]
    for key, order in orders.items():
        # An order without a patch of the list itself only sorts what is there.
        if key not in patch and isinstance(out.get(key), list):
            field = schema.property(key) if schema is not None else None
            if field is not None and "merge" in field.patch_strategies:
                out[key] = _ordered(out[key], order, out[key], field.patch_merge_key)
    return out


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise PatchError(f"unable to apply the list directive {key}: expected a list")
    return value


def _check_retain_keys(patch: dict[str, Any], retained: Any) -> None:
    for key, value in patch.items():
        if not key.startswith("$") and value is not None and key not in _list(retained, _RETAIN_KEYS):
            raise PatchError("mismatch between the retainKeys directive and the fields of the patch")


def _merge_value(original: Any, patch: Any, schema: Schema | None, key: str, order: list[Any] | None) -> Any:
    if isinstance(patch, dict):
        if isinstance(original, dict):
            return _merge_map(original, patch, schema)
        return _plain(patch) if patch.get(_DIRECTIVE) != "delete" else {}
    if isinstance(patch, list) and schema is not None and "merge" in schema.patch_strategies:
        return _merge_list(original if isinstance(original, list) else [], patch, schema, key, order)
    return _plain(patch)


def _plain(value: Any) -> Any:
    """A patch's value where there was none: without nulls and directives."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None and not _is_directive(key)}
    if isinstance(value, list):
        kept = [item for item in value if not (isinstance(item, dict) and item.get(_DIRECTIVE) in ("delete", "replace"))]
        return [_plain(item) for item in kept]
    return value


def _is_directive(key: str) -> bool:
    return key in (_DIRECTIVE, _RETAIN_KEYS) or key.startswith((_SET_ORDER, _DELETE_FROM))


def _merge_list(original: list[Any], patch: list[Any], schema: Schema, name: str, order: list[Any] | None) -> list[Any]:
    merge_key = schema.patch_merge_key
    items = schema.items
    if not merge_key:
        merged = [*original, *(item for item in dict.fromkeys(patch) if item not in original)]
        return _ordered(merged, order if order is not None else patch, original, "")
    for item in patch:
        if not isinstance(item, dict):
            raise PatchError(f"expected an object in the list {name} of the patch")
        if item.get(_DIRECTIVE) == "replace":
            return [_plain(one) for one in patch if one.get(_DIRECTIVE) != "replace"]
    merged = list(original)
    plain: list[Any] = []
    for item in patch:
        if merge_key not in item:
            raise PatchError(f"map: {_go_map(item)} does not contain declared merge key: {merge_key}")
        wanted = item[merge_key]
        position = next((index for index, one in enumerate(merged) if isinstance(one, dict) and one.get(merge_key) == wanted), None)
        directive = item.get(_DIRECTIVE)
        if directive == "delete":
            merged = [one for one in merged if not (isinstance(one, dict) and one.get(merge_key) == wanted)]
            continue
        if directive not in (None, "merge"):
            raise PatchError(f"Unknown patch type: {directive} in list")
        plain.append(item)
        if position is None:
            merged.append(_plain(item))
        else:
            merged[position] = _merge_map(merged[position], item, items)
    return _ordered(merged, order if order is not None else plain, original, merge_key)


def _go_map(item: dict[str, Any]) -> str:
    return "map[" + " ".join(f"{key}:{item[key]}" for key in sorted(item)) + "]"


def _ordered(merged: list[Any], order: list[Any], original: list[Any], merge_key: str) -> list[Any]:
    """The patch's items in the patch's order, woven into the server's own items in the server's order."""

    def identity(item: Any) -> Any:
        return item.get(merge_key) if merge_key and isinstance(item, dict) else item

    wanted = [identity(item) for item in order]
    server = [identity(item) for item in original]
    patched = sorted((item for item in merged if identity(item) in wanted), key=lambda item: wanted.index(identity(item)))
    own = [item for item in merged if identity(item) not in wanted]
    out: list[Any] = []
    while patched and own:
        left, right = identity(own[0]), identity(patched[0])
        first = left in server and right in server and server.index(left) < server.index(right)
        out.append(own.pop(0) if first else patched.pop(0))
    return [*out, *own, *patched]
