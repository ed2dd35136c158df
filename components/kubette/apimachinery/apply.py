"""Pure: who manages which field, and server-side apply (upstream's `managedfields`, KEP-555).

`track_update` follows every write that is not an apply; `apply` merges a configuration into the live object or says which other managers
it conflicts with. Both leave the result in `metadata.managedFields`.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from kubette.apimachinery import field_set, status, typed
from kubette.apimachinery.field_set import Trie
from kubette.apimachinery.schema import Schema

Object = dict[str, Any]

APPLY = "Apply"
UPDATE = "Update"
BEFORE_FIRST_APPLY = "before-first-apply"
ANCIENT_CHANGES = "ancient-changes"
# More updaters than this are merged into one, oldest first.
UPDATE_MANAGERS_MAX = 10
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# Nobody manages an object's identity.
_STRIPPED = field_set.of_paths(
    ("apiVersion",),
    ("kind",),
    ("metadata",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "creationTimestamp"),
    ("metadata", "selfLink"),
    ("metadata", "uid"),
    ("metadata", "clusterName"),
    ("metadata", "generation"),
    ("metadata", "managedFields"),
    ("metadata", "resourceVersion"),
)

# Structs that Go writes even when they are empty: a new object is compared with these, so their own paths are not "added".
_ALWAYS_WRITTEN = frozenset({"metadata", "spec", "status", "strategy", "updateStrategy", "template", "jobTemplate", "loadBalancer", "resources"})


class Manager(NamedTuple):
    """Who, how, by which version and subresource: one entry of managedFields."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    def __str__(self) -> str:
        """As conflicts name it."""
        text = json.dumps(self.name)
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == UPDATE else text


@dataclass(frozen=True, slots=True)
class Entry:
    """The fields of a manager and when they last changed."""

    fields: Trie = field(default_factory=dict)
    time: str = ""


Managed = dict[Manager, Entry]


class _Conflicts(Exception):
    def __init__(self, found: dict[Manager, Trie]) -> None:
        super().__init__("apply conflicts")
        self.found = found


def decode(entries: list[dict[str, Any]] | None) -> Managed:
    """managedFields → by manager; ValueError if they are not what we wrote."""
    managed: Managed = {}
    for entry in entries or []:
        operation = entry.get("operation")
        if operation not in (APPLY, UPDATE):
            raise ValueError(f"invalid operation: {operation}")
        manager = Manager(str(entry.get("manager") or ""), operation, str(entry.get("apiVersion") or ""), str(entry.get("subresource") or ""))
        managed[manager] = Entry(field_set.from_wire(entry.get("fieldsV1") or {}), str(entry.get("time") or ""))
    return managed


def encode(managed: Managed) -> list[dict[str, Any]]:
    """In upstream's order: applies before updates, then by time and name."""
    entries = []
    for manager, entry in sorted(managed.items(), key=lambda item: (item[0].operation, item[1].time, item[0])):
        out: dict[str, Any] = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "time": entry.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": field_set.to_wire(entry.fields),
        }
        if not entry.time:
            del out["time"]
        if manager.subresource:
            out["subresource"] = manager.subresource
        entries.append(out)
    return entries


def _without_managed_fields(obj: Object) -> Object:
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {name: value for name, value in metadata.items() if name != "managedFields"}}


def _set_managed(obj: Object, managed: Managed) -> None:
    metadata = obj.setdefault("metadata", {})
    if managed:
        metadata["managedFields"] = encode(managed)
    else:
        metadata.pop("managedFields", None)


def _empty_object(obj: Object, schema: Schema) -> Object:
    """What a Go struct of this type encodes to before anything is set, as far as `obj` has the same structs."""
    out: Object = {}
    for name, value in obj.items():
        below = schema.property(name)
        if below is None:
            continue
        if name in _ALWAYS_WRITTEN and isinstance(value, dict) and below.type == "object" and below.map_type != "atomic":
            out[name] = _empty_object(value, below)
        elif name in schema.required and isinstance(value, dict | list):
            out[name] = None
    return out


# --- update -----------------------------------------------------------------------------------------------------------


