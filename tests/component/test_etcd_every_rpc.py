"""Every method of the v3 API, found by its descriptors, called on our etcd and on the real 3.4 with requests good and bad: codes, texts and answers are equal.

Then random sequences of reads, writes, transactions, compactions and leases on both, seeded, each answer compared, and a watch over all of it.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from harness import etcd_processes as etcd
from harness.etcd_processes import OURS, REAL
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api import v3election_pb2 as election
from kubette.etcd_api import v3lock_pb2 as lock
from kubette.etcd_api.auth_pb2 import Permission, UserAddOptions

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd")]

TIMEOUT_S = 30.0
SERVICES = {each.full_name: each for file in (pb, lock, election) for each in file.DESCRIPTOR.services_by_name.values()}
METHODS = {f"{service.name}/{method.name}": (name, method) for name, service in SERVICES.items() for method in service.methods}
# What the real 3.4 has not: that it says so is all that is compared.
NEWER = {"Auth/AuthStatus": "since 3.5", "Maintenance/Downgrade": "since 3.5"}
# What later releases refuse and 3.4 does not look at (an unknown sort_target even ends it): these must be refused by ours.
REFUSED = {
    "KV/Range: sort_order": ("KV/Range", pb.RangeRequest(key=b"k", sort_order=7), "INVALID_ARGUMENT", "etcdserver: invalid sort option"),
    "KV/Range: sort_target": ("KV/Range", pb.RangeRequest(key=b"k", sort_target=7), "INVALID_ARGUMENT", "etcdserver: invalid sort option"),
    "Auth/RoleGrantPermission: nothing": ("Auth/RoleGrantPermission", pb.AuthRoleGrantPermissionRequest(), "INVALID_ARGUMENT", "etcdserver: permission not given"),
    # Upstream takes any text for an address until it dials it.
    "Cluster/MemberUpdate: no URL": ("Cluster/MemberUpdate", pb.MemberUpdateRequest(ID=0x1234567887654321, peerURLs=["nonsense"]), "INVALID_ARGUMENT", "etcdserver: given member URLs are invalid"),
}  # fmt: skip
# What differs from server to server, whatever its number.
_OWN = frozenset(
    (
        *("clusterId", "memberId", "raftTerm", "leader", "raftIndex", "raftAppliedIndex", "dbSize", "dbSizeInUse", "hash", "token", "blob"),
        *("peerURLs", "clientURLs"),
    )
)
# Fields that came after 3.4, and methods whose answer has no (whole) header there.
_NEWER_FIELDS = frozenset(("storageVersion", "dbSizeQuota", "downgradeInfo", "hashRevision", "remainingBytes"))
_WITHOUT_HEADER = ("Cluster/MemberList", "Maintenance/Alarm", "Maintenance/Defragment", "Maintenance/MoveLeader", "Maintenance/Snapshot")


@dataclass
class Side:
    """One server, and what its answers have said so far."""

    channel: grpc.Channel
    member: int = 0
    token: str = ""
    metadata: list[tuple[str, str]] = field(default_factory=list)

    def call(self, name: str, request: Message) -> tuple[Any, ...]:
        """The answer without what is the server's own, or code and text."""
        service, method = METHODS[name]
        kind = message_factory.GetMessageClass(method.output_type)
        path = f"/{service}/{method.name}"
        sides = ("stream" if method.client_streaming else "unary", "stream" if method.server_streaming else "unary")
        stub = getattr(self.channel, "_".join(sides))(
            path, request_serializer=lambda each: each.SerializeToString(), response_deserializer=kind.FromString
        )
        metadata = [("token", self.token)] if self.token else []
        try:
            answers = stub(iter((request,)) if method.client_streaming else request, timeout=TIMEOUT_S, metadata=metadata)
            answer = next(answers) if method.server_streaming else answers
            if method.server_streaming:
                answers.cancel()
        except grpc.RpcError as error:
            return error.code().name, error.details()
        if name == "Auth/Authenticate":
            self.token = answer.token
        document = _without_own(MessageToDict(answer), self.member)
        if name in _WITHOUT_HEADER:
            document.pop("header", None)
        if name in ("Maintenance/Status", "Maintenance/Snapshot"):
            document.pop("version", None)
        return "OK", document


