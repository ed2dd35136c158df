"""Pure: users, roles and what they may do. Replicated: every member applies the same requests and knows the same tokens.

Counterpart of etcd's auth store. Each change takes a new auth revision; a request that was authenticated at an older one is refused
when it is applied, because its user may have lost the right meanwhile.
"""

import base64
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubette.etcd.wire import bytes_field, int_field
from kubette.etcd_api import auth_pb2 as pb
from kubette.etcd_api import errors, rpc_pb2

ROOT = "root"  # the user, and the role
TOKEN_TTL_S = 300.0  # of a simple token that is not used
_MAX_TOKENS = 100_000
READ, WRITE, READWRITE = pb.Permission.READ, pb.Permission.WRITE, pb.Permission.READWRITE
FROM_KEY = b"\0"

# Requests of the log that only root's role may make.
ADMIN_REQUESTS = frozenset(
    {
        *("auth_enable", "auth_disable", "auth_status", "auth_user_add", "auth_user_delete", "auth_user_change_password"),
        *("auth_user_grant_role", "auth_user_revoke_role", "auth_user_list", "auth_role_add", "auth_role_delete"),
        *("auth_role_grant_permission", "auth_role_revoke_permission", "auth_role_list"),
    }
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request, known as of an auth revision."""

    name: str
    revision: int


Interval = tuple[bytes, bytes | None]  # from, up to (None: without end)


def interval(key: bytes, range_end: bytes) -> Interval:
    """What a key and a range end mean together."""
    if not range_end:
        return key, key + b"\0"
    return key, None if range_end == FROM_KEY else range_end


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The same keys in as few intervals as possible, ascending."""
    result: list[Interval] = []
    for begin, end in sorted(intervals, key=lambda each: each[0]):
        if result and (last := result[-1])[1] is not None and begin > last[1]:
            result.append((begin, end))
        elif result:
            last_end = result[-1][1]
            result[-1] = (result[-1][0], None if last_end is None or end is None else max(last_end, end))
        else:
            result.append((begin, end))
    return result


def covers(granted: list[Interval], wanted: Interval) -> bool:
    """Whether `granted` (merged) holds every key of `wanted`."""
    place = bisect_left(granted, wanted[0] + b"\0", key=lambda each: each[0]) - 1
    if place < 0:
        return False
    end = granted[place][1]
    return end is None or (wanted[1] is not None and wanted[1] <= end and wanted[0] < end)


@dataclass(slots=True)
class AuthStore:
    """Users and roles as etcd's files hold them. `hash_password` is for requests of etcd up to 3.4, whose log carries the password."""

    hash_password: Callable[[str], bytes] | None = None
    token_ttl_s: float = TOKEN_TTL_S
    enabled: bool = False
    revision: int = 1
    users: dict[str, pb.User] = field(default_factory=dict)
    roles: dict[str, pb.Role] = field(default_factory=dict)
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)  # token -> (user, when it ends)
    _granted: dict[str, tuple[list[Interval], list[Interval]]] = field(default_factory=dict)  # of users asked about: to read, to write

    # Asking

    def check(self, caller: Caller | None, key: bytes, range_end: bytes, kind: int) -> None:
        """Raises RpcError unless the caller may READ or WRITE the range."""
        if not self.enabled:
            return
        if caller is None:
            raise errors.error(errors.USER_EMPTY)
        if caller.revision < self.revision:
            raise errors.error(errors.AUTH_OLD_REVISION)
        user = self.users.get(caller.name)
        if user is None:
            raise errors.error(errors.PERMISSION_DENIED)
        if ROOT in user.roles:
            return
        granted = self._granted.get(caller.name)
        if granted is None:
            granted = self._granted[caller.name] = self._merge(user)
        if not covers(granted[kind == WRITE], interval(key, range_end)):
            raise errors.error(errors.PERMISSION_DENIED)

    def _merge(self, user: pb.User) -> tuple[list[Interval], list[Interval]]:
        permissions = [each for name in user.roles if name in self.roles for each in self.roles[name].keyPermission]
        read = [interval(each.key, each.range_end) for each in permissions if each.permType in (READ, READWRITE)]
        write = [interval(each.key, each.range_end) for each in permissions if each.permType in (WRITE, READWRITE)]
        return merged(read), merged(write)

    def check_admin(self, caller: Caller | None) -> None:
        """Raises RpcError unless the caller has root's role."""
        if not self.enabled:
            return
        if caller is None or not caller.name:
            raise errors.error(errors.USER_EMPTY)
        user = self.users.get(caller.name)
        if user is None or ROOT not in user.roles:
            raise errors.error(errors.PERMISSION_DENIED)

    def has_role(self, name: str, role: str) -> bool:
        return name in self.users and role in self.users[name].roles

    def password(self, name: str) -> bytes:
        """The hash to compare with. Raises RpcError for a user that has none."""
        if not self.enabled:
            raise errors.error(errors.AUTH_NOT_ENABLED)
        user = self.users.get(name)
        if user is None:
            raise errors.error(errors.AUTH_FAILED)
        if user.options.no_password:
            raise errors.error(errors.NO_PASSWORD_USER)
        return bytes(user.password)

    # Tokens

    def caller_of(self, token: str, now: float) -> Caller:
        """Whose token it is; using it keeps it alive. Raises RpcError."""
        user, until = self._tokens.get(token, ("", 0.0))
        if until < now:
            self._tokens.pop(token, None)
            raise errors.error(errors.INVALID_AUTH_TOKEN)
        self._tokens[token] = (user, now + self.token_ttl_s)
        return Caller(user, self.revision)

    def authenticate(self, name: str, prefix: str, index: int, now: float) -> bytes:
        """Every member learns the token; the password was checked by the one that was asked."""
        self.password(name)
        if len(self._tokens) >= _MAX_TOKENS:
            self._tokens = {token: each for token, each in self._tokens.items() if each[1] >= now}
            if len(self._tokens) >= _MAX_TOKENS:
                raise errors.error(errors.TOO_MANY_REQUESTS)
        token = f"{prefix}.{index}"
        self._tokens[token] = (name, now + self.token_ttl_s)
        return bytes_field(2, token.encode())

    def _forget_tokens(self, name: str) -> None:
        self._tokens = {token: each for token, each in self._tokens.items() if each[0] != name}

    # Changing: each answers the fields after the header

    def apply(self, name: str, request: Any) -> bytes:
        """A request of the log by the name of its field. Raises RpcError."""
        handlers: Mapping[str, Callable[[Any], bytes | None]] = {
            "auth_enable": self._enable,
            "auth_disable": self._disable,
            "auth_status": lambda _: int_field(2, self.enabled) + int_field(3, self.revision),
            "auth_user_add": self._user_add,
            "auth_user_delete": self._user_delete,
            "auth_user_get": lambda request: _texts(2, self._user(request.name).roles),
            "auth_user_list": lambda _: _texts(2, sorted(self.users)),
            "auth_user_change_password": self._user_change_password,
            "auth_user_grant_role": self._user_grant_role,
            "auth_user_revoke_role": self._user_revoke_role,
            "auth_role_add": self._role_add,
            "auth_role_delete": self._role_delete,
            "auth_role_get": lambda request: b"".join(bytes_field(2, each.SerializeToString()) for each in self._role(request.role).keyPermission),
            "auth_role_list": lambda _: _texts(2, sorted(self.roles)),
            "auth_role_grant_permission": self._role_grant_permission,
            "auth_role_revoke_permission": self._role_revoke_permission,
        }
        return handlers[name](request) or b""

    def _user(self, name: str) -> pb.User:
        if name not in self.users:
            raise errors.error(errors.USER_NOT_FOUND)
        return self.users[name]

    def _role(self, name: str) -> pb.Role:
        if name not in self.roles:
            raise errors.error(errors.ROLE_NOT_FOUND)
        return self.roles[name]

    def _changed(self) -> None:
        self.revision += 1
        self._granted.clear()

    def _enable(self, request: rpc_pb2.AuthEnableRequest) -> None:
        if self.enabled:
            return
        if ROOT not in self.users:
            raise errors.error(errors.ROOT_USER_NOT_EXIST)
        if ROOT not in self.users[ROOT].roles:
            raise errors.error(errors.ROOT_ROLE_NOT_EXIST)
        self.enabled = True
        self._granted.clear()

    def _disable(self, request: rpc_pb2.AuthDisableRequest) -> None:
        if self.enabled:
            self.enabled = False
            self._tokens.clear()
            self._changed()

    def _user_add(self, request: rpc_pb2.AuthUserAddRequest) -> None:
        if not request.name:
            raise errors.error(errors.USER_EMPTY)
        if request.name in self.users:
            raise errors.error(errors.USER_ALREADY_EXIST)
        user = pb.User(name=request.name.encode(), options=pb.UserAddOptions(no_password=request.options.no_password))
        if not request.options.no_password:
            user.password = self._hashed(request)
        self.users[request.name] = user
        self._changed()

    def _hashed(self, request: Any) -> bytes:
        if request.hashedPassword or self.hash_password is None:
            # The server that was asked has hashed it, so that all members hold the same.
            return base64.b64decode(request.hashedPassword)
        return self.hash_password(request.password)

    def _user_delete(self, request: rpc_pb2.AuthUserDeleteRequest) -> None:
        if self.enabled and request.name == ROOT:
            raise errors.error(errors.INVALID_AUTH_MGMT)
        self._user(request.name)
        del self.users[request.name]
        self._forget_tokens(request.name)
        self._changed()

    def _user_change_password(self, request: rpc_pb2.AuthUserChangePasswordRequest) -> None:
        self._user(request.name).password = self._hashed(request)
        self._forget_tokens(request.name)
        self._changed()

    def _user_grant_role(self, request: rpc_pb2.AuthUserGrantRoleRequest) -> None:
        user = self._user(request.user)
        if request.role != ROOT:
            self._role(request.role)
        if request.role not in user.roles:
            roles = list(user.roles)
            insort(roles, request.role)
            user.roles[:] = roles
            self._changed()

    def _user_revoke_role(self, request: rpc_pb2.AuthUserRevokeRoleRequest) -> None:
        if self.enabled and request.name == ROOT and request.role == ROOT:
            raise errors.error(errors.INVALID_AUTH_MGMT)
        user = self._user(request.name)
        if request.role not in user.roles:
            raise errors.error(errors.ROLE_NOT_GRANTED)
        user.roles.remove(request.role)
        self._changed()

    def _role_add(self, request: rpc_pb2.AuthRoleAddRequest) -> None:
        if not request.name:
            raise errors.error(errors.ROLE_EMPTY)
        if request.name in self.roles:
            raise errors.error(errors.ROLE_ALREADY_EXIST)
        self.roles[request.name] = pb.Role(name=request.name.encode())
        self._changed()

    def _role_delete(self, request: rpc_pb2.AuthRoleDeleteRequest) -> None:
        if self.enabled and request.role == ROOT:
            raise errors.error(errors.INVALID_AUTH_MGMT)
        self._role(request.role)
        del self.roles[request.role]
        for user in self.users.values():
            if request.role in user.roles:
                user.roles.remove(request.role)
        self._changed()

    def _role_grant_permission(self, request: rpc_pb2.AuthRoleGrantPermissionRequest) -> None:
        if not request.HasField("perm"):
            raise errors.error(errors.PERMISSION_NOT_GIVEN)
        role, new = self._role(request.name), request.perm
        if new.range_end and new.range_end != FROM_KEY and new.range_end <= new.key:
            raise errors.error(errors.INVALID_AUTH_MGMT)
        for known in role.keyPermission:
            if (known.key, known.range_end) == (new.key, new.range_end):
                known.permType = new.permType
                break
        else:
            permissions = sorted([*role.keyPermission, new], key=lambda each: each.key)
            del role.keyPermission[:]
            role.keyPermission.extend(permissions)
        self._changed()

    def _role_revoke_permission(self, request: rpc_pb2.AuthRoleRevokePermissionRequest) -> None:
        role = self._role(request.role)
        kept = [each for each in role.keyPermission if (each.key, each.range_end) != (request.key, request.range_end)]
        if len(kept) == len(role.keyPermission):
            raise errors.error(errors.PERMISSION_NOT_GRANTED)
        del role.keyPermission[:]
        role.keyPermission.extend(kept)
        self._changed()

    # Files

    def buckets(self) -> dict[bytes, list[tuple[bytes, bytes]]]:
        """As etcd's database holds them."""
        meta = [(b"authRevision", self.revision.to_bytes(8, "big"))]
        if self.enabled:
            meta.insert(0, (b"authEnabled", b"\1"))
        return {
            b"auth": meta,
            b"authRoles": sorted((name.encode(), role.SerializeToString()) for name, role in self.roles.items()),
            b"authUsers": sorted((name.encode(), user.SerializeToString()) for name, user in self.users.items()),
        }

    def load(self, items: Callable[[bytes], Iterable[tuple[bytes, bytes]]]) -> None:
        """Fill an empty store from the buckets."""
        meta = dict(items(b"auth"))
        self.enabled = meta.get(b"authEnabled") == b"\1"
        self.revision = int.from_bytes(meta.get(b"authRevision", b"\1"), "big") or 1
        self.users = {name.decode(): pb.User.FromString(value) for name, value in items(b"authUsers")}
        self.roles = {name.decode(): pb.Role.FromString(value) for name, value in items(b"authRoles")}


