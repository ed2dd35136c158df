"""Who may ask a component's own port: authentication and authorisation delegated to the API server (apiserver's delegating options).

A client certificate is judged by the client CA, a bearer token by TokenReview, the question "may it get this path" by
SubjectAccessReview. Answers are remembered for ten seconds. `/healthz`, `/readyz`, `/livez` need no leave.
"""

import hashlib
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from kubette.apimachinery import status
from kubette.client import resources
from kubette.client.rest import FAILURES, Client
from kubette.stdx.clock import SYSTEM_CLOCK, Clock

ALWAYS_ALLOWED = ("/healthz", "/readyz", "/livez")
CACHE_TTL_S = 10.0
CACHE_ENTRIES_MAX = 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class User:
    """Who asks."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()


ANONYMOUS = User("system:anonymous", groups=("system:unauthenticated",))


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """A front proxy (the API server's aggregator) names the user in headers; its certificate comes from a CA of its own."""

    ca_file: str
    allowed_names: tuple[str, ...] = ()
    username_headers: tuple[str, ...] = ("x-remote-user",)
    group_headers: tuple[str, ...] = ("x-remote-group",)

    def user(self, certificate: User, headers: Any) -> User | None:
        """The user a proxy with this certificate speaks for; None if it may not, or names none."""
        if self.allowed_names and certificate.name not in self.allowed_names:
            return None
        name = next((headers[h] for h in self.username_headers if headers.get(h)), "")
        groups = [value for h in self.group_headers for value in headers.getall(h, [])]
        return User(name, groups=(*groups, "system:authenticated")) if name else None


class _Cache:
    """Answers for a while, the newest ones only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: OrderedDict[Any, tuple[float, Any]] = OrderedDict()

    def get(self, key: Any) -> Any:
        found = self._entries.get(key)
        return found[1] if found is not None and found[0] > self._clock.monotonic() else None

    def put(self, key: Any, value: Any) -> None:
        self._entries[key] = (self._clock.monotonic() + CACHE_TTL_S, value)
        self._entries.move_to_end(key)
        if len(self._entries) > CACHE_ENTRIES_MAX:
            self._entries.popitem(last=False)


class DelegatedAuth:
    """The aiohttp middleware. Without `reviewer` (no authentication kubeconfig) only certificates and the open paths count."""

    def __init__(
        self,
        reviewer: Client | None,
        allowed_paths: Sequence[str] = ALWAYS_ALLOWED,
        request_header: RequestHeader | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._reviewer = reviewer
        self._request_header = request_header
        self._proxy_issuers = _subjects(request_header.ca_file) if request_header is not None else frozenset()
        self._allowed_paths = tuple(allowed_paths)
        self._tokens, self._verdicts = _Cache(clock), _Cache(clock)

    def middleware(self) -> Any:
        @web.middleware
        async def authorise(request: web.Request, handler: Handler) -> web.StreamResponse:
            if self._is_open(request.path):
                return await handler(request)
            try:
                user = await self.authenticate(request)
                if user is None:
                    raise status.unauthorized()
                await self.authorize(user, request.method.lower(), request.path)
            except status.ApiError as error:
                return web.json_response(error.to_status(), status=error.code)
            except FAILURES as error:
                answer = status.internal(str(error))
                return web.json_response(answer.to_status(), status=answer.code)
            return await handler(request)

        return authorise

    def _is_open(self, path: str) -> bool:
        return any(path == p or path.startswith(p + "/") or (p.endswith("*") and path.startswith(p[:-1])) for p in self._allowed_paths)

    async def authenticate(self, request: web.Request) -> User | None:
        """The user; anonymous without credentials, None for credentials that are wrong."""
        certificate = _peer_certificate(request)
        user = _certificate_user(certificate)
        if user is not None:
            if self._request_header is not None and certificate.get("issuer") in self._proxy_issuers:
                return self._request_header.user(user, request.headers)
            return user
        header = request.headers.get("Authorization", "")
        if not header.lower().startswith("bearer "):
            return ANONYMOUS
        token = header[7:].strip()
        key = hashlib.sha256(token.encode()).digest()  # tokens are not kept
        cached = self._tokens.get(key)
        if cached is not None:
            return User(*cached) if cached else None
        if self._reviewer is None:
            return None
        review = await self._reviewer.create(resources.TOKENREVIEWS, "", {"spec": {"token": token}})
        result = review.get("status") or {}
        found = result.get("user") or {}
        user = User(found.get("username", ""), found.get("uid", ""), tuple(found.get("groups") or ())) if result.get("authenticated") else None
        self._tokens.put(key, (user.name, user.uid, user.groups) if user else ())
        return user

    async def authorize(self, user: User, verb: str, path: str) -> None:
        """Raises Forbidden in upstream's words."""
        if "system:masters" in user.groups:
            return
        key = (user, verb, path)
        allowed = self._verdicts.get(key)
        if allowed is None:
            allowed = await self._review(user, verb, path)
            self._verdicts.put(key, allowed)
        if not allowed:
            raise status.forbidden("", "", f'User "{user.name}" cannot {verb} path "{path}"')

    async def _review(self, user: User, verb: str, path: str) -> bool:
        if self._reviewer is None:
            return False
        spec = {"user": user.name, "uid": user.uid, "groups": list(user.groups), "nonResourceAttributes": {"verb": verb, "path": path}}
        review = await self._reviewer.create(resources.SUBJECTACCESSREVIEWS, "", {"spec": spec})
        return bool((review.get("status") or {}).get("allowed"))


def _peer_certificate(request: web.Request) -> Any:
    """The verified client certificate as the ssl module describes it; {} if there is none."""
    transport = request.transport
    connection = transport.get_extra_info("ssl_object") if transport is not None else None
    return (connection.getpeercert() or {}) if isinstance(connection, ssl.SSLObject) else {}


def _certificate_user(certificate: Any) -> User | None:
    """Common name and organisations; TLS has verified the certificate."""
    pairs = [pair for part in certificate.get("subject", ()) for pair in part]
    names = [str(value) for key, value in pairs if key == "commonName"]
    groups = tuple(str(value) for key, value in pairs if key == "organizationName")
    return User(names[0], groups=(*groups, "system:authenticated")) if names else None


def _subjects(ca_file: str) -> frozenset[Any]:
    """The subjects of a CA bundle, as `getpeercert` shows issuers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=ca_file)
    return frozenset(ca["subject"] for ca in context.get_ca_certs() if "subject" in ca)
