"""Service account tokens for pods, by TokenRequest, bound to the pod and renewed in time (kubelet/token).

A token is renewed when 80 % of its life is over, or after 24 hours; if that fails the old one stays until it expires.
"""

from dataclasses import dataclass
from typing import Any

from kubette.apimachinery import timestamps
from kubette.apimachinery.status import ApiError
from kubette.client import resources
from kubette.client.rest import Client
from kubette.client.transport import TransportError
from kubette.kubelet import pod_spec
from kubette.kubelet.volumes.payloads import VolumeError
from kubette.stdx.clock import Clock

RENEW_AT = 0.8
RENEW_AFTER_S_MAX = 24 * 3600.0
DEFAULT_LIFE_S = 3600
CACHE_MAX = 4096


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    issued_at: float
    expires_at: float

    def renew_at(self) -> float:
        return self.issued_at + min(RENEW_AT * (self.expires_at - self.issued_at), RENEW_AFTER_S_MAX)


class TokenManager:
    """A cache of tokens by what they are for."""

    def __init__(self, client: Client | None, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._tokens: dict[tuple[str, str, int], _Token] = {}

    async def token(self, pod: pod_spec.Pod, source: dict[str, Any]) -> str:
        """A valid token for one projected source. Raises VolumeError."""
        audience = source.get("audience") or ""
        seconds = int(source.get("expirationSeconds") or DEFAULT_LIFE_S)
        key = (pod_spec.uid(pod), audience, seconds)
        now = self._clock.wall()
        known = self._tokens.get(key)
        if known is not None and now < known.renew_at():
            return known.text
        account = pod["spec"].get("serviceAccountName") or "default"
        if self._client is None:
            raise VolumeError(f'failed to fetch token for service account "{account}": the kubelet runs without an API server')
        reference = {"kind": "Pod", "apiVersion": "v1", "name": pod_spec.name(pod), "uid": pod_spec.uid(pod)}
        spec: dict[str, Any] = {"expirationSeconds": seconds, "boundObjectRef": reference, "audiences": [audience] if audience else []}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec}
        try:
            answer = await self._client.create(resources.SERVICEACCOUNTS, pod_spec.namespace(pod), body, name=account, subresource="token")
        except (ApiError, TransportError) as error:
            if known is not None and now < known.expires_at:
                return known.text
            raise VolumeError(f"failed to fetch token: {error}") from error
        status = answer["status"]
        if len(self._tokens) >= CACHE_MAX:
            self._tokens = {k: t for k, t in self._tokens.items() if t.expires_at > now}
        self._tokens[key] = _Token(status["token"], now, timestamps.parse_time(status["expirationTimestamp"]))
        return str(status["token"])

    def forget(self, uid: str) -> None:
        for key in [k for k in self._tokens if k[0] == uid]:
            del self._tokens[key]
