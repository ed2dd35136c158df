"""Pure: validation of `metadata` (apimachinery's `api/validation/objectmeta.go`)."""

import json
from collections.abc import Callable
from typing import Any

from kubette.apimachinery import field_errors, meta, names
from kubette.apimachinery.field_errors import FieldError, child

Object = dict[str, Any]

ANNOTATIONS_SIZE_MAX = 256 * 1024


def validate(obj: Object, namespaced: bool, name_check: Callable[[str], list[str]], path: str = "metadata") -> list[FieldError]:
    """A new object's metadata."""
    metadata = obj.get("metadata") or {}
    errors: list[FieldError] = []
    prefix = metadata.get("generateName")
    if prefix:
        errors += [field_errors.invalid(child(path, "generateName"), prefix, text) for text in name_check(names.mask_trailing_dash(prefix))]
    name = metadata.get("name")
    if not name:
        errors.append(field_errors.required(child(path, "name"), "name or generateName is required"))
    else:
        errors += [field_errors.invalid(child(path, "name"), name, text) for text in name_check(name)]
    namespace = metadata.get("namespace")
    if namespaced:
        if not namespace:
            errors.append(field_errors.required(child(path, "namespace")))
        else:
            errors += [field_errors.invalid(child(path, "namespace"), namespace, text) for text in names.dns1123_label(namespace)]
    elif namespace:
        errors.append(field_errors.forbidden(child(path, "namespace"), "not allowed on this type"))
    errors += labels(metadata.get("labels"), child(path, "labels"))
    errors += annotations(metadata.get("annotations"), child(path, "annotations"))
    errors += _owner_references(metadata.get("ownerReferences") or [], child(path, "ownerReferences"))
    errors += _finalizers(metadata.get("finalizers") or [], child(path, "finalizers"))
    return errors


def validate_update(obj: Object, old: Object, path: str = "metadata") -> list[FieldError]:
    """A changed object's metadata."""
    metadata, old_metadata = obj.get("metadata") or {}, old.get("metadata") or {}
    errors: list[FieldError] = []
    if old_metadata.get("deletionTimestamp"):
        added = [one for one in metadata.get("finalizers") or [] if one not in (old_metadata.get("finalizers") or [])]
        if added:
            listed = ", ".join(json.dumps(one) for one in sorted(added))
            text = f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}"
            errors.append(field_errors.forbidden(child(path, "finalizers"), text))
    if not metadata.get("resourceVersion"):
        errors.append(field_errors.invalid(child(path, "resourceVersion"), "", "must be specified for an update"))
    if meta.generation(obj) < meta.generation(old):
        errors.append(field_errors.invalid(child(path, "generation"), meta.generation(obj), "must not be decremented"))
    errors += [
        field_errors.invalid(child(path, name), metadata.get(name) or "", field_errors.IMMUTABLE)
        for name in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
        if metadata.get(name) != old_metadata.get(name)
    ]
    errors += labels(metadata.get("labels"), child(path, "labels"))
    errors += annotations(metadata.get("annotations"), child(path, "annotations"))
    errors += _owner_references(metadata.get("ownerReferences") or [], child(path, "ownerReferences"))
    errors += _finalizers(metadata.get("finalizers") or [], child(path, "finalizers"))
    return errors


def labels(found: dict[str, str] | None, path: str) -> list[FieldError]:
    """Keys are qualified names, values label values."""
    errors: list[FieldError] = []
    for name, value in (found or {}).items():
        errors += [field_errors.invalid(path, name, text) for text in names.qualified_name(name)]
        errors += [field_errors.invalid(path, value, text) for text in names.label_value(value)]
    return errors


def annotations(found: dict[str, str] | None, path: str) -> list[FieldError]:
    """Keys are qualified names; the whole is limited."""
    errors: list[FieldError] = []
    size = 0
    for name, value in (found or {}).items():
        errors += [field_errors.invalid(path, name, text) for text in names.qualified_name(name.lower())]
        size += len(name.encode()) + len(value.encode())
    if size > ANNOTATIONS_SIZE_MAX:
        errors.append(field_errors.too_long(path, ANNOTATIONS_SIZE_MAX))
    return errors


def _owner_references(references: list[dict[str, Any]], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    controller = ""
    for reference in references:
        api_version = str(reference.get("apiVersion") or "")
        if not api_version:
            errors.append(field_errors.invalid(child(path, "apiVersion"), api_version, "version must not be empty"))
        missing = [name for name in ("kind", "name", "uid") if not reference.get(name)]
        errors += [field_errors.invalid(child(path, name), "", f"{name} must not be empty") for name in missing]
        if (api_version, reference.get("kind")) == ("v1", "Event"):
            errors.append(field_errors.invalid(path, reference, "/v1, Kind=Event is disallowed from being an owner"))
        if reference.get("controller"):
            if controller:
                text = f'Only one reference can have Controller set to true. Found "true" in references for {controller} and {reference.get("name")}'
                errors.append(field_errors.invalid(path, references, text))
            controller = str(reference.get("name"))
    return errors


def _finalizers(found: list[str], path: str) -> list[FieldError]:
    errors = [field_errors.invalid(path, one, text) for one in found for text in names.qualified_name(one)]
    if meta.ORPHAN_DEPENDENTS in found and meta.DELETE_DEPENDENTS in found:
        text = f"finalizer {meta.ORPHAN_DEPENDENTS} and {meta.DELETE_DEPENDENTS} cannot be both set"
        errors.append(field_errors.invalid(path, found, text))
    return errors


def label_selector(selector: dict[str, Any] | None, path: str, *, allow_invalid_values: bool = False) -> list[FieldError]:
    """metav1.LabelSelector (`ValidateLabelSelector`)."""
    errors: list[FieldError] = []
    if selector is None:
        return errors
    match_labels = child(path, "matchLabels")
    for name, value in (selector.get("matchLabels") or {}).items():
        errors += [field_errors.invalid(match_labels, name, text) for text in names.qualified_name(name)]
        errors += [field_errors.invalid(match_labels, value, text) for text in names.label_value(value)]
    for index, requirement in enumerate(selector.get("matchExpressions") or []):
        where = child(child(path, "matchExpressions"), index)
        operator, values = requirement.get("operator"), requirement.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                errors.append(field_errors.required(child(where, "values"), "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                errors.append(field_errors.forbidden(child(where, "values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
        else:
            errors.append(field_errors.invalid(child(where, "operator"), operator or "", "not a valid selector operator"))
        errors += [
            field_errors.invalid(child(where, "key"), requirement.get("key"), text) for text in names.qualified_name(requirement.get("key") or "")
        ]
        if not allow_invalid_values:
            for number, value in enumerate(values):
                errors += [field_errors.invalid(child(child(where, "values"), number), value, text) for text in names.label_value(value)]
    return errors