def _without_own(value: Any, member: int) -> Any:
    if isinstance(value, dict):
        return {name: "OWN" if name in _OWN else _without_own(each, member) for name, each in value.items() if name not in _NEWER_FIELDS}
    if isinstance(value, list):
        return [_without_own(each, member) for each in value]
    return "MEMBER" if value == str(member) else value


@dataclass
class Pair:
    """Both servers."""

    ours: Side
    real: Side

    def both(self, name: str, request: Message) -> tuple[Any, ...]:
        """The real one's answer, which ours must be too."""
        real, ours = self.real.call(name, _own(request, self.real)), self.ours.call(name, _own(request, self.ours))
        assert ours == real, f"{name}({request}): ours {ours}, real {real}"
        return real


_MEMBER = 0x1234567887654321  # stands for the server's own id


def _own(request: Message, side: Side) -> Message:
    """The request with the server's own id where it is meant."""
    mine = type(request)()
    mine.CopyFrom(request)
    for descriptor, value in mine.ListFields():
        if value == _MEMBER:
            setattr(mine, descriptor.name, side.member)
    return mine


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with (
        etcd.serving(OURS, tmp_path / "ours", etcd.free_ports(2)) as ours,
        etcd.serving(REAL, tmp_path / "real", etcd.free_ports(2)) as real,
        grpc.insecure_channel(ours.url.removeprefix("http://")) as one,
        grpc.insecure_channel(real.url.removeprefix("http://")) as other,
    ):
        sides = Side(one), Side(other)
        for side in sides:
            kind = pb.RangeResponse.FromString
            stub = side.channel.unary_unary(
                "/etcdserverpb.KV/Range", request_serializer=pb.RangeRequest.SerializeToString, response_deserializer=kind
            )
            side.member = stub(pb.RangeRequest(key=b"x"), timeout=TIMEOUT_S, wait_for_ready=True).header.member_id
        yield Pair(*sides)


def _put(key: bytes, value: bytes = b"v", **more: Any) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, **more))


def _get(key: bytes, **more: Any) -> pb.RequestOp:
    return pb.RequestOp(request_range=pb.RangeRequest(key=key, **more))


def _delete(key: bytes, **more: Any) -> pb.RequestOp:
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key, **more))


