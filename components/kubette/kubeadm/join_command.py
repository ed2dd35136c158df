"""The `kubeadm join …` line for a running cluster."""

import base64

import yaml
from cryptography import x509

from kubette.client import resources
from kubette.client.rest import Client
from kubette.kubeadm import pki


async def text(client: Client, token: str, certificate_key: str = "") -> str:
    """From cluster-info: the endpoint and the pin that a joining machine needs."""
    info = await client.get(resources.CONFIGMAPS, "kube-public", "cluster-info")
    cluster = yaml.safe_load(info["data"]["kubeconfig"])["clusters"][0]["cluster"]
    ca = x509.load_pem_x509_certificate(base64.b64decode(cluster["certificate-authority-data"]))
    endpoint = cluster["server"].removeprefix("https://")
    line = f"kubeadm join {endpoint} --token {token} --discovery-token-ca-cert-hash {pki.public_key_hash(ca)}"
    return f"{line} --control-plane --certificate-key {certificate_key}" if certificate_key else line
