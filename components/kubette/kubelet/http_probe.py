"""One HTTP request as the kubelet's probes make it: HTTP/1.1, no proxy, certificates not verified, redirects of the same host followed.

Written on a plain connection: an HTTP client library for a GET each second would cost more than the probe.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubette.component_base import version

BODY_BYTES_MAX = 10 * 1024  # what upstream reads of a probe's answer
HEADER_BYTES_MAX = 64 * 1024
REDIRECTS_MAX = 10


class ProbeError(Exception):
    """The answer is no HTTP, or the host cannot be asked."""


@dataclass(frozen=True, slots=True)
class Request:
    """Where to ask, and with what."""

    scheme: str
    host: str
    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def resolve_port(port: Any, container: dict[str, Any]) -> int:
    """A number, or the name of one of the container's ports. Raises ProbeError."""
    if isinstance(port, int) or str(port).isdigit():
        number = int(port)
        if 0 < number < 65536:
            return number
        raise ProbeError(f"invalid port number: {number}")
    for entry in container.get("ports") or []:
        if entry.get("name") == port:
            return int(entry["containerPort"])
    raise ProbeError(f"couldn't find port: {port!r} in container {container['name']}")


def request_of(action: dict[str, Any], container: dict[str, Any], pod_ip: str) -> Request:
    """The request of an httpGet action. Raises ProbeError for a port that does not exist."""
    path = str(action.get("path") or "/")
    headers = {
        "User-Agent": f"kube-probe/{'.'.join(map(str, version.major_minor()))}",
        "Accept": "*/*",
        "Connection": "close",
    }
    for header in action.get("httpHeaders") or []:
        headers[header["name"]] = header.get("value", "")
    if headers["Accept"] == "":
        del headers["Accept"]
    scheme = str(action.get("scheme") or "HTTP").lower()
    host = action.get("host") or pod_ip
    return Request(scheme, host, resolve_port(action["port"], container), path if path.startswith("/") else f"/{path}", headers)


def unverified() -> ssl.SSLContext:
    """The TLS context of probes: they ask whether a container works, not who it is. Made once by each user: making it costs more than a probe."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def get(request: Request, context: ssl.SSLContext | None = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and the beginning of the body. Raises OSError or ProbeError; the caller sets the time limit."""
    for _ in range(REDIRECTS_MAX):
        status, headers, body = await _get_once(request, context)
        location = headers.get("location", "")
        if status not in (301, 302, 303, 307, 308) or not location.startswith("/"):
            return status, headers, body
        request = Request(request.scheme, request.host, request.port, location, request.headers)
    raise ProbeError("stopped after 10 redirects")


async def _get_once(request: Request, context: ssl.SSLContext | None) -> tuple[int, dict[str, str], bytes]:
    if not request.host:
        raise ProbeError("no IP address")
    secure = (context or unverified()) if request.scheme == "https" else None
    reader, writer = await asyncio.open_connection(request.host, request.port, ssl=secure, limit=HEADER_BYTES_MAX)
    try:
        host = f"[{request.host}]" if ":" in request.host else request.host
        headers = {"Host": f"{host}:{request.port}", **request.headers}
        lines = [f"GET {request.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode())
        head = await reader.readuntil(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
            raise ProbeError(f'net/http: HTTP/1.x transport connection broken: malformed HTTP response "{first[:100]}"')
        answer = {}
        for line in rest:
            name, colon, value = line.partition(":")
            if colon:
                answer[name.strip().lower()] = value.strip()
        length = int(answer.get("content-length", "-1") or -1)
        body = await reader.read(BODY_BYTES_MAX if length < 0 else min(length, BODY_BYTES_MAX)) if length != 0 else b""
        return int(words[1]), answer, body
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ProbeError("EOF") from error
    finally:
        writer.close()
