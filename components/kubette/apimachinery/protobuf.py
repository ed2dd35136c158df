"""Pure: Kubernetes' Protobuf bodies read as the JSON objects they stand for (apimachinery's `runtime/serializer/protobuf`).

kubectl from v1.37 on sends its typed requests this way and does not ask again in JSON. The body is `k8s\\0` and a `runtime.Unknown` whose `raw` is the message of the
kind. Only decoding is needed: every client also accepts JSON answers. Field numbers and JSON names are in `protobuf_fields.json`, made by `protobuf_table`.
Unknown fields are skipped, as Protobuf wants.
"""

import base64
import struct
from collections.abc import Iterator
from importlib import resources
from typing import Any

import orjson

from kubette.apimachinery import timestamps

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"
DEPTH_MAX = 100

Object = dict[str, Any]
Fields = dict[int, tuple[str, str, str, str]]


class ProtobufError(ValueError):
    """The body is not what it says; fit for a 400."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ProtobufError("unexpected EOF")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields_of(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value): integers for varints, bytes for everything else."""
    at, end = 0, len(data)
    while at < end:
        tag, at = varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ProtobufError(f"proto: illegal wireType {wire}")
        if at + size > end:
            raise ProtobufError("unexpected EOF")
        yield number, data[at : at + size]
        at += size


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _text(value: int | bytes) -> str:
    if not isinstance(value, bytes):
        raise ProtobufError("proto: wrong wireType")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ProtobufError("proto: string field contains invalid UTF-8") from error


def message_of(api_version: str, kind: str) -> str:
    """`apps/v1`, `Deployment` → `apps/v1.Deployment`; group domains are not in package names, the core group is `core`."""
    group, _, version = api_version.rpartition("/")
    if kind == "DeleteOptions":
        return "meta/v1.DeleteOptions"
    return f"{group.partition('.')[0] or 'core'}/{version}.{kind}"


class Decoder:
    """Holds the table; load it when the first such body comes."""

    def __init__(self, table: dict[str, list[list[Any]]]) -> None:
        self._messages: dict[str, Fields] = {
            name: {number: (json_name, code, reference, flags) for number, json_name, code, reference, flags in fields}
            for name, fields in table.items()
        }

    @classmethod
    def load(cls) -> "Decoder":
        return cls(orjson.loads(resources.files("kubette.apimachinery").joinpath("protobuf_fields.json").read_bytes()))

    def decode(self, body: bytes, api_version: str = "", kind: str = "") -> Object:
        """The object of a body; what it does not say of itself is taken from the arguments. Raises ProtobufError."""
        if not body.startswith(MAGIC):
            raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
        raw = b""
        for number, value in fields_of(body[len(MAGIC) :]):
            if not isinstance(value, bytes):
                continue
            if number == 1:
                given = {n: _text(v) for n, v in fields_of(value)}
                api_version, kind = given.get(1) or api_version, given.get(2) or kind
            elif number == 2:
                raw = value
        name = message_of(api_version, kind)
        if name not in self._messages:
            raise ProtobufError(f'no kind "{kind}" is registered for version "{api_version}"')
        return {"kind": kind, "apiVersion": api_version, **self._message(name, raw, 0)}

    def _message(self, name: str, data: bytes, depth: int) -> Object:
        if depth > DEPTH_MAX:
            raise ProtobufError("proto: nesting too deep")
        fields = self._messages.get(name, {})
        out: Object = {}
        for number, raw in fields_of(data):
            field = fields.get(number)
            if field is None:
                continue
            json_name, code, reference, flags = field
            if code == "M":
                key, value = self._entry(reference, raw, depth)
                out.setdefault(json_name, {})[key] = value
            elif "r" in flags:
                items = out.setdefault(json_name, [])
                if code in "ib" and isinstance(raw, bytes):
                    items.extend(self._packed(code, raw))
                else:
                    items.append(self._value(code, reference, raw, depth))
            elif not json_name:
                out.update(self._value(code, reference, raw, depth))
            else:
                value = self._value(code, reference, raw, depth)
                if value is None or ("z" in flags and not value and value != {}):
                    continue
                out[json_name] = value
        return out

    def _packed(self, code: str, raw: bytes) -> Iterator[Any]:
        at = 0
        while at < len(raw):
            value, at = varint(raw, at)
            yield bool(value) if code == "b" else _signed(value)

    def _entry(self, reference: str, raw: int | bytes, depth: int) -> tuple[str, Any]:
        code, _, below = reference.partition(":")
        if not isinstance(raw, bytes):
            raise ProtobufError("proto: wrong wireType")
        key, value = "", None
        for number, part in fields_of(raw):
            if number == 1:
                key = _text(part)
            elif number == 2:
                value = self._value(code, below, part, depth)
        if value is None:
            value = {"s": "", "y": "", "i": 0, "b": False, "m": {}}.get(code)
        return key, value

    def _value(self, code: str, reference: str, raw: int | bytes, depth: int) -> Any:
        match code:
            case "s":
                return _text(raw)
            case "i" | "b":
                if not isinstance(raw, int):
                    raise ProtobufError("proto: wrong wireType")
                return bool(raw) if code == "b" else _signed(raw)
        if not isinstance(raw, bytes):
            raise ProtobufError("proto: wrong wireType")
        if code == "y":
            return base64.b64encode(raw).decode()
        if code == "d":
            return struct.unpack("<d", raw)[0]
        special = _SPECIAL.get(reference)
        if special is not None:
            return special(raw)
        value = self._message(reference, raw, depth + 1)
        # A wrapped list (`items` alone, without a name) is the list itself.
        return value.get("", []) if self._wraps(reference) else value

    def _wraps(self, name: str) -> bool:
        fields = self._messages.get(name, {})
        return len(fields) == 1 and "w" in next(iter(fields.values()))[3]


def _time(raw: bytes) -> str | None:
    parts = {n: v for n, v in fields_of(raw) if isinstance(v, int)}
    return timestamps.format_time(_signed(parts.get(1, 0))) if parts else None


def _micro_time(raw: bytes) -> str | None:
    parts = {n: v for n, v in fields_of(raw) if isinstance(v, int)}
    return timestamps.format_micro_time(_signed(parts.get(1, 0)) + parts.get(2, 0) / 1e9) if parts else None


def _quantity(raw: bytes) -> str:
    return next((_text(value) for number, value in fields_of(raw) if number == 1), "0")


def _int_or_string(raw: bytes) -> int | str:
    parts = dict(fields_of(raw))
    if parts.get(1):
        return _text(parts.get(3, b""))
    number = parts.get(2, 0)
    return _signed(number) if isinstance(number, int) else 0


def _json(raw: bytes) -> Any:
    text = next((value for number, value in fields_of(raw) if number == 1), b"")
    try:
        return orjson.loads(text) if isinstance(text, bytes) and text else None
    except orjson.JSONDecodeError as error:
        raise ProtobufError("embedded JSON is invalid") from error


def _duration(raw: bytes) -> str:
    nanos = next((_signed(value) for number, value in fields_of(raw) if number == 1 and isinstance(value, int)), 0)
    return f"{nanos / 1e9:g}s"


_SPECIAL = {
    "meta/v1.Time": _time,
    "meta/v1.MicroTime": _micro_time,
    "meta/v1.Duration": _duration,
    "meta/v1.FieldsV1": _json,
    "resource.Quantity": _quantity,
    "intstr.IntOrString": _int_or_string,
    "runtime.RawExtension": _json,
}
