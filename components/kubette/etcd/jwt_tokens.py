"""`--auth-token=jwt,…`: tokens that carry their user and auth revision, signed; any member that has the public key believes them.

Options, as upstream's: `sign-method` (needed), `pub-key` (a file; the secret for HMAC is `priv-key`), `priv-key`, `ttl`.
"""

from pathlib import Path

from kubette.component_base.flags import FlagError, parse_duration
from kubette.etcd.auth import Caller
from kubette.etcd_api import errors
from kubette.stdx.clock import Clock

_METHODS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "EdDSA")
_OPTIONS = {"sign-method", "pub-key", "priv-key", "ttl"}
_TTL_S = 300.0


class JwtTokens:
    """Signs if it has the private key, verifies in any case."""

    def __init__(self, method: str, public_key: bytes, private_key: bytes, ttl_s: float, clock: Clock) -> None:
        self._method, self._public_key, self._private_key, self._ttl_s, self._clock = method, public_key, private_key, ttl_s, clock

    def sign(self, caller: Caller) -> str:
        """Raises RpcError when this member can only verify."""
        if not self._private_key:
            raise errors.error(errors.AUTH_FAILED)
        import jwt

        claims = {"username": caller.name, "revision": caller.revision, "exp": int(self._clock.wall() + self._ttl_s)}
        return jwt.encode(claims, self._private_key, algorithm=self._method)

    def caller_of(self, token: str) -> Caller:
        """Raises RpcError for a token that is not valid (any more)."""
        import jwt

        try:
            claims = jwt.decode(token, self._public_key, algorithms=[self._method], options={"require": ["exp"]})
            return Caller(str(claims["username"]), int(claims["revision"]))
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            raise errors.error(errors.INVALID_AUTH_TOKEN) from None


def parse(text: str, clock: Clock) -> JwtTokens | None:
    """The value of --auth-token; None for simple tokens. Raises FlagError."""
    kind, *options = text.split(",")
    if kind == "simple":
        return None
    if kind != "jwt":
        raise FlagError(f'unknown auth-token "{text}": must be one of simple, jwt')
    given = dict(option.partition("=")[::2] for option in options)
    method = given.get("sign-method", "")
    if set(given) - _OPTIONS or method not in _METHODS:
        raise FlagError(f'invalid auth-token options "{text}"')
    try:
        private_key = Path(given["priv-key"]).read_bytes() if given.get("priv-key") else b""
        public_key = Path(given["pub-key"]).read_bytes() if given.get("pub-key") else b""
        ttl_s = parse_duration(given["ttl"]) if given.get("ttl") else _TTL_S
    except (OSError, ValueError) as error:
        raise FlagError(f'invalid auth-token options "{text}": {error}') from None
    if method.startswith("HS"):
        public_key = private_key
    if not public_key or ttl_s <= 0:
        raise FlagError(f'invalid auth-token options "{text}": a key to verify with and a positive ttl are needed')
    return JwtTokens(method, public_key, private_key, ttl_s, clock)
