"""The verbs of the API: get, list, create, update, patch, apply, delete, delete_collection, watch, on any resource.

    async with rest.Client(kubeconfig.load(path)) as client:
        pod = await client.get(resources.PODS, "default", "web")
        async with client.watch(resources.PODS, resource_version=...) as events:
            async for kind, obj in events: ...

A `Status` from the server is raised as `apimachinery.status.ApiError`; no answer is `TransportError`. There is no client-side rate limit:
the server's priority and fairness decides, and a 429 is retried after the time it asks for.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from enum import StrEnum
from types import TracebackType
from typing import Any, Protocol

import aiohttp
import orjson

from kubette.apimachinery import status
from kubette.apimachinery.status import ApiError
from kubette.client.kubeconfig import ClientConfig
from kubette.client.resources import Resource
from kubette.client.transport import Transport, TransportError

Object = dict[str, Any]
Objects = list[Object]  # `list` is a verb inside Client

REQUEST_TIMEOUT_S = 30.0
RETRIES_MAX = 10  # of requests the server asked to send again (client-go's withRetry)
RETRY_AFTER_S_MAX = 30.0  # a server may not put a client to sleep for longer
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
PAGE_SIZE = 500  # upstream's pager
EVENT_BYTES_MAX = 16 << 20  # a watch event larger than this is no Kubernetes object


FAILURES = (ApiError, TransportError)  # all that a request may raise


class PatchType(StrEnum):
    """The content types of a PATCH."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


class TokenSource(Protocol):
    """Bearer tokens that are made on demand (TokenRequest)."""

    async def token(self) -> str: ...

    def invalidate(self) -> None:
        """The server refused the token: the next call must bring a new one."""


