"""A component's secure port: `/healthz`, `/livez`, `/readyz` for everyone, `/metrics` and `/version` for those the API server allows."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from kubette.client.delegated_auth import DelegatedAuth, RequestHeader
from kubette.client.rest import Client
from kubette.component_base import health, http_server, metrics, tls, version
from kubette.component_base.run import StartupError


def application(auth: DelegatedAuth, registry: metrics.Registry, checks: dict[str, health.Check]) -> web.Application:
    app = web.Application(middlewares=[auth.middleware()], client_max_size=1 << 20)
    for path in ("/healthz", "/livez", "/readyz"):
        health.install(app, path, checks)

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(text=registry.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def show_version(_: web.Request) -> web.Response:
        return web.json_response(version.version_info())

    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/version", show_version)
    return app


@contextlib.asynccontextmanager
async def serving(options: Any, registry: metrics.Registry, checks: dict[str, health.Check], reviewer: Client | None) -> AsyncIterator[None]:
    """Listen while the block runs; port 0 means not at all."""
    if options.secure_port == 0:
        yield
        return
    request_header = None
    if options.requestheader_client_ca_file:
        request_header = RequestHeader(
            options.requestheader_client_ca_file,
            tuple(options.requestheader_allowed_names),
            tuple(options.requestheader_username_headers),
            tuple(options.requestheader_group_headers),
        )
    auth = DelegatedAuth(reviewer, options.authorization_always_allow_paths, request_header)
    app = application(auth, registry, checks)
    async with http_server.serving(app, options.bind_address, options.secure_port, _context(options)):
        yield


def _context(options: Any) -> ssl.SSLContext:
    if options.tls_cert_file:
        context = tls.server_context(options.tls_cert_file, options.tls_private_key_file)
    else:
        from kubette.component_base import self_signed

        context = self_signed.server_context(options.bind_address)
    for ca_file in filter(None, (options.client_ca_file, options.requestheader_client_ca_file)):
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise StartupError(f"unable to load client CA provider: {ca_file}: {error}") from error
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
