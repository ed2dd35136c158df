"""Bound service-account tokens: JWTs that the API server signs and later recognises (KEP-1205, RFC 7519).

A token is bound to its ServiceAccount and, if asked, to a Pod, Secret or Node: it ends with the object it is bound to.
"""

import base64
import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubette.component_base.run import StartupError
from kubette.kube_apiserver.admission.interfaces import Lister
from kubette.kube_apiserver.auth.authenticators import bearer_token
from kubette.kube_apiserver.auth.interfaces import Credentials, Unauthorized, UserInfo
from kubette.stdx.clock import SYSTEM_CLOCK

MIN_EXPIRATION_S = 600
MAX_EXPIRATION_S = 1 << 32
_CACHED_TOKENS = 1024  # verifying a signature costs more than most requests


def _load_keys(paths: Sequence[str]) -> list[Any]:
    """The public keys in PEM files of certificates, of public or of private keys."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    keys = []
    for path in paths:
        try:
            pem = Path(path).read_bytes()
        except OSError as error:
            raise StartupError(f"failed to parse service-account-key-file: open {path}: {(error.strerror or str(error)).lower()}") from error
        try:
            if b"PRIVATE KEY" in pem:
                keys.append(serialization.load_pem_private_key(pem, None).public_key())
            elif b"CERTIFICATE" in pem:
                keys.extend(certificate.public_key() for certificate in x509.load_pem_x509_certificates(pem))
            else:
                keys.append(serialization.load_pem_public_key(pem))
        except ValueError as error:
            raise StartupError(f"failed to parse service-account-key-file {path}: {error}") from error
    return keys


def key_id(key: Any) -> str:
    """The `kid` upstream gives a key: base64url of the SHA-256 of its DER form."""
    from cryptography.hazmat.primitives import serialization

    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


def _algorithm(key: Any) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(key, ec.EllipticCurvePublicKey):
        return {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]
    return "RS256"


class TokenIssuer:
    """Signs tokens with --service-account-signing-key-file."""

    def __init__(self, issuer: str, signing_key_file: str) -> None:
        from cryptography.hazmat.primitives import serialization

        self.issuer = issuer
        try:
            self._key = serialization.load_pem_private_key(Path(signing_key_file).read_bytes(), None)
        except (OSError, ValueError) as error:
            raise StartupError(f"failed to build token generator: {error}") from error
        public = self._key.public_key()
        self._kid, self._alg = key_id(public), _algorithm(public)

    def issue(
        self, namespace: str, account: dict[str, Any], audiences: Sequence[str], lifetime_s: int, bound: dict[str, dict[str, str]]
    ) -> tuple[str, float]:
        """(token, expiry as Unix time). `bound` is e.g. {"pod": {"name": …, "uid": …}, "node": {…}}."""
        import jwt

        now = int(SYSTEM_CLOCK.wall())
        metadata = account["metadata"]
        private = {"namespace": namespace, "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]}, **bound}
        claims = {
            "aud": list(audiences),
            "exp": now + lifetime_s,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": private,
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{metadata['name']}",
        }
        return jwt.encode(claims, self._key, algorithm=self._alg, headers={"kid": self._kid}), float(claims["exp"])  # type: ignore[arg-type]


class ServiceAccountToken:
    """Recognises tokens signed by any of --service-account-key-file."""

    def __init__(self, issuers: Sequence[str], key_files: Sequence[str], audiences: Sequence[str], lister: Lister) -> None:
        self._issuers, self._audiences, self._lister = tuple(issuers), tuple(audiences), lister
        self._keys = {key_id(key): key for key in _load_keys(key_files)}
        self._verified: dict[str, dict[str, Any]] = {}

    def jwks(self) -> dict[str, Any]:
        """The body of `/openid/v1/jwks` (RFC 7517)."""
        import json

        from jwt.algorithms import ECAlgorithm, RSAAlgorithm

        keys = []
        for kid, key in self._keys.items():
            algorithm = _algorithm(key)
            shown = json.loads((RSAAlgorithm if algorithm == "RS256" else ECAlgorithm).to_jwk(key))
            keys.append({"use": "sig", "kid": kid, "alg": algorithm} | {k: v for k, v in shown.items() if k not in ("key_ops",)})
        return {"keys": keys}

    async def authenticate(self, request: Credentials) -> UserInfo | None:
        token = bearer_token(request)
        return await self.authenticate_token(token, self._audiences) if token.count(".") == 2 else None

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> UserInfo | None:
        """The account of a token for one of these audiences; None if it is not one of ours. Raises Unauthorized."""
        claims = self._claims(token)
        if claims is None:
            return None
        if not set(claims.get("aud") or ()) & set(audiences):
            raise Unauthorized(f"token audiences {claims.get('aud')} is invalid for the target audiences {list(audiences)}")
        if claims["exp"] <= SYSTEM_CLOCK.wall():
            raise Unauthorized("service account token has expired")
        private = claims.get("kubernetes.io") or {}
        namespace, account = private.get("namespace", ""), private.get("serviceaccount") or {}
        await self._check_bound(namespace, private)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        extra = {"authentication.kubernetes.io/credential-id": (f"JTI={claims.get('jti', '')}",)}
        for kind in ("pod", "node"):
            if kind in private:
                extra[f"authentication.kubernetes.io/{kind}-name"] = (private[kind]["name"],)
                extra[f"authentication.kubernetes.io/{kind}-uid"] = (private[kind].get("uid", ""),)
        return UserInfo(f"system:serviceaccount:{namespace}:{account.get('name', '')}", account.get("uid", ""), groups, extra)

    def audiences_of(self, token: str, wanted: Sequence[str]) -> list[str]:
        """Which of the wanted audiences the token is for (TokenReview's status.audiences)."""
        claims = self._claims(token) or {}
        return [a for a in wanted if a in (claims.get("aud") or ())]

    def _claims(self, token: str) -> dict[str, Any] | None:
        known = self._verified.get(token)
        if known is not None:
            return known
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(header.get("kid", ""))
            candidates = [key] if key is not None else list(self._keys.values())
            claims = self._verify(token, candidates)
        except jwt.PyJWTError:
            return None
        if claims is None or claims.get("iss") not in self._issuers:
            return None
        if len(self._verified) >= _CACHED_TOKENS:
            self._verified.clear()
        self._verified[token] = claims
        return claims

    def _verify(self, token: str, candidates: Sequence[Any]) -> dict[str, Any] | None:
        import jwt

        for key in candidates:
            try:
                # Audience and expiry are checked by the caller: their failure is a refusal, not "not one of ours".
                options: Any = {"verify_aud": False, "verify_exp": False, "verify_iat": False, "require": ["exp", "iss", "sub"]}
                return dict(jwt.decode(token, key, algorithms=[_algorithm(key)], options=options))
            except jwt.InvalidSignatureError:
                continue
        return None

    async def _check_bound(self, namespace: str, private: dict[str, Any]) -> None:
        """The account and whatever the token is bound to must still be there, with the same uid."""
        for kind, resource in (("serviceaccount", "serviceaccounts"), ("pod", "pods"), ("secret", "secrets")):
            reference = private.get(kind)
            if not reference:
                continue
            found = await self._lister.get("", resource, namespace, reference["name"])
            if found is None or found["metadata"]["uid"] != reference.get("uid"):
                raise Unauthorized(f"service account token is bound to a {kind} that was deleted: {namespace}/{reference['name']}")
        node = private.get("node")
        if node and "pod" not in private:
            found = await self._lister.get("", "nodes", "", node["name"])
            if found is None or found["metadata"]["uid"] != node.get("uid"):
                raise Unauthorized(f"service account token is bound to a node that was deleted: {node['name']}")
