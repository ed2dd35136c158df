"""Wiring of authentication and authorization from the flags."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from kubette.component_base.run import StartupError
from kubette.kube_apiserver.admission.interfaces import Lister
from kubette.kube_apiserver.auth import authenticators, rbac
from kubette.kube_apiserver.auth.interfaces import NO_OPINION, Authenticator, Authorizer, AuthzAttributes, Credentials, Decision, UserInfo, Verdict
from kubette.kube_apiserver.auth.node import NodeAuthorizer
from kubette.kube_apiserver.auth.service_account_tokens import ServiceAccountToken, TokenIssuer
from kubette.kube_apiserver.filters.answer import Answer


@dataclass(slots=True)
class Identity:
    """`tokens` and `issuer` are None where no service-account keys were given."""

    authenticator: authenticators.Union
    authorizer: Authorizer
    rbac: rbac.Rbac | None
    tokens: ServiceAccountToken | None
    issuer: TokenIssuer | None
    audiences: tuple[str, ...]

    async def authenticate_token(self, request: Credentials, audiences: Sequence[str]) -> tuple[UserInfo | None, list[str]]:
        """Who a token belongs to, and which of the audiences it is meant for (TokenReview).

        A token that knows no audiences is the API server's own, and good for its audiences alone.
        """
        token = authenticators.bearer_token(request)
        if self.tokens is not None and token.count(".") == 2:
            user = await self.tokens.authenticate_token(token, audiences)
            return (authenticators.with_authenticated_group(user), self.tokens.audiences_of(token, audiences)) if user is not None else (None, [])
        shared = [a for a in audiences if a in self.audiences]
        return (await self.authenticator.authenticate(request), shared) if shared or not self.audiences else (None, [])

    def openid_configuration(self) -> Answer:
        """RFC 8414's discovery document of the issuer."""
        issuer = self.issuer.issuer if self.issuer is not None else ""
        body: dict[str, Any] = {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        }
        return Answer(orjson.dumps(body))

    def jwks(self) -> Answer:
        return Answer(orjson.dumps(self.tokens.jwks() if self.tokens is not None else {"keys": []}), content_type="application/jwk-set+json")


class UnionAuthorizer:
    """The modes in order; the first with an opinion decides, the reasons of the others are collected."""

    def __init__(self, modes: list[Authorizer]) -> None:
        self._modes = tuple(modes)

    async def authorize(self, attrs: AuthzAttributes) -> Decision:
        reasons = []
        for mode in self._modes:
            decision = await mode.authorize(attrs)
            if decision.verdict is not Verdict.no_opinion:
                return decision
            if decision.reason:
                reasons.append(decision.reason)
        return Decision(NO_OPINION.verdict, ", ".join(reasons)) if reasons else NO_OPINION


def build(options: Any, lister: Lister) -> Identity:
    """Raises StartupError."""
    known: list[Authenticator] = []
    if options.requestheader_client_ca_file:
        authority = authenticators.CertificateAuthority(options.requestheader_client_ca_file)
        known.append(
            authenticators.RequestHeader(
                authority,
                options.requestheader_allowed_names,
                options.requestheader_username_headers,
                options.requestheader_group_headers,
                options.requestheader_extra_headers_prefix,
            )
        )
    if options.client_ca_file:
        known.append(authenticators.ClientCertificate(authenticators.CertificateAuthority(options.client_ca_file)))
    if options.token_auth_file:
        known.append(authenticators.TokenFile(options.token_auth_file))
    audiences = tuple(options.api_audiences or options.service_account_issuer)
    tokens = issuer = None
    if options.service_account_key_file or options.service_account_signing_key_file:
        if not options.service_account_issuer:
            raise StartupError("--service-account-issuer is a required flag")
        key_files = options.service_account_key_file or [options.service_account_signing_key_file]
        tokens = ServiceAccountToken(options.service_account_issuer, key_files, audiences, lister)
        known.append(tokens)
    if options.service_account_signing_key_file:
        issuer = TokenIssuer(options.service_account_issuer[0], options.service_account_signing_key_file)
    if options.enable_bootstrap_token_auth:
        known.append(authenticators.BootstrapToken(lister))
    decider = rbac.Rbac(lister) if "RBAC" in options.authorization_mode else None
    makers: dict[str, Callable[[], Authorizer]] = {
        "AlwaysAllow": rbac.AlwaysAllow,
        "AlwaysDeny": rbac.AlwaysDeny,
        "Node": lambda: NodeAuthorizer(lister),
        "RBAC": lambda: decider or rbac.Rbac(lister),
    }
    modes: list[Authorizer] = [rbac.PrivilegedGroups(), *(makers[mode]() for mode in options.authorization_mode)]
    anonymous = options.anonymous_auth and options.authorization_mode != ["AlwaysAllow"]
    union = authenticators.Union(known, anonymous=anonymous)
    return Identity(union, UnionAuthorizer(modes), decider, tokens, issuer, audiences)
