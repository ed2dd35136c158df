"""Wires the process: back-end by mode, the sync loop, health and metrics."""

import contextlib
import json
from typing import Any

from aiohttp import web

from kubette.apimachinery import timestamps
from kubette.client import kubeconfig
from kubette.client.rest import Client
from kubette.component_base import http_server, logs, metrics, version
from kubette.component_base.run import StartupError
from kubette.kube_proxy import config, iptables
from kubette.kube_proxy.config import Config
from kubette.kube_proxy.iptables import Iptables
from kubette.kube_proxy.proxier import Backend, Proxier
from kubette.kube_proxy.userspace import Userspace
from kubette.stdx.clock import SYSTEM_CLOCK
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)


async def serve(options: Any) -> None:
    """The whole life of the process."""
    settings = config.load(options)
    registry = metrics.Registry()
    async with contextlib.AsyncExitStack() as stack:
        scope = await stack.enter_async_context(Scope())
        backend = _backend(settings, scope, registry)
        if settings.cleanup:
            await backend.cleanup()
            return
        try:
            client_config = kubeconfig.load(settings.kubeconfig)
        except kubeconfig.KubeconfigError as error:
            raise StartupError(str(error)) from error
        client = await stack.enter_async_context(Client(client_config, "kube-proxy", field_manager="kube-proxy"))
        proxier = Proxier(client, backend, settings.node, SYSTEM_CLOCK, registry, settings.min_sync_s)
        mode = "iptables" if isinstance(backend, Iptables) else "userspace"
        for address, app in ((settings.healthz_address, _health(proxier, settings)), (settings.metrics_address, _metrics(registry, mode))):
            host, port = http_server.split_host_port(address)
            await stack.enter_async_context(http_server.serving(app, host, port))
        log.info("Using proxier", mode=mode, node=settings.node)
        scope.start(proxier.run(), "proxier")
        await scope.wait()


def _backend(settings: Config, scope: Scope, registry: metrics.Registry) -> Backend:
    if settings.mode == "userspace" or (settings.mode == "" and not iptables.available()):
        return Userspace(scope)
    if not iptables.available():
        raise StartupError("iptables mode needs the programs iptables, iptables-save and iptables-restore, which are not on this machine")
    return Iptables(settings.cluster_cidr, settings.masquerade_all, registry)


def _health(proxier: Proxier, settings: Config) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        healthy = proxier.healthy(2 * settings.sync_s)
        now = timestamps.format_time(SYSTEM_CLOCK.wall())
        body = {"lastUpdated": now, "currentTime": now, "nodeEligible": proxier.node_eligible()}
        good = healthy and body["nodeEligible"]
        return web.Response(status=200 if good else 503, text=json.dumps(body), content_type="application/json")

    async def livez(_: web.Request) -> web.Response:
        healthy = proxier.healthy(2 * settings.sync_s)
        now = timestamps.format_time(SYSTEM_CLOCK.wall())
        return web.Response(
            status=200 if healthy else 503, text=json.dumps({"lastUpdated": now, "currentTime": now}), content_type="application/json"
        )

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/livez", livez)
    return app


def _metrics(registry: metrics.Registry, mode: str) -> web.Application:
    async def show(_: web.Request) -> web.Response:
        return web.Response(text=registry.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def proxy_mode(_: web.Request) -> web.Response:
        return web.Response(text=mode)

    async def show_version(_: web.Request) -> web.Response:
        return web.json_response(version.version_info())

    app = web.Application()
    app.router.add_get("/metrics", show)
    app.router.add_get("/proxyMode", proxy_mode)
    app.router.add_get("/version", show_version)
    return app
