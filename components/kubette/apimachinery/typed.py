"""Pure: objects seen through their schema, for server-side apply (structured-merge-diff's `typed`): compare, merge, field sets, removal.

A *leaf* is a scalar or anything atomic. Maps, structs, sets and lists with keys are walked item by item.
"""

from typing import Any, NamedTuple

from kubette.apimachinery import field_set
from kubette.apimachinery.field_set import MEMBER, Trie
from kubette.apimachinery.schema import ANY, Schema

_ABSENT: Any = object()


class TypedError(ValueError):
    """A list item without its key, or twice the same: the object cannot be seen through its schema."""


class Comparison(NamedTuple):
    """Which fields a change added, modified and removed."""

    added: Trie
    modified: Trie
    removed: Trie

    @property
    def is_same(self) -> bool:
        return not (self.added or self.modified or self.removed)


def _is_map(schema: Schema) -> bool:
    return schema.type in ("object", "map") and schema.map_type != "atomic"


def _is_list(schema: Schema) -> bool:
    return schema.type == "array" and schema.list_type in ("set", "map") and schema.items is not None


def _field(schema: Schema, name: str) -> Schema:
    return schema.property(name) or ANY


def _element(item: Any, schema: Schema) -> str:
    """The path element of a list's item."""
    if schema.list_type == "set":
        return field_set.value_element(item)
    if not isinstance(item, dict):
        raise TypedError("associative list with keys may not have non-map elements")
    defaults = schema.items.key_defaults if schema.items is not None else {}
    keys: dict[str, Any] = {}
    for name in schema.list_map_keys:
        value = item.get(name, defaults.get(name))
        if value is not None:
            keys[name] = value
    if not keys:
        raise TypedError(
            f'associative list with keys has an element that omits key field "{schema.list_map_keys[0]}" (and doesn\'t have default value)'
        )
    return field_set.key_element(keys)


def _items(value: Any, schema: Schema) -> dict[str, Any]:
    """A list's items by path element, in order; TypedError for duplicates."""
    out: dict[str, Any] = {}
    for item in value or []:
        element = _element(item, schema)
        if element in out:
            raise TypedError(f"duplicate entries for key {field_set.show_element(element)}")
        out[element] = item
    return out


# --- compare ----------------------------------------------------------------------------------------------------------


def compare(old: Any, new: Any, schema: Schema) -> Comparison:
    """The fields by which `new` differs from `old`."""
    return Comparison(*_compare(old, new, schema))


def _compare(old: Any, new: Any, schema: Schema) -> tuple[Trie, Trie, Trie]:
    if old == new and old is not _ABSENT:
        return {}, {}, {}
    present = old if old is not _ABSENT else new
    walked: tuple[dict[str, Any], dict[str, Any]] | None = None
    if _is_map(schema) and _fits(old, dict) and _fits(new, dict):
        walked = (old if isinstance(old, dict) else {}, new if isinstance(new, dict) else {})
    elif _is_list(schema) and _fits(old, list) and _fits(new, list):
        try:
            walked = (_items(old if isinstance(old, list) else [], schema), _items(new if isinstance(new, list) else [], schema))
        except TypedError:
            walked = None  # an invalid list is one leaf: the update is not refused for it
    assert present is not _ABSENT
    if walked is None or not (walked[0] or walked[1]):
        if old is _ABSENT:
            return field_set.leaf(), {}, {}
        if new is _ABSENT:
            return {}, {}, field_set.leaf()
        return {}, field_set.leaf(), {}
    added: Trie = {}
    modified: Trie = {}
    removed: Trie = {}
    is_map = _is_map(schema)
    before, after = walked
    for name in (*before, *(name for name in after if name not in before)):
        field = _field(schema, name) if is_map else schema.items or ANY
        element = "f:" + name if is_map else name
        one_added, one_modified, one_removed = _compare(before.get(name, _ABSENT), after.get(name, _ABSENT), field)
        if one_added:
            added[element] = one_added
        if one_modified:
            modified[element] = one_modified
        if one_removed:
            removed[element] = one_removed
    if old is _ABSENT:
        added[MEMBER] = {}
    elif new is _ABSENT:
        removed[MEMBER] = {}
    return added, modified, removed


def _fits(value: Any, type: type) -> bool:
    return value is _ABSENT or value is None or isinstance(value, type)


# --- field sets -------------------------------------------------------------------------------------------------------


def field_set_of(obj: Any, schema: Schema) -> Trie:
    """All fields an applied configuration names."""
    if _is_map(schema) and isinstance(obj, dict):
        out: Trie = {}
        struct = schema.type == "object"
        for name, value in obj.items():
            child = field_set_of(value, _field(schema, name))
            # Fields of a struct are members by their leaves; an entry of a map is a member itself, and so is what is empty.
            if not struct or not child or value is None or value == {}:
                child = {**child, MEMBER: {}}
            out["f:" + name] = child
        return out
    if _is_list(schema) and isinstance(obj, list):
        return {element: {**field_set_of(item, schema.items or ANY), MEMBER: {}} for element, item in _items(obj, schema).items()}
    return field_set.leaf()


# --- merge ------------------------------------------------------------------------------------------------------------


def merge(live: Any, config: Any, schema: Schema) -> Any:
    """`live` with everything `config` says; nothing is removed. Items keep the order of `config` where it names them."""
    if _is_map(schema) and isinstance(config, dict):
        out = dict(live) if isinstance(live, dict) else {}
        for name, value in config.items():
            out[name] = merge(out.get(name), value, _field(schema, name))
        return out
    if _is_list(schema) and isinstance(config, list):
        ours, theirs = _items(config, schema), _items(live if isinstance(live, list) else [], schema)
        return [
            merge(theirs.get(element), ours[element], schema.items or ANY) if element in ours else theirs[element]
            for element in _woven(list(theirs), list(ours))
        ]
    return config


def _woven(live: list[str], config: list[str]) -> list[str]:
    """Items that only the live list has come as early as they did there; shared and new items are in the order of `config`."""
    named, out = set(config), dict[str, None]()
    position = 0
    for element in config:
        while position < len(live) and (live[position] not in named or live[position] in out):
            out[live[position]] = None
            position += 1
        out[element] = None
    out.update(dict.fromkeys(live))
    return list(out)


# --- removal ----------------------------------------------------------------------------------------------------------


def remove(obj: Any, removed: Trie, schema: Schema) -> Any:
    """The object without the members of `removed`."""
    if not removed:
        return obj
    if _is_map(schema) and isinstance(obj, dict):
        out: dict[str, Any] = {}
        for name, value in obj.items():
            below = removed.get("f:" + name)
            if below is None:
                out[name] = value
            elif MEMBER not in below:
                out[name] = remove(value, below, _field(schema, name))
        return out
    if _is_list(schema) and isinstance(obj, list):
        items = []
        for element, item in _items(obj, schema).items():
            below = removed.get(element)
            if below is None:
                items.append(item)
            elif MEMBER not in below:
                items.append(remove(item, below, schema.items or ANY))
        return items
    return obj
