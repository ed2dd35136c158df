"""One handler for every request: what upstream's chain of filters does, in one readable function.

A router of hundreds of routes is not needed: the path says what is asked for (`request_info`), a table says how it is done. The order is
upstream's: request info, deadline, authentication, impersonation, limits, authorization, verb; every failure becomes a Status.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from kubette.apimachinery import status
from kubette.apimachinery.status import ApiError
from kubette.component_base import flags, logs
from kubette.etcd_client import EtcdError
from kubette.kube_apiserver import request_info
from kubette.kube_apiserver.audit import auditor as audit
from kubette.kube_apiserver.auth.interfaces import PRIVILEGED_GROUP, Authenticator, AuthzAttributes, UserInfo
from kubette.kube_apiserver.core import Call, Core
from kubette.kube_apiserver.filters import answer, authentication, negotiation
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.filters.in_flight import InFlight
from kubette.kube_apiserver.non_resources import NonResources
from kubette.kube_apiserver.request_info import RequestInfo
from kubette.kube_apiserver.resources import Resource
from kubette.kube_apiserver.storage import store
from kubette.kube_apiserver.verbs import create, delete, deletecollection, get, patch, update, watch
from kubette.kube_apiserver.verbs import list as list_verb

log = logs.logger(__name__)

Handler = Callable[[Call], Awaitable[Answer | web.StreamResponse]]

VERBS: dict[str, Handler] = {
    "create": create.handle,
    "delete": delete.handle,
    "deletecollection": deletecollection.handle,
    "get": get.handle,
    "list": list_verb.handle,
    "patch": patch.handle,
    "update": update.handle,
    "watch": watch.handle,
}
AUDIT_ID_MAX = 64  # characters of an id that the client chose
NOBODY = UserInfo("")
READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LONG_SUBRESOURCES = frozenset({"attach", "exec", "portforward", "proxy"})
DURATION_BUCKETS = (0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
REQUEST_LABELS = ("verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component", "code")


class Server:
    """`handle` is aiohttp's raw handler."""

    def __init__(self, core: Core, authenticator: Authenticator, subresources: Mapping[tuple[str, str, str], Handler], others: NonResources) -> None:
        self._core, self._authenticator = core, authenticator
        self._subresources = subresources
        self._others = others
        options = core.config.options
        self._in_flight = InFlight(options.max_requests_inflight, options.max_mutating_requests_inflight)
        self._deadline_s = options.request_timeout
        self._long_running = 0
        metrics = core.metrics
        self._total = metrics.counter(
            "apiserver_request_total", "[STABLE] Counter of apiserver requests broken out for each verb, resource and code.", REQUEST_LABELS
        )
        self._duration = metrics.histogram(
            "apiserver_request_duration_seconds",
            "[STABLE] Response latency distribution in seconds for each verb, group, version, resource and scope.",
            ("verb", "group", "version", "resource", "subresource", "scope", "component"),
            DURATION_BUCKETS,
        )
        metrics.function("apiserver_longrunning_requests", "[STABLE] Requests that are long-running.", lambda: self._long_running)
        self._current = metrics.gauge(
            "apiserver_current_inflight_requests", "[STABLE] Maximal number of currently used inflight request limit.", ("request_kind",)
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever happens."""
        core = self._core
        audit_id = request.headers.get("Audit-Id", "")[:AUDIT_ID_MAX] or core.new_uid()
        started = core.clock.monotonic()
        is_audited = core.auditor is not None
        warnings: list[str] = []
        info = request_info.resolve(request.method, request.rel_url.raw_path, request.query)
        try:
            result = await self._serve(request, info, audit_id, warnings)
        except ApiError as error:
            result = answer.error(error)
        except EtcdError as error:
            result = answer.error(store.translate(error))
        except asyncio.CancelledError:
            if is_audited and (trail := audit.of(request)) is not None:
                trail.completed()
            raise
        except ConnectionError:
            # The client is gone while it was written to. Its reader sees that a moment later and would cancel us: the same end, not a failure to log.
            if is_audited and (trail := audit.of(request)) is not None:
                trail.completed()
            raise asyncio.CancelledError from None
        except Exception as error:
            # A bug: the client gets a Status, the log where it happened, the server lives (upstream's WithPanicRecovery).
            log.error("Recovered from a panic", err=error, method=request.method, path=info.path)
            traceback.print_exception(error)
            result = answer.error(ApiError(500, "InternalError", "This request caused apiserver to panic. Look in the logs for details."))
            if is_audited and (trail := audit.of(request)) is not None:
                trail.panicked(error)
        code = result.status
        if is_audited and (trail := audit.of(request)) is not None:
            if isinstance(result, Answer):
                trail.answered(result)
            trail.completed()
        self._observe(info, request, code, core.clock.monotonic() - started)
        if isinstance(result, Answer):
            return answer.response(result, request, audit_id, warnings)
        return result

    async def _serve(self, request: web.BaseRequest, info: RequestInfo, audit_id: str, warnings: list[str]) -> Answer | web.StreamResponse:
        core = self._core
        long_running = is_long_running(info, request.query)
        received, began = core.clock.wall(), core.clock.monotonic()
        try:
            user = await authentication.authenticate(self._authenticator, request)
        except ApiError as error:
            if core.auditor is not None:
                trail = core.auditor.begin(request, attributes(request, info, NOBODY), audit_id, received, True, is_known=False)
                if trail is not None:
                    trail.unauthenticated(request, error)
            raise
        if core.auditor is not None:
            trail = core.auditor.begin(request, attributes(request, info, user), audit_id, received, long_running)
            if trail is not None:
                trail.took("authentication", core.clock.monotonic() - began)
        if authentication.USER in request.headers or authentication.GROUP in request.headers:
            user = await authentication.impersonate(core.authorizer, request, user)
            if core.auditor is not None and (trail := audit.of(request)) is not None:
                trail.impersonated(user)
        if long_running:
            self._long_running += 1
            try:
                return await self._authorized(request, info, user, audit_id, warnings)
            finally:
                self._long_running -= 1
        mutating = request.method not in READ_METHODS
        self._in_flight.enter(mutating, PRIVILEGED_GROUP in user.groups)
        self._current.set(self._in_flight.current[mutating], "mutating" if mutating else "readOnly")
        try:
            async with asyncio.timeout(self._deadline_of(request.query)):
                return await self._authorized(request, info, user, audit_id, warnings)
        except TimeoutError:
            raise status.timeout("request did not complete within requested timeout - context deadline exceeded") from None
        finally:
            self._in_flight.leave(mutating)

    def _deadline_of(self, query: Mapping[str, str]) -> float | None:
        """--request-timeout, or less if the client says so (`?timeout=5s`, kubectl's --request-timeout). Raises BadRequest."""
        asked = query.get("timeout")
        if not asked:
            return self._deadline_s or None
        try:
            seconds = flags.parse_duration(asked)
        except ValueError as error:
            raise status.bad_request(f"invalid timeout specified in the request URL - parse error: {error}") from None
        return min(seconds, self._deadline_s or seconds) if seconds > 0 else self._deadline_s or None

    async def _authorized(
        self, request: web.BaseRequest, info: RequestInfo, user: UserInfo, audit_id: str, warnings: list[str]
    ) -> Answer | web.StreamResponse:
        core = self._core
        attrs, began = attributes(request, info, user), core.clock.monotonic()
        decision = await core.authorizer.authorize(attrs)
        trail = audit.of(request) if core.auditor is not None else None
        if trail is not None:
            trail.took("authorization", core.clock.monotonic() - began)
            trail.decided(decision)
        if not decision.allowed:
            raise authentication.forbidden(attrs, decision.reason)
        if not info.is_resource:
            return await self._others.answer(request, info)
        resource = core.resources.find(info.group, info.version, info.resource)
        if resource is None:
            return await self._others.unknown_resource(request, info, user)
        handler = self._handler(info, resource)
        form = negotiation.negotiate(request.headers.get("Accept", ""), transforms=info.verb in ("get", "list", "watch", "create", "update", "patch"))
        call = Call(core, request, info, user, resource, audit_id, request.query, form, warnings, trail)
        return await handler(call)

    def _handler(self, info: RequestInfo, resource: Resource) -> Handler:
        """Raises NotFound or MethodNotAllowed."""
        kind = resource.kind
        if info.subresource:
            found = self._subresources.get((kind.resource, info.subresource, info.verb)) or self._subresources.get(("", info.subresource, info.verb))
            row = kind.subresource(info.subresource)
            if row is None or row.since > resource.minor:
                raise status.path_not_found()
            if found is None or info.verb not in row.verbs:
                raise status.method_not_supported(info.verb, f"{kind.group_resource}/{info.subresource}")
            return found
        if bool(info.namespace) != kind.namespaced and info.verb not in ("list", "watch", "deletecollection") and kind.resource != "namespaces":
            # A cluster-scoped kind inside a namespace, or a namespaced object without one, is no path at all.
            raise status.path_not_found()
        if info.namespace and not kind.namespaced and kind.resource != "namespaces":
            raise status.path_not_found()
        if info.verb not in kind.verbs:
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        if not kind.stored:
            found = self._subresources.get((kind.resource, "", info.verb))
            if found is None:
                raise status.path_not_found()
            return found
        return VERBS[info.verb]

    def _observe(self, info: RequestInfo, request: web.BaseRequest, code: int, seconds: float) -> None:
        verb = info.verb.upper() if info.is_resource else request.method
        verb = {"CREATE": "POST", "UPDATE": "PUT", "DELETECOLLECTION": "DELETECOLLECTION"}.get(verb, verb)
        scope = "" if not info.is_resource else "resource" if info.name else "namespace" if info.namespace else "cluster"
        resource = info.resource if self._core.resources.find(info.group, info.version, info.resource) is not None else ""
        dry_run = "All" if request.query.get("dryRun") else ""
        self._total.inc(verb, dry_run, info.group, info.version, resource, info.subresource if resource else "", scope, "apiserver", str(code))
        if verb not in ("WATCH", "CONNECT"):
            labels: tuple[Any, ...] = (verb, info.group, info.version, resource, info.subresource if resource else "", scope, "apiserver")
            self._duration.observe(seconds, *labels)


def attributes(request: web.BaseRequest, info: RequestInfo, user: UserInfo) -> AuthzAttributes:
    """What the request asks for, as authorizers and the audit policy see it."""
    name = request_info.authorized_name(info, request.query)
    return AuthzAttributes(
        user, info.verb, info.group, info.version, info.resource, info.subresource, info.namespace, name, info.path, info.is_resource
    )


def is_long_running(info: RequestInfo, query: Mapping[str, str]) -> bool:
    """Watches, streams to a kubelet and followed logs have no deadline and do not count as in flight."""
    if not info.is_resource:
        return False
    if info.verb == "watch" or info.subresource in LONG_SUBRESOURCES:
        return True
    return info.subresource == "log" and request_info.is_true(query.get("follow"))
