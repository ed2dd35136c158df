"""Pure: the common behaviour of every resource (upstream's `rest.RESTCreateStrategy` and `RESTUpdateStrategy` in one).

A write goes: decode → `default` → `prepare_for_create` or `prepare_for_update` → admission → `validate` or `validate_update` → store.
Objects come in the version they are stored in (`api.conversions` does the rest). All methods change only the object they are given first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubette.api.kinds import Kind
from kubette.apimachinery import field_errors, meta, names
from kubette.apimachinery.field_errors import FieldError
from kubette.apimachinery.validation import copy
from kubette.kube_apiserver.registry import object_meta, tables

Object = dict[str, Any]
NameCheck = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Context:
    """What a preparation may need to know about the request."""

    now: str = ""  # RFC 3339
    username: str = ""
    uid: str = ""
    groups: Sequence[str] = ()
    extra: dict[str, list[str]] = field(default_factory=dict)
    minor: int = 37


class Strategy:
    """The behaviour of a resource without peculiarities; kinds override what they must."""

    # Which names are valid (upstream's ValidateNameFunc).
    name_check: NameCheck = staticmethod(names.dns1123_subdomain)
    # Whether `metadata.generation` counts changes of the spec.
    has_generation = False
    # PUT of an absent object creates it.
    allow_create_on_update = False
    # PUT without a resourceVersion overwrites.
    allow_unconditional_update = True
    # What a new object's status is; None for kinds without one, or where the client may give it.
    initial_status: Object | None = None
    # A write of the status cannot change labels (the workloads).
    status_keeps_labels = False
    # Fields beside metadata.name and metadata.namespace that a field selector may name.
    selectable: tuple[str, ...] = ()

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    # --- defaults and preparation ---

    def default(self, obj: Object) -> None:
        """Fills in what the client left out, as upstream's defaulting functions do."""

    def prepare_for_create(self, obj: Object, context: Context) -> None:
        if self.has_generation:
            meta.metadata(obj)["generation"] = 1
        if self.kind.has_status() and self.initial_status is not None:
            obj["status"] = copy(self.initial_status)

    def prepare_for_update(self, obj: Object, old: Object, subresource: str = "", context: Context | None = None) -> None:
        """Takes from the old object what this write may not touch, and counts generations."""
        if subresource == "status":
            self.prepare_for_status_update(obj, old)
        elif self.kind.has_status() and not subresource:
            _restore(obj, old, "status")
        if self.has_generation:
            changed = subresource != "status" and self.generation_changes(obj, old)
            generation = meta.generation(old) + 1 if changed else meta.generation(old)
            if generation:
                meta.metadata(obj)["generation"] = generation
            else:
                meta.metadata(obj).pop("generation", None)

    def prepare_for_status_update(self, obj: Object, old: Object) -> None:
        """Only the status (and unimportant metadata) may change."""
        for name in set(obj) | set(old):
            if name not in ("status", "metadata", "apiVersion", "kind"):
                _restore(obj, old, name)
        metadata, old_metadata = meta.metadata(obj), old.get("metadata") or {}
        for name in ("deletionTimestamp", "ownerReferences", *(("labels",) if self.status_keeps_labels else ())):
            _restore(metadata, old_metadata, name)

    def generation_changes(self, obj: Object, old: Object) -> bool:
        return obj.get("spec") != old.get("spec") or (meta.is_being_deleted(obj) and not meta.is_being_deleted(old))

    # --- validation ---

    def validate(self, obj: Object) -> list[FieldError]:
        """A new object."""
        errors = object_meta.validate(obj, self.kind.namespaced, self.name_check)
        return errors + self.validate_spec(obj)

    def validate_update(self, obj: Object, old: Object, subresource: str = "") -> list[FieldError]:
        """A changed object; `subresource` is what was written (`status`, `scale`, …)."""
        errors = object_meta.validate_update(obj, old)
        if subresource == "status":
            return errors + self.validate_status(obj, old)
        return errors + self.validate_spec(obj) + self.validate_transition(obj, old)

    def validate_spec(self, obj: Object) -> list[FieldError]:
        """What must hold of the object whenever its spec is written."""
        return []

    def validate_transition(self, obj: Object, old: Object) -> list[FieldError]:
        """What may not change."""
        return []

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        return []

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        """Texts for Warning headers (`299 - "…"`)."""
        return []

    def reset_fields(self, subresource: str = "") -> tuple[tuple[str, ...], ...]:
        """Paths this endpoint never writes, so that nobody comes to manage them through it (for `apimachinery.apply`)."""
        if subresource == "status":
            return (("spec",), ("metadata", "labels")) if self.status_keeps_labels else (("spec",),)
        return (("status",),) if self.kind.has_status() and not subresource else ()

    # --- reading ---

    @property
    def selectable_field_names(self) -> frozenset[str]:
        """For `FieldSelector.check`."""
        scope = ("metadata.name", "metadata.namespace") if self.kind.namespaced else ("metadata.name",)
        return frozenset((*scope, *self.selectable))

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        """The values field selectors compare with."""
        metadata = obj.get("metadata") or {}
        fields = {"metadata.name": str(metadata.get("name") or "")}
        if self.kind.namespaced:
            fields["metadata.namespace"] = str(metadata.get("namespace") or "")
        for path in self.selectable:
            fields[path] = _read(obj, path)
        return fields

    def columns(self) -> list[dict[str, Any]]:
        """`columnDefinitions` of this kind's Table."""
        return tables.columns(self.kind)

    def table(self, objects: Sequence[Object], now: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Column definitions and rows (`{"cells": […]}`, pods with `conditions` where upstream has them), as `kubectl get` prints."""
        return tables.columns(self.kind), [tables.row(self.kind, obj, now) for obj in objects]


def _restore(obj: Object, old: Object, name: str) -> None:
    """obj[name] = old[name], absent if absent."""
    if name in old:
        obj[name] = old[name]
    else:
        obj.pop(name, None)


restore = _restore


def _read(obj: Object, path: str) -> str:
    value: Any = obj
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def immutable(obj: Any, old: Any, path: str) -> list[FieldError]:
    """`field is immutable`, if it changed."""
    return [] if obj == old else [field_errors.invalid(path, obj, field_errors.IMMUTABLE)]
