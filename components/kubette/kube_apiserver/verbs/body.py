"""A request's body as an object of the kind its path names, typed and pruned, with what the client wants to be told about its fields."""

from typing import Any

from kubette.apimachinery import codec, protobuf, status, validation
from kubette.apimachinery.schema import Schema
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters import bodies

Object = dict[str, Any]


async def read_object(call: Call, api_version: str, kind: str, schema: Schema | None, field_validation: str) -> Object:
    """The decoded body. Raises BadRequest, UnsupportedMediaType, RequestEntityTooLarge."""
    media_type = bodies.media_type(call.request)
    raw = await bodies.read(call.request)
    if not raw:
        raise status.bad_request(f'{kind} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {kind}: unexpected end of JSON input')
    try:
        decoded = decode(call, raw, media_type, api_version, kind, field_validation != validation.IGNORE)
    except (codec.CodecError, protobuf.ProtobufError) as error:
        raise status.bad_request(_cannot(kind, api_version, str(error))) from None
    obj = decoded.obj
    check_kind(obj, api_version, kind)
    conform(call, obj, schema, field_validation, decoded.duplicates)
    if call.trail is not None:
        call.trail.sent(obj)
    return obj


def decode(call: Call, raw: bytes, media_type: str, api_version: str, kind: str, find_duplicates: bool = False) -> codec.Decoded:
    """One object in any of the formats. Raises CodecError or ProtobufError."""
    if media_type == bodies.PROTOBUF:
        return codec.Decoded(call.core.protobuf.decode(raw, api_version, kind))
    return codec.decode_object(raw, media_type, find_duplicates=find_duplicates)


def check_kind(obj: Object, api_version: str, kind: str) -> None:
    """The object must be what the path says; what it does not say is filled in. Raises BadRequest."""
    given_version, given_kind = obj.get("apiVersion") or api_version, obj.get("kind") or kind
    if given_kind != kind:
        text = f'no kind "{given_kind}" is registered for version "{given_version}" as an object of this resource (must be of type {kind})'
        raise status.bad_request(_cannot(str(given_kind), str(given_version), text))
    if given_version != api_version:
        raise status.bad_request(f"the API version in the data ({given_version}) does not match the expected API version ({api_version})")
    obj["apiVersion"], obj["kind"] = api_version, kind


def conform(call: Call, obj: Object, schema: Schema | None, field_validation: str, duplicates: tuple[str, ...] = ()) -> None:
    """Type the object by its schema; report unknown and repeated fields as asked (fieldValidation)."""
    kind, version = str(obj["kind"]), str(obj["apiVersion"])
    unknown: list[str] = []
    if schema is not None:
        try:
            unknown = validation.conform(obj, schema)
        except validation.DecodeError as error:
            raise status.bad_request(_cannot(kind, version, str(error))) from None
    if not isinstance(obj.get("metadata"), dict):
        obj["metadata"] = {}
    if field_validation == validation.IGNORE or not (unknown or duplicates):
        return
    texts = validation.strict_errors(unknown, duplicates)
    if field_validation == validation.STRICT:
        raise status.bad_request(_cannot(kind, version, validation.strict_decoding_error(texts)))
    for text in texts:
        call.warn(text)


def _cannot(kind: str, api_version: str, why: str) -> str:
    return validation.cannot_be_handled(kind, api_version.rpartition("/")[2], why)
