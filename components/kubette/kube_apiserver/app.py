"""Wiring: builds every part of the server from its options and runs it until the process is told to stop.

Order of a start: etcd's revision (a server without etcd does not start), listen, post-start hooks, ready. Order of a stop: not ready, out of
the endpoints of `kubernetes`, --shutdown-delay-duration, watches end, connections close.
"""

import asyncio
import contextlib
import random
from typing import Any

from aiohttp import web

from kubette.api import kinds
from kubette.apimachinery.schema import Schemas
from kubette.component_base import http_server, logs, metrics, tls, version
from kubette.component_base.run import StartupError
from kubette.etcd_client import Client, EtcdError
from kubette.kube_apiserver import aggregation, compactor, config, identity, serving_cert
from kubette.kube_apiserver.admission import plugins
from kubette.kube_apiserver.allocators.services import ServiceAllocators
from kubette.kube_apiserver.audit import auditor
from kubette.kube_apiserver.bootstrap.hooks import PostStart
from kubette.kube_apiserver.config import Config
from kubette.kube_apiserver.core import Core
from kubette.kube_apiserver.discovery import Discovery
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.healthz import Check, Health
from kubette.kube_apiserver.lister import CacheLister
from kubette.kube_apiserver.node_proxy import Dialer
from kubette.kube_apiserver.non_resources import NonResources
from kubette.kube_apiserver.openapi import OpenAPI
from kubette.kube_apiserver.resources import Resources
from kubette.kube_apiserver.server import Server
from kubette.kube_apiserver.storage.feed import Feed
from kubette.kube_apiserver.storage.leases import Leases
from kubette.kube_apiserver.storage.store import Store
from kubette.kube_apiserver.subresources import table as subresources
from kubette.stdx.clock import SYSTEM_CLOCK
from kubette.stdx.tasks import Scope, guard

log = logs.logger(__name__)

CERTIFICATES_PERIOD_S = 60.0
ETCD_CHECK_TIMEOUT_S = 2.0  # upstream's --etcd-healthcheck-timeout
ETCD_START_TIMEOUT_S = 20.0
HTTP_OPTIONS: dict[str, Any] = {"keepalive_timeout": http_server.KEEPALIVE_S, "max_line_size": 1 << 16, "max_field_size": 1 << 16, "access_log": None}


async def serve(options: Any) -> None:
    """Run until cancelled."""
    await App(config.load(options)).run()


