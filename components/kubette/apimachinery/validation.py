"""Pure: what Go's typed decoding does to a JSON object, done by schema: type errors, unknown fields, pruning, canonical values.

Upstream decodes every body into structs and encodes those again. So unknown fields vanish (and are reported if the client asks), nulls and
empty optional fields are left out, quantities get their one spelling, and a wrong type is an error in encoding/json's words. All of that is
one walk here. What a *valid* value is (ranges, references, immutability) is the strategies' business.
"""

import re
from typing import Any

from kubette.apimachinery import quantity, timestamps
from kubette.apimachinery.schema import Schema

STRICT = "Strict"
WARN = "Warn"
IGNORE = "Ignore"

_INT_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
# Reports are cut off: a body of nonsense is not answered with a megabyte of header.
UNKNOWN_FIELDS_MAX = 100

# Fields that are Go values with `omitempty`, where false or 0 is not written. (A pointer field keeps its zero; the schemas do not tell.)
_ZERO_OMITTED = frozenset(
    [
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "stdin",
        "stdinOnce",
        "tty",
        "paused",
        "publishNotReadyAddresses",
        "unschedulable",
        "hostPort",
        "nodePort",
        "minReadySeconds",
        "initialDelaySeconds",
        "globalDefault",
        "isDefaultClass",
        "defaultAllowPrivilegeEscalation",
        "observedGeneration",
        "generation",
    ]
)
# Fields that are pointers to strings, where "" means something ("no class" against "the default class").
_EMPTY_STRING_KEPT = frozenset({"storageClassName", "volumeMode", "ingressClassName", "loadBalancerClass", "zone", "holderIdentity"})


class DecodeError(ValueError):
    """The object does not fit its type; the message is Go's."""


def conform(obj: dict[str, Any], schema: Schema) -> list[str]:
    """Makes `obj` what upstream's decoder would make of it, in place. Returns the paths of the unknown fields that were dropped."""
    unknown: list[str] = []
    _struct(obj, schema, "", unknown)
    return unknown


def unknown_fields(obj: dict[str, Any], schema: Schema) -> list[str]:
    """`conform`, on a copy, for its report alone."""
    return conform(copy(obj), schema)


def copy(value: Any) -> Any:
    """A deep copy of JSON data, several times faster than `copy.deepcopy`."""
    if type(value) is dict:
        return {key: copy(item) if type(item) is dict or type(item) is list else item for key, item in value.items()}
    if type(value) is list:
        return [copy(item) if type(item) is dict or type(item) is list else item for item in value]
    return value


def strict_errors(unknown: list[str], duplicates: tuple[str, ...] | list[str] = ()) -> list[str]:
    """One text a field, as `fieldValidation=Warn` puts them in Warning headers."""
    return [f'duplicate field "{path}"' for path in duplicates] + [f'unknown field "{path}"' for path in unknown]


def strict_decoding_error(errors: list[str]) -> str:
    """The text of `fieldValidation=Strict`."""
    return "strict decoding error: " + ", ".join(errors)


def cannot_be_handled(kind: str, version: str, why: str) -> str:
    """The 400 around a decode error: `Deployment in version "v1" cannot be handled as a Deployment: …`."""
    return f'{kind} in version "{version}" cannot be handled as a {kind}: {why}'


def _go_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object"


def _go_type(schema: Schema) -> str:
    match schema.type:
        case "string":
            return "[]uint8" if schema.format == "byte" else "string"
        case "integer":
            return schema.format or "int64"
        case "number":
            return "float64"
        case "boolean":
            return "bool"
        case "array":
            return "[]" + (_go_type(schema.items) if schema.items else "interface {}")
        case "map":
            return "map[string]" + (_go_type(schema.items) if schema.items else "interface {}")
        case "object":
            return f"{schema.package}.{schema.name}"
    return "string"


def _mismatch(value: Any, schema: Schema, struct: str, path: str) -> DecodeError:
    kind = _go_kind(value)
    if kind == "number" and schema.type == "integer":
        kind = f"number {value}"
    # encoding/json names the innermost struct and the path without indexes.
    fields = re.sub(r"\[\d+\]", "", path)
    where = f"Go struct field {struct}.{fields} of type " if struct else "Go value of type "
    return DecodeError(f"json: cannot unmarshal {kind} into {where}{_go_type(schema)}")