def track_update(
    old: Object | None,
    new: Object,
    manager: str,
    api_version: str,
    time: str,
    schema: Schema,
    subresource: str = "",
    operation: str = UPDATE,
    reset_fields: tuple[tuple[str, ...], ...] = (),
) -> None:
    """Writes `new.metadata.managedFields` for a create (old is None), an update or a patch by `manager`.

    To be called with what the client asked for, defaulted, but before strategies and allocators fill in what the server decides.
    `reset_fields` are paths this endpoint ignores (`("status",)`).
    """
    given = (new.get("metadata") or {}).get("managedFields")
    recorded = ((old or {}).get("metadata") or {}).get("managedFields")
    if old is not None and given is not None and given in ([], [{}]):
        _set_managed(new, {})  # the documented way to clear them
        return
    try:
        managed = decode(given if given is not None else recorded)
    except (ValueError, AttributeError, TypeError):
        managed = decode(recorded)
    new_seen = _without_managed_fields(new)
    old_seen = _without_managed_fields(old) if old is not None else _empty_object(new_seen, schema)
    comparison = typed.compare(old_seen, new_seen, schema)
    identity = Manager(manager or "unknown", operation, api_version, subresource)
    if reset_fields:
        ignored = field_set.of_paths(*reset_fields)
        comparison = typed.Comparison(*(field_set.recursive_difference(one, ignored) for one in comparison))
    changed = field_set.union(comparison.added, comparison.modified)
    if not comparison.is_same:
        managed = _take(managed, identity, changed, comparison.removed)
    gained = field_set.difference(changed, _STRIPPED)
    if gained:
        former = managed.get(identity, Entry())
        fields = field_set.union(former.fields, gained)
        managed[identity] = Entry(fields, time if fields != former.fields or not former.time else former.time)
    _set_managed(new, _cap(managed))


def _take(managed: Managed, taker: Manager, changed: Trie, removed: Trie) -> Managed:
    """Others lose what somebody changed, everybody what is gone."""
    out: Managed = {}
    for manager, entry in managed.items():
        fields = field_set.difference(entry.fields, removed)
        if manager != taker:
            fields = field_set.difference(fields, changed)
        if fields:
            out[manager] = replace(entry, fields=fields)
    return out


def _cap(managed: Managed) -> Managed:
    updaters = sorted((manager for manager in managed if manager.operation == UPDATE), key=lambda manager: (managed[manager].time, manager))
    if len(updaters) <= UPDATE_MANAGERS_MAX:
        return managed
    out = dict(managed)
    excess = len(updaters) - UPDATE_MANAGERS_MAX + 1
    for manager in updaters[:excess]:
        entry = out.pop(manager)
        bucket = Manager(ANCIENT_CHANGES, UPDATE, manager.api_version)
        merged = out.get(bucket, Entry())
        out[bucket] = Entry(field_set.union(merged.fields, entry.fields), entry.time)
    return out


# --- apply ------------------------------------------------------------------------------------------------------------


def apply(
    live: Object | None,
    config: Object,
    manager: str,
    force: bool,
    api_version: str,
    time: str,
    schema: Schema,
    subresource: str = "",
    reset_fields: tuple[tuple[str, ...], ...] = (),
) -> Object:
    """The live object (None: it does not exist) with the configuration applied. Raises ApiError: 409 on conflicts, 400 on bad configurations.

    `reset_fields` are paths this endpoint ignores (`("status",)`). The result shares unchanged parts with `live`.
    """
    if config.get("apiVersion") != api_version:
        text = f"Incorrect version specified in apply patch. Specified patch version: {config.get('apiVersion')}, expected: {api_version}"
        raise status.bad_request(text)
    if (config.get("metadata") or {}).get("managedFields") is not None:
        raise status.bad_request("metadata.managedFields must be nil")
    identity = Manager(manager, APPLY, api_version, subresource)
    live_seen = _without_managed_fields(live) if live is not None else {}
    try:
        managed = decode(((live or {}).get("metadata") or {}).get("managedFields"))
    except (ValueError, AttributeError, TypeError):
        managed = {}
    if live is not None and not managed:
        # Fields set before anybody applied are nobody's in particular: a manager of that name holds them, so that conflicts are seen.
        compared = typed.compare(_empty_object(live_seen, schema), live_seen, schema)
        fields = field_set.difference(compared.added, _STRIPPED)
        if fields:
            managed = {Manager(BEFORE_FIRST_APPLY, UPDATE, api_version): Entry(fields, time)}
    try:
        merged, result = _apply_configuration(live_seen, config, identity, managed, force, schema, reset_fields)
    except typed.TypedError as error:
        raise status.internal(f"failed to create typed patch object ({_describe(config)}): {error}") from None
    except _Conflicts as conflicts:
        if manager != "kubectl" or not _was_last_applied(live_seen, conflicts.found, schema):
            raise _conflict_error(conflicts.found) from None
        merged, result = _apply_configuration(live_seen, config, identity, managed, True, schema, reset_fields)
    _keep_last_applied(live_seen, merged, config, manager)
    former = managed.get(identity)
    if identity in result:
        unchanged = former is not None and former.fields == result[identity].fields and merged == live_seen and former.time
        result[identity] = replace(result[identity], time=former.time if unchanged and former is not None else time)
    merged = {**merged, "metadata": dict(merged.get("metadata") or {})}
    _set_managed(merged, result)
    return merged


