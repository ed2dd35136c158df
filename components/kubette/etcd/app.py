"""Wiring: opens the data directory, builds every part, starts the tasks, listens; runs until cancelled."""

import asyncio
import contextlib
import gc
import json
import ssl
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from kubette.component_base import logs, notify, tls
from kubette.component_base.flags import FlagError
from kubette.component_base.metrics import Registry
from kubette.component_base.run import StartupError
from kubette.etcd import bootstrap, compactor, jwt_tokens, transport
from kubette.etcd.config import Config, Tls
from kubette.etcd.raft_loop import RaftLoop
from kubette.etcd.rim import http1, listener
from kubette.etcd.rim.grpc import Call, GrpcHandler
from kubette.etcd.server import REQUEST_OVERHEAD_BYTES, Credentials, Limits, Server
from kubette.etcd.services import metrics
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
from kubette.etcd.transport import SNAPSHOT_PATH, Transport
from kubette.etcd.version import cluster_version
from kubette.stdx.clock import SYSTEM_CLOCK
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)
HOUSEKEEPING_S = 0.25  # timeouts of requests are as exact as this
CERTIFICATE_REFRESH_S = 10.0
REMOVED_DELAY_S = 1.0  # a removed member goes on helping for this long


async def serve(config: Config, version: str) -> None:
    """Run one member. Raises StartupError, and OSError when the disk fails."""
    peer_server, peer_client = _peer_contexts(config.peer_tls)
    booted = await bootstrap.open_member(config, peer_client)
    limits = Limits(
        max_request_bytes=config.max_request_bytes,
        max_txn_ops=config.max_txn_ops,
        quota_bytes=config.quota_bytes,
        snapshot_count=config.snapshot_count,
        max_snapshots=config.max_snapshots,
        token_ttl_s=config.token_ttl_s,
        request_timeout_s=5.0 + 2 * config.election_s,
    )
    server = Server(booted.member_id, booted.cluster_id, booted.state, booted.snap_directory, limits, SYSTEM_CLOCK, config.election_s)
    try:
        server.jwt = jwt_tokens.parse(config.auth_token, SYSTEM_CLOCK)
    except FlagError as error:
        raise StartupError(str(error)) from None
    async with Scope() as scope:
        peers = Transport(server, version, config.advertise_peer_urls, peer_client, scope)
        raft = RaftLoop(booted.node, booted.wal, server, peers.send, config.heartbeat_s)
        server.attach(raft)
        server.on_members_changed.append(peers.update)
        for member in booted.seeds:
            peers.add(member)
        peers.update()
        services = _Services(config, version, server, peers)
        try:
            async with contextlib.AsyncExitStack() as stack:
                for url in config.listen_peer_urls:
                    await _listen(stack, url, peer_server, None, services.handle_peer, scope, lambda path: path == SNAPSHOT_PATH)
                if config.initial_corrupt_check:
                    await _check_corruption(server, peers, peer_client)
                _start(scope, config, version, booted, server, raft, peers, services)
                await _run(stack, scope, config, server, services, [(peer_server, config.peer_tls), (peer_client, config.peer_tls)])
        finally:
            await scope.cancel()
            raft.close()


class _Services:
    """The services of one server, and who answers which path."""

    def __init__(self, config: Config, version: str, server: Server, peers: Transport) -> None:
        self._peers = peers
        self._server = server
        self._cert_auth = config.client_tls.client_cert_auth
        self.registry = Registry()
        self.kv = KV(server)
        self.watch = Watch(server, config.progress_notify_s)
        metrics.register(self.registry, server, version, lambda: self.watch.statistics()["streams"])
        self.lease = Lease(server, peers.ask_leader)
        self.cluster = Cluster(server, config.token, peers.ask_leader, config.strict_reconfig)
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
            **Auth(server, config.bcrypt_cost).methods(),
            **Lock(sessions).methods(),
            **Election(server, sessions).methods(),
            **GrpcHealth(lambda: bool(server.lead), self._names).methods(),
            **Reflection(self._names).methods(),
        }

        rooms: list[JsonGateway | V2Keys | V2Members] = []
        if config.enable_grpc_gateway:
            rooms.append(JsonGateway(self.methods, lambda token: server.identify(Credentials(token))))
        if config.enable_v2:
            rooms += [V2Keys(server), V2Members(server, self.cluster, config.name)]
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
        for room in self._rooms:
            answer = await room.handle(request)
            if answer is not None:
                return answer
        return await self.health.handle(request)

    async def handle_peer(self, request: http1.Request) -> http1.Response:
        answer = await self._questions.handle(request)
        return answer if answer is not None else await self._peers.handle(request)


