"""The one way an answer leaves the server: headers, compression, and errors as `Status` objects."""

import zlib
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from kubette.apimachinery.status import ApiError

JSON = "application/json"
GZIP_FROM_BYTES = 128 * 1024  # upstream's defaultGzipThresholdBytes
GZIP_LEVEL = 1  # likewise: the level that costs least
WARNING_MAX = 1000  # characters of a warning that are sent; upstream truncates too


@dataclass(slots=True)
class Answer:
    """A whole answer (streams write themselves)."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def of(obj: Any, status: int = 200) -> Answer:
    return Answer(orjson.dumps(obj), status)


def text(body: str, status: int = 200) -> Answer:
    return Answer(body.encode(), status, "text/plain; charset=utf-8")


def error(failure: ApiError) -> Answer:
    """The `Status` of a failure."""
    answer = Answer(orjson.dumps(failure.to_status()) + b"\n", failure.code)
    if failure.retry_after_s is not None:
        answer.headers["Retry-After"] = str(failure.retry_after_s)
    return answer


def warning_header(message: str) -> str:
    """RFC 7234's `299 - "text"`, on one line."""
    clean = "".join(" " if char in "\r\n\t" else char for char in message[:WARNING_MAX])
    return '299 - "' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'


def response(answer: Answer, request: web.BaseRequest, audit_id: str, warnings: list[str]) -> web.Response:
    """The aiohttp response of an answer."""
    body = answer.body
    out = web.Response(status=answer.status)
    headers = out.headers
    headers["Audit-Id"] = audit_id
    headers["Cache-Control"] = "no-cache, private"
    headers["Content-Type"] = answer.content_type
    for name, value in answer.headers.items():
        headers[name] = value
    for message in warnings:
        headers.add("Warning", warning_header(message))
    if len(body) >= GZIP_FROM_BYTES and "gzip" in request.headers.get("Accept-Encoding", "") and "Content-Encoding" not in headers:
        packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
        headers["Content-Encoding"] = "gzip"
        headers["Vary"] = "Accept-Encoding"
    out.body = body
    return out
