"""Wiring: opens the data directory, builds every part, starts the tasks, listens; runs until cancelled."""

import asyncio
import contextlib
import gc
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from kubette.component_base import logs, notify, tls
from kubette.component_base.flags import FlagError
from kubette.component_base.metrics import Registry
from kubette.component_base.run import StartupError
from kubette.etcd import bootstrap, compactor, housekeeping, jwt_tokens, memory_lock, tls_contexts, wal
from kubette.etcd.config import Config, Tls
from kubette.etcd.corruption import Checker
from kubette.etcd.raft_loop import RaftLoop
from kubette.etcd.rim import http1, listener
from kubette.etcd.rim.grpc import Call, GrpcHandler
from kubette.etcd.rim.http2 import Settings
from kubette.etcd.server import REQUEST_OVERHEAD_BYTES, Credentials, Limits, Server
from kubette.etcd.services import metrics, network_metrics, origin, pprof
from kubette.etcd.services.auth import Auth
from kubette.etcd.services.cluster import Cluster
from kubette.etcd.services.election import Election
from kubette.etcd.services.http import Health, Questions
from kubette.etcd.services.introspection import GrpcHealth, Reflection
from kubette.etcd.services.json_gateway import JsonGateway, streams_body
from kubette.etcd.services.kv import KV
from kubette.etcd.services.lease import Lease
from kubette.etcd.services.lock import Lock
from kubette.etcd.services.maintenance import Maintenance
from kubette.etcd.services.session import Sessions
from kubette.etcd.services.v2_keys import V2Keys
from kubette.etcd.services.v2_members import V2Members
from kubette.etcd.services.watch import Watch
from kubette.etcd.snapshot_transfer import Arrivals
from kubette.etcd.transport import SNAPSHOT_PATH, Transport
from kubette.etcd.version import cluster_version
from kubette.stdx.clock import SYSTEM_CLOCK
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)
CERTIFICATE_REFRESH_S = 10.0
DEFAULT_PING_MIN_S = 300.0  # grpc-go's own, which holds when etcd says nothing
REMOVED_DELAY_S = 1.0  # a removed member goes on helping for this long
THREAD_SWITCH_S = 0.0005  # requests wait no longer than this for the thread that writes a snapshot (Python's default: ten times as long)


async def serve(config: Config, version: str) -> None:
    """Run one member. Raises StartupError, and OSError when the disk fails."""
    sys.setswitchinterval(THREAD_SWITCH_S)
    if config.memory_lock:
        memory_lock.lock_all()
    config = replace(
        config,
        client_tls=tls_contexts.prepare(config.client_tls, "client", config.data_dir, config.listen_client_urls, config.certificate_years),
        peer_tls=tls_contexts.prepare(config.peer_tls, "peer", config.data_dir, config.listen_peer_urls, config.certificate_years),
    )
    peer_server, peer_client = tls_contexts.server_context(config.peer_tls), tls_contexts.client_context(config.peer_tls)
    booted = await bootstrap.open_member(config, peer_client)
    limits = Limits(
        max_request_bytes=config.max_request_bytes,
        max_txn_ops=config.max_txn_ops,
        quota_bytes=config.quota_bytes,
        snapshot_count=config.snapshot_count,
        catch_up_entries=config.catch_up_entries,
        max_snapshots=config.max_snapshots,
        token_ttl_s=config.token_ttl_s,
        request_timeout_s=5.0 + 2 * config.election_s,
        slow_apply_s=config.slow_apply_s,
    )
    server = Server(booted.member_id, booted.cluster_id, booted.state, booted.snap_directory, limits, SYSTEM_CLOCK, config.election_s)
    server.state.membership.max_learners = config.max_learners
    try:
        server.jwt = jwt_tokens.parse(config.auth_token, SYSTEM_CLOCK)
    except FlagError as error:
        raise StartupError(str(error)) from None
    async with Scope() as scope:
        timeouts = (config.peer_read_timeout_s, config.peer_write_timeout_s)
        arrivals = Arrivals(booted.snap_directory, SYSTEM_CLOCK.monotonic)
        peers = Transport(server, version, config.advertise_peer_urls, peer_client, scope, arrivals, *timeouts)
        checker = Checker(server, peer_client)
        raft = RaftLoop(booted.node, booted.wal, server, peers.send, config.heartbeat_s)
        server.attach(raft)
        server.on_members_changed.append(peers.update)
        for member in booted.seeds:
            peers.add(member)
        peers.update()
        services = _Services(config, version, server, peers)
        try:
            async with contextlib.AsyncExitStack() as stack:
                members = _Port(peer_server, config.peer_tls, "peer", scope, config)
                for url in config.listen_peer_urls:
                    await members.listen(stack, url, None, services.handle_peer, lambda path: path == SNAPSHOT_PATH)
                if config.initial_corrupt_check:
                    await checker.initial()
                _start(scope, config, version, booted, server, raft, peers, services, checker)
                await _run(stack, scope, config, server, services, [(peer_server, config.peer_tls), (peer_client, config.peer_tls)])
        except (wal.WalError, OSError) as error:
            # Exit at once, and never try again: a second fsync may succeed although the data is gone.
            raise StartupError(f"failed to save Raft hard state and entries: {error}") from error
        finally:
            await scope.cancel()
            raft.close()


