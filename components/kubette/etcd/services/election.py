"""The Election service: who campaigns first leads, until it resigns or its lease ends."""

import asyncio
from collections.abc import Sequence

from kubette.etcd.mvcc.store import Change
from kubette.etcd.mvcc.watchers import Watcher
from kubette.etcd.rim.grpc import MessageStream, Method
from kubette.etcd.server import Server
from kubette.etcd.services import session
from kubette.etcd.services.session import Sessions
from kubette.etcd_api import rpc_pb2
from kubette.etcd_api import v3election_pb2 as pb
from kubette.etcd_api.errors import Code, RpcError, Spec, error

NOT_LEADER: Spec = (Code.UNKNOWN, "election: not leader")
NO_LEADER: Spec = (Code.UNKNOWN, "election: no leader")
MISSING_LEADER_KEY: Spec = (Code.UNKNOWN, '"leader" field must be provided')


class Election:
    """One instance a server."""

    def __init__(self, server: Server, sessions: Sessions) -> None:
        self._server = server
        self._sessions = sessions

    def methods(self) -> dict[bytes, Method]:
        return {
            b"/v3electionpb.Election/Campaign": Method(self.campaign),
            b"/v3electionpb.Election/Proclaim": Method(self.proclaim),
            b"/v3electionpb.Election/Leader": Method(self.leader),
            b"/v3electionpb.Election/Observe": Method(streaming=self.observe),
            b"/v3electionpb.Election/Resign": Method(self.resign),
        }

    async def campaign(self, body: bytes) -> bytes:
        request = pb.CampaignRequest.FromString(body)
        lease = await self._sessions.lease(request.lease)
        prefix = request.name + b"/"
        key = prefix + b"%x" % lease
        answer = await self._sessions.txn(key, 0, [session.put(key, request.value, lease)], [session.get(key)])
        created = session.created_by(answer)
        leader = pb.LeaderKey(name=request.name, key=key, rev=created, lease=lease)
        try:
            if not answer.succeeded and answer.responses[0].response_range.kvs[0].value != request.value:
                await self._proclaim(leader, request.value)
            header = await self._sessions.wait_turn(prefix, key, created, lease)
        except BaseException:
            self._sessions.abandon(key)
            raise
        return pb.CampaignResponse(header=header, leader=leader).SerializeToString()

    async def proclaim(self, body: bytes) -> bytes:
        request = pb.ProclaimRequest.FromString(body)
        if not request.HasField("leader"):
            raise error(MISSING_LEADER_KEY)
        return pb.ProclaimResponse(header=await self._proclaim(request.leader, request.value)).SerializeToString()

    async def _proclaim(self, leader: pb.LeaderKey, value: bytes) -> rpc_pb2.ResponseHeader:
        answer = await self._sessions.txn(leader.key, leader.rev, [session.put(leader.key, value, leader.lease)])
        if not answer.succeeded:
            raise error(NOT_LEADER)
        return answer.header

    async def resign(self, body: bytes) -> bytes:
        request = pb.ResignRequest.FromString(body)
        if not request.HasField("leader"):
            raise error(MISSING_LEADER_KEY)
        delete = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=request.leader.key))
        answer = await self._sessions.txn(request.leader.key, request.leader.rev, [delete])
        return pb.ResignResponse(header=answer.header).SerializeToString()

    async def leader(self, body: bytes) -> bytes:
        found = await self._leader(pb.LeaderRequest.FromString(body).name + b"/")
        if not found.kvs:
            raise error(NO_LEADER)
        return pb.LeaderResponse(header=found.header, kv=found.kvs[0]).SerializeToString()

    async def _leader(self, prefix: bytes) -> rpc_pb2.RangeResponse:
        return await self._sessions.range(session.oldest(prefix, rpc_pb2.RangeRequest.ASCEND))

    async def observe(self, call: MessageStream) -> None:
        """Send the leader, and again whenever it or its value is another."""
        body = await call.receive()
        if body is None:
            raise RpcError(Code.INTERNAL, "grpc: the request ended without a message")
        prefix = pb.LeaderRequest.FromString(body).name + b"/"
        changed = asyncio.Event()

        def deliver(at: int, changes: Sequence[Change]) -> bool:
            changed.set()
            return True

        await self._leader(prefix)  # whether this client may look at all
        hub = self._server.state.hub
        watcher = Watcher(prefix, session.prefix_end(prefix), self._server.state.store.current + 1, deliver, lambda compacted: changed.set())
        hub.add(watcher)
        try:
            sent = 0
            while True:
                changed.clear()
                found = await self._leader(prefix)
                if found.kvs and found.kvs[0].mod_revision != sent:
                    sent = found.kvs[0].mod_revision
                    call.send(pb.LeaderResponse(header=found.header, kv=found.kvs[0]).SerializeToString())
                    await call.wait_drained()
                await changed.wait()
        finally:
            hub.remove(watcher)
