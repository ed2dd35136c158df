"""The Auth service; and who a caller is, by token or by client certificate."""

import asyncio
import base64
import secrets
from collections.abc import Callable
from typing import Any

from kubette.etcd import passwords, version
from kubette.etcd.auth import Caller
from kubette.etcd.rim.grpc import Method
from kubette.etcd.server import Server
from kubette.etcd.wire import bytes_field
from kubette.etcd_api import errors
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.raft_internal_pb2 import InternalAuthenticateRequest

AUTHENTICATE, USER_ADD, USER_CHANGE_PASSWORD = 1012, 1100, 1103  # fields of InternalRaftRequest
# Methods that go into the log as they are, and their fields there.
_PLAIN = {
    "AuthEnable": 1000,
    "AuthDisable": 1011,
    "AuthStatus": 1013,
    "UserDelete": 1101,
    "UserGet": 1102,
    "UserGrantRole": 1104,
    "UserRevokeRole": 1105,
    "UserList": 1106,
    "RoleList": 1107,
    "RoleAdd": 1200,
    "RoleDelete": 1201,
    "RoleGet": 1202,
    "RoleGrantPermission": 1203,
    "RoleRevokePermission": 1204,
}
_PREFIX_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PREFIX_LENGTH = 16
_MAX_TRIES = 10


class Auth:
    """One instance a server."""

    def __init__(self, server: Server, bcrypt_cost: int, own_version: str) -> None:
        self._server = server
        self._version = own_version  # the cluster's until that is agreed on
        self._bcrypt_cost = bcrypt_cost

    def methods(self) -> dict[bytes, Method]:
        plain = {f"/etcdserverpb.Auth/{name}".encode(): Method(self._plain(name, number)) for name, number in _PLAIN.items()}
        return {
            **plain,
            b"/etcdserverpb.Auth/Authenticate": Method(self.authenticate),
            b"/etcdserverpb.Auth/UserAdd": Method(self.user_add),
            b"/etcdserverpb.Auth/UserChangePassword": Method(self.user_change_password),
        }

    def _plain(self, name: str, number: int) -> "Callable[[bytes], asyncio.Future[bytes]]":
        kind = getattr(pb, f"{name}Request" if name.startswith("Auth") else f"Auth{name}Request")
        return lambda body: self._server.propose_message(number, kind, body)

    async def user_add(self, body: bytes) -> bytes:
        request = pb.AuthUserAddRequest.FromString(body)
        if not request.options.no_password:
            await self._hash(request)
        return await self._server.propose(USER_ADD, request.SerializeToString())

    async def user_change_password(self, body: bytes) -> bytes:
        request = pb.AuthUserChangePasswordRequest.FromString(body)
        await self._hash(request)
        return await self._server.propose(USER_CHANGE_PASSWORD, request.SerializeToString())

    async def _hash(self, request: Any) -> None:
        """Here, once: neither the log nor another member shall see the password, and all shall hold the same hash."""
        hashed = await asyncio.to_thread(passwords.hash_password, request.password, self._bcrypt_cost)
        request.hashedPassword = base64.b64encode(hashed).decode()
        # Members up to 3.4 know no hashed password: they hash what they read in the log, each for itself.
        if not version.is_before(self._server.state.membership.version or self._version, "3.5"):
            request.ClearField("password")

    async def authenticate(self, body: bytes) -> bytes:
        request = pb.AuthenticateRequest.FromString(body)
        await self._server.linearizable()
        for _ in range(_MAX_TRIES):
            auth = self._server.state.auth
            hashed, revision = auth.password(request.name), auth.revision
            if not await asyncio.to_thread(passwords.matches, request.password, hashed):
                raise errors.error(errors.AUTH_FAILED)
            if self._server.jwt is not None:
                token = self._server.jwt.sign(Caller(request.name, revision))
                return bytes_field(1, self._server.header_now()) + bytes_field(2, token.encode())
            prefix = "".join(secrets.choice(_PREFIX_LETTERS) for _ in range(_PREFIX_LENGTH))
            made = InternalAuthenticateRequest(name=request.name, simple_token=prefix)
            answer = await self._server.propose(AUTHENTICATE, made.SerializeToString())
            if self._server.state.auth.revision == revision:
                return answer
            # The password may have been another one by the time the token was made.
        raise errors.error(errors.AUTH_OLD_REVISION)
