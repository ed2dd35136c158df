"""Objects in the form the client asked for: as they are, as rows of a Table, as metadata only, as YAML."""

from collections.abc import Sequence
from typing import Any

import orjson

from kubette.apimachinery import codec
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.storage.record import Record

Object = dict[str, Any]
META_V1 = "meta.k8s.io/v1"


def encode(obj: Object) -> bytes:
    return orjson.dumps(obj)


def partial_metadata(obj: Object, api_version: str = META_V1) -> Object:
    """PartialObjectMetadata: the object without all but its metadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": obj.get("metadata") or {}}


def _partial_bytes(found: Record) -> bytes:
    return orjson.dumps(partial_metadata(found.object()))


def table(call: Call, records: Sequence[Record], metadata: Object, with_columns: bool = True) -> Object:
    """meta.k8s.io's Table: what `kubectl get` prints."""
    resource, wanted = call.resource, call.query.get("includeObject", "Metadata")
    objects = [resource.to_served(found.object()) for found in records]
    columns, rows = resource.strategy.table([found.object() for found in records], call.core.clock.wall())
    version = f"meta.k8s.io/{call.form.version}"
    for row, obj in zip(rows, objects, strict=True):
        if wanted == "Object":
            row["object"] = obj
        elif wanted == "None":
            row["object"] = None
        else:
            row["object"] = partial_metadata(obj, version)
    return {
        "kind": "Table",
        "apiVersion": version,
        "metadata": metadata,
        "columnDefinitions": columns if with_columns else None,
        "rows": rows,
    }


def one_bytes(call: Call, found: Record) -> bytes:
    """One object in the form asked for."""
    match call.form.transform:
        case "":
            return call.resource.encoded(found)
        case "Table":
            return orjson.dumps(table(call, [found], {"resourceVersion": str(found.revision)}))
        case _:
            return found.view("PartialObjectMetadata", _partial_bytes)


def one(call: Call, found: Record, status: int = 200) -> Answer:
    return finish(call, one_bytes(call, found), status)


def many(call: Call, records: Sequence[Record], metadata: Object) -> Answer:
    """A list in the form asked for."""
    match call.form.transform:
        case "":
            kind = call.resource.kind
            encoded = [call.resource.encoded(found) for found in records]
            head = b'{"kind":"%b","apiVersion":"%b","metadata":' % (kind.list_kind.encode(), kind.api_version.encode())
            body = head + orjson.dumps(metadata) + b',"items":[' + b",".join(encoded) + b"]}"
        case "Table":
            body = orjson.dumps(table(call, records, metadata))
        case _:
            encoded = [found.view("PartialObjectMetadata", _partial_bytes) for found in records]
            head = b'{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":'
            body = head + orjson.dumps(metadata) + b',"items":[' + b",".join(encoded) + b"]}"
    return finish(call, body)


def plain(call: Call, obj: Object, status: int = 200) -> Answer:
    """An object that is not stored (a review, a Scale, a Status)."""
    return finish(call, orjson.dumps(obj), status)


def finish(call: Call, body: bytes, status: int = 200) -> Answer:
    if call.form.media_type == codec.YAML:
        return Answer(codec.to_yaml(orjson.loads(body)).encode(), status, codec.YAML)
    return Answer(body, status)
