"""Single calls of etcd's API, asked once: what fails has failed. (The API server's client tries again, which faults must not be hidden by.)"""

from typing import Any

import grpc
import grpc.aio

from kubette.etcd_api import rpc_pb2 as pb

CallError = grpc.aio.AioRpcError
TIMEOUT_S = 8.0


class Calls:
    """To one member; an async context manager."""

    def __init__(self, url: str) -> None:
        self._channel = grpc.aio.insecure_channel(url.removeprefix("http://"), options=[("grpc.max_send_message_length", -1)])

    async def __aenter__(self) -> "Calls":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def raw(self, method: str, body: bytes) -> bytes:
        """Any bytes as a request. Raises CallError."""
        answer: bytes = await self._channel.unary_unary(f"/etcdserverpb.{method}")(body, timeout=TIMEOUT_S)
        return answer

    async def code(self, method: str, body: bytes) -> grpc.StatusCode:
        """How it ends."""
        try:
            await self.raw(method, body)
        except CallError as error:
            return error.code()
        return grpc.StatusCode.OK

    async def call(self, method: str, request: Any, answer: Any) -> Any:
        return answer.FromString(await self.raw(method, request.SerializeToString()))

    async def put(self, key: bytes, value: bytes, lease: int = 0) -> pb.PutResponse:
        return await self.call("KV/Put", pb.PutRequest(key=key, value=value, lease=lease), pb.PutResponse)  # type: ignore[no-any-return]

    async def get(self, key: bytes) -> pb.RangeResponse:
        return await self.call("KV/Range", pb.RangeRequest(key=key), pb.RangeResponse)  # type: ignore[no-any-return]

    async def compact(self, revision: int) -> None:
        await self.call("KV/Compact", pb.CompactionRequest(revision=revision), pb.CompactionResponse)

    async def grant(self, ttl_s: int) -> int:
        return (await self.call("Lease/LeaseGrant", pb.LeaseGrantRequest(TTL=ttl_s), pb.LeaseGrantResponse)).ID  # type: ignore[no-any-return]

    async def revoke(self, lease: int) -> None:
        await self.call("Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=lease), pb.LeaseRevokeResponse)

    async def defragment(self) -> None:
        await self.call("Maintenance/Defragment", pb.DefragmentRequest(), pb.DefragmentResponse)

    async def add_learner(self, peer_url: str) -> int:
        answer = await self.call("Cluster/MemberAdd", pb.MemberAddRequest(peerURLs=[peer_url], isLearner=True), pb.MemberAddResponse)
        return answer.member.ID  # type: ignore[no-any-return]

    async def learners(self) -> list[int]:
        answer = await self.call("Cluster/MemberList", pb.MemberListRequest(), pb.MemberListResponse)
        return [member.ID for member in answer.members if member.isLearner]

    async def remove(self, member: int) -> None:
        await self.call("Cluster/MemberRemove", pb.MemberRemoveRequest(ID=member), pb.MemberRemoveResponse)
