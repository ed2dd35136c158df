"""The Cluster service: who is a member, and changes of that, one at a time, checked as upstream's strict reconfiguration does."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from kubette.etcd import membership
from kubette.etcd.membership import Member, MembershipError
from kubette.etcd.rim.grpc import Method
from kubette.etcd.server import Server
from kubette.etcd.wire import bytes_field
from kubette.etcd_api import errors, raft_pb2
from kubette.etcd_api import rpc_pb2 as pb
from kubette.raft.messages import ConfChange, ConfChangeType

LEARNER_READY = 0.9  # of the leader's log must have arrived (upstream's readyPercentThreshold)


class Cluster:
    """One instance a server. `forward` asks the leader: path and body; `is_connected` tells whether a member is heard of."""

    def __init__(
        self,
        server: Server,
        token: str,
        forward: Callable[[str, bytes], Awaitable[bytes]],
        strict: bool,
        is_connected: Callable[[int], bool] = lambda node: True,
    ) -> None:
        self._server = server
        self._token = token
        self._forward = forward
        self._strict = strict
        self._is_connected = is_connected

    def methods(self) -> dict[bytes, Method]:
        return {
            b"/etcdserverpb.Cluster/MemberAdd": Method(self.add),
            b"/etcdserverpb.Cluster/MemberRemove": Method(self.remove),
            b"/etcdserverpb.Cluster/MemberUpdate": Method(self.update),
            b"/etcdserverpb.Cluster/MemberList": Method(self.list),
            b"/etcdserverpb.Cluster/MemberPromote": Method(self.promote),
        }

    def _members(self) -> list[pb.Member]:
        return [_message(member) for member in self._server.state.membership.sorted()]

    def _with_members(self) -> bytes:
        return bytes_field(1, self._server.header_now()) + b"".join(bytes_field(2, each.SerializeToString()) for each in self._members())

    async def list(self, body: bytes) -> bytes:
        if pb.MemberListRequest.FromString(body).linearizable:
            await self._server.linearizable()
        return self._with_members()

    async def add(self, body: bytes) -> bytes:
        self._server.check_admin()
        request = pb.MemberAddRequest.FromString(body)
        urls = _checked_urls(request.peerURLs)
        now = int(self._server.clock.wall())
        member = Member(membership.member_id(urls, self._token, now), urls, is_learner=request.isLearner)
        _checked(lambda: self._server.state.membership.check_add(member))
        if self._strict:
            if not member.is_learner:
                self._check_started()
            voters = self._server.state.membership.voters()
            if self._connected(voters) < len(voters):
                raise errors.error(errors.UNHEALTHY)
        kind = ConfChangeType.ADD_LEARNER_NODE if member.is_learner else ConfChangeType.ADD_NODE
        await self._change(kind, member.id, membership.to_json(member))
        answer = pb.MemberAddResponse(member=_message(member), members=self._members())
        return bytes_field(1, self._server.header_now()) + answer.SerializeToString()

    def _check_started(self) -> None:
        """A quorum of the members after the change must be running, or the cluster could not go on."""
        voters = self._server.state.membership.voters()
        started = sum(member.started for member in voters)
        total = len(voters) + 1
        if started == 1 and total == 2:
            return  # the only way from one member to two
        if started < total // 2 + 1:
            raise errors.error(errors.MEMBER_NOT_ENOUGH_STARTED)

    def _is_there(self, node: int) -> bool:
        return node == self._server.member_id or self._is_connected(node)

    def _connected(self, members: Sequence[Member]) -> int:
        """How many of them can be reached now. (Upstream wants them to have been so for five seconds.)"""
        return sum(self._is_there(member.id) for member in members)

    async def remove(self, body: bytes) -> bytes:
        self._server.check_admin()
        node = pb.MemberRemoveRequest.FromString(body).ID
        members = self._server.state.membership
        _checked(lambda: members.check_remove(node))
        voters = members.voters()
        if self._strict and not members.members[node].is_learner:
            left = [member for member in voters if member.id != node]
            if not left or sum(member.started for member in left) < len(left) // 2 + 1:
                raise errors.error(errors.MEMBER_NOT_ENOUGH_STARTED)
            # One that is away can go; one that is there only if the majority that is left is there as well.
            if self._is_there(node) and self._connected(left) < len(left) // 2 + 1:
                raise errors.error(errors.UNHEALTHY)
        await self._change(ConfChangeType.REMOVE_NODE, node, b"")
        return self._with_members()

    async def update(self, body: bytes) -> bytes:
        self._server.check_admin()
        request = pb.MemberUpdateRequest.FromString(body)
        _checked(lambda: self._server.state.membership.check_update(request.ID, ()))
        urls = _checked_urls(request.peerURLs)
        _checked(lambda: self._server.state.membership.check_update(request.ID, urls))
        await self._change(ConfChangeType.UPDATE_NODE, request.ID, membership.to_json(Member(request.ID, urls)))
        return self._with_members()

    async def promote(self, body: bytes) -> bytes:
        self._server.check_admin()
        node = pb.MemberPromoteRequest.FromString(body).ID
        if not self._server.is_leader:
            if not self._server.lead:
                raise errors.error(errors.NO_LEADER)
            # Only the leader knows how far the learner is.
            try:
                await self._forward(f"/members/promote/{node}", b"")
            except (OSError, TimeoutError) as error:
                raise errors.error(errors.TIMEOUT) from error
            for _ in range(100):
                known = self._server.state.membership.members.get(node)
                if known is not None and not known.is_learner:
                    break
                await asyncio.sleep(0.02)
            return self._with_members()
        await self.promote_as_leader(node)
        return self._with_members()

    async def promote_as_leader(self, node: int) -> None:
        """Make a voter of a learner that is in step."""
        members = self._server.state.membership
        _checked(lambda: members.check_promote(node))
        progress = self._server.node.raft.tracker.progress
        leader = progress.get(self._server.member_id)
        learner = progress.get(node)
        if leader is None or learner is None or learner.match < leader.match * LEARNER_READY:
            raise errors.error(errors.LEARNER_NOT_READY)
        await self._change(ConfChangeType.ADD_NODE, node, membership.promotion_context(members.members[node]))
        self._server.measures.counts["learner_promotions"] += 1

    async def _change(self, kind: ConfChangeType, node: int, context: bytes) -> None:
        change_id = self._server.new_change_id()
        message = raft_pb2.ConfChange(id=change_id, type=int(kind), node_id=node)  # type: ignore[arg-type]
        if context:
            message.context = context
        await self._server.propose_conf_change(ConfChange(((kind, node),)), message.SerializeToString(), change_id)


def _message(member: Member) -> pb.Member:
    return pb.Member(ID=member.id, name=member.name, peerURLs=member.peer_urls, clientURLs=member.client_urls, isLearner=member.is_learner)


def _checked_urls(urls: Sequence[str]) -> tuple[str, ...]:
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "unix", "unixs") or not parts.netloc or parts.path not in ("", "/"):
            raise errors.error(errors.MEMBER_BAD_URLS)
    if not urls:
        raise errors.error(errors.MEMBER_BAD_URLS)
    return tuple(sorted(urls))


def _checked(check: Callable[[], None]) -> None:
    try:
        check()
    except MembershipError as error:
        raise errors.error(getattr(errors, error.kind)) from None
