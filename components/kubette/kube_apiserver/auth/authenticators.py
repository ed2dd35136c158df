"""The kinds of credential that are not service-account tokens: certificates, token file, bootstrap tokens, front proxy."""

import csv
import datetime
import hmac
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from kubette.component_base.run import StartupError
from kubette.kube_apiserver.admission.interfaces import Lister
from kubette.kube_apiserver.auth.interfaces import (
    ALL_AUTHENTICATED,
    ALL_UNAUTHENTICATED,
    ANONYMOUS,
    Authenticator,
    Credentials,
    Unauthorized,
    UserInfo,
)
from kubette.stdx.clock import SYSTEM_CLOCK

_CERTIFICATE_CACHE = 1024  # the same few clients come again and again; parsing costs more than the request


class CertificateAuthority:
    """Says which of the verified client certificates were issued by this bundle (the TLS layer accepts those of two bundles)."""

    def __init__(self, ca_file: str) -> None:
        from cryptography import x509

        try:
            self._certificates = x509.load_pem_x509_certificates(Path(ca_file).read_bytes())
        except (OSError, ValueError) as error:
            raise StartupError(f"unable to load client CA provider: {error}") from error
        self.subject = lru_cache(maxsize=_CERTIFICATE_CACHE)(self._subject)

    def _subject(self, der: bytes) -> UserInfo | None:
        """User and groups of a certificate that one of ours issued (CN, O, and a credential id as upstream gives it)."""
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import NameOID

        certificate = x509.load_der_x509_certificate(der)
        for authority in self._certificates:
            try:
                certificate.verify_directly_issued_by(authority)
                break
            except (InvalidSignature, ValueError, TypeError):
                continue
        else:
            return None
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if not names:
            return None
        groups = [str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        extra = {"authentication.kubernetes.io/credential-id": (f"X509SHA256={fingerprint}",)}
        return UserInfo(str(names[0].value), groups=tuple(groups), extra=extra)


class ClientCertificate:
    """x509: the common name is the user, each organization a group."""

    def __init__(self, authority: CertificateAuthority) -> None:
        self._authority = authority

    async def authenticate(self, request: Credentials) -> UserInfo | None:
        return self._authority.subject(request.peer_certificate) if request.peer_certificate else None


class RequestHeader:
    """A front proxy with an allowed certificate says in headers for whom it asks."""

    def __init__(
        self, authority: CertificateAuthority, allowed: Sequence[str], users: Sequence[str], groups: Sequence[str], extras: Sequence[str]
    ) -> None:
        self._authority, self._allowed = authority, tuple(allowed)
        self._users, self._groups, self._extras = users, groups, extras

    async def authenticate(self, request: Credentials) -> UserInfo | None:
        if not request.peer_certificate:
            return None
        proxy = self._authority.subject(request.peer_certificate)
        if proxy is None or (self._allowed and proxy.name not in self._allowed):
            return None
        user = next((request.headers[name] for name in self._users if request.headers.get(name)), "")
        if not user:
            return None
        groups = tuple(value for name in self._groups for value in _all(request, name))
        extra = {}
        for prefix in self._extras:
            for name in request.headers:
                if name.lower().startswith(prefix.lower()):
                    extra[unquote(name[len(prefix) :].lower())] = tuple(_all(request, name))
        return UserInfo(user, groups=groups, extra=extra)


def _all(request: Credentials, name: str) -> list[str]:
    read = getattr(request.headers, "getall", None)
    if read is not None:
        return list(read(name, []))
    return [request.headers[name]] if name in request.headers else []


def bearer_token(request: Credentials) -> str:
    """The token of `Authorization: Bearer …`, or of a WebSocket subprotocol as browsers send it."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    for protocol in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        encoded = protocol.strip()
        prefix = "base64url.bearer.authorization.k8s.io."
        if encoded.startswith(prefix):
            import base64

            body = encoded.removeprefix(prefix)
            return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode(errors="replace")
    return ""


class TokenFile:
    """--token-auth-file: token,user,uid,"group1,group2"."""

    def __init__(self, path: str) -> None:
        self._users: dict[str, UserInfo] = {}
        try:
            with open(path, newline="") as file:
                rows = list(csv.reader(file))
        except OSError as error:
            raise StartupError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
        for row in rows:
            if len(row) < 3:
                raise StartupError(f"token file '{path}' must have at least 3 columns (token, user name, user uid), found {len(row)}")
            groups = tuple(row[3].split(",")) if len(row) > 3 and row[3] else ()
            self._users[row[0]] = UserInfo(row[1], row[2], groups)

    async def authenticate(self, request: Credentials) -> UserInfo | None:
        token = bearer_token(request)
        return self._users.get(token) if token else None


class BootstrapToken:
    """`<id>.<secret>` of a Secret bootstrap-token-<id> in kube-system that may be used for authentication."""

    def __init__(self, lister: Lister) -> None:
        self._lister = lister

    async def authenticate(self, request: Credentials) -> UserInfo | None:
        token_id, dot, token_secret = bearer_token(request).partition(".")
        if not dot or len(token_id) != 6 or len(token_secret) != 16:
            return None
        found = await self._lister.get("", "secrets", "kube-system", f"bootstrap-token-{token_id}")
        if found is None or found.get("type") != "bootstrap.kubernetes.io/token" or found["metadata"].get("deletionTimestamp"):
            return None
        import base64

        data = {k: base64.b64decode(v).decode(errors="replace") for k, v in (found.get("data") or {}).items()}
        if not hmac.compare_digest(data.get("token-secret", ""), token_secret) or data.get("token-id") != token_id:
            return None
        if data.get("usage-bootstrap-authentication") != "true" or _expired(data.get("expiration", "")):
            return None
        groups = ["system:bootstrappers", *filter(None, data.get("auth-extra-groups", "").split(","))]
        return UserInfo(f"system:bootstrap:{token_id}", groups=tuple(groups))


def _expired(expiration: str) -> bool:
    if not expiration:
        return False
    try:
        return datetime.datetime.fromisoformat(expiration) <= datetime.datetime.fromtimestamp(SYSTEM_CLOCK.wall(), datetime.UTC)
    except ValueError:
        return True  # unparsable is treated as expired, as upstream does


class Anonymous:
    """Last in the union: whoever brings no credential."""

    async def authenticate(self, request: Credentials) -> UserInfo | None:
        return UserInfo(ANONYMOUS, groups=(ALL_UNAUTHENTICATED,))


def with_authenticated_group(user: UserInfo) -> UserInfo:
    """Whoever is known is in the group of all authenticated users."""
    if ALL_AUTHENTICATED in user.groups or ALL_UNAUTHENTICATED in user.groups:
        return user
    return UserInfo(user.name, user.uid, (*user.groups, ALL_AUTHENTICATED), user.extra)


class Union:
    """Each authenticator in turn; the group of all authenticated users is added to whoever is known.

    A bearer token that none accepts is an error, not an anonymous request: a typo must not look like a missing right.
    """

    def __init__(self, authenticators: Sequence[Authenticator], *, anonymous: bool) -> None:
        self._authenticators = tuple(authenticators)
        self._anonymous = Anonymous() if anonymous else None

    async def authenticate(self, request: Credentials) -> UserInfo | None:
        for authenticator in self._authenticators:
            user = await authenticator.authenticate(request)
            if user is not None:
                return with_authenticated_group(user)
        if bearer_token(request):
            raise Unauthorized("invalid bearer token")
        return await self._anonymous.authenticate(request) if self._anonymous else None