def _apply_configuration(
    live: Object, config: Object, identity: Manager, managed: Managed, force: bool, schema: Schema, reset_fields: tuple[tuple[str, ...], ...]
) -> tuple[Object, Managed]:
    ignored = field_set.of_paths(*reset_fields)
    applied = typed.field_set_of(config, schema)
    merged = typed.merge(live, config, schema)
    last = managed.get(identity)
    result = dict(managed)
    result[identity] = Entry(field_set.recursive_difference(applied, ignored) if ignored else applied)
    if last is not None and last.fields:
        merged = _prune(merged, result, last.fields, schema)
    comparison = typed.compare(live, merged, schema)
    changed = field_set.union(comparison.modified, comparison.added)
    if ignored:
        changed = field_set.recursive_difference(changed, ignored)
    conflicts = {
        manager: shared
        for manager, entry in result.items()
        if manager != identity and (shared := field_set.intersection(entry.fields, changed))
    }  # fmt: skip
    if conflicts and not force:
        raise _Conflicts(conflicts)
    result = _take(result, identity, changed, comparison.removed)
    if identity in result:
        stripped = field_set.difference(result[identity].fields, _STRIPPED)
        if stripped:
            result[identity] = Entry(stripped)
        else:
            del result[identity]
    return merged, result


def _prune(merged: Object, managed: Managed, last: Trie, schema: Schema) -> Object:
    """Removes what this manager applied before, does not apply now, and nobody else manages."""
    owned: Trie = {}
    for entry in managed.values():
        owned = field_set.union(owned, entry.fields)
    merged_set = typed.field_set_of(merged, schema)
    pruned = typed.remove(merged, last, schema)
    # Add back what others (or the new configuration) own, then what was never owned by the applier.
    kept = field_set.union(typed.field_set_of(pruned, schema), owned)
    pruned = typed.remove(merged, field_set.difference(merged_set, kept), schema)
    gone = field_set.difference(merged_set, typed.field_set_of(pruned, schema))
    result: Object = typed.remove(merged, field_set.intersection(gone, last), schema)
    return result


def _conflict_error(found: dict[Manager, Trie]) -> status.ApiError:
    listed = [(manager, path) for manager in sorted(found) for path in field_set.paths(found[manager])]
    causes = [{"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": path} for manager, path in listed]
    if len(listed) == 1:
        manager, path = listed[0]
        return status.apply_conflict(f"Apply failed with 1 conflict: conflict with {manager}: {path}", causes)
    lines: list[str] = []
    for manager in sorted(found, key=str):
        lines.append(f"conflicts with {manager}:")
        lines += [f"- {path}" for path in field_set.paths(found[manager])]
    return status.apply_conflict(f"Apply failed with {len(listed)} conflicts: " + "\n".join(lines), causes)


def _describe(config: Object) -> str:
    metadata = config.get("metadata") or {}
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}; {config.get('apiVersion')}, Kind={config.get('kind')}"


def _was_last_applied(live: Object, conflicts: dict[Manager, Trie], schema: Schema) -> bool:
    """Whether client-side apply set all of these: kubectl's own annotation says so, and kubectl may take over from itself."""
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    if not text:
        return False
    try:
        last = typed.field_set_of(json.loads(text), schema)
    except (ValueError, TypeError):
        return False
    # Fields that were applied and still have the applied value; others were changed by somebody else since.
    differing = typed.compare(live, typed.merge(live, json.loads(text), schema), schema)
    last = field_set.difference(last, field_set.union(differing.modified, differing.added))
    return not any(field_set.difference(fields, last) for fields in conflicts.values())


def _keep_last_applied(live: Object, merged: Object, config: Object, manager: str) -> None:
    """While the annotation of client-side apply is there, `kubectl apply --server-side` keeps it up to date for those who go back."""
    if manager != "kubectl" or LAST_APPLIED not in ((live.get("metadata") or {}).get("annotations") or {}):
        return
    metadata = merged["metadata"] = dict(merged.get("metadata") or {})
    annotations = metadata["annotations"] = dict(metadata.get("annotations") or {})
    annotations[LAST_APPLIED] = json.dumps(config, separators=(",", ":"), sort_keys=True) + "\n"