class Client:
    """A client of one API server; use as an async context manager. `field_manager` names our writes in managedFields."""

    def __init__(self, config: ClientConfig, user_agent: str = "", field_manager: str = "", timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self.config = config
        self._transport = Transport(config, user_agent)
        self._field_manager = field_manager
        self._timeout_s = timeout_s
        self._tokens: TokenSource | None = None

    def with_tokens(self, tokens: TokenSource, field_manager: str = "") -> "Client":
        """A client over the same connections that says who it is by bearer tokens; it needs no closing of its own."""
        other = Client(self.config, field_manager=field_manager or self._field_manager, timeout_s=self._timeout_s)
        other._transport, other._tokens = self._transport, tokens
        return other

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.close()

    # Reads

    async def get(self, resource: Resource, namespace: str, name: str, subresource: str = "", **params: str) -> Object:
        """One object; `namespace` is "" for a cluster-scoped one. `params` are query parameters in upstream's spelling."""
        return await self.request("GET", resource.path(namespace, name, subresource), params)

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        limit: int = 0,
        continue_token: str = "",
        metadata_only: bool = False,
    ) -> Object:
        """One list answer (`metadata.continue` says whether there is more). Items carry apiVersion and kind."""
        params = _selectors(label_selector, field_selector)
        if limit:
            params["limit"] = str(limit)
        if continue_token:
            params["continue"] = continue_token
        elif resource_version:
            params["resourceVersion"] = resource_version
        answer = await self.request("GET", resource.path(namespace), params, accept=METADATA_LIST if metadata_only else "")
        # A list leaves the kind of its items out; an object that travels alone needs it.
        for item in answer.get("items") or []:
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        return answer

    async def list_all(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = "", metadata_only: bool = False
    ) -> tuple[Objects, str]:
        """All pages of a consistent list, and the resourceVersion they show. A continue token that expired (410) starts again, unpaged."""
        items: Objects = []
        token, limit = "", PAGE_SIZE
        while True:
            try:
                page = await self.list(
                    resource,
                    namespace,
                    label_selector=label_selector,
                    field_selector=field_selector,
                    limit=limit,
                    continue_token=token,
                    metadata_only=metadata_only,
                )
            except ApiError as error:
                if error.code == 410 and token:
                    items, token, limit = [], "", 0
                    continue
                raise
            items.extend(page.get("items") or [])
            token = page["metadata"].get("continue") or ""
            if not token:
                return items, page["metadata"].get("resourceVersion", "")

    # Writes

    async def create(self, resource: Resource, namespace: str, body: Object, *, name: str = "", subresource: str = "", **params: str) -> Object:
        """POST. `name` and `subresource` are for `pods/binding`, `pods/eviction`, `serviceaccounts/token`."""
        return await self.request("POST", resource.path(namespace, name, subresource), self._managed(params), _with_kind(resource, body, subresource))

    async def update(self, resource: Resource, body: Object, subresource: str = "", **params: str) -> Object:
        """PUT of the object named in the body; its resourceVersion makes it a compare-and-swap."""
        metadata = body["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"], subresource)
        return await self.request("PUT", path, self._managed(params), _with_kind(resource, body, subresource))

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Any,
        type: PatchType = PatchType.MERGE,
        subresource: str = "",
        **params: str,
    ) -> Object:
        """PATCH with a merge patch (or the type given); `patch` is the value to encode."""
        path = resource.path(namespace, name, subresource)
        return await self.request("PATCH", path, self._managed(params), patch, content_type=type.value)

    async def apply(self, resource: Resource, body: Object, *, field_manager: str = "", force: bool = False, subresource: str = "") -> Object:
        """Server-side apply of the object named in the body."""
        metadata = body["metadata"]
        params = {"fieldManager": field_manager or self._field_manager or "kubette", "force": "true" if force else "false"}
        path = resource.path(metadata.get("namespace", ""), metadata["name"], subresource)
        return await self.request("PATCH", path, params, _with_kind(resource, body, ""), content_type=PatchType.APPLY.value)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        grace_period_s: int | None = None,
        propagation_policy: str = "",
        uid: str = "",
        resource_version: str = "",
    ) -> Object:
        """DELETE, guarded by preconditions if `uid` or `resource_version` is given."""
        options = _delete_options(grace_period_s, propagation_policy)
        preconditions = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v}
        if preconditions:
            options["preconditions"] = preconditions
        return await self.request("DELETE", resource.path(namespace, name), {}, options)

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        grace_period_s: int | None = None,
        propagation_policy: str = "",
    ) -> Object:
        """DELETE on the collection."""
        params = _selectors(label_selector, field_selector)
        return await self.request("DELETE", resource.path(namespace), params, _delete_options(grace_period_s, propagation_policy))

    # Watch

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: float = 0,
        bookmarks: bool = True,
        metadata_only: bool = False,
    ) -> "Watch":
        """Events after `resource_version`; an async context manager that yields an async iterator."""
        params = {"watch": "true", **_selectors(label_selector, field_selector)}
        if resource_version:
            params["resourceVersion"] = resource_version
        if bookmarks:
            params["allowWatchBookmarks"] = "true"
        if timeout_s:
            params["timeoutSeconds"] = str(int(timeout_s))
        # The server ends the watch; should it forget to, we do.
        return Watch(self, resource.path(namespace), params, timeout_s + 30 if timeout_s else None, METADATA if metadata_only else "")

    # The wire

    async def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        content_type: str = "application/json",
        timeout_s: float = 0,
        accept: str = "",
    ) -> Object:
        """Any request whose answer is JSON. Retries what the server asks to retry, and reads that lost their connection."""
        raw = await self.request_bytes(method, path, params, body, content_type=content_type, timeout_s=timeout_s, accept=accept)
        if not raw:
            return {}
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise TransportError(f'{method.capitalize()} "{self.config.server}{path}": invalid character in JSON answer: {error}', False) from error
        return answer if isinstance(answer, dict) else {"items": answer}

    async def request_bytes(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        content_type: str = "application/json",
        timeout_s: float = 0,
        accept: str = "",
    ) -> bytes:
        """The body of the answer as it came (`/healthz`, `/metrics`, logs)."""
        data = None if body is None else body if isinstance(body, bytes) else orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
        headers = await self._headers(content_type if data is not None else "", accept)
        attempt = 0
        while True:
            attempt += 1
            try:
                response = await self._transport.send(method, path, params or {}, data, headers, timeout_s or self._timeout_s)
                raw = await self._read(response, method, path)
            except TransportError as error:
                # A kept-alive connection that the server closed in the same moment; a read may simply be asked again.
                if method == "GET" and not error.definite and attempt == 1 and isinstance(error.__cause__, aiohttp.ServerDisconnectedError):
                    continue
                raise
            if response.status < 300:
                return raw
            wait_s = _retry_after_s(response)
            if response.status == 401 and self._tokens is not None:
                self._tokens.invalidate()
            if wait_s is None or attempt > RETRIES_MAX:
                raise api_error(response.status, raw, method)
            await asyncio.sleep(wait_s)

    async def open_stream(
        self, method: str, path: str, params: Mapping[str, str] | None = None, idle_timeout_s: float | None = None, accept: str = ""
    ) -> aiohttp.ClientResponse:
        """A response to read as it comes (following logs); the caller closes it. Raises ApiError unless it is a success."""
        response = await self._transport.send(method, path, params or {}, None, await self._headers("", accept), None, idle_timeout_s)
        if response.status >= 300:
            raise api_error(response.status, await self._read(response, method, path), method)
        return response

    async def _read(self, response: aiohttp.ClientResponse, method: str, path: str) -> bytes:
        try:
            async with response:
                return await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            message = f'{method.capitalize()} "{self.config.server}{path}": {self._transport.describe(error)}'
            raise TransportError(message, definite=False) from error

    async def _headers(self, content_type: str, accept: str) -> dict[str, str]:
        headers = {"Content-Type": content_type} if content_type else {}
        if accept:
            headers["Accept"] = accept
        if self._tokens is not None:
            headers["Authorization"] = f"Bearer {await self._tokens.token()}"
        return headers

    def _managed(self, params: Mapping[str, str]) -> dict[str, str]:
        return {"fieldManager": self._field_manager, **params} if self._field_manager else dict(params)


