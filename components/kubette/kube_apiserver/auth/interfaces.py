"""Pure: the contracts of authentication and authorization (apiserver's authentication/user, authenticator and authorizer packages).

An authenticator looks at one kind of credential. `None` means "not mine, ask the next"; bad credentials raise
`Unauthorized`. Authorizers are asked in the order of --authorization-mode; the first that does not answer
`no_opinion` decides, and when all have no opinion the request is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

ANONYMOUS = "system:anonymous"
ALL_AUTHENTICATED = "system:authenticated"
ALL_UNAUTHENTICATED = "system:unauthenticated"
PRIVILEGED_GROUP = "system:masters"


@dataclass(frozen=True, slots=True)
class UserInfo:
    """authentication.k8s.io's UserInfo."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, empty fields left out."""
        value: dict[str, Any] = {"username": self.name, "groups": list(self.groups)}
        if self.uid:
            value["uid"] = self.uid
        if self.extra:
            value["extra"] = {k: list(v) for k, v in self.extra.items()}
        return value


class Unauthorized(Exception):
    """Credentials were given and are not valid; the text goes to the log, never to the client."""


@dataclass(slots=True)
class Credentials:
    """What an authenticator may look at. It may remove from `headers` what it has consumed."""

    headers: Mapping[str, str]  # case-insensitive
    peer_certificate: bytes | None = None  # DER of a certificate already verified against --client-ca-file by the TLS layer
    remote: str = ""
    query: Mapping[str, str] = field(default_factory=dict)


class Authenticator(Protocol):
    """One kind of credential."""

    async def authenticate(self, request: Credentials) -> UserInfo | None: ...


@dataclass(frozen=True, slots=True)
class AuthzAttributes:
    """What is asked for (authorizer.Attributes). For a non-resource request only user, verb and path count."""

    user: UserInfo
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    is_resource: bool = True


class Verdict(StrEnum):
    allow = "allow"
    deny = "deny"
    no_opinion = "no_opinion"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict and its reason (shown to the client when the request is refused)."""

    verdict: Verdict
    reason: str = ""

    @property
    def allowed(self) -> bool:
        return self.verdict is Verdict.allow


ALLOW = Decision(Verdict.allow)
NO_OPINION = Decision(Verdict.no_opinion)


class Authorizer(Protocol):
    """One authorization mode."""

    async def authorize(self, attrs: AuthzAttributes) -> Decision: ...
