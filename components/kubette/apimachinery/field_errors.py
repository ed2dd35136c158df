"""Pure: one thing wrong with one field, in upstream's words (apimachinery's `field.Error`).

Strategies return lists of these; `status.invalid` turns a list into the 422 that kubectl prints.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# The Type column is what a reader sees, the reason what a program sees (metav1.CauseType).
_REASONS = {
    "Not found": "FieldValueNotFound",
    "Required value": "FieldValueRequired",
    "Duplicate value": "FieldValueDuplicate",
    "Invalid value": "FieldValueInvalid",
    "Unsupported value": "FieldValueNotSupported",
    "Forbidden": "FieldValueForbidden",
    "Too long": "FieldValueTooLong",
    "Too many": "FieldValueTooMany",
    "Internal error": "InternalError",
}
_VALUE_OMITTED = frozenset({"Required value", "Forbidden", "Too long", "Internal error"})

IMMUTABLE = "field is immutable"


def show(value: Any) -> str:
    """A value as upstream prints it inside an error: strings quoted, the rest as JSON."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


@dataclass(frozen=True, slots=True)
class FieldError:
    """`field: type: value: detail`."""

    type: str
    field: str
    value: Any = None
    detail: str = ""

    @property
    def reason(self) -> str:
        """The machine-readable cause."""
        return _REASONS[self.type]

    def body(self) -> str:
        """The message without the field, as in `Status.details.causes[].message`."""
        text = self.type if self.type in _VALUE_OMITTED else f"{self.type}: {show(self.value)}"
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.field}: {self.body()}"

    def cause(self) -> dict[str, str]:
        """The entry of `Status.details.causes`."""
        return {"reason": self.reason, "message": self.body(), "field": self.field}


def required(field: str, detail: str = "") -> FieldError:
    return FieldError("Required value", field, None, detail)


def invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError("Invalid value", field, value, detail)


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError("Duplicate value", field, value)


def not_found(field: str, value: Any) -> FieldError:
    return FieldError("Not found", field, value)


def forbidden(field: str, detail: str) -> FieldError:
    return FieldError("Forbidden", field, None, detail)


def not_supported(field: str, value: Any, supported: Iterable[str]) -> FieldError:
    names = ", ".join(json.dumps(one) for one in supported)
    return FieldError("Unsupported value", field, value, f"supported values: {names}" if names else "")


def too_long(field: str, limit_bytes: int) -> FieldError:
    return FieldError("Too long", field, None, f"may not be more than {limit_bytes} bytes")


def too_many(field: str, actual: int, limit: int) -> FieldError:
    return FieldError("Too many", field, actual, f"must have at most {limit} items")


def child(path: str, name: str | int) -> str:
    """The path of a field or list item below `path` (`spec`, `containers`, 0 → `spec.containers[0]`)."""
    if isinstance(name, int):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else name


def key(path: str, name: str) -> str:
    """The path of a map entry: `metadata.labels[app]`."""
    return f"{path}[{name}]"
