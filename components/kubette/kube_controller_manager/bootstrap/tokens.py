"""Pure: bootstrap token secrets (`bootstrap-token-<id>` in kube-system) and the signatures made with them.

A signature is a JWS (RFC 7515) over the kubeconfig in cluster-info, HS256 with the token's secret, its payload detached.
"""

import base64
import hashlib
import hmac
import re
from typing import Any

import orjson

from kubette.apimachinery import meta, timestamps

Object = dict[str, Any]

SECRET_TYPE = "bootstrap.kubernetes.io/token"
NAMESPACE = "kube-system"
SIGNATURE_PREFIX = "jws-kubeconfig-"

_ID = re.compile(r"[a-z0-9]{6}")
_SECRET = re.compile(r"[a-z0-9]{16}")


def field(secret: Object, name: str) -> str:
    value = (secret.get("data") or {}).get(name)
    return base64.b64decode(value).decode(errors="replace") if value else ""


def expires_at(secret: Object) -> float | None:
    """When the token ends; None for never. A broken time counts as ended long ago."""
    text = field(secret, "expiration")
    if not text:
        return None
    try:
        return timestamps.parse_time(text)
    except ValueError:
        return 0.0


def signing_token(secret: Object, now: float) -> tuple[str, str] | None:
    """(id, secret) of a token that may sign cluster-info."""
    token_id, token_secret = field(secret, "token-id"), field(secret, "token-secret")
    if not _ID.fullmatch(token_id) or not _SECRET.fullmatch(token_secret) or meta.name(secret) != f"bootstrap-token-{token_id}":
        return None
    expires = expires_at(secret)
    if expires is not None and expires <= now:
        return None
    return (token_id, token_secret) if field(secret, "usage-bootstrap-signing") == "true" else None


def detached_signature(content: str, token_id: str, token_secret: str) -> str:
    """`header..signature`."""
    header = _base64url(orjson.dumps({"alg": "HS256", "kid": token_id}))
    signed = header + b"." + _base64url(content.encode())
    signature = _base64url(hmac.digest(token_secret.encode(), signed, hashlib.sha256))
    return f"{header.decode()}..{signature.decode()}"


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed_data(data: dict[str, str], tokens: dict[str, str]) -> dict[str, str]:
    """cluster-info's data with exactly the signatures that these tokens make."""
    kubeconfig = data.get("kubeconfig", "")
    found = {k: v for k, v in data.items() if not k.startswith(SIGNATURE_PREFIX)}
    if kubeconfig:
        for token_id in sorted(tokens):
            found[SIGNATURE_PREFIX + token_id] = detached_signature(kubeconfig, token_id, tokens[token_id])
    return found
