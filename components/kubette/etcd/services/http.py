"""HTTP/1.1 on the client and metrics ports: `/health`, `/livez`, `/readyz`, `/version`, `/metrics`; and the questions of other members."""

import json
from urllib.parse import parse_qs

from google.protobuf.message import DecodeError

from kubette.component_base.metrics import Registry
from kubette.etcd.mvcc.store import CompactedError, FutureRevisionError
from kubette.etcd.rim.http1 import Request, Response
from kubette.etcd.server import Server
from kubette.etcd.services.cluster import Cluster
from kubette.etcd.services.lease import Lease
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.errors import Code, RpcError

_JSON = {"Content-Type": "application/json"}
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


class Health:
    """Answers of one server."""

    def __init__(self, server: Server, version: str, registry: Registry) -> None:
        self._server = server
        self._version = version
        self._registry = registry
        self._succeeded = registry.counter("etcd_server_health_success", "The total number of successful health checks")
        self._failed = registry.counter("etcd_server_health_failures", "The total number of failed health checks")
        self._result = registry.gauge("etcd_server_healthcheck", "The result of each kind of healthcheck.", ("type", "name"))
        self._results = registry.counter(
            "etcd_server_healthchecks_total", "The total number of each kind of healthcheck.", ("type", "name", "status")
        )
        self._scrapes = registry.counter("promhttp_metric_handler_requests_total", "Total number of scrapes by HTTP status code.", ("code",))
        for code in ("200", "500", "503"):
            self._scrapes.inc(code, by=0)
        # A scrape is answered in one go: while it is rendered, it is the one.
        registry.function("promhttp_metric_handler_requests_in_flight", "Current number of scrapes being served.", lambda: 1.0)

    async def handle(self, request: Request) -> Response:
        if request.method != "GET":
            return Response(405, b"Method Not Allowed\n", {"Allow": "GET"})
        if request.path == "/health":
            return await self._health(parse_qs(request.query))
        if request.path == "/version":
            versions = {"etcdserver": self._version, "etcdcluster": self._server.state.membership.version or "not_decided", "storage": "3.6.0"}
            return Response(body=json.dumps(versions, separators=(",", ":")).encode(), headers=_JSON)
        if request.path == "/metrics":
            body = self._registry.render().encode()
            self._scrapes.inc("200")
            return Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
        if request.path == "/livez" or request.path.startswith("/livez/"):
            return await self._checks(request, ["serializable_read"])
        if request.path == "/readyz" or request.path.startswith("/readyz/"):
            return await self._checks(request, ["data_corruption", "serializable_read", "linearizable_read", "non_learner"])
        return Response(404, b"404 page not found\n")

    async def _health(self, query: dict[str, list[str]]) -> Response:
        excluded = query.get("exclude", [])
        reason = ""
        for kind, _ in self._server.state.alarms:
            name = pb.AlarmType.Name(kind)  # type: ignore[arg-type]
            if name not in excluded:
                reason = f"ALARM {name}"
        serializable = query.get("serializable", [""])[0] == "true"
        if not reason and not serializable:
            failure = await self._read_failure() if self._server.lead else ""
            reason = (failure and f"RANGE ERROR:{failure}") if self._server.lead else "RAFT NO LEADER"
        (self._failed if reason else self._succeeded).inc()
        body = json.dumps({"health": "false" if reason else "true", "reason": reason}, separators=(",", ":")).encode()
        return Response(503, body + b"\n", _TEXT) if reason else Response(200, body, _JSON)

    async def _read_failure(self) -> str:
        """Why a linearizable read does not work; empty when it does."""
        try:
            await self._server.linearizable()
        except RpcError as error:
            return error.message
        return ""

    async def _check(self, name: str) -> str:
        if name == "data_corruption":
            return "alarm activated: CORRUPT" if self._server.state.has_alarm(pb.CORRUPT) else ""
        if name == "linearizable_read":
            return await self._read_failure()
        if name == "non_learner":
            return "not supported for learner" if self._server.is_learner else ""
        return ""

    async def _checks(self, request: Request, names: list[str]) -> Response:
        endpoint, _, wanted = request.path.strip("/").partition("/")
        query = parse_qs(request.query, keep_blank_values=True)
        if wanted and wanted not in names:
            return Response(404, b"404 page not found\n", _TEXT)
        names = [wanted] if wanted else [name for name in names if name not in query.get("exclude", ())]
        lines, failed = "", False
        for name in names:
            reason = await self._check(name)
            failed |= bool(reason)
            lines += f"[-]{name} failed: {reason}\n" if reason else f"[+]{name} ok\n"
            self._result.set(0.0 if reason else 1.0, endpoint, name)
            self._results.inc(endpoint, name, "error" if reason else "success")
        if failed:
            return Response(503, f"{lines}\n".encode(), _TEXT)
        return Response(body=((lines if "verbose" in query else "") + "ok\n").encode(), headers=_TEXT)


