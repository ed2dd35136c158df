"""The Lease service. Grants and revocations go through the log; renewals are the leader's alone and are passed on to it."""

import asyncio
from collections.abc import Awaitable, Callable

from kubette.etcd.lessor import MAX_TTL_S, LeaseNotFoundError
from kubette.etcd.rim.grpc import MessageStream, Method
from kubette.etcd.server import Server
from kubette.etcd.wire import bytes_field, int_field
from kubette.etcd_api import errors
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.errors import RpcError

GRANT, REVOKE = 8, 9  # fields of InternalRaftRequest
Forward = Callable[[str, bytes], Awaitable[bytes]]  # path and body, to the leader


class Lease:
    """One instance a server."""

    def __init__(self, server: Server, forward: Forward) -> None:
        self._server = server
        self._forward = forward

    def methods(self) -> dict[bytes, Method]:
        return {
            b"/etcdserverpb.Lease/LeaseGrant": Method(self.grant),
            b"/etcdserverpb.Lease/LeaseRevoke": Method(self.revoke),
            b"/etcdserverpb.Lease/LeaseKeepAlive": Method(streaming=self.keep_alive),
            b"/etcdserverpb.Lease/LeaseTimeToLive": Method(self.time_to_live),
            b"/etcdserverpb.Lease/LeaseLeases": Method(self.leases),
        }

    def grant(self, body: bytes) -> "asyncio.Future[bytes]":
        request = pb.LeaseGrantRequest.FromString(body)
        if request.TTL > MAX_TTL_S:
            raise errors.error(errors.LEASE_TTL_TOO_LARGE)
        while not request.ID:
            # Chosen here, once: every member must apply the same id.
            request.ID = self._server.new_change_id() & 0x7FFFFFFFFFFFFFFF
        return self._server.propose(GRANT, request.SerializeToString())

    def revoke(self, body: bytes) -> "asyncio.Future[bytes]":
        return self._server.propose_message(REVOKE, pb.LeaseRevokeRequest, body)

    async def keep_alive(self, call: MessageStream) -> None:
        while (body := await call.receive()) is not None:
            request = pb.LeaseKeepAliveRequest.FromString(body)
            ttl = await self.renew(request.ID)
            call.send(bytes_field(1, self._server.header_now()) + int_field(2, request.ID) + int_field(3, ttl))
            await call.wait_drained()

    async def renew(self, lease_id: int) -> int:
        """The new TTL; 0 when the lease is gone."""
        body = pb.LeaseKeepAliveRequest(ID=lease_id).SerializeToString()
        deadline = self._server.clock.monotonic() + self._server.limits.request_timeout_s
        while True:
            if self._server.is_leader:
                return await self.renew_as_leader(lease_id)
            try:
                return int(pb.LeaseKeepAliveResponse.FromString(await self._forward("/leases", body)).TTL)
            except (OSError, TimeoutError, RpcError):
                if self._server.clock.monotonic() > deadline:
                    raise errors.error(errors.TIMEOUT if self._server.lead else errors.NO_LEADER) from None
                await asyncio.sleep(0.05)

    async def renew_as_leader(self, lease_id: int) -> int:
        """Only a leader that a quorum confirms renews: another one may have let the lease expire already."""
        await self._server.linearizable()
        if not self._server.is_leader:
            raise errors.error(errors.NOT_LEADER)
        try:
            ttl = self._server.state.lessor.renew(lease_id, self._server.clock.monotonic())
        except LeaseNotFoundError:
            return 0
        self._server.leases_renewed += 1
        return ttl

    async def time_to_live(self, body: bytes) -> bytes:
        request = pb.LeaseTimeToLiveRequest.FromString(body)
        if request.keys and self._server.state.auth.enabled:
            await self._server.linearizable()
            self._check_keys(request.ID)
        if not self._server.is_leader and self._server.lead:
            try:
                return bytes_field(1, self._server.header_now()) + await self._forward("/leases/internal", body)
            except (OSError, TimeoutError) as error:
                raise errors.error(errors.TIMEOUT) from error
        await self._server.linearizable()
        return bytes_field(1, self._server.header_now()) + self.time_to_live_as_leader(body)

    def time_to_live_as_leader(self, body: bytes) -> bytes:
        """The fields of the answer after its header."""
        request = pb.LeaseTimeToLiveRequest.FromString(body)
        lease = self._server.state.lessor.leases.get(request.ID)
        if lease is None:
            return int_field(2, request.ID) + int_field(3, -1)
        remaining = self._server.state.lessor.remaining(lease, self._server.clock.monotonic())
        parts = [int_field(2, lease.id), int_field(3, remaining), int_field(4, lease.ttl)]
        if request.keys:
            parts += [bytes_field(5, key) for key in sorted(lease.keys)]
        return b"".join(parts)

    def _check_keys(self, lease_id: int) -> None:
        """Raises RpcError unless the caller may read every key that hangs on the lease."""
        for key in self._server.applier.keys_of_lease(lease_id):
            self._server.check_readable(key)

    async def leases(self, body: bytes) -> bytes:
        await self._server.linearizable()
        if self._server.state.auth.enabled:
            for lease_id in self._server.state.lessor.leases:
                self._check_keys(lease_id)
        parts = [bytes_field(1, self._server.header_now())]
        parts += [bytes_field(2, int_field(1, lease_id)) for lease_id in self._server.state.lessor.leases]
        return b"".join(parts)
