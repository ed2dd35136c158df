"""One client for all endpoints of a cluster.

Requests go to the endpoint that answered last; when it cannot be reached, to the next, for a few seconds. A read is asked again
wherever it failed for want of a server; a write only if it surely never left (EtcdError.never_sent).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc

from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.errors import Code
from kubette.etcd_client.channels import Channels
from kubette.etcd_client.errors import EtcdError, from_grpc
from kubette.etcd_client.watch import Watcher
from kubette.stdx.backoff import Backoff
from kubette.stdx.clock import SYSTEM_CLOCK

RECONNECT_S = 3.0  # how long a restart of the only member, or an election, is waited out
_RETRY = Backoff(base_s=0.025, cap_s=0.25)
REQUEST_TIMEOUT_S = 10.0  # longer than an election: a leader change is waited out by the server


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin with `prefix`."""
    for at in reversed(range(len(prefix))):
        if prefix[at] < 0xFF:
            return prefix[:at] + bytes([prefix[at] + 1])
    return b"\0"


class Client:
    """etcd's KV, Lease, Watch, Cluster and Maintenance. Close it when done."""

    def __init__(
        self, endpoints: Sequence[str], *, ca_file: str = "", cert_file: str = "", key_file: str = "", timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self._channels = Channels(endpoints, ca_file, cert_file, key_file)
        self._timeout_s = timeout_s

    async def close(self) -> None:
        await self._channels.close()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _call(self, method: str, request: Any, response: Any, *, idempotent: bool) -> Any:
        """One unary call. Until RECONNECT_S have passed it is tried again wherever that is safe."""
        body = request.SerializeToString()
        failures = 0
        give_up = 0.0
        while True:
            at = self._channels.current
            try:
                return response.FromString(await self._channels.unary(at, method)(body, timeout=self._timeout_s))
            except grpc.aio.AioRpcError as error:
                failure = from_grpc(error)
                if failure.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                    self._channels.leave(at)
                if failure.code is not Code.UNAVAILABLE or not (idempotent or failure.never_sent):
                    raise failure from error
                now = SYSTEM_CLOCK.monotonic()
                give_up = give_up or now + min(RECONNECT_S, self._timeout_s)
                if now >= give_up:
                    raise failure from error
            failures += 1
            if failures >= len(self._channels):
                # Every endpoint has had its turn: a member that restarts needs a moment.
                await asyncio.sleep(_RETRY.delay(failures - len(self._channels)))

    async def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        limit: int = 0,
        revision: int = 0,
        serializable: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        **more: Any,
    ) -> pb.RangeResponse:
        """Read; linearizable unless `serializable`. `more` are further fields of RangeRequest."""
        request = pb.RangeRequest(
            key=key,
            range_end=range_end,
            limit=limit,
            revision=revision,
            serializable=serializable,
            keys_only=keys_only,
            count_only=count_only,
            **more,
        )
        answer: pb.RangeResponse = await self._call("/etcdserverpb.KV/Range", request, pb.RangeResponse, idempotent=True)
        return answer

    async def put(self, key: bytes, value: bytes, *, lease: int = 0, prev_kv: bool = False) -> pb.PutResponse:
        request = pb.PutRequest(key=key, value=value, lease=lease, prev_kv=prev_kv)
        answer: pb.PutResponse = await self._call("/etcdserverpb.KV/Put", request, pb.PutResponse, idempotent=False)
        return answer

    async def delete(self, key: bytes, range_end: bytes = b"", *, prev_kv: bool = False) -> pb.DeleteRangeResponse:
        request = pb.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=prev_kv)
        answer: pb.DeleteRangeResponse = await self._call("/etcdserverpb.KV/DeleteRange", request, pb.DeleteRangeResponse, idempotent=False)
        return answer

    async def txn(self, request: pb.TxnRequest) -> pb.TxnResponse:
        """A transaction, as etcd's own message (build it with `compare_mod` and the Request* messages)."""
        answer: pb.TxnResponse = await self._call("/etcdserverpb.KV/Txn", request, pb.TxnResponse, idempotent=False)
        return answer

    async def put_if(self, key: bytes, value: bytes, mod_revision: int, *, lease: int = 0) -> pb.TxnResponse:
        """Put if the key's mod_revision is still this one (0: the key does not exist); otherwise the answer carries the key as it is."""
        put = pb.PutRequest(key=key, value=value, lease=lease)
        return await self.txn(_guarded(key, mod_revision, pb.RequestOp(request_put=put)))

    async def delete_if(self, key: bytes, mod_revision: int) -> pb.TxnResponse:
        """Delete if the key's mod_revision is still this one; otherwise the answer carries the key as it is."""
        delete = pb.DeleteRangeRequest(key=key, prev_kv=True)
        return await self.txn(_guarded(key, mod_revision, pb.RequestOp(request_delete_range=delete)))

    async def compact(self, revision: int, *, physical: bool = False) -> pb.CompactionResponse:
        request = pb.CompactionRequest(revision=revision, physical=physical)
        answer: pb.CompactionResponse = await self._call("/etcdserverpb.KV/Compact", request, pb.CompactionResponse, idempotent=False)
        return answer

    def watch(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        start_revision: int = 0,
        prev_kv: bool = False,
        progress_notify: bool = False,
        filters: Sequence[int] = (),
        on_created: Callable[[pb.WatchResponse], Awaitable[None]] | None = None,
    ) -> Watcher:
        """Events from `start_revision` on (0: from now), in order, none twice, across failures of servers."""
        request = pb.WatchCreateRequest(
            key=key,
            range_end=range_end,
            start_revision=start_revision,
            prev_kv=prev_kv,
            progress_notify=progress_notify,
            filters=list(filters),  # type: ignore[arg-type]
        )
        return Watcher(self._channels, request, on_created)

    async def lease_grant(self, ttl_s: int, lease_id: int = 0) -> pb.LeaseGrantResponse:
        request = pb.LeaseGrantRequest(TTL=ttl_s, ID=lease_id)
        answer: pb.LeaseGrantResponse = await self._call("/etcdserverpb.Lease/LeaseGrant", request, pb.LeaseGrantResponse, idempotent=False)
        return answer

    async def lease_revoke(self, lease_id: int) -> pb.LeaseRevokeResponse:
        request = pb.LeaseRevokeRequest(ID=lease_id)
        answer: pb.LeaseRevokeResponse = await self._call("/etcdserverpb.Lease/LeaseRevoke", request, pb.LeaseRevokeResponse, idempotent=False)
        return answer

    async def lease_keep_alive_once(self, lease_id: int) -> int:
        """Renew once; answers the new TTL, 0 when the lease is gone."""
        at = self._channels.current
        call = self._channels.stream(at, "/etcdserverpb.Lease/LeaseKeepAlive")(timeout=self._timeout_s)
        try:
            await call.write(pb.LeaseKeepAliveRequest(ID=lease_id).SerializeToString())
            body = await call.read()
        except grpc.aio.AioRpcError as error:
            self._channels.leave(at)
            raise from_grpc(error) from error
        finally:
            call.cancel()
        if body is grpc.aio.EOF:
            raise EtcdError(Code.UNAVAILABLE, "etcdclient: no keep alive response", definite=False)
        return int(pb.LeaseKeepAliveResponse.FromString(body).TTL)

    async def member_list(self) -> pb.MemberListResponse:
        answer: pb.MemberListResponse = await self._call(
            "/etcdserverpb.Cluster/MemberList", pb.MemberListRequest(linearizable=True), pb.MemberListResponse, idempotent=True
        )
        return answer

    async def member_add(self, peer_urls: Sequence[str], *, is_learner: bool = False) -> pb.MemberAddResponse:
        request = pb.MemberAddRequest(peerURLs=list(peer_urls), isLearner=is_learner)
        answer: pb.MemberAddResponse = await self._call("/etcdserverpb.Cluster/MemberAdd", request, pb.MemberAddResponse, idempotent=False)
        return answer

    async def member_promote(self, member_id: int) -> pb.MemberPromoteResponse:
        request = pb.MemberPromoteRequest(ID=member_id)
        answer: pb.MemberPromoteResponse = await self._call(
            "/etcdserverpb.Cluster/MemberPromote", request, pb.MemberPromoteResponse, idempotent=False
        )
        return answer

    async def member_remove(self, member_id: int) -> pb.MemberRemoveResponse:
        request = pb.MemberRemoveRequest(ID=member_id)
        answer: pb.MemberRemoveResponse = await self._call("/etcdserverpb.Cluster/MemberRemove", request, pb.MemberRemoveResponse, idempotent=False)
        return answer

    async def status(self) -> pb.StatusResponse:
        """The status of the endpoint that is in use."""
        answer: pb.StatusResponse = await self._call("/etcdserverpb.Maintenance/Status", pb.StatusRequest(), pb.StatusResponse, idempotent=True)
        return answer


def compare_mod(key: bytes, mod_revision: int) -> pb.Compare:
    """True when the key's mod_revision is this one; 0 means that it does not exist."""
    return pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.MOD, key=key, mod_revision=mod_revision)


def _guarded(key: bytes, mod_revision: int, operation: pb.RequestOp) -> pb.TxnRequest:
    read = pb.RequestOp(request_range=pb.RangeRequest(key=key))
    return pb.TxnRequest(compare=[compare_mod(key, mod_revision)], success=[operation], failure=[read])
