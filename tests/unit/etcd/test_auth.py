"""Permissions as sets of keys, and the rules of users and roles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubette.etcd import auth
from kubette.etcd.auth import READ, WRITE, AuthStore, Caller
from kubette.etcd_api import errors
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.auth_pb2 import Permission, UserAddOptions
from kubette.etcd_api.errors import RpcError

KEYS = [bytes([65 + number]) for number in range(8)]
INTERVALS = st.tuples(st.sampled_from(KEYS), st.sampled_from([b"", b"\0", *KEYS])).filter(lambda each: each[1] in (b"", b"\0") or each[0] < each[1])


def members(key: bytes, range_end: bytes) -> set[bytes]:
    """Of a range, among keys that tell all intervals here apart; one stands for all behind the last."""
    universe = [name + tail for name in KEYS for tail in (b"", b"\0", b"x")] + [b"\xff"]
    begin, end = auth.interval(key, range_end)
    return {name for name in universe if begin <= name and (end is None or name < end)}


@given(st.lists(INTERVALS, max_size=5), INTERVALS)
def test_a_range_is_covered_when_every_key_of_it_is_granted(granted: list[tuple[bytes, bytes]], wanted: tuple[bytes, bytes]) -> None:
    every: set[bytes] = set().union(*(members(*each) for each in granted))
    assert auth.covers(auth.merged(auth.interval(*each) for each in granted), auth.interval(*wanted)) == (members(*wanted) <= every)


@pytest.fixture
def store() -> AuthStore:
    made = AuthStore()
    for kind, request in (
        ("auth_user_add", pb.AuthUserAddRequest(name="root", hashedPassword="aA==")),
        ("auth_user_grant_role", pb.AuthUserGrantRoleRequest(user="root", role="root")),
        ("auth_user_add", pb.AuthUserAddRequest(name="ann", hashedPassword="aA==")),
        ("auth_role_add", pb.AuthRoleAddRequest(name="own")),
        ("auth_user_grant_role", pb.AuthUserGrantRoleRequest(user="ann", role="own")),
        ("auth_role_grant_permission", pb.AuthRoleGrantPermissionRequest(name="own", perm=Permission(key=b"k", permType=READ))),
        ("auth_enable", pb.AuthEnableRequest()),
    ):
        made.apply(kind, request)
    return made


def test_rights_are_what_the_roles_grant_now(store: AuthStore) -> None:
    ann = Caller("ann", store.revision)
    store.check(ann, b"k", b"", READ)
    with pytest.raises(RpcError, match="permission denied"):
        store.check(ann, b"k", b"", WRITE)
    store.apply("auth_role_grant_permission", pb.AuthRoleGrantPermissionRequest(name="own", perm=Permission(key=b"k", permType=WRITE)))
    with pytest.raises(RpcError, match="revision of auth store is old"):
        store.check(ann, b"k", b"", WRITE)
    now = Caller("ann", store.revision)
    store.check(now, b"k", b"", WRITE)
    with pytest.raises(RpcError, match="permission denied"):
        store.check(now, b"k", b"", READ)


def test_tokens_end_unused_and_with_their_user(store: AuthStore) -> None:
    token = store.authenticate("ann", "prefix", 7, 100.0)[2:].decode()
    assert token == "prefix.7"
    assert store.caller_of(token, 399.0).name == "ann"
    assert store.caller_of(token, 650.0).name == "ann"  # having been used it lives on
    with pytest.raises(RpcError, match="invalid auth token"):
        store.caller_of(token, 951.0)
    other = store.authenticate("ann", "p", 8, 1000.0)[2:].decode()
    store.apply("auth_user_delete", pb.AuthUserDeleteRequest(name="ann"))
    with pytest.raises(RpcError, match="invalid auth token"):
        store.caller_of(other, 1000.0)


def test_who_has_no_password_cannot_log_in(store: AuthStore) -> None:
    store.apply("auth_user_add", pb.AuthUserAddRequest(name="cert", options=UserAddOptions(no_password=True)))
    with pytest.raises(RpcError) as caught:
        store.password("cert")
    assert (caught.value.code, caught.value.message) == errors.NO_PASSWORD_USER


def test_its_buckets_carry_everything(store: AuthStore) -> None:
    again = AuthStore()
    buckets = store.buckets()
    again.load(lambda name: buckets[name])
    assert again.buckets() == buckets
    again.check(Caller("ann", again.revision), b"k", b"", READ)
    assert AuthStore().buckets()[b"auth"] == [(b"authRevision", b"\0" * 7 + b"\1")]
