"""Errors of the client. Each knows whether it is *definite*: whether the request surely did not take effect.

A timeout after the bytes left is not definite: a write may or may not have happened, at any later time.
"""

import grpc

from kubette.etcd_api.errors import COMPACTED, Code

# The server refuses these before proposing anything, or the answer is the outcome itself.
_DEFINITE = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.ALREADY_EXISTS,
        Code.PERMISSION_DENIED,
        Code.RESOURCE_EXHAUSTED,
        Code.FAILED_PRECONDITION,
        Code.OUT_OF_RANGE,
        Code.UNIMPLEMENTED,
        Code.UNAUTHENTICATED,
    }
)
# grpc's own words for "no byte of the request left this process".
_NEVER_SENT = ("failed to connect to all addresses", "Failed to pick subchannel", "DNS resolution failed", "empty address list")


class EtcdError(Exception):
    """What etcd, or the way to it, answered."""

    def __init__(self, code: Code, message: str, definite: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.definite = definite

    @property
    def never_sent(self) -> bool:
        """Whether another endpoint may be asked without any risk of doing it twice."""
        return self.code is Code.UNAVAILABLE and self.definite


class CompactedError(EtcdError):
    """The revision asked for is gone; `compact_revision` is the oldest that is left (0 when the answer did not say)."""

    def __init__(self, compact_revision: int = 0) -> None:
        super().__init__(Code.OUT_OF_RANGE, COMPACTED[1], definite=True)
        self.compact_revision = compact_revision


def from_grpc(error: grpc.aio.AioRpcError) -> EtcdError:
    """The error of one call, judged."""
    code = Code(error.code().value[0])
    message = error.details() or code.name
    if message == COMPACTED[1]:
        return CompactedError()
    never_sent = code is Code.UNAVAILABLE and any(words in message for words in _NEVER_SENT)
    return EtcdError(code, message, definite=never_sent or code in _DEFINITE)
