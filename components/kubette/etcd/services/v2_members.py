"""`/v2/members`, `/v2/machines`, `/v2/stats/*`: what the v2 client asks about the cluster."""

import json
from typing import Any

from kubette.etcd.membership import Member
from kubette.etcd.rim.http1 import Request, Response
from kubette.etcd.server import Server
from kubette.etcd.services.cluster import Cluster
from kubette.etcd.v2_store import time_text
from kubette.etcd_api import errors
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.errors import RpcError

_MEMBERS = "/v2/members"
_JSON = {"Content-Type": "application/json"}
_CONFLICTS = (errors.MEMBER_EXIST[1], errors.PEER_URL_EXIST[1])
# The v2 API's own words for refusals that the v3 API words differently.
_WORDS = {
    errors.MEMBER_EXIST[1]: "membership: ID exists",
    errors.PEER_URL_EXIST[1]: "membership: peerURL exists",
}


class V2Members:
    """One instance a server."""

    def __init__(self, server: Server, cluster: Cluster, name: str) -> None:
        self._server = server
        self._cluster = cluster
        self._name = name
        self._started = server.clock.wall()

    async def handle(self, request: Request) -> Response | None:
        """None when the path is somebody else's."""
        path = request.path.rstrip("/")
        if path == _MEMBERS or path.startswith(_MEMBERS + "/"):
            response = await self._members(request, path[len(_MEMBERS) + 1 :])
            response.headers.setdefault("X-Etcd-Cluster-Id", f"{self._server.cluster_id:x}")
            return response
        if path == "/v2/machines":
            urls = [url for member in self._server.state.membership.sorted() for url in member.client_urls]
            return Response(body=", ".join(sorted(urls)).encode()) if request.method in ("GET", "HEAD") else _not_allowed("GET,HEAD")
        if path.startswith("/v2/stats/"):
            return self._stats(path.removeprefix("/v2/stats/")) if request.method == "GET" else _not_allowed("GET")
        return None

    async def _members(self, request: Request, which: str) -> Response:
        if request.method == "GET":
            return self._show(which)
        if request.method == "POST" and not which:
            return await self._add(request)
        if request.method in ("DELETE", "PUT") and which:
            return await self._change(request, which)
        return _not_allowed("GET,POST,DELETE,PUT")

    def _show(self, which: str) -> Response:
        members = self._server.state.membership
        if not which:
            return _json(200, {"members": [_document(member) for member in members.sorted()]})
        if which != "leader":
            return _json(404, {"message": "Not found"})
        leader = members.members.get(self._server.lead)
        return _json(503, {"message": "During election"}) if leader is None else _json(200, _document(leader))

    async def _add(self, request: Request) -> Response:
        urls, refusal = _peer_urls(request)
        if refusal is not None:
            return refusal
        try:
            answer = await self._cluster.add(pb.MemberAddRequest(peerURLs=urls).SerializeToString())
        except RpcError as error:
            return _failure(error)
        added = pb.MemberAddResponse.FromString(answer).member
        return _json(201, _document(self._server.state.membership.members[added.ID]))

    async def _change(self, request: Request, which: str) -> Response:
        try:
            member = int(which, 16)
        except ValueError:
            return _json(404, {"message": f"No such member: {which}"})
        try:
            if request.method == "DELETE":
                if member in self._server.state.membership.removed:
                    return _json(410, {"message": f"Member permanently removed: {member:x}"})
                await self._cluster.remove(pb.MemberRemoveRequest(ID=member).SerializeToString())
            else:
                urls, refusal = _peer_urls(request)
                if refusal is not None:
                    return refusal
                await self._cluster.update(pb.MemberUpdateRequest(ID=member, peerURLs=urls).SerializeToString())
        except RpcError as error:
            return _failure(error, f"No such member: {member:x}")
        return Response(204)

    def _stats(self, which: str) -> Response:
        server = self._server
        if which == "store":
            return _json(200, {**server.state.v2.stats, "watchers": server.state.v2.watcher_count}, end="")
        leader = {"leader": f"{server.lead:x}", "uptime": _duration(server.clock.wall() - self._started), "startTime": self._start_time()}
        if which == "self":
            document = {
                "name": self._name,
                "id": f"{server.member_id:x}",
                "state": "StateLeader" if server.is_leader else "StateFollower",
                "startTime": self._start_time(),
                "leaderInfo": leader,
            }
            return _json(200, document, end="")
        if which == "leader":
            if not server.is_leader:
                return _json(403, {"message": "not current leader"})
            followers: dict[str, Any] = {f"{member.id:x}": {} for member in server.state.membership.sorted() if member.id != server.member_id}
            return _json(200, {"leader": f"{server.member_id:x}", "followers": followers}, end="")
        return Response(404, b"404 page not found\n")

    def _start_time(self) -> str:
        return time_text(int(self._started * 1e6) * 1000)


def _document(member: Member) -> dict[str, Any]:
    return {"id": f"{member.id:x}", "name": member.name, "peerURLs": list(member.peer_urls), "clientURLs": list(member.client_urls)}


def _json(status: int, document: Any, end: str = "\n") -> Response:
    end = end if status < 400 else ""  # as upstream's two ways of writing
    return Response(status, (json.dumps(document, separators=(",", ":")) + end).encode(), dict(_JSON))


def _not_allowed(methods: str) -> Response:
    return Response(405, b"Method Not Allowed\n", {"Allow": methods})


def _peer_urls(request: Request) -> tuple[list[str], Response | None]:
    """The URLs of a request's body, or the refusal that answers it."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        return [], _json(415, {"message": f"Bad Content-Type {kind}, accept application/json"})
    try:
        urls = json.loads(request.body)["peerURLs"]
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        return [], _json(400, {"message": "invalid request body"})
    return urls, None


def _failure(error: RpcError, not_found: str = "") -> Response:
    if error.message in _CONFLICTS:
        return _json(409, {"message": _WORDS[error.message]})
    if error.message == errors.MEMBER_NOT_FOUND[1] and not_found:
        return _json(404, {"message": not_found})
    if error.message == errors.MEMBER_BAD_URLS[1]:
        return _json(400, {"message": "invalid peer URLs"})
    return _json(500, {"message": "Internal Server Error"})


def _duration(seconds: float) -> str:
    """As Go writes a duration."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    whole = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{whole}{rest:.9f}".rstrip("0").rstrip(".") + "s"
