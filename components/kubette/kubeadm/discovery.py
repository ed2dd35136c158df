"""How a joining machine comes to trust the cluster: token discovery with pinned CA (upstream: app/discovery/token).

The ConfigMap `cluster-info` is read without trust, its signature is checked with the token, its CA with the pin, and it is read
again over TLS verified with that CA.
"""

import base64
import hashlib
import hmac
from pathlib import Path
from typing import Any

import yaml

from kubette.client import kubeconfig, resources
from kubette.client.kubeconfig import ClientConfig
from kubette.client.rest import FAILURES
from kubette.kubeadm import cluster_api, kubeconfigs
from kubette.kubeadm.config import ConfigError, parse_token


def jws_signature(kubeconfig: str, token: str) -> str:
    """The detached JWS (RFC 7515, HS256) that the bootstrap signer puts beside the kubeconfig."""
    token_id, token_secret = parse_token(token)

    def encode(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    header = encode(b'{"alg":"HS256","kid":"' + token_id.encode() + b'"}')
    signature = hmac.digest(token_secret.encode(), header + b"." + encode(kubeconfig.encode()), hashlib.sha256)
    return (header + b".." + encode(signature)).decode()


def check_pin(ca: bytes, pins: list[str]) -> None:
    """Raises ConfigError when no certificate of the bundle matches a pin. Without pins everything is trusted (unsafe, asked for)."""
    if not pins:
        return
    from cryptography import x509

    from kubette.kubeadm import pki

    found = [pki.public_key_hash(certificate) for certificate in x509.load_pem_x509_certificates(ca)]
    if not any(hmac.compare_digest(pin.lower(), each) for pin in pins for each in found):
        raise ConfigError(
            f"cluster CA found in cluster-info ConfigMap is invalid: none of the public keys {', '.join(map(repr, found))} are pinned".replace(
                "'", '"'
            )
        )


async def discover(endpoint: str, token: str, pins: list[str], timeout_s: float) -> tuple[str, bytes]:
    """(server URL, CA bundle) of the cluster behind `host:port`. Raises ConfigError."""
    token_id, _ = parse_token(token)
    signature_key = f"jws-kubeconfig-{token_id}"

    async def read(settings: ClientConfig) -> dict[str, str]:
        async def once() -> dict[str, str]:
            async with cluster_api.connect(settings) as client:
                found: dict[str, Any] = await client.get(resources.CONFIGMAPS, "kube-public", "cluster-info")
            data: dict[str, str] = found.get("data") or {}
            if signature_key not in data:
                # The signer has not seen a token that was just created.
                raise TimeoutError(
                    f'token id "{token_id}" is invalid for this cluster or it has expired. Use "kubeadm token create" on the control-plane node'
                )
            return data

        try:
            return await cluster_api.retried(once, timeout_s)
        except (*FAILURES, TimeoutError, OSError) as error:
            raise ConfigError(f"couldn't validate the identity of the API Server: {error}") from error

    data = await read(ClientConfig(server=f"https://{endpoint}", insecure_skip_tls_verify=True))
    text = data.get("kubeconfig", "")
    if not hmac.compare_digest(jws_signature(text, token), data[signature_key]):
        raise ConfigError(
            "couldn't validate the identity of the API Server: failed to verify JWS signature of received cluster info object, can't trust this API Server"
        )
    cluster = yaml.safe_load(text)["clusters"][0]["cluster"]
    ca = base64.b64decode(cluster["certificate-authority-data"])
    check_pin(ca, pins)
    again = await read(ClientConfig(server=f"https://{endpoint}", ca_data=ca.decode()))
    if again.get("kubeconfig") != text:
        raise ConfigError(
            "couldn't validate the identity of the API Server: the second kubeconfig from the cluster-info ConfigMap differs from the first"
        )
    return str(cluster["server"]), ca


def from_file(path: str, tls_bootstrap_token: str) -> dict[str, Any]:
    """The kubeconfig of `--discovery-file`, with the token as its user when it has none. Raises ConfigError."""
    try:
        document = kubeconfig.read_document(path)
        if not document.get("contexts"):
            # cluster-info as it is published: a cluster, and nobody who uses it.
            cluster = {"name": "discovery", "cluster": document["clusters"][0]["cluster"]}
            context = {"name": "discovery", "context": {"cluster": "discovery"}}
            document |= {"clusters": [cluster], "contexts": [context], "current-context": "discovery", "users": []}
        settings = kubeconfig.from_document(document)
        entry = next(c["cluster"] for c in document["clusters"] if c["cluster"].get("server"))
    except (kubeconfig.KubeconfigError, StopIteration, IndexError, KeyError, TypeError) as error:
        raise ConfigError(f"couldn't validate the identity of the API Server: failed to load discovery file {path}: {error}") from error
    ca = settings.ca_data.encode() or (Path(settings.ca_file).read_bytes() if settings.ca_file else b"")
    if not ca:
        raise ConfigError(f"couldn't validate the identity of the API Server: the discovery file {path} has no certificate-authority")
    if tls_bootstrap_token:
        return kubeconfigs.with_token(entry["server"], "kubernetes", "tls-bootstrap-token-user", ca, tls_bootstrap_token)
    if settings.token:
        return kubeconfigs.with_token(entry["server"], "kubernetes", "kubelet-bootstrap", ca, settings.token)
    if settings.cert_data and settings.key_data:
        return kubeconfigs.with_certificate(
            entry["server"], "kubernetes", "kubelet-bootstrap", ca, settings.cert_data.encode(), settings.key_data.encode()
        )
    raise ConfigError(
        "discovery.tlsBootstrapToken: Required value: the discovery file has no credentials: a token for the TLS bootstrap must be given"
    )