class _Port:
    """One side's listeners, clients' or members': its TLS, and who is let in."""

    def __init__(self, context: ssl.SSLContext | None, files: Tls, endpoint: str, scope: Scope, config: Config) -> None:
        self._context = context
        if context is not None:
            tls_contexts.tell_failures(context, endpoint)
        self._scope = scope
        self._config = config
        doorman = tls_contexts.Doorman(files, endpoint, check_address=endpoint == "peer")
        self._doorman = doorman if doorman.is_needed else None

    async def listen(
        self,
        stack: contextlib.AsyncExitStack,
        url: str,
        grpc: GrpcHandler | None,
        http: http1.Handler | None,
        streams_body: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Listen on a URL while the stack is open."""
        server = await listener.listen(
            url,
            self._context,
            grpc,
            http,
            self._scope,
            streams_body=streams_body,
            gatekeeper=self._doorman if url.startswith(("https", "unixs")) else None,
            reuse_port=self._config.reuse_port,
        )
        stack.callback(server.close)

    async def listen_clients(self, stack: contextlib.AsyncExitStack, url: str, grpc: GrpcHandler | None, http: http1.Handler | None) -> None:
        """A client port: HTTP requests pass the rules for host names and origins first."""
        if http is not None:
            http = origin.guarded(http, secure=url.startswith(("https", "unixs")), hosts=self._config.host_whitelist, origins=self._config.cors)
        await self.listen(stack, url, grpc, http, streams_body)


class _Services:
    """The services of one server, and who answers which path."""

    def __init__(self, config: Config, version: str, server: Server, peers: Transport) -> None:
        self._peers = peers
        self._server = server
        self._cert_auth = config.client_tls.client_cert_auth
        self.registry = Registry()
        self.kv = KV(server)
        self.watch = Watch(server, config.progress_notify_s)
        metrics.register(self.registry, server, version, self.watch.statistics)
        network_metrics.register_network(self.registry, server, peers)
        self.lease = Lease(server, peers.ask_leader)
        self._pprof = config.pprof
        self.cluster = Cluster(server, config.token, peers.ask_leader, config.strict_reconfig, lambda node: peers.active().get(node, False))
        self.maintenance = Maintenance(server, version, cluster_version(version))
        sessions = Sessions(server, self.kv, self.lease)
        self.health = Health(server, version, self.registry)
        self._questions = Questions(server, self.lease, self.cluster, self.health)
        self.methods = {
            **self.kv.methods(),
            **self.watch.methods(),
            **self.lease.methods(),
            **self.cluster.methods(),
            **self.maintenance.methods(),
            **Auth(server, config.bcrypt_cost, version).methods(),
            **Lock(sessions).methods(),
            **Election(server, sessions).methods(),
            **GrpcHealth(lambda: bool(server.lead), self._names).methods(),
            **Reflection(self._names).methods(),
        }

        rooms: list[JsonGateway | V2Keys | V2Members] = []
        if config.enable_grpc_gateway:
            rooms.append(JsonGateway(self.methods, lambda token: server.identify(Credentials(token))))
        if config.enable_v2:
            rooms += [V2Keys(server, self.registry), V2Members(server, self.cluster, config.name)]
        self._rooms = rooms

    def identify(self, call: Call) -> None:
        """Before each call by gRPC; it costs next to nothing where there are no users."""
        if self._server.state.auth.enabled:
            token = call.header(b"token") or call.header(b"authorization")
            self._server.identify(Credentials(token.decode("latin-1"), call.common_name if self._cert_auth else ""))

    def _names(self) -> set[str]:
        """Of the gRPC services."""
        return {path.decode().split("/")[1] for path in self.methods}

    async def handle_client(self, request: http1.Request) -> http1.Response:
        if self._pprof and (answer := await pprof.handle(request)) is not None:
            return answer
        for room in self._rooms:
            answer = await room.handle(request)
            if answer is not None:
                return answer
        return await self.health.handle(request)

    async def handle_peer(self, request: http1.Request) -> http1.Response:
        answer = await self._questions.handle(request)
        return answer if answer is not None else await self._peers.handle(request)


def _start(
    scope: Scope,
    config: Config,
    version: str,
    booted: bootstrap.Booted,
    server: Server,
    raft: RaftLoop,
    peers: Transport,
    services: _Services,
    checker: Checker,
) -> None:
    """Start everything that runs beside the requests."""
    scope.start(raft.run(), name="raft")
    scope.start(raft.tick_forever(), name="tick")
    scope.start(peers.keep_links_alive(), name="links")
    scope.start(peers.probe(), name="probes")
    scope.start(server.revoke_expired(), name="leases")
    scope.start(server.feed_watchers(), name="watchers")
    scope.start(services.watch.notify_progress(), name="progress")
    scope.start(housekeeping.run(server, services.watch, config.election_s), name="housekeeping")
    scope.start(server.publish(config.name, config.advertise_client_urls), name="publish")
    scope.start(server.set_cluster_version(cluster_version(version)), name="cluster version")
    if config.compact_retention:
        scope.start(compactor.run(server, services.kv, config), name="compactor")
    if config.corrupt_check_s:
        scope.start(checker.periodically(config.corrupt_check_s), name="corruption check")
    if config.compact_hash_check_s:
        scope.start(checker.at_compactions(config.compact_hash_check_s), name="compaction hash check")
    # What the log has committed is applied at once; then a single voter need not wait for an election timeout.
    raft.begin(config.election_ticks if config.tick_advance else 0)


async def _run(
    stack: contextlib.AsyncExitStack,
    scope: Scope,
    config: Config,
    server: Server,
    services: _Services,
    pairs: list[tuple[ssl.SSLContext | None, Tls]],
) -> None:
    client_context = tls_contexts.server_context(config.client_tls)
    if client_context is not None:
        # gRPC clients offer h2 alone; who offers both (curl, browsers) wants the HTTP APIs, which are served by HTTP/1.1.
        client_context.set_alpn_protocols(["http/1.1", "h2"])
    pairs.append((client_context, config.client_tls))
    scope.start(_follow_certificates(pairs), name="certificates")
    clients = _Port(client_context, config.client_tls, "client", scope, config)
    for url in config.listen_metrics_urls:
        await clients.listen(stack, url, None, services.health.handle)
    # Requests are served once there is a leader and this member has what was committed (or is still to learn it).
    await _until(scope, server, server.ready)
    keepalive = config.keepalive
    settings = Settings(config.max_concurrent_streams, keepalive.min_time_s or DEFAULT_PING_MIN_S, keepalive.interval_s, keepalive.timeout_s)
    handler = GrpcHandler(services.methods, config.max_request_bytes + REQUEST_OVERHEAD_BYTES, scope, services.identify, settings)
    network_metrics.register_grpc(services.registry, handler, config.slow_call_s, config.extensive_metrics)
    http_elsewhere = bool(config.listen_client_http_urls)
    for url in config.listen_client_urls:
        await clients.listen_clients(stack, url, handler, None if http_elsewhere else services.handle_client)
    for url in config.listen_client_http_urls:
        await clients.listen_clients(stack, url, None, services.handle_client)
    notify.ready()
    log.info("Ready to serve client requests", member=f"{server.member_id:x}", cluster=f"{server.cluster_id:x}")
    # What was loaded lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    await _until(scope, server, asyncio.Event())


async def _follow_certificates(contexts: Sequence[tuple[ssl.SSLContext | None, Tls]]) -> None:
    """Renewed certificates are used for new connections, without a restart."""
    pairs = [tls.ReloadingPair(context, files.cert_file, files.key_file) for context, files in contexts if context is not None]
    while pairs:
        await asyncio.sleep(CERTIFICATE_REFRESH_S)
        for pair in pairs:
            if pair.refresh():
                log.info("Loaded renewed certificates")


async def _until(scope: Scope, server: Server, event: asyncio.Event) -> None:
    """Wait for `event`. A part that fails raises here; having been removed from the cluster ends the process."""

    async def wait_failure() -> None:
        await scope.wait()

    waits = [scope.start(event.wait()), scope.start(server.removed.wait()), scope.start(wait_failure())]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
        if server.removed.is_set():
            # The others must hear that the change is decided: a leader that left at once could strand the last of two.
            await asyncio.sleep(REMOVED_DELAY_S)
            raise StartupError("the member has been permanently removed from the cluster")
    finally:
        for task in waits:
            task.cancel()
