"""Request bodies: read within the limit, refused in a format we cannot decode."""

from aiohttp import web

from kubette.apimachinery import status

BODY_BYTES_MAX = 3 * 1024 * 1024  # upstream's MaxRequestBodyBytes
PROTOBUF = "application/vnd.kubernetes.protobuf"
DECODABLE = ("application/json", "application/yaml", PROTOBUF)
_YAML_NAMES = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})


async def read(request: web.BaseRequest) -> bytes:
    """The whole body. Raises RequestEntityTooLarge."""
    length = request.content_length
    if length is not None and length > BODY_BYTES_MAX:
        raise status.request_entity_too_large(f"limit is {BODY_BYTES_MAX}")
    parts: list[bytes] = []
    size = 0
    while True:
        part = await request.content.readany()
        if not part:
            return b"".join(parts) if len(parts) != 1 else parts[0]
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise status.request_entity_too_large(f"limit is {BODY_BYTES_MAX}")
        parts.append(part)


def media_type(request: web.BaseRequest) -> str:
    """JSON, YAML or Protobuf; JSON when nothing is said. Everything else is refused with 415."""
    given = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if given in ("", "application/json", "*/*"):
        return "application/json"
    if given == PROTOBUF:
        return PROTOBUF
    if given in _YAML_NAMES:
        return "application/yaml"
    raise status.unsupported_media_type(DECODABLE)