_READ = Permission(permType=Permission.READWRITE, key=b"k", range_end=b"l")
_PEERS = ["http://127.0.0.1:1"]
# In this order: what one leaves behind the next ones find.
CALLS: tuple[tuple[str, Message], ...] = (
    ("KV/Put", pb.PutRequest(key=b"k", value=b"1")),
    ("KV/Put", pb.PutRequest(key=b"k", value=b"2", prev_kv=True)),
    ("KV/Put", pb.PutRequest(key=b"k", ignore_value=True, prev_kv=True)),
    ("KV/Put", pb.PutRequest(key=b"k", value=b"x", ignore_value=True)),
    ("KV/Put", pb.PutRequest(key=b"k", lease=7, ignore_lease=True)),
    ("KV/Put", pb.PutRequest(key=b"none", ignore_value=True)),
    ("KV/Put", pb.PutRequest(key=b"k", lease=99)),
    ("KV/Put", pb.PutRequest(key=b"k", value=b"x" * (2 << 20))),
    ("KV/Put", pb.PutRequest(key=b"k\0", value=b"")),
    ("KV/Range", pb.RangeRequest(key=b"k")),
    ("KV/Range", pb.RangeRequest(key=b"\0", range_end=b"\0", limit=1)),
    ("KV/Range", pb.RangeRequest(key=b"k", revision=2)),
    ("KV/Range", pb.RangeRequest(key=b"k", revision=99)),
    ("KV/Range", pb.RangeRequest(key=b"k", revision=-1)),
    ("KV/Range", pb.RangeRequest(key=b"z", range_end=b"a")),
    ("KV/Range", pb.RangeRequest(key=b"k", range_end=b"l", sort_order=pb.RangeRequest.DESCEND, sort_target=pb.RangeRequest.MOD, keys_only=True)),
    ("KV/Range", pb.RangeRequest(key=b"k", range_end=b"l", count_only=True, serializable=True)),
    ("KV/Range", pb.RangeRequest(key=b"k", range_end=b"l", min_mod_revision=3, max_create_revision=4)),
    ("KV/DeleteRange", pb.DeleteRangeRequest(key=b"k\0", prev_kv=True)),
    ("KV/DeleteRange", pb.DeleteRangeRequest(key=b"none")),
    ("KV/Txn", pb.TxnRequest(success=[_put(b"t"), _get(b"t"), _delete(b"t2")])),
    ("KV/Txn", pb.TxnRequest(success=[_put(b"t"), _put(b"t")])),
    ("KV/Txn", pb.TxnRequest(success=[_put(b"t"), _delete(b"a", range_end=b"z")])),
    ("KV/Txn", pb.TxnRequest(success=[pb.RequestOp()])),
    ("KV/Txn", pb.TxnRequest(success=[_put(b"")])),
    ("KV/Txn", pb.TxnRequest(success=[_put(b"x", lease=99)])),
    ("KV/Txn", pb.TxnRequest(success=[_get(b"x", revision=99)])),
    ("KV/Txn", pb.TxnRequest(success=[_put(b"%d" % number) for number in range(200)])),
    ("KV/Txn", pb.TxnRequest(compare=[pb.Compare()])),
    ("KV/Txn", pb.TxnRequest(compare=[pb.Compare(key=b"t", target=pb.Compare.VALUE, value=b"v")], success=[_get(b"t")], failure=[_get(b"k")])),
    ("KV/Txn", pb.TxnRequest(compare=[pb.Compare(key=b"k", range_end=b"l", target=pb.Compare.MOD, result=pb.Compare.GREATER, mod_revision=2)], success=[_put(b"r")])),
    ("KV/Txn", pb.TxnRequest(success=[pb.RequestOp(request_txn=pb.TxnRequest(success=[_put(b"n"), _get(b"n")])), _get(b"n")])),
    ("KV/Txn", pb.TxnRequest(success=[pb.RequestOp(request_txn=pb.TxnRequest(success=[_put(b"n")])), _put(b"n")])),
    ("KV/Compact", pb.CompactionRequest(revision=3)),
    ("KV/Compact", pb.CompactionRequest(revision=3)),
    ("KV/Compact", pb.CompactionRequest(revision=99)),
    ("KV/Compact", pb.CompactionRequest(revision=-1)),
    ("KV/Compact", pb.CompactionRequest(revision=4, physical=True)),
    ("KV/Range", pb.RangeRequest(key=b"k", revision=2)),
    ("KV/Txn", pb.TxnRequest(success=[_get(b"k", revision=2)])),
    ("Watch/Watch", pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k"))),
    ("Watch/Watch", pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k", range_end=b"l", start_revision=5, watch_id=8))),
    ("Watch/Watch", pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"z", range_end=b"a"))),
    ("Lease/LeaseGrant", pb.LeaseGrantRequest(ID=7, TTL=5000)),
    ("Lease/LeaseGrant", pb.LeaseGrantRequest(ID=7, TTL=5000)),
    ("Lease/LeaseGrant", pb.LeaseGrantRequest(ID=8, TTL=1 << 40)),
    ("Lease/LeaseGrant", pb.LeaseGrantRequest(ID=9, TTL=1)),
    ("KV/Put", pb.PutRequest(key=b"leased", value=b"1", lease=7)),
    ("KV/Put", pb.PutRequest(key=b"leased", value=b"2", ignore_lease=True, prev_kv=True)),
    ("Lease/LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=99)),
    ("Lease/LeaseKeepAlive", pb.LeaseKeepAliveRequest(ID=7)),
    ("Lease/LeaseKeepAlive", pb.LeaseKeepAliveRequest(ID=99)),
    ("Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=9)),
    ("Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=99)),
    ("Lease/LeaseLeases", pb.LeaseLeasesRequest()),
    ("Cluster/MemberAdd", pb.MemberAddRequest(peerURLs=["nonsense"])),
    ("Cluster/MemberRemove", pb.MemberRemoveRequest(ID=99)),
    ("Cluster/MemberUpdate", pb.MemberUpdateRequest(ID=99, peerURLs=_PEERS)),
    ("Cluster/MemberPromote", pb.MemberPromoteRequest(ID=99)),
    ("Cluster/MemberPromote", pb.MemberPromoteRequest(ID=_MEMBER)),
    ("Maintenance/Alarm", pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, alarm=pb.NOSPACE, memberID=_MEMBER)),
    ("Maintenance/Alarm", pb.AlarmRequest(action=pb.AlarmRequest.GET)),
    ("KV/Put", pb.PutRequest(key=b"k", value=b"full")),
    ("KV/Txn", pb.TxnRequest(success=[_put(b"k")])),
    ("KV/DeleteRange", pb.DeleteRangeRequest(key=b"r")),
    ("Lease/LeaseGrant", pb.LeaseGrantRequest(ID=10, TTL=5000)),
    ("Maintenance/Alarm", pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, alarm=pb.NOSPACE, memberID=_MEMBER)),
    ("Maintenance/Hash", pb.HashRequest()),
    ("Maintenance/HashKV", pb.HashKVRequest(revision=99)),
    ("Maintenance/HashKV", pb.HashKVRequest(revision=2)),
    ("Maintenance/Snapshot", pb.SnapshotRequest()),
    ("Maintenance/MoveLeader", pb.MoveLeaderRequest(targetID=99)),
    ("Maintenance/MoveLeader", pb.MoveLeaderRequest(targetID=_MEMBER)),
    ("Lock/Lock", lock.LockRequest(name=b"l", lease=7)),
    ("Lock/Lock", lock.LockRequest(name=b"l", lease=99)),
    ("Lock/Unlock", lock.UnlockRequest(key=b"l/7")),
    ("Lock/Unlock", lock.UnlockRequest(key=b"none")),
    ("Election/Leader", election.LeaderRequest(name=b"e")),
    ("Election/Campaign", election.CampaignRequest(name=b"e", lease=7, value=b"me")),
    ("Election/Campaign", election.CampaignRequest(name=b"e", lease=99, value=b"me")),
    ("Election/Leader", election.LeaderRequest(name=b"e")),
    ("Election/Observe", election.LeaderRequest(name=b"e")),
    ("Election/Proclaim", election.ProclaimRequest(leader=election.LeaderKey(name=b"e", key=b"e/7", rev=1, lease=7), value=b"x")),
    ("Election/Resign", election.ResignRequest(leader=election.LeaderKey(name=b"e", key=b"e/7", rev=1, lease=7))),
    ("Auth/UserAdd", pb.AuthUserAddRequest(name="u", password="pw")),
    ("Auth/UserAdd", pb.AuthUserAddRequest(name="u", password="pw")),
    ("Auth/UserAdd", pb.AuthUserAddRequest(name="cert", options=UserAddOptions(no_password=True))),
    ("Auth/UserGet", pb.AuthUserGetRequest(name="u")),
    ("Auth/UserGet", pb.AuthUserGetRequest(name="none")),
    ("Auth/UserChangePassword", pb.AuthUserChangePasswordRequest(name="u", password="pw2")),
    ("Auth/UserChangePassword", pb.AuthUserChangePasswordRequest(name="none", password="pw")),
    ("Auth/RoleAdd", pb.AuthRoleAddRequest(name="r")),
    ("Auth/RoleAdd", pb.AuthRoleAddRequest(name="r")),
    ("Auth/RoleGrantPermission", pb.AuthRoleGrantPermissionRequest(name="r", perm=_READ)),
    ("Auth/RoleGrantPermission", pb.AuthRoleGrantPermissionRequest(name="none", perm=_READ)),
    ("Auth/RoleGet", pb.AuthRoleGetRequest(role="r")),
    ("Auth/RoleGet", pb.AuthRoleGetRequest(role="none")),
    ("Auth/RoleRevokePermission", pb.AuthRoleRevokePermissionRequest(role="r", key=b"none")),
    ("Auth/UserGrantRole", pb.AuthUserGrantRoleRequest(user="u", role="r")),
    ("Auth/UserGrantRole", pb.AuthUserGrantRoleRequest(user="u", role="none")),
    ("Auth/UserGrantRole", pb.AuthUserGrantRoleRequest(user="none", role="r")),
    ("Auth/UserRevokeRole", pb.AuthUserRevokeRoleRequest(name="u", role="none")),
    ("Auth/UserList", pb.AuthUserListRequest()),
    ("Auth/RoleList", pb.AuthRoleListRequest()),
    ("Auth/AuthEnable", pb.AuthEnableRequest()),
    ("Auth/Authenticate", pb.AuthenticateRequest(name="u", password="pw2")),
    ("Auth/UserAdd", pb.AuthUserAddRequest(name="root", password="pw")),
    ("Auth/AuthEnable", pb.AuthEnableRequest()),
    ("Auth/RoleAdd", pb.AuthRoleAddRequest(name="root")),
    ("Auth/UserGrantRole", pb.AuthUserGrantRoleRequest(user="root", role="root")),
    ("Auth/AuthEnable", pb.AuthEnableRequest()),
    ("KV/Range", pb.RangeRequest(key=b"k")),
    ("Auth/UserList", pb.AuthUserListRequest()),
    ("Auth/Authenticate", pb.AuthenticateRequest(name="u", password="bad")),
    ("Auth/Authenticate", pb.AuthenticateRequest(name="none", password="bad")),
    ("Auth/Authenticate", pb.AuthenticateRequest(name="cert", password="bad")),
    ("Auth/Authenticate", pb.AuthenticateRequest(name="u", password="pw2")),
    ("KV/Range", pb.RangeRequest(key=b"k")),
    ("KV/Range", pb.RangeRequest(key=b"t")),
    ("KV/Put", pb.PutRequest(key=b"k", value=b"u's", prev_kv=True)),
    ("KV/Put", pb.PutRequest(key=b"t")),
    ("KV/Txn", pb.TxnRequest(success=[_put(b"k"), _get(b"t")])),
    ("KV/DeleteRange", pb.DeleteRangeRequest(key=b"k", range_end=b"m")),
    ("KV/Compact", pb.CompactionRequest(revision=5)),
    ("Auth/UserGet", pb.AuthUserGetRequest(name="u")),
    ("Auth/UserGet", pb.AuthUserGetRequest(name="root")),
    ("Auth/RoleGet", pb.AuthRoleGetRequest(role="r")),
    ("Auth/RoleAdd", pb.AuthRoleAddRequest(name="mine")),
    ("Auth/AuthDisable", pb.AuthDisableRequest()),
    ("Auth/Authenticate", pb.AuthenticateRequest(name="root", password="pw")),
    ("Auth/UserDelete", pb.AuthUserDeleteRequest(name="root")),
    ("Auth/UserRevokeRole", pb.AuthUserRevokeRoleRequest(name="root", role="root")),
    ("Auth/RoleDelete", pb.AuthRoleDeleteRequest(role="root")),
    ("Auth/UserDelete", pb.AuthUserDeleteRequest(name="none")),
    ("Auth/RoleDelete", pb.AuthRoleDeleteRequest(role="none")),
    ("Auth/RoleRevokePermission", pb.AuthRoleRevokePermissionRequest(role="r", key=b"k", range_end=b"l")),
    ("Auth/UserRevokeRole", pb.AuthUserRevokeRoleRequest(name="u", role="r")),
    ("Auth/RoleDelete", pb.AuthRoleDeleteRequest(role="r")),
    ("Auth/UserDelete", pb.AuthUserDeleteRequest(name="u")),
    ("Auth/AuthDisable", pb.AuthDisableRequest()),
)  # fmt: skip
# The empty request is for every method but these, whose answer to it never comes or is a random one.
NO_EMPTY = {
    "Watch/Watch": "asks for nothing, and gets nothing",
    "Lease/LeaseGrant": "the id is random",
    "Lock/Lock": "the lease is random",
    "Election/Campaign": "the lease is random",
    "Election/Observe": "waits for a leader",
    "Auth/AuthEnable": "the order of the calls has it",
    "Auth/RoleGrantPermission": "see REFUSED",
}


def test_the_calls_are_of_every_method() -> None:
    called = {name for name, _ in CALLS} | (METHODS.keys() - NO_EMPTY.keys())
    assert called == METHODS.keys()
    assert NEWER.keys() <= METHODS.keys()


def test_every_method_answers_as_the_real_one(pair: Pair) -> None:
    differing = []
    empty = [(name, message_factory.GetMessageClass(method.input_type)()) for name, (_, method) in METHODS.items() if name not in NO_EMPTY]
    for name, request in (*empty, *CALLS):
        if name in NEWER:
            assert pair.real.call(name, request)[0] == "UNIMPLEMENTED"
            assert pair.ours.call(name, request)[0] != "UNIMPLEMENTED"
            continue
        try:
            pair.both(name, request)
        except AssertionError as error:
            differing.append(str(error)[:600])
    assert not differing, "\n".join(differing)


@pytest.mark.parametrize("what", REFUSED)
def test_what_later_releases_refuse_is_refused(pair: Pair, what: str) -> None:
    name, request, *answer = REFUSED[what]
    assert pair.ours.call(name, _own(request, pair.ours)) == tuple(answer)


# Random sequences

KEYS = [b"a", b"aa", b"b", b"c", b"d"]
LEASES = [1, 2, 3]


def _key(rng: random.Random) -> dict[str, Any]:
    return {"key": rng.choice(KEYS), **({"range_end": rng.choice([b"\0", *KEYS])} if rng.random() < 0.3 else {})}


def _some_range(rng: random.Random, last: int) -> pb.RangeRequest:
    request = pb.RangeRequest(**_key(rng), limit=rng.choice([0, 0, 1, 2]), keys_only=rng.random() < 0.1, count_only=rng.random() < 0.1)
    request.revision = rng.choice([0, 0, 0, rng.randint(1, last + 2)])
    request.serializable = rng.random() < 0.3
    request.sort_order, request.sort_target = rng.choice([0, 0, 1, 2]), rng.randrange(5)
    if rng.random() < 0.2:
        request.min_mod_revision, request.max_create_revision = rng.randint(0, last), rng.randint(0, last)
    return request


def _some_put(rng: random.Random) -> pb.PutRequest:
    request = pb.PutRequest(key=rng.choice(KEYS), value=b"%d" % rng.randrange(1000), prev_kv=rng.random() < 0.5)
    chance = rng.random()
    if chance < 0.2:
        request.lease = rng.choice(LEASES)
    elif chance < 0.3:
        request.ignore_lease = True
    elif chance < 0.4:
        request.ignore_value = True
        request.value = b""
    return request


def _some_delete(rng: random.Random) -> pb.DeleteRangeRequest:
    return pb.DeleteRangeRequest(**_key(rng), prev_kv=rng.random() < 0.5)


def _some_operation(rng: random.Random, last: int, depth: int) -> pb.RequestOp:
    chance = rng.random()
    if depth and chance < 0.15:
        return pb.RequestOp(request_txn=_some_txn(rng, last, depth - 1))
    if chance < 0.5:
        return pb.RequestOp(request_put=_some_put(rng))
    if chance < 0.7:
        return pb.RequestOp(request_delete_range=_some_delete(rng))
    return pb.RequestOp(request_range=_some_range(rng, last))


def _some_compare(rng: random.Random, last: int) -> pb.Compare:
    compare = pb.Compare(**_key(rng), target=rng.randrange(5), result=rng.randrange(4))
    match compare.target:
        case pb.Compare.VALUE:
            compare.value = b"%d" % rng.randrange(1000)
        case pb.Compare.VERSION:
            compare.version = rng.randrange(4)
        case pb.Compare.CREATE:
            compare.create_revision = rng.randint(0, last)
        case pb.Compare.MOD:
            compare.mod_revision = rng.randint(0, last)
        case _:
            compare.lease = rng.choice([0, *LEASES])
    return compare


def _some_txn(rng: random.Random, last: int, depth: int = 1) -> pb.TxnRequest:
    return pb.TxnRequest(
        compare=[_some_compare(rng, last) for _ in range(rng.randrange(3))],
        success=[_some_operation(rng, last, depth) for _ in range(rng.randrange(4))],
        failure=[_some_operation(rng, last, depth) for _ in range(rng.randrange(3))],
    )


def _some_call(rng: random.Random, last: int) -> tuple[str, Message]:
    kind = rng.choices(("put", "range", "delete", "txn", "compact", "grant", "revoke", "leases"), (30, 25, 10, 25, 2, 4, 2, 2))[0]
    match kind:
        case "put":
            return "KV/Put", _some_put(rng)
        case "range":
            return "KV/Range", _some_range(rng, last)
        case "delete":
            return "KV/DeleteRange", _some_delete(rng)
        case "txn":
            return "KV/Txn", _some_txn(rng, last)
        case "compact":
            return "KV/Compact", pb.CompactionRequest(revision=max(0, last - rng.randrange(-1, 30)), physical=rng.random() < 0.5)
        case "grant":
            return "Lease/LeaseGrant", pb.LeaseGrantRequest(ID=rng.choice(LEASES), TTL=5000)
        case "revoke":
            return "Lease/LeaseRevoke", pb.LeaseRevokeRequest(ID=rng.choice(LEASES))
        case _:
            return "Lease/LeaseLeases", pb.LeaseLeasesRequest()


def _watched(side: Side, until: int, start: int) -> list[Any]:
    """The events from a revision to another, as one watch tells them."""
    stub = side.channel.stream_stream(
        "/etcdserverpb.Watch/Watch",
        request_serializer=pb.WatchRequest.SerializeToString,
        response_deserializer=pb.WatchResponse.FromString,
    )
    create = pb.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=start, prev_kv=True)
    answers = stub(iter((pb.WatchRequest(create_request=create),)), timeout=TIMEOUT_S)
    events: list[Any] = []
    for answer in answers:
        events += [MessageToDict(each) for each in answer.events]
        if events and int(events[-1]["kv"]["modRevision"]) >= until:
            break
    answers.cancel()
    return events


@pytest.mark.parametrize("seed", range(4))
def test_random_sequences_are_answered_alike(pair: Pair, seed: int) -> None:
    rng = random.Random(seed)
    last = 1
    for number in range(350):
        name, request = _some_call(rng, last)
        try:
            answer = pair.both(name, request)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, call {number}: {error}") from None
        if answer[0] == "OK" and name != "Lease/LeaseLeases":
            last = max(last, int(answer[1]["header"].get("revision", 0)))
    pair.both("Maintenance/HashKV", pb.HashKVRequest())
    pair.both("KV/Put", pb.PutRequest(key=b"end"))
    compacted = 1
    while pair.both("KV/Range", pb.RangeRequest(key=b"a", revision=compacted))[0] != "OK":
        compacted += 1
    assert _watched(pair.ours, last + 1, compacted + 1) == _watched(pair.real, last + 1, compacted + 1)