class Questions:
    """What members ask each other besides Raft: only a leader can renew leases and promote learners; hashes are compared."""

    def __init__(self, server: Server, lease: Lease, cluster: Cluster, health: Health) -> None:
        self._server = server
        self._lease = lease
        self._cluster = cluster
        self._health = health

    async def handle(self, request: Request) -> Response | None:
        """None when the path is somebody else's."""
        try:
            return await self._handle(request)
        except (DecodeError, ValueError):
            return Response(400, b"error unmarshalling request\n")
        except RpcError as error:
            status = {Code.NOT_FOUND: 404, Code.UNAVAILABLE: 503}.get(error.code, 412)
            return Response(status, error.message.encode())

    async def _handle(self, request: Request) -> Response | None:
        path = request.path
        if path == "/leases" and request.method == "POST":
            renewal = pb.LeaseKeepAliveRequest.FromString(request.body)
            ttl = await self._lease.renew_as_leader(renewal.ID)
            return Response(body=pb.LeaseKeepAliveResponse(ID=renewal.ID, TTL=ttl).SerializeToString())
        if path == "/leases/internal" and request.method == "POST":
            await self._server.linearizable()
            return Response(body=self._lease.time_to_live_as_leader(request.body))
        if path.startswith("/members/promote/") and request.method == "POST":
            if not self._server.is_leader:
                return Response(503, b"etcdserver: not leader")
            await self._cluster.promote_as_leader(int(path.rsplit("/", 1)[1]))
            return Response()
        if path == "/members/hashkv":
            return self._hash_kv(request)
        if path == "/version":
            return await self._health.handle(request)
        return None

    def _hash_kv(self, request: Request) -> Response:
        """As etcd's own members ask it: the revision in the body, errors as texts."""
        if request.method != "GET":
            return Response(405, b"Method Not Allowed\n", {"Allow": "GET"})
        store, server = self._server.state.store, self._server
        known = f"{server.cluster_id:x}"
        if request.headers.get("x-etcd-cluster-id", known) != known:
            return Response(412, f"mismatch cluster ID\n{request.headers['x-etcd-cluster-id']} got {known}\n".encode())
        try:
            at = int(json.loads(request.body or b"{}").get("revision", 0))
        except (ValueError, AttributeError, TypeError):
            return Response(400, b"error unmarshalling request\n")
        try:
            header = {"cluster_id": server.cluster_id, "member_id": server.member_id, "revision": store.current, "raft_term": server.term}
            body = {"header": header, "hash": store.hash_kv(at), "compact_revision": store.compacted, "hash_revision": at or store.current}
        except CompactedError:
            return Response(400, b"mvcc: required revision has been compacted\n")
        except FutureRevisionError:
            return Response(400, b"mvcc: required revision is a future revision\n")
        return Response(body=json.dumps(body).encode(), headers={**_JSON, "X-Etcd-Cluster-ID": known})
