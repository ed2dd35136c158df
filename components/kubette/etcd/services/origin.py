"""Which HTTP requests may come from where: host names against DNS rebinding, origins for browsers (upstream's access controller)."""

from collections.abc import Sequence

from kubette.etcd.rim.http1 import Handler, Request, Response

_METHODS = "POST, GET, OPTIONS, PUT, DELETE"
_HEADERS = "accept, content-type, authorization"
_UNKNOWN_HOST = """
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist "{host}"

This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).

"""


def guarded(handler: Handler, *, secure: bool, hosts: Sequence[str], origins: Sequence[str]) -> Handler:
    """The handler behind both rules. Over TLS every host name will do: the certificate has spoken for it."""

    async def handle(request: Request) -> Response:
        host = _host(request.headers.get("host", ""))
        if not secure and "*" not in hosts and host not in hosts:
            return Response(421, _UNKNOWN_HOST.format(host=host).encode(), {"Content-Type": "text/plain; charset=utf-8"})
        origin = "*" if "*" in origins else request.headers.get("origin", "")
        allowed = origin == "*" or origin in origins
        response = Response() if request.method == "OPTIONS" else await handler(request)
        if allowed:
            # Not in place: the handler may answer with the same headers every time.
            response.headers = {
                **response.headers,
                "Access-Control-Allow-Methods": _METHODS,
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Headers": _HEADERS,
            }
        return response

    return handle


def _host(header: str) -> str:
    """Without the port, and without an IPv6 address's brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0] if header.count(":") == 1 else header
