"""Pure: sets of fields as server-side apply knows them (FieldsV1, structured-merge-diff's `fieldpath.Set`).

A set is a trie of dicts whose keys are the wire's path elements: `f:name` a field, `k:{"name":"web"}` an item of a list with keys, `v:"x"` an
item of a set. The key `.` marks that a path itself is a member. On the wire a member without children is written `{}` instead of `{".": {}}`.
"""

import json
from typing import Any

Trie = dict[str, Any]

MEMBER = "."


def leaf() -> Trie:
    return {MEMBER: {}}


def from_wire(fields: Trie) -> Trie:
    """FieldsV1 → trie."""
    return {element: _node_from_wire(child) for element, child in fields.items() if element != MEMBER}


def _node_from_wire(node: Trie) -> Trie:
    if not node:
        return leaf()
    out = {element: _node_from_wire(child) for element, child in node.items() if element != MEMBER}
    if MEMBER in node:
        out[MEMBER] = {}
    return out


def to_wire(trie: Trie) -> Trie:
    """Trie → FieldsV1, sorted as upstream serialises it (members first, then fields, keys, values)."""
    out: Trie = {}
    for element in sorted(trie):
        child = trie[element]
        if element == MEMBER:
            out[MEMBER] = {}
        elif len(child) == 1 and MEMBER in child:
            out[element] = {}
        else:
            out[element] = to_wire(child)
    return out


def union(left: Trie, right: Trie) -> Trie:
    if not left:
        return right
    if not right:
        return left
    out = dict(left)
    for element, child in right.items():
        out[element] = union(out[element], child) if element in out and element != MEMBER else child
    return out


def difference(left: Trie, right: Trie) -> Trie:
    """Members of `left` that are not members of `right`."""
    if not right:
        return left
    out: Trie = {}
    for element, child in left.items():
        if element not in right:
            out[element] = child
        elif element != MEMBER:
            rest = difference(child, right[element])
            if rest:
                out[element] = rest
    return out


def recursive_difference(left: Trie, right: Trie) -> Trie:
    """Like `difference`, but a member of `right` takes everything below it away too."""
    out: Trie = {}
    for element, child in left.items():
        removed = right.get(element)
        if removed is None:
            out[element] = child
        elif element != MEMBER and MEMBER not in removed:
            rest = recursive_difference(child, removed)
            if rest:
                out[element] = rest
    return out


def intersection(left: Trie, right: Trie) -> Trie:
    out: Trie = {}
    for element, child in left.items():
        if element in right:
            if element == MEMBER:
                out[MEMBER] = {}
            else:
                shared = intersection(child, right[element])
                if shared:
                    out[element] = shared
    return out


def insert(trie: Trie, path: tuple[str, ...]) -> None:
    for element in path:
        trie = trie.setdefault(element, {})
    trie[MEMBER] = {}


def of_paths(*paths: tuple[str, ...]) -> Trie:
    """From plain field names: `("metadata", "name")`."""
    out: Trie = {}
    for path in paths:
        insert(out, tuple("f:" + name for name in path))
    return out


def paths(trie: Trie) -> list[str]:
    """Every member, printed as upstream prints paths: `.spec.containers[name="web"].image`."""
    out: list[str] = []
    _collect(trie, "", out)
    return out


def _collect(trie: Trie, prefix: str, out: list[str]) -> None:
    for element in sorted(trie):
        if element == MEMBER:
            out.append(prefix)
        else:
            _collect(trie[element], prefix + show_element(element), out)


def show_element(element: str) -> str:
    kind, _, rest = element.partition(":")
    if kind == "f":
        return "." + rest
    if kind == "k":
        keys = json.loads(rest)
        return "[" + ",".join(f"{name}={_compact(keys[name])}" for name in sorted(keys)) + "]"
    return f"[={rest}]" if kind == "v" else f"[{rest}]"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def key_element(keys: dict[str, Any]) -> str:
    """The element of a list item with these key fields."""
    return "k:" + json.dumps(keys, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def value_element(value: Any) -> str:
    """The element of an item of a set."""
    return "v:" + _compact(value)