def _texts(number: int, texts: Iterable[str]) -> bytes:
    return b"".join(bytes_field(number, text.encode()) for text in texts)


# What a request needs


def check_request(auth: AuthStore, caller: Caller | None, kind: str, request: Any, keys_of_lease: Callable[[int], Iterable[bytes]]) -> None:
    """Raises RpcError unless the caller may make a request of the log."""
    if kind in ADMIN_REQUESTS:
        auth.check_admin(caller)
    elif kind == "put":
        check_put(auth, caller, request, keys_of_lease)
    elif kind == "delete_range":
        check_delete(auth, caller, request)
    elif kind == "range":
        auth.check(caller, request.key, request.range_end, READ)
    elif kind == "txn":
        check_txn(auth, caller, request, keys_of_lease)
    elif kind == "lease_revoke":
        for key in keys_of_lease(request.ID):
            auth.check(caller, key, b"", WRITE)
    elif kind == "auth_user_get":
        if caller is None or caller.name != request.name:
            auth.check_admin(caller)
    elif kind == "auth_role_get" and (caller is None or not auth.has_role(caller.name, request.role)):
        auth.check_admin(caller)


def check_put(auth: AuthStore, caller: Caller | None, request: rpc_pb2.PutRequest, keys_of_lease: Callable[[int], Iterable[bytes]]) -> None:
    auth.check(caller, request.key, b"", WRITE)
    if request.lease:
        # Whoever may not write the keys of a lease could not revoke it either.
        for key in keys_of_lease(request.lease):
            auth.check(caller, key, b"", WRITE)
    if request.prev_kv:
        auth.check(caller, request.key, b"", READ)


def check_delete(auth: AuthStore, caller: Caller | None, request: rpc_pb2.DeleteRangeRequest) -> None:
    auth.check(caller, request.key, request.range_end, WRITE)
    if request.prev_kv:
        auth.check(caller, request.key, request.range_end, READ)


def check_txn(auth: AuthStore, caller: Caller | None, request: rpc_pb2.TxnRequest, keys_of_lease: Callable[[int], Iterable[bytes]]) -> None:
    """Both branches must be allowed, whichever is taken, down to the innermost transaction."""
    for compare in request.compare:
        auth.check(caller, compare.key, compare.range_end, READ)
    for operation in (*request.success, *request.failure):
        kind = operation.WhichOneof("request")
        if kind == "request_range":
            auth.check(caller, operation.request_range.key, operation.request_range.range_end, READ)
        elif kind == "request_put":
            check_put(auth, caller, operation.request_put, keys_of_lease)
        elif kind == "request_delete_range":
            check_delete(auth, caller, operation.request_delete_range)
        elif kind == "request_txn":
            check_txn(auth, caller, operation.request_txn, keys_of_lease)
