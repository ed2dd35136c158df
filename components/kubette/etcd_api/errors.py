"""Pure: the errors etcd's v3 API answers, each with its gRPC code (upstream's rpctypes).

The texts are a contract: clients compare them.
"""

from enum import IntEnum


class Code(IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """An RPC ends with this code and text."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


# Each constant is (code, text); `raise error(EMPTY_KEY)` makes a fresh exception, so that no traceback is shared.
Spec = tuple[Code, str]


def error(spec: Spec) -> RpcError:
    """A fresh exception of this kind."""
    return RpcError(spec[0], spec[1])


EMPTY_KEY: Spec = (Code.INVALID_ARGUMENT, "etcdserver: key is not provided")
KEY_NOT_FOUND: Spec = (Code.INVALID_ARGUMENT, "etcdserver: key not found")
VALUE_PROVIDED: Spec = (Code.INVALID_ARGUMENT, "etcdserver: value is provided")
LEASE_PROVIDED: Spec = (Code.INVALID_ARGUMENT, "etcdserver: lease is provided")
TOO_MANY_OPS: Spec = (Code.INVALID_ARGUMENT, "etcdserver: too many operations in txn request")
DUPLICATE_KEY: Spec = (Code.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")
INVALID_CLIENT_API_VERSION: Spec = (Code.INVALID_ARGUMENT, "etcdserver: invalid client api version")
INVALID_SORT_OPTION: Spec = (Code.INVALID_ARGUMENT, "etcdserver: invalid sort option")
COMPACTED: Spec = (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE_REV: Spec = (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
NO_SPACE: Spec = (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
LEASE_NOT_FOUND: Spec = (Code.NOT_FOUND, "etcdserver: requested lease not found")
LEASE_EXIST: Spec = (Code.FAILED_PRECONDITION, "etcdserver: lease already exists")
LEASE_TTL_TOO_LARGE: Spec = (Code.OUT_OF_RANGE, "etcdserver: too large lease TTL")
WATCH_CANCELED: Spec = (Code.CANCELLED, "etcdserver: watch canceled")
MEMBER_EXIST: Spec = (Code.FAILED_PRECONDITION, "etcdserver: member ID already exist")
PEER_URL_EXIST: Spec = (Code.FAILED_PRECONDITION, "etcdserver: Peer URLs already exists")
MEMBER_NOT_ENOUGH_STARTED: Spec = (Code.FAILED_PRECONDITION, "etcdserver: re-configuration failed due to not enough started members")
MEMBER_BAD_URLS: Spec = (Code.INVALID_ARGUMENT, "etcdserver: given member URLs are invalid")
MEMBER_NOT_FOUND: Spec = (Code.NOT_FOUND, "etcdserver: member not found")
MEMBER_NOT_LEARNER: Spec = (Code.FAILED_PRECONDITION, "etcdserver: can only promote a learner member")
LEARNER_NOT_READY: Spec = (Code.FAILED_PRECONDITION, "etcdserver: can only promote a learner member which is in sync with leader")
TOO_MANY_LEARNERS: Spec = (Code.FAILED_PRECONDITION, "etcdserver: too many learner members in cluster")
CLUSTER_ID_MISMATCH: Spec = (Code.FAILED_PRECONDITION, "etcdserver: cluster ID mismatch")
REQUEST_TOO_LARGE: Spec = (Code.INVALID_ARGUMENT, "etcdserver: request is too large")
TOO_MANY_REQUESTS: Spec = (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests")
NO_LEADER: Spec = (Code.UNAVAILABLE, "etcdserver: no leader")
NOT_LEADER: Spec = (Code.FAILED_PRECONDITION, "etcdserver: not leader")
LEADER_CHANGED: Spec = (Code.UNAVAILABLE, "etcdserver: leader changed")
NOT_CAPABLE: Spec = (Code.UNAVAILABLE, "etcdserver: not capable")
STOPPED: Spec = (Code.UNAVAILABLE, "etcdserver: server stopped")
TIMEOUT: Spec = (Code.UNAVAILABLE, "etcdserver: request timed out")
TIMEOUT_LEADER_FAIL: Spec = (Code.UNAVAILABLE, "etcdserver: request timed out, possibly due to previous leader failure")
TIMEOUT_CONNECTION_LOST: Spec = (Code.UNAVAILABLE, "etcdserver: request timed out, possibly due to connection lost")
UNHEALTHY: Spec = (Code.UNAVAILABLE, "etcdserver: unhealthy cluster")
CORRUPT: Spec = (Code.DATA_LOSS, "etcdserver: corrupt cluster")
NOT_SUPPORTED_FOR_LEARNER: Spec = (Code.FAILED_PRECONDITION, "etcdserver: rpc not supported for learner")
BAD_LEADER_TRANSFEREE: Spec = (Code.FAILED_PRECONDITION, "etcdserver: bad leader transferee")
AUTH_NOT_ENABLED: Spec = (Code.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
ROOT_USER_NOT_EXIST: Spec = (Code.FAILED_PRECONDITION, "etcdserver: root user does not exist")
ROOT_ROLE_NOT_EXIST: Spec = (Code.FAILED_PRECONDITION, "etcdserver: root user does not have root role")
USER_ALREADY_EXIST: Spec = (Code.FAILED_PRECONDITION, "etcdserver: user name already exists")
USER_EMPTY: Spec = (Code.INVALID_ARGUMENT, "etcdserver: user name is empty")
USER_NOT_FOUND: Spec = (Code.FAILED_PRECONDITION, "etcdserver: user name not found")
ROLE_ALREADY_EXIST: Spec = (Code.FAILED_PRECONDITION, "etcdserver: role name already exists")
ROLE_NOT_FOUND: Spec = (Code.FAILED_PRECONDITION, "etcdserver: role name not found")
ROLE_EMPTY: Spec = (Code.INVALID_ARGUMENT, "etcdserver: role name is empty")
AUTH_FAILED: Spec = (Code.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password")
# Upstream has no code of its own for it.
NO_PASSWORD_USER: Spec = (Code.UNKNOWN, "auth: authentication failed, password was given for no password user")
PERMISSION_NOT_GIVEN: Spec = (Code.INVALID_ARGUMENT, "etcdserver: permission not given")
PERMISSION_DENIED: Spec = (Code.PERMISSION_DENIED, "etcdserver: permission denied")
ROLE_NOT_GRANTED: Spec = (Code.FAILED_PRECONDITION, "etcdserver: role is not granted to the user")
PERMISSION_NOT_GRANTED: Spec = (Code.FAILED_PRECONDITION, "etcdserver: permission is not granted to the role")
INVALID_AUTH_TOKEN: Spec = (Code.UNAUTHENTICATED, "etcdserver: invalid auth token")
INVALID_AUTH_MGMT: Spec = (Code.INVALID_ARGUMENT, "etcdserver: invalid auth management")
AUTH_OLD_REVISION: Spec = (Code.INVALID_ARGUMENT, "etcdserver: revision of auth store is old")
CLUSTER_VERSION_UNAVAILABLE: Spec = (Code.FAILED_PRECONDITION, "etcdserver: cluster version not found during downgrade")
WRONG_DOWNGRADE_VERSION_FORMAT: Spec = (Code.INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format")
INVALID_DOWNGRADE_TARGET_VERSION: Spec = (Code.INVALID_ARGUMENT, "etcdserver: invalid downgrade target version")
NO_INFLIGHT_DOWNGRADE: Spec = (Code.FAILED_PRECONDITION, "etcdserver: no inflight downgrade job")
