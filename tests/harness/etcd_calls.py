"""Single calls of etcd's API, asked once: what fails has failed. (The API server's client tries again, which faults must not be hidden by.)"""

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio

from kubette.etcd_api import rpc_pb2 as pb

CallError = grpc.aio.AioRpcError
TIMEOUT_S = 8.0
# A member that comes back is found at once.
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
]


class Calls:
    """To one member; an async context manager."""

    def __init__(self, url: str) -> None:
        self._channel = grpc.aio.insecure_channel(url.removeprefix("http://"), options=_OPTIONS)

    async def __aenter__(self) -> "Calls":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def raw(self, method: str, body: bytes, timeout_s: float = TIMEOUT_S) -> bytes:
        """Any bytes as a request. Raises CallError."""
        answer: bytes = await self._channel.unary_unary(f"/etcdserverpb.{method}")(body, timeout=timeout_s)
        return answer

    async def code(self, method: str, body: bytes) -> grpc.StatusCode:
        """How it ends."""
        try:
            await self.raw(method, body)
        except CallError as error:
            return error.code()
        return grpc.StatusCode.OK

    async def call(self, method: str, request: Any, answer: Any, timeout_s: float = TIMEOUT_S) -> Any:
        return answer.FromString(await self.raw(method, request.SerializeToString(), timeout_s))

    async def put(self, key: bytes, value: bytes, lease: int = 0, timeout_s: float = TIMEOUT_S) -> pb.PutResponse:
        return await self.call("KV/Put", pb.PutRequest(key=key, value=value, lease=lease), pb.PutResponse, timeout_s)  # type: ignore[no-any-return]

    async def get(self, key: bytes, timeout_s: float = TIMEOUT_S, serializable: bool = False) -> pb.RangeResponse:
        return await self.range(key, timeout_s=timeout_s, serializable=serializable)

    async def range(
        self, key: bytes, range_end: bytes = b"", revision: int = 0, serializable: bool = False, timeout_s: float = TIMEOUT_S
    ) -> pb.RangeResponse:
        request = pb.RangeRequest(key=key, range_end=range_end, revision=revision, serializable=serializable)
        return await self.call("KV/Range", request, pb.RangeResponse, timeout_s)  # type: ignore[no-any-return]

    async def delete(self, key: bytes, range_end: bytes = b"", timeout_s: float = TIMEOUT_S) -> pb.DeleteRangeResponse:
        request = pb.DeleteRangeRequest(key=key, range_end=range_end)
        return await self.call("KV/DeleteRange", request, pb.DeleteRangeResponse, timeout_s)  # type: ignore[no-any-return]

    async def txn(
        self, compare: Sequence[pb.Compare], success: Sequence[pb.RequestOp], failure: Sequence[pb.RequestOp] = (), timeout_s: float = TIMEOUT_S
    ) -> pb.TxnResponse:
        request = pb.TxnRequest(compare=compare, success=success, failure=failure)
        return await self.call("KV/Txn", request, pb.TxnResponse, timeout_s)  # type: ignore[no-any-return]

    async def compact(self, revision: int) -> None:
        await self.call("KV/Compact", pb.CompactionRequest(revision=revision), pb.CompactionResponse)

    async def grant(self, ttl_s: int) -> int:
        return (await self.call("Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=ttl_s), pb.LeaseGrantResponse)).ID  # type: ignore[no-any-return]

    async def revoke(self, lease: int) -> None:
        await self.call("Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=lease), pb.LeaseRevokeResponse)

    async def keep_alive(self, lease: int) -> int:
        """Once; the TTL it has now, 0 when it is gone."""
        stream = self._channel.stream_stream("/etcdserverpb.Lease/LeaseKeepAlive")(timeout=TIMEOUT_S)
        await stream.write(pb.LeaseKeepAliveRequest(ID=lease).SerializeToString())
        answer = pb.LeaseKeepAliveResponse.FromString(await stream.read())
        stream.cancel()
        return answer.TTL

    def watch(self) -> Any:
        """A stream of watch requests and answers, both as bytes."""
        return self._channel.stream_stream("/etcdserverpb.Watch/Watch")()

    async def defragment(self) -> None:
        await self.call("Maintenance/Defragment", pb.DefragmentRequest(), pb.DefragmentResponse)

    async def snapshot(self) -> bytes:
        """What `etcdctl snapshot save` writes into its file."""
        stream = self._channel.unary_stream("/etcdserverpb.Maintenance/Snapshot")(pb.SnapshotRequest().SerializeToString())
        return b"".join([pb.SnapshotResponse.FromString(part).blob async for part in stream])

    async def add_member(self, peer_url: str, is_learner: bool = False) -> int:
        answer = await self.call("Cluster/MemberAdd", pb.MemberAddRequest(peerURLs=[peer_url], isLearner=is_learner), pb.MemberAddResponse)
        return answer.member.ID  # type: ignore[no-any-return]

    async def add_learner(self, peer_url: str) -> int:
        return await self.add_member(peer_url, is_learner=True)

    async def learners(self) -> list[int]:
        answer = await self.call("Cluster/MemberList", pb.MemberListRequest(), pb.MemberListResponse)
        return [member.ID for member in answer.members if member.isLearner]

    async def remove(self, member: int) -> None:
        await self.call("Cluster/MemberRemove", pb.MemberRemoveRequest(ID=member), pb.MemberRemoveResponse)

    async def move_leader(self, target: int) -> None:
        await self.call("Maintenance/MoveLeader", pb.MoveLeaderRequest(targetID=target), pb.MoveLeaderResponse)
