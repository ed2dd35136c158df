"""Pure: kubeconfig documents (upstream: cmd/kubeadm/app/util/kubeconfig)."""

import base64
from typing import Any


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def document(server: str, cluster: str, user: str, ca: bytes, credentials: dict[str, Any]) -> dict[str, Any]:
    """A kubeconfig with one cluster, one user, one context."""
    context = f"{user}@{cluster}"
    return {
        "apiVersion": "v1",
        "clusters": [{"cluster": {"certificate-authority-data": _encode(ca), "server": server}, "name": cluster}],
        "contexts": [{"context": {"cluster": cluster, "user": user}, "name": context}],
        "current-context": context,
        "kind": "Config",
        "preferences": {},
        "users": [{"name": user, "user": credentials}],
    }


def with_certificate(server: str, cluster: str, user: str, ca: bytes, certificate: bytes, key: bytes) -> dict[str, Any]:
    credentials = {"client-certificate-data": _encode(certificate), "client-key-data": _encode(key)}
    return document(server, cluster, user, ca, credentials)


def with_token(server: str, cluster: str, user: str, ca: bytes, token: str) -> dict[str, Any]:
    return document(server, cluster, user, ca, {"token": token})