def _struct(obj: dict[str, Any], schema: Schema, path: str, unknown: list[str]) -> None:
    properties = schema.properties
    dropped: list[str] = []
    for name, value in obj.items():
        field = properties.get(name)
        if field is None:
            if len(unknown) < UNKNOWN_FIELDS_MAX:
                unknown.append(f"{path}.{name}" if path else name)
            dropped.append(name)
            continue
        if value is None:
            dropped.append(name)
            continue
        where = f"{path}.{name}" if path else name
        value = obj[name] = _value(value, field, schema.name, where, unknown)
        if not value and _is_omitted(name, value, field, schema):
            dropped.append(name)
    for name in dropped:
        del obj[name]


def _is_omitted(name: str, value: Any, field: Schema, owner: Schema) -> bool:
    """Whether an empty value of this field is left out when it is encoded again."""
    if name in owner.required:
        return False
    if value == "":
        return name not in _EMPTY_STRING_KEPT and field.type in ("string", "time")
    if isinstance(value, bool | int):
        return name in _ZERO_OMITTED
    return field.type in ("array", "map")


def _value(value: Any, schema: Schema, struct: str, path: str, unknown: list[str]) -> Any:
    match schema.type:
        case "object":
            if not isinstance(value, dict):
                raise _mismatch(value, schema, struct, path)
            _struct(value, schema, path, unknown)
        case "array":
            if not isinstance(value, list):
                # A Go byte slice is a base64 string, and so are all string lists of one.
                raise _mismatch(value, schema, struct, path)
            item_schema = schema.items
            if item_schema is not None:
                for index, item in enumerate(value):
                    if item is None:
                        value[index] = {} if item_schema.type in ("object", "map") else "" if item_schema.type == "string" else 0
                    else:
                        value[index] = _value(item, item_schema, struct, f"{path}[{index}]", unknown)
        case "map":
            if not isinstance(value, dict):
                raise _mismatch(value, schema, struct, path)
            entry_schema = schema.items
            if entry_schema is not None:
                for name, item in value.items():
                    if item is None:
                        value[name] = {} if entry_schema.type in ("object", "map") else "" if entry_schema.type == "string" else []
                    else:
                        value[name] = _value(item, entry_schema, struct, f"{path}.{name}", unknown)
        case "string":
            if not isinstance(value, str):
                raise _mismatch(value, schema, struct, path)
            if schema.format == "byte":
                return _base64(value)
        case "integer":
            return _integer(value, schema, struct, path)
        case "boolean":
            if not isinstance(value, bool):
                raise _mismatch(value, schema, struct, path)
        case "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _mismatch(value, schema, struct, path)
        case "quantity":
            try:
                return quantity.canonical(value)
            except ValueError as error:
                raise DecodeError(str(error)) from None
        case "int-or-string":
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise DecodeError(f"json: cannot unmarshal {_go_kind(value)} into Go struct field {struct}.{path} of type intstr.IntOrString")
        case "time" | "micro-time":
            return _time(value, schema, struct, path)
        case "any-object":
            if not isinstance(value, dict):
                raise _mismatch(value, schema, struct, path)
    return value


def _integer(value: Any, schema: Schema, struct: str, path: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _mismatch(value, schema, struct, path)
    low, high = _INT_RANGES.get(schema.format, _INT_RANGES["int64"])
    if not low <= value <= high:
        raise _mismatch(value, schema, struct, path)
    return value


def _time(value: Any, schema: Schema, struct: str, path: str) -> str:
    if not isinstance(value, str):
        raise _mismatch(value, schema, struct, path)
    if not value:
        return value
    try:
        seconds = timestamps.parse_time(value)
    except ValueError as error:
        raise DecodeError(str(error)) from None
    if schema.type == "micro-time":
        # A float of today's seconds has less than microsecond precision to spare: keep what is already in the canonical form.
        return value if re.fullmatch(r".{19}\.\d{6}Z", value) else timestamps.format_micro_time(seconds)
    return timestamps.format_time(seconds)


_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def _base64(value: str) -> str:
    text = value.replace("\n", "").replace("\r", "")
    if _BASE64.fullmatch(text):
        return text
    bad = next((index for index, char in enumerate(text) if not re.match(r"[A-Za-z0-9+/]", char)), len(text) // 4 * 4)
    raise DecodeError(f"illegal base64 data at input byte {bad}")
