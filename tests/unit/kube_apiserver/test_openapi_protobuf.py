"""The document of /openapi/v2 as protocol buffers, read back field by field."""

from kubette.kube_apiserver import openapi_protobuf


def fields(data: bytes) -> list[tuple[int, bytes | int]]:
    """A message taken apart: numbers and values."""
    found: list[tuple[int, bytes | int]] = []
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            found.append((key >> 3, varint()))
        else:
            length = 8 if key & 7 == 1 else varint()
            found.append((key >> 3, data[at : at + length]))
            at += length
    return found


def at(data: bytes, *path: int) -> bytes:
    """The first field under a path of numbers."""
    for number in path:
        found = next(value for field, value in fields(data) if field == number)
        assert isinstance(found, bytes)
        data = found
    return data


def test_a_definition_keeps_its_types_its_fields_and_what_the_vendor_adds() -> None:
    pod = {
        "type": "object",
        "required": ["spec"],
        "properties": {"spec": {"$ref": "#/definitions/PodSpec"}, "labels": {"type": "object", "additionalProperties": {"type": "string"}}},
        "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}],
    }
    body = openapi_protobuf.document(
        {"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.37"}, "paths": {}, "definitions": {"Pod": pod}}
    )
    assert at(body, 1) == b"2.0"
    assert at(body, 2, 2) == b"v1.37"
    assert at(body, 9, 1, 1) == b"Pod"
    schema = at(body, 9, 1, 2)
    assert at(schema, 22, 1) == b"object"
    assert at(schema, 19) == b"spec"
    assert at(schema, 25, 1, 1) == b"spec"
    assert at(schema, 25, 1, 2, 1) == b"#/definitions/PodSpec"
    labels = [value for field, value in fields(at(schema, 25)) if field == 1][1]
    assert isinstance(labels, bytes)
    assert at(labels, 2, 21, 1, 22, 1) == b"string"
    assert at(schema, 31, 1) == b"x-kubernetes-group-version-kind"
    assert at(schema, 31, 2, 2) == b'[{"group":"","version":"v1","kind":"Pod"}]'


def test_an_operation_keeps_its_parameters_by_their_place_and_its_responses() -> None:
    operation = {
        "operationId": "readPod",
        "parameters": [
            {"name": "body", "in": "body", "required": True, "schema": {"$ref": "#/definitions/Pod"}},
            {"name": "dryRun", "in": "query", "type": "string", "uniqueItems": True},
        ],
        "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/Pod"}}},
    }
    parameters = [{"name": "name", "in": "path", "required": True, "type": "string"}]
    item = at(openapi_protobuf.document({"paths": {"/pods/{name}": {"patch": operation, "parameters": parameters}}}), 8, 2)
    assert at(item, 1) == b"/pods/{name}"
    patch = at(item, 2, 8)
    assert at(patch, 5) == b"readPod"
    assert at(patch, 8, 1, 1, 2) == b"body"
    query = [value for field, value in fields(patch) if field == 8][1]
    assert isinstance(query, bytes)
    assert at(query, 1, 2, 3, 4) == b"dryRun"
    assert at(patch, 9, 1, 1) == b"200"
    assert at(patch, 9, 1, 2, 1, 2, 1, 1) == b"#/definitions/Pod"
    assert at(item, 2, 9, 1, 2, 4, 4) == b"name"