def _start(
    scope: Scope, config: Config, version: str, booted: bootstrap.Booted, server: Server, raft: RaftLoop, peers: Transport, services: _Services
) -> None:
    """Start everything that runs beside the requests."""
    scope.start(raft.run(), name="raft")
    scope.start(raft.tick_forever(), name="tick")
    scope.start(peers.keep_links_alive(), name="links")
    scope.start(server.revoke_expired(), name="leases")
    scope.start(server.feed_watchers(), name="watchers")
    scope.start(services.watch.notify_progress(), name="progress")
    scope.start(_housekeeping(config, server, services), name="housekeeping")
    scope.start(server.publish(config.name, config.advertise_client_urls), name="publish")
    scope.start(server.set_cluster_version(cluster_version(version)), name="cluster version")
    if config.compact_retention:
        scope.start(compactor.run(server, services.kv, config), name="compactor")
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
    client_context = _client_context(config.client_tls)
    pairs.append((client_context, config.client_tls))
    scope.start(_follow_certificates(pairs), name="certificates")
    for url in config.listen_metrics_urls:
        await _listen(stack, url, client_context, None, services.health.handle, scope)
    # Requests are served once there is a leader and this member has what was committed (or is still to learn it).
    await _until(scope, server, server.ready)
    handler = GrpcHandler(services.methods, config.max_request_bytes + REQUEST_OVERHEAD_BYTES, scope, services.identify)
    metrics.register_grpc(services.registry, handler)
    for url in config.listen_client_urls:
        await _listen(stack, url, client_context, handler, services.handle_client, scope, streams_body)
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


async def _housekeeping(config: Config, server: Server, services: _Services) -> None:
    """What needs a clock, but not an exact one."""
    leaderless_since: float | None = None
    while True:
        await asyncio.sleep(HOUSEKEEPING_S)
        server.expire_requests()
        server.retry_reads()
        server.expire_v2()
        services.watch.answer_progress()
        now = server.clock.monotonic()
        if server.lead:
            leaderless_since = None
        elif leaderless_since is None:
            leaderless_since = now
        elif now - leaderless_since > 3 * config.election_s:
            services.watch.fail_leaderless()


async def _check_corruption(server: Server, peers: Transport, context: ssl.SSLContext | None) -> None:
    """Before anything is served: where a peer has the same revision, its data must have the same hash."""
    store = server.state.store
    for member in server.state.membership.sorted():
        if member.id == server.member_id:
            continue
        for url in member.peer_urls[:1]:
            try:
                status, _, body = await transport.get(url, f"/members/hashkv?revision={store.current}", context)
            except (OSError, TimeoutError):
                continue
            if status != 200:
                continue
            theirs = json.loads(body)
            if theirs["compact_revision"] == store.compacted and theirs["hash"] != store.hash_kv(store.current):
                raise StartupError(f"found data inconsistency with peers: member {member.id:x} differs at revision {store.current}")


def _peer_contexts(files: Tls) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    if not files.cert_file:
        return None, None
    server = tls.server_context(files.cert_file, files.key_file, files.ca_file if files.client_cert_auth else "", files.client_cert_auth)
    return server, tls.client_context(files.ca_file, files.cert_file, files.key_file)


def _client_context(files: Tls) -> ssl.SSLContext | None:
    if not files.cert_file:
        return None
    context = tls.server_context(files.cert_file, files.key_file, files.ca_file if files.client_cert_auth else "", files.client_cert_auth)
    # gRPC clients offer h2 alone; who offers both (curl, browsers) wants the HTTP APIs, which are served by HTTP/1.1.
    context.set_alpn_protocols(["http/1.1", "h2"])
    return context


async def _listen(
    stack: contextlib.AsyncExitStack,
    url: str,
    context: ssl.SSLContext | None,
    grpc: GrpcHandler | None,
    http: http1.Handler,
    scope: Scope,
    streams_body: Callable[[str], bool] = lambda _: False,
) -> None:
    """Listen on a URL while the stack is open."""
    parts = urlsplit(url)
    if parts.scheme == "https" and context is None:
        raise StartupError(f"cannot listen on TLS for {url}: key and cert files are not presented")
    assert parts.hostname is not None
    assert parts.port is not None
    server = await listener.listen(parts.hostname, parts.port, context if parts.scheme == "https" else None, grpc, http, scope, streams_body)
    stack.callback(server.close)
