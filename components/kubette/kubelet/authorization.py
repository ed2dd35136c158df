"""Who may talk to the kubelet: client certificates of the cluster's CA, bearer tokens by TokenReview, rights by SubjectAccessReview (server/auth.go)."""

import hashlib
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from kubette.apimachinery.status import ApiError
from kubette.client import resources
from kubette.client.rest import Client
from kubette.client.transport import TransportError
from kubette.component_base import logs
from kubette.kubelet.config import Config
from kubette.stdx.clock import Clock

log = logs.logger(__name__)

CACHE_MAX = 4096
_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
FINE_GRAINED_SINCE = (1, 33)  # KubeletFineGrainedAuthz is on by default


@dataclass(frozen=True, slots=True)
class User:
    """Who asks."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()


def subresources(path: str, release: tuple[int, int]) -> list[str]:
    """The node's subresources that give access to a path, any of them."""
    for prefix, name in (("/stats", "stats"), ("/metrics", "metrics"), ("/logs", "log"), ("/checkpoint", "checkpoint")):
        if path == prefix or path.startswith(f"{prefix}/"):
            return [name]
    if release >= FINE_GRAINED_SINCE:
        for prefixes, name in ((("/healthz",), "healthz"), (("/pods", "/runningpods"), "pods"), (("/configz",), "configz")):
            if any(path == p or path.startswith(f"{p}/") for p in prefixes):
                return [name, "proxy"]
    return ["proxy"]


class Gatekeeper:
    """Authenticates and authorizes requests; answers of the API server are remembered as long as configured."""

    def __init__(self, config: Config, client: Client | None, clock: Clock, release: tuple[int, int]) -> None:
        self._config, self._client, self._clock, self._release = config, client, clock, release
        self._tokens: dict[str, tuple[float, User | None]] = {}
        self._rights: dict[tuple[str, ...], tuple[float, bool]] = {}

    async def check(self, request: web.Request) -> web.Response | None:
        """None if the request may go on."""
        try:
            user = await self._authenticate(request)
        except (ApiError, TransportError) as error:
            log.error("Unable to authenticate the request due to an error", err=error)
            user = None
        if user is None:
            return web.Response(status=401, text="Unauthorized")
        if self._config.authorization_mode == "AlwaysAllow":
            return None
        verb, names = _VERBS.get(request.method, ""), subresources(request.path, self._release)
        try:
            for name in names:
                if await self._allowed(user, verb, name):
                    return None
        except (ApiError, TransportError) as error:
            text = f"Authorization error (user={user.name}, verb={verb}, resource=nodes, subresource(s)={_list(names)})"
            log.error("Authorization error", err=error, user=user.name)
            return web.Response(status=500, text=text)
        text = f"Forbidden (user={user.name}, verb={verb}, resource=nodes, subresource(s)={_list(names)})"
        log.v(2, "Forbidden", user=user.name, verb=verb, path=request.path)
        return web.Response(status=403, text=text)

    async def _authenticate(self, request: web.Request) -> User | None:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        if certificate:
            return user_of_certificate(certificate)
        authorization = request.headers.get("Authorization", "")
        if authorization.lower().startswith("bearer ") and self._config.webhook_authentication:
            user = await self._review_token(authorization[7:].strip())
            if user is not None:
                return user
            return None
        if self._config.anonymous:
            return User("system:anonymous", "", ("system:unauthenticated",))
        return None

    async def _review_token(self, token: str) -> User | None:
        if not token or self._client is None:
            return None
        key, now = hashlib.sha256(token.encode()).hexdigest(), self._clock.monotonic()
        known = self._tokens.get(key)
        if known is not None and known[0] > now:
            return known[1]
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status = (await self._client.create(resources.TOKENREVIEWS, "", body)).get("status") or {}
        user = None
        if status.get("authenticated"):
            found = status.get("user") or {}
            user = User(found.get("username", ""), found.get("uid", ""), tuple(found.get("groups") or ()))
        _bound(self._tokens, now)
        self._tokens[key] = (now + self._config.webhook_authentication_ttl_s, user)
        return user

    async def _allowed(self, user: User, verb: str, subresource: str) -> bool:
        if self._client is None:
            return False
        key, now = (user.name, user.uid, *user.groups, verb, subresource), self._clock.monotonic()
        known = self._rights.get(key)
        if known is not None and known[0] > now:
            return known[1]
        attributes = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": self._config.node_name}
        spec: dict[str, Any] = {"user": user.name, "groups": list(user.groups), "resourceAttributes": attributes}
        if user.uid:
            spec["uid"] = user.uid
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        allowed = bool(((await self._client.create(resources.SUBJECTACCESSREVIEWS, "", body)).get("status") or {}).get("allowed"))
        _bound(self._rights, now)
        self._rights[key] = (now + (self._config.authorized_ttl_s if allowed else self._config.unauthorized_ttl_s), allowed)
        return allowed


def _bound(table: dict[Any, tuple[float, Any]], now: float) -> None:
    """Keep a cache small: drop what has expired, or everything."""
    if len(table) >= CACHE_MAX:
        for key in [k for k, (until, _) in table.items() if until <= now]:
            del table[key]
        if len(table) >= CACHE_MAX:
            table.clear()


def _list(names: list[str]) -> str:
    return f"[{' '.join(names)}]"


def user_of_certificate(certificate: Any) -> User:
    """Common name and organizations of a verified client certificate (ssl's getpeercert)."""
    name, groups = "", []
    for part in certificate.get("subject") or ():
        for field, value in part:
            if field == "commonName":
                name = value
            elif field == "organizationName":
                groups.append(value)
    return User(name, "", (*groups, "system:authenticated"))
