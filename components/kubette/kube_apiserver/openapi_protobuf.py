"""Pure: the document of /openapi/v2 as protocol buffers, the form in which kubectl asks for it (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).

The messages are gnostic's `openapi.v2.Document` and those within it. Each is a table here, from the JSON key to the field's number and its encoder; what
a vendor adds (`x-…`) travels as YAML text, and JSON is YAML. Keys that the tables do not name do not exist in that format.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

Object = Mapping[str, Any]
Encoder = Callable[[Any], bytes]
Fields = Mapping[str, tuple[int, Callable[[int, Any], bytes]]]

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
ANSWERED_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"  # what kube-openapi says of it: RFC 7231 has no @ in a subtype
METHODS = ("get", "put", "post", "delete", "options", "head", "patch")


def document(spec: Object) -> bytes:
    """The whole document."""
    return _message(spec, _DOCUMENT, 16)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _string(number: int, value: Any) -> bytes:
    return _bytes(number, str(value).encode())


def _strings(number: int, values: Iterable[Any]) -> bytes:
    return b"".join(_string(number, value) for value in values)


def _bool(number: int, value: Any) -> bytes:
    return _varint(number << 3) + b"\1" if value else b""


def _int(number: int, value: Any) -> bytes:
    return _varint(number << 3) + _varint(int(value))


def _double(number: int, value: Any) -> bytes:
    return _varint(number << 3 | 1) + struct.pack("<d", float(value))


def _any(number: int, value: Any) -> bytes:
    return _bytes(number, _string(2, orjson.dumps(value).decode()))


def _anys(number: int, values: Iterable[Any]) -> bytes:
    return b"".join(_any(number, value) for value in values)


def _one(encode: Encoder) -> Callable[[int, Any], bytes]:
    return lambda number, value: _bytes(number, encode(value))


def _many(encode: Encoder) -> Callable[[int, Any], bytes]:
    return lambda number, values: b"".join(_bytes(number, encode(value)) for value in values)


def _named(values: Object, number: int, encode: Encoder) -> bytes:
    """A map: repeated pairs of name and value."""
    return b"".join(_bytes(number, _string(1, name) + _bytes(2, encode(value))) for name, value in values.items())


def _message(value: Object, fields: Fields, extensions: int) -> bytes:
    out = []
    for key, item in value.items():
        if key.startswith("x-"):
            out.append(_bytes(extensions, _string(1, key) + _any(2, item)))
        elif key in fields and item is not None:
            number, encode = fields[key]
            out.append(encode(number, item))
    return b"".join(out)


def _schema(value: Object) -> bytes:
    return _message(value, _SCHEMA, 31)


def _additional(value: Any) -> bytes:
    return _bytes(1, _schema(value)) if isinstance(value, dict) else _bool(2, value)


def _types(value: Any) -> bytes:
    return _strings(1, [value] if isinstance(value, str) else value)


def _items(value: Any) -> bytes:
    return _many(_schema)(1, value if isinstance(value, list) else [value])


def _named_schemas(value: Object) -> bytes:
    return _named(value, 1, _schema)


def _paths(value: Object) -> bytes:
    return _named(value, 2, lambda item: _message(item, _PATH_ITEM, 10))


def _operation(value: Object) -> bytes:
    return _message(value, _OPERATION, 13)


def _parameter(value: Object) -> bytes:
    """ParametersItem → Parameter → the kind of parameter."""
    if "$ref" in value:
        return _bytes(2, _string(1, value["$ref"]))
    place = value["in"]
    if place == "body":
        return _bytes(1, _bytes(1, _message(value, _BODY_PARAMETER, 6)))
    number, fields, extensions = (3, _QUERY_PARAMETER, 23) if place == "query" else (4, _PATH_PARAMETER, 22)
    return _bytes(1, _bytes(2, _bytes(number, _message(value, fields, extensions))))


def _response(value: Object) -> bytes:
    """ResponseValue → Response."""
    return _bytes(1, _message(value, _RESPONSE, 5))


_SCHEMA: Fields = {
    "$ref": (1, _string),
    "format": (2, _string),
    "title": (3, _string),
    "description": (4, _string),
    "default": (5, _any),
    "multipleOf": (6, _double),
    "maximum": (7, _double),
    "exclusiveMaximum": (8, _bool),
    "minimum": (9, _double),
    "exclusiveMinimum": (10, _bool),
    "maxLength": (11, _int),
    "minLength": (12, _int),
    "pattern": (13, _string),
    "maxItems": (14, _int),
    "minItems": (15, _int),
    "uniqueItems": (16, _bool),
    "maxProperties": (17, _int),
    "minProperties": (18, _int),
    "required": (19, _strings),
    "enum": (20, _anys),
    "additionalProperties": (21, _one(_additional)),
    "type": (22, _one(_types)),
    "items": (23, _one(_items)),
    "allOf": (24, _many(_schema)),
    "properties": (25, _one(_named_schemas)),
    "readOnly": (27, _bool),
    "example": (30, _any),
}
_BODY_PARAMETER: Fields = {
    "description": (1, _string),
    "name": (2, _string),
    "in": (3, _string),
    "required": (4, _bool),
    "schema": (5, _one(_schema)),
}
_QUERY_PARAMETER: Fields = {
    "required": (1, _bool),
    "in": (2, _string),
    "description": (3, _string),
    "name": (4, _string),
    "type": (6, _string),
    "format": (7, _string),
    "default": (10, _any),
    "uniqueItems": (20, _bool),
    "enum": (21, _anys),
}
_PATH_PARAMETER: Fields = {
    "required": (1, _bool),
    "in": (2, _string),
    "description": (3, _string),
    "name": (4, _string),
    "type": (5, _string),
    "format": (6, _string),
    "default": (9, _any),
    "uniqueItems": (19, _bool),
    "enum": (20, _anys),
}
_RESPONSE: Fields = {"description": (1, _string), "schema": (2, _one(lambda value: _bytes(1, _schema(value))))}
_OPERATION: Fields = {
    "tags": (1, _strings),
    "summary": (2, _string),
    "description": (3, _string),
    "operationId": (5, _string),
    "produces": (6, _strings),
    "consumes": (7, _strings),
    "parameters": (8, _many(_parameter)),
    "responses": (9, _one(lambda value: _named(value, 1, _response))),
    "schemes": (10, _strings),
    "deprecated": (11, _bool),
}
_PATH_ITEM: Fields = {
    **{method: (number, _one(_operation)) for number, method in enumerate(METHODS, start=2)},
    "parameters": (9, _many(_parameter)),
}
_DOCUMENT: Fields = {
    "swagger": (1, _string),
    "info": (2, _one(lambda value: _message(value, {"title": (1, _string), "version": (2, _string), "description": (3, _string)}, 7))),
    "host": (3, _string),
    "basePath": (4, _string),
    "schemes": (5, _strings),
    "consumes": (6, _strings),
    "produces": (7, _strings),
    "paths": (8, _one(_paths)),
    "definitions": (9, _one(_named_schemas)),
}
