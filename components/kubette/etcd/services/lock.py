"""The Lock service: a name is held by one at a time, as long as its lease lives."""

from kubette.etcd.rim.grpc import Method
from kubette.etcd.services import session
from kubette.etcd.services.session import Sessions
from kubette.etcd_api import v3lock_pb2 as pb


class Lock:
    """One instance a server."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def methods(self) -> dict[bytes, Method]:
        return {b"/v3lockpb.Lock/Lock": Method(self.lock), b"/v3lockpb.Lock/Unlock": Method(self.unlock)}

    async def lock(self, body: bytes) -> bytes:
        request = pb.LockRequest.FromString(body)
        lease = await self._sessions.lease(request.lease)
        prefix = request.name + b"/"
        key = prefix + b"%x" % lease
        answer = await self._sessions.txn(key, 0, [session.put(key, b"", lease)], [session.get(key)])
        try:
            header = await self._sessions.wait_turn(prefix, key, session.created_by(answer), lease)
        except BaseException:
            self._sessions.abandon(key)
            raise
        return pb.LockResponse(header=header, key=key).SerializeToString()

    async def unlock(self, body: bytes) -> bytes:
        answer = await self._sessions.delete(pb.UnlockRequest.FromString(body).key)
        return pb.UnlockResponse(header=answer.header).SerializeToString()
