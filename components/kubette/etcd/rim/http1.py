"""HTTP/1.1, the server's side, on asyncio streams: small, strict, for health, metrics and members; not a web framework.

A handler takes a `Request` and answers a `Response`; one whose `takeover` is set gets the connection after the head is sent
(the members' endless streams). Limits: header size and time, body size and time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from kubette.component_base import logs

log = logs.logger(__name__)
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 2 << 20
HEAD_TIMEOUT_S = 30.0
BODY_TIMEOUT_S = 60.0
KEEPALIVE_S = 120.0


@dataclass(slots=True)
class Request:
    """`body` is read for small bodies; a handler of large ones reads from `reader` (`content_length` bytes, or chunks)."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    reader: asyncio.StreamReader
    content_length: int = 0
    body: bytes = b""


Takeover = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Response:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    takeover: Takeover | None = None
    close: bool = False


Handler = Callable[[Request], Awaitable[Response]]


class BadRequest(Exception):
    """Answered with this status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def serve(
    handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, streams_body: Callable[[str], bool] = lambda _: False
) -> None:
    """One connection, until either side closes it. Paths for which `streams_body` holds get their body unread."""
    timeout = HEAD_TIMEOUT_S
    try:
        while True:
            request: Request | None = None
            try:
                async with asyncio.timeout(timeout):
                    request = await _read_head(reader)
                if request is None:
                    return
                if not streams_body(request.path):
                    async with asyncio.timeout(BODY_TIMEOUT_S):
                        request.body = await _read_body(reader, request)
                response = await handler(request)
            except BadRequest as error:
                response = Response(error.status, f"{error}\n".encode(), close=True)
            except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
                raise
            except Exception as error:
                # One request must not end the process, whatever is in it.
                log.error("Request failed", err=error, path=request.path if request is not None else "")
                response = Response(500, b"Internal Server Error\n", close=True)
            close = response.close or (request is not None and request.headers.get("connection", "").lower() == "close")
            _write(writer, response, close)
            if response.takeover is not None:
                await response.takeover(reader, writer)
                return
            await writer.drain()
            if close:
                return
            timeout = KEEPALIVE_S
    except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
        return
    except RuntimeError:
        # What uvloop says to a write when the client has reset the connection meanwhile.
        if not writer.is_closing():
            raise
    finally:
        writer.close()


async def _read_head(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BadRequest(400, "Bad Request") from None
        return None
    except asyncio.LimitOverrunError:
        raise BadRequest(431, "Request Header Fields Too Large") from None
    lines = head[:-4].decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(400, "Bad Request")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, separator, value = line.partition(":")
        if not separator or name != name.strip():
            raise BadRequest(400, "Bad Request")
        headers[name.lower()] = value.strip()
    path, _, query = words[1].partition("?")
    length = headers.get("content-length", "0")
    if not length.isdigit() or len(length) > 18:
        raise BadRequest(400, "Bad Request")
    return Request(words[0], path, query, headers, reader, int(length))


async def _read_body(reader: asyncio.StreamReader, request: Request) -> bytes:
    if request.headers.get("transfer-encoding", "").lower() == "chunked":
        parts: list[bytes] = []
        async for chunk in read_chunks(reader):
            parts.append(chunk)
            if sum(map(len, parts)) > MAX_BODY_BYTES:
                raise BadRequest(413, "Request Entity Too Large")
        return b"".join(parts)
    if request.content_length > MAX_BODY_BYTES:
        raise BadRequest(413, "Request Entity Too Large")
    return await reader.readexactly(request.content_length) if request.content_length else b""


async def read_chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The chunks of a chunked body, each bounded by the reader's limit."""
    while True:
        line = await reader.readline()
        try:
            size = int(line.split(b";")[0].strip(), 16)
        except ValueError:
            raise BadRequest(400, "Bad Request") from None
        if size == 0:
            while (await reader.readline()).strip():
                pass
            return
        while size:
            part = await reader.read(min(size, 1 << 20))
            if not part:
                raise asyncio.IncompleteReadError(b"", size)
            size -= len(part)
            yield part
        await reader.readexactly(2)


def _write(writer: asyncio.StreamWriter, response: Response, close: bool) -> None:
    reason = HTTPStatus(response.status).phrase
    lines = [f"HTTP/1.1 {response.status} {reason}"]
    headers = dict(response.headers)
    if response.takeover is None:
        headers.setdefault("Content-Length", str(len(response.body)))
    if close and response.takeover is None:
        headers["Connection"] = "close"
    headers.setdefault("Content-Type", "text/plain; charset=utf-8")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + response.body)