class App:
    """Every object of the process."""

    def __init__(self, cfg: Config) -> None:
        self.config = cfg
        options = cfg.options
        self.client = Client(options.etcd_servers, ca_file=options.etcd_cafile, cert_file=options.etcd_certfile, key_file=options.etcd_keyfile)
        self.clock = SYSTEM_CLOCK
        self.feed = Feed(self.client, options.etcd_prefix)
        leases = Leases(self.client, self.clock)
        self.feed.when_reset(leases.forget)
        _, minor = version.major_minor()
        served = [kind for kind in kinds.KINDS if kind.api_version not in cfg.disabled_group_versions]
        table = kinds.KindTable(minor, served)
        release = f"v1.{minor}"

        def store_of(kind: kinds.Kind) -> Store:
            return Store(kind, options.etcd_prefix, self.client, self.feed, leases, self.clock, options.default_watch_cache_size)

        resources = Resources(table, Schemas.load(release), store_of, cfg.disabled_group_versions)
        lister = CacheLister()
        lister.bind(resources)
        self.identity = identity.build(options, lister)
        chain = plugins.build(
            lister, self.identity.authorizer, self.identity.rbac, options.enable_admission_plugins, options.disable_admission_plugins
        )
        registry = metrics.Registry()
        self.core = Core(
            cfg, resources, chain, self.identity.authorizer, self.feed, self.clock, random.Random(), registry, lister, self.identity, Dialer(options)
        )
        self.core.auditor = auditor.build(options, self.clock, registry)
        ports = cfg.node_ports
        self.core.allocators = ServiceAllocators(
            self.client,
            options.etcd_prefix.rstrip("/"),
            options.service_cluster_ip_range,
            (ports.start, ports.stop - 1),
            self.core.now,
            self.core.new_uid,
            self.core.rng,
        )
        self.post_start = PostStart(self.core, self.client, cfg)
        self._stopping = False
        health = Health({"ping": _healthy, "log": _healthy, "etcd": self._check_etcd, **self.post_start.checks()}, self._readiness())
        discovery = Discovery(table, f"{cfg.advertise_address}:{options.secure_port}")
        pages = {"/.well-known/openid-configuration": self._openid, "/openid/v1/jwks": self._jwks}
        others = NonResources(self.core, discovery, OpenAPI(table, release), health, pages, aggregation.Aggregator(lister, options))
        self.server = Server(self.core, self.identity.authenticator, subresources.build(), others)

    def _readiness(self) -> dict[str, Check]:
        async def shutdown() -> str | None:
            return "process is shutting down" if self._stopping else None

        return {"shutdown": shutdown}

    async def _check_etcd(self) -> str | None:
        try:
            async with asyncio.timeout(ETCD_CHECK_TIMEOUT_S):
                await self.feed.probe()
        except TimeoutError:
            return "error getting data from etcd: context deadline exceeded"
        except EtcdError as error:
            return f"error getting data from etcd: {error}"
        return None

    async def _openid(self, request: web.BaseRequest) -> Answer:
        return self.identity.openid_configuration()

    async def _jwks(self, request: web.BaseRequest) -> Answer:
        return self.identity.jwks()

    async def run(self) -> None:
        """Serve until cancelled. Raises StartupError when etcd, a certificate or the port is not to be had."""
        options = self.config.options
        await self._reach_etcd()
        context, pair = self._tls()
        async with Scope() as scope, self._listening(context):
            scope.start(self.feed.run(), "etcd-watch")
            scope.start(self._refresh_certificates(pair), "certificates")
            if options.etcd_compaction_interval > 0:
                work = compactor.Compactor(self.client, options.etcd_compaction_interval)
                scope.start(guard(work.run, lambda error: log.error("Failed to compact etcd", err=error)), "compactor")
            self.post_start.start(scope, options.secure_port)
            log.info("Serving securely", address=f"{options.bind_address}:{options.secure_port}")
            try:
                await scope.wait()
            finally:
                await self._stop()
        if self.core.auditor is not None:
            self.core.auditor.close()
        await self.client.close()

    async def _reach_etcd(self) -> None:
        deadline = self.clock.monotonic() + ETCD_START_TIMEOUT_S
        while True:
            try:
                await self.feed.start()
                return
            except EtcdError as error:
                if self.clock.monotonic() > deadline:
                    raise StartupError(f"Unable to create storage backend: context deadline exceeded: {error}") from error
                await asyncio.sleep(0.1)

    def _tls(self) -> tuple[Any, tls.ReloadingPair]:
        options = self.config.options
        cert, key = options.tls_cert_file, options.tls_private_key_file
        if not cert:
            hosts = [self.config.advertise_address, "127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
            hosts.append(str(self.config.service_range.network_address + 1))
            cert, key = serving_cert.ensure(options.cert_dir, [*hosts, *([options.external_hostname] if options.external_hostname else [])])
        context = tls.server_context(cert, key, options.client_ca_file)
        if options.requestheader_client_ca_file:
            import ssl

            context.load_verify_locations(cafile=options.requestheader_client_ca_file)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context, tls.ReloadingPair(context, cert, key)

    async def _refresh_certificates(self, pair: tls.ReloadingPair) -> None:
        while True:
            await asyncio.sleep(CERTIFICATES_PERIOD_S)
            if pair.refresh():
                log.info("Reloaded serving certificate")

    @contextlib.asynccontextmanager
    async def _listening(self, context: Any) -> Any:
        options = self.config.options
        runner = web.ServerRunner(web.Server(self.server.handle, handler_cancellation=True, **HTTP_OPTIONS), shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, options.bind_address or None, options.secure_port, ssl_context=context, backlog=1024)
            try:
                await site.start()
            except OSError as error:
                address = f"{options.bind_address}:{options.secure_port}"
                reason = (error.strerror or str(error)).lower()
                reason = "address already in use" if "address already in use" in reason else reason
                raise StartupError(f"failed to create listener: failed to listen on {address}: listen tcp {address}: bind: {reason}") from error
            yield
        finally:
            await runner.cleanup()

    async def _stop(self) -> None:
        self._stopping = True
        await self.post_start.withdraw()
        if self.config.options.shutdown_delay_duration > 0:
            await asyncio.sleep(self.config.options.shutdown_delay_duration)
        self.core.stopping.set()
        for store in self.core.resources.stores():
            store.cacher.wake()


async def _healthy() -> str | None:
    return None
