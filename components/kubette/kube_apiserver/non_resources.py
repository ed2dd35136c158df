"""Paths that are not objects: discovery, OpenAPI, health, version, metrics, the issuer's keys."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import orjson
from aiohttp import web

from kubette.apimachinery import status
from kubette.component_base import version
from kubette.kube_apiserver.auth.interfaces import UserInfo
from kubette.kube_apiserver.core import Core
from kubette.kube_apiserver.discovery import Discovery
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.healthz import Health
from kubette.kube_apiserver.openapi import OpenAPI
from kubette.kube_apiserver.request_info import RequestInfo

Page = Callable[[web.BaseRequest], Awaitable[Answer]]
JSON_INDENTED = orjson.OPT_INDENT_2


class Delegate(Protocol):
    """Who answers for group-versions that are not ours (the aggregator)."""

    async def proxy(self, request: web.BaseRequest, info: RequestInfo, user: UserInfo) -> Answer | web.StreamResponse | None: ...


class NonResources:
    """`pages` are further exact paths (`/openid/v1/jwks`)."""

    def __init__(
        self, core: Core, discovery: Discovery, openapi: OpenAPI, health: Health, pages: Mapping[str, Page], delegate: Delegate | None
    ) -> None:
        self._core, self._discovery, self._openapi, self._health = core, discovery, openapi, health
        self._pages = pages
        self._delegate = delegate

    async def answer(self, request: web.BaseRequest, info: RequestInfo) -> Answer | web.StreamResponse:
        """Raises NotFound for a path nobody knows."""
        path = info.path
        first = path.strip("/").partition("/")[0]
        if first in ("healthz", "livez", "readyz"):
            return await self._health.answer(path, request.query, frozenset(request.query.getall("exclude", [])))
        if request.method not in ("GET", "HEAD"):
            raise status.ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        if first in ("api", "apis"):
            return self._discover(request, path)
        if first == "openapi":
            return self._open_api(request, path)
        if path == "/version" or path == "/version/":
            return Answer(orjson.dumps(version.version_info(), option=JSON_INDENTED))
        if path == "/metrics":
            return Answer(self._core.metrics.render().encode(), content_type="text/plain; version=0.0.4; charset=utf-8")
        if path == "/":
            return Answer(orjson.dumps({"paths": self.paths()}, option=JSON_INDENTED))
        page = self._pages.get(path)
        if page is not None:
            return await page(request)
        raise status.path_not_found()

    async def unknown_resource(self, request: web.BaseRequest, info: RequestInfo, user: UserInfo) -> Answer | web.StreamResponse:
        """A resource that is not ours: another server's, or nobody's."""
        if self._delegate is not None and not self._core.resources.serves(info.group, info.version):
            found = await self._delegate.proxy(request, info, user)
            if found is not None:
                return found
        raise status.path_not_found()

    def paths(self) -> list[str]:
        """What `/` lists."""
        table = self._core.resources.table
        out = ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/apis/"]
        for group in table.groups():
            if group:
                out.append(f"/apis/{group}")
                out += [f"/apis/{group}/{one}" for one in table.versions(group)]
        out += ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"]
        return sorted(out)

    def _discover(self, request: web.BaseRequest, path: str) -> Answer:
        found = self._discovery.document(path, request.headers.get("Accept", ""))
        if found is None:
            raise status.path_not_found()
        headers = {"Vary": "Accept"}
        if found.etag:
            headers["ETag"] = found.etag
            if request.headers.get("If-None-Match") == found.etag:
                return Answer(b"", 304, found.content_type, headers)
        return Answer(found.body, 200, found.content_type, headers)

    def _open_api(self, request: web.BaseRequest, path: str) -> Answer:
        parts = path.strip("/").split("/")
        if parts[1:] == ["v2"]:
            found = self._openapi.v2(request.headers.get("Accept", ""))
        elif parts[1:] == ["v3"]:
            found = self._openapi.index()
        elif parts[1:2] == ["v3"]:
            document = self._openapi.v3("/".join(parts[2:]))
            if document is None:
                raise status.path_not_found()
            found = document
        else:
            raise status.path_not_found()
        headers = {"ETag": found.etag, "Vary": "Accept-Encoding,Accept"}
        if "hash" in request.query:
            headers["Cache-Control"] = "public, immutable"  # the index names the hash, so the document behind it never changes
        if request.headers.get("If-None-Match") == found.etag:
            return Answer(b"", 304, found.content_type, headers)
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return Answer(found.gzipped, 200, found.content_type, {**headers, "Content-Encoding": "gzip"})
        return Answer(found.body, 200, found.content_type, headers)
