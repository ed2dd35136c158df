"""Wires the process: the zone fed by informers, the resolver, DNS sockets, health, readiness and metrics."""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

from aiohttp import web

from kubette.client import kubeconfig, resources
from kubette.client.informer import Handler, Informer
from kubette.client.rest import Client
from kubette.cluster_dns import server
from kubette.cluster_dns.corefile import CorefileError, Directive, Server, parse
from kubette.cluster_dns.resolver import Forwarder, Resolver
from kubette.cluster_dns.zone import Zone
from kubette.component_base import http_server, logs
from kubette.component_base.metrics import Registry
from kubette.component_base.run import StartupError
from kubette.stdx.clock import SYSTEM_CLOCK
from kubette.stdx.tasks import Scope

_HEALTH, _READY, _METRICS = ":8080", ":8181", ":9153"
log = logs.logger(__name__)

_RELOAD_S = 30.0  # the plugin's default interval
_DEFAULT_TTL_S = 5  # CoreDNS's, where the Corefile names none


async def serve(options: Any) -> None:
    """The whole life of the process; with the plugin reload a changed Corefile begins a new one."""
    while True:
        await _serve_corefile(options)


async def _serve_corefile(options: Any) -> None:
    """Serve until the Corefile changes."""
    block = _read(options.conf)
    port = int(options.dns_port or block.port)
    kubernetes = block.directives.get("kubernetes")
    domain = kubernetes.arguments[0].rstrip(".") if kubernetes and kubernetes.arguments else "cluster.local"
    zone, registry = Zone(domain), Registry()
    forwarder = _forwarder(block)
    ttl = int((kubernetes.option("ttl") or [str(_DEFAULT_TTL_S)])[0]) if kubernetes else _DEFAULT_TTL_S
    resolver = Resolver(zone, forwarder, ttl, registry, random.Random())
    async with contextlib.AsyncExitStack() as stack:
        scope = await stack.enter_async_context(Scope())
        informers = await _informers(stack, zone, kubernetes)
        for name, default, app in (
            ("health", _HEALTH, _text_app("/health", lambda: "OK")),
            ("ready", _READY, _text_app("/ready", lambda: "OK" if all(i.has_synced for i in informers) else None)),
            ("prometheus", _METRICS, _text_app("/metrics", registry.render)),
        ):
            directive = block.directives.get(name)
            if directive is not None:
                host, http_port = http_server.split_host_port(directive.arguments[0] if directive.arguments else default)
                await stack.enter_async_context(http_server.serving(app, host, http_port))
        for informer in informers:
            scope.start(informer.run(), f"informer {informer.resource.resource}")
        # No answer before the lists are here: a missing name would be believed and cached.
        for informer in informers:
            await informer.wait_synced()
        await stack.enter_async_context(server.serving(resolver, scope, "0.0.0.0", port))
        if "loop" in block.directives and forwarder is not None:
            scope.start(_detect_loop(resolver), "loop detection")
        if "reload" not in block.directives:
            await scope.wait()
        await _until_changed(Path(options.conf), scope)
        log.info("Reloading")


async def _detect_loop(resolver: Resolver) -> None:
    """The plugin loop: a probe that comes back through our own forwarding means a circle without end."""
    await resolver.resolve(resolver.loop_probe(), tcp=True)
    if resolver.loop_seen > 2:
        raise StartupError(
            f'plugin/loop: Loop detected for zone ".", see https://coredns.io/plugins/loop#troubleshooting. Query: "HINFO {resolver.loop_name}."'
        )


async def _until_changed(path: Path, scope: Scope) -> None:
    """The plugin reload: a ConfigMap's file changes by a swapped symlink, which no inode watch of the file sees."""
    before = path.read_bytes()
    waiting = scope.start(scope.wait(), "failure of a part")
    while not waiting.done():
        await asyncio.wait([waiting], timeout=_RELOAD_S)
        try:
            if path.read_bytes() != before and parse(path.read_text()):
                return
        except (OSError, CorefileError, ValueError) as error:
            log.error("Corefile changed but reload failed", err=error)
    await waiting


def _read(path: str) -> Server:
    try:
        return parse(Path(path).read_text())
    except OSError as error:
        raise StartupError(f"loading Caddyfile via flag: open {path}: {(error.strerror or str(error)).lower()}") from error
    except (CorefileError, ValueError) as error:
        raise StartupError(str(error)) from error


def _forwarder(block: Server) -> Forwarder | None:
    forward = block.directives.get("forward")
    if forward is None:
        return None
    servers: list[tuple[str, int]] = []
    for target in forward.arguments[1:]:
        if target.startswith("/"):
            servers += [(address, 53) for address in _nameservers(Path(target))]
        else:
            host, _, port = target.removeprefix("dns://").partition(":")
            servers.append((host, int(port or 53)))
    cache = block.directives.get("cache")
    return Forwarder(servers, float(cache.arguments[0]) if cache and cache.arguments else 0.0, SYSTEM_CLOCK)


def _nameservers(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    return [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"]


async def _informers(stack: contextlib.AsyncExitStack, zone: Zone, kubernetes: Directive | None) -> list[Informer]:
    if kubernetes is None:
        return []
    try:
        settings = kubeconfig.load((kubernetes.option("kubeconfig") or [""])[0])
    except kubeconfig.KubeconfigError as error:
        raise StartupError(f"plugin/kubernetes: {error}") from error
    client = await stack.enter_async_context(Client(settings, "coredns"))
    services = Informer(client, resources.SERVICES)
    services.add_handler(Handler(zone.set_service, lambda _old, new: zone.set_service(new), zone.remove_service))
    slices = Informer(client, resources.ENDPOINTSLICES)
    slices.add_handler(Handler(zone.set_slice, lambda _old, new: zone.set_slice(new), zone.remove_slice))
    namespaces = Informer(client, resources.NAMESPACES)
    namespaces.add_handler(
        Handler(lambda o: zone.namespaces.add(o["metadata"]["name"]), None, lambda o: zone.namespaces.discard(o["metadata"]["name"]))
    )
    return [services, slices, namespaces]


def _text_app(path: str, body: Any) -> web.Application:
    async def show(_: web.Request) -> web.Response:
        text = body()
        return web.Response(text=text) if text is not None else web.Response(status=503, text="kubernetes")

    app = web.Application()
    app.router.add_get(path, show)
    return app