class Watch:
    """An open watch: `async with` opens it, `async for` yields (event type, object). An ERROR event is raised as ApiError."""

    def __init__(self, client: Client, path: str, params: Mapping[str, str], idle_timeout_s: float | None, accept: str = "") -> None:
        self._client, self._path, self._params, self._idle_timeout_s, self._accept = client, path, params, idle_timeout_s, accept
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> "Watch":
        self._response = await self._client.open_stream("GET", self._path, self._params, self._idle_timeout_s, self._accept)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._response is not None
        self._response.close()  # not released: the rest of the stream is of no interest

    async def __aiter__(self) -> AsyncIterator[tuple[str, Object]]:
        assert self._response is not None, "iterate inside `async with`"
        rest = b""
        try:
            async for chunk in self._response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > EVENT_BYTES_MAX:
                    raise TransportError(f"watch of {self._path}: event of more than {EVENT_BYTES_MAX} bytes", definite=False)
                for line in lines:
                    if line:
                        yield _decode_event(line)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise TransportError(f"watch of {self._path}: {str(error) or type(error).__name__}", definite=False) from error


def _decode_event(line: bytes) -> tuple[str, Object]:
    event = orjson.loads(line)
    kind, obj = event["type"], event["object"]
    if kind == "ERROR":
        raise status.from_status(obj)
    return kind, obj


def api_error(code: int, raw: bytes, method: str = "") -> ApiError:
    """The error an answer stands for: its Status, or one made from a code and a text (a proxy, an old server)."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if isinstance(body, dict) and body.get("kind") == "Status":
        return status.from_status(body, code)
    text = raw.decode(errors="replace").strip()[:1024]
    reasons = {
        401: "Unauthorized",
        403: "Forbidden",
        404: "NotFound",
        409: "Conflict",
        410: "Gone",
        429: "TooManyRequests",
        503: "ServiceUnavailable",
    }
    reason = reasons.get(code, "InternalError" if code >= 500 else "BadRequest")
    return ApiError(code, reason, text or f"the server answered {code}", definite=code < 500)


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    """How long the server asks to wait before the same request again; None when it does not ask."""
    if response.status != 429 and response.status < 500:
        return None
    value = response.headers.get("Retry-After", "")
    return min(float(value), RETRY_AFTER_S_MAX) if value.isdigit() else None


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    return {k: v for k, v in (("labelSelector", label_selector), ("fieldSelector", field_selector)) if v}


def _with_kind(resource: Resource, body: Object, subresource: str) -> Object:
    """Bodies name their kind; a subresource's body (Scale, Binding) has a kind of its own and names it itself."""
    if "kind" in body or subresource not in ("", "status"):
        return body
    return {"apiVersion": resource.api_version, "kind": resource.kind, **body}


def _delete_options(grace_period_s: int | None, propagation_policy: str) -> Object:
    options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if grace_period_s is not None:
        options["gracePeriodSeconds"] = grace_period_s
    if propagation_policy:
        options["propagationPolicy"] = propagation_policy
    return options
