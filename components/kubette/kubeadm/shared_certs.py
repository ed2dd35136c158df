"""The certificates that control planes share, encrypted with the certificate key (upstream: phases/copycerts).

AES-256-GCM by the library, nonce first, stored in the Secret `kubeadm-certs`.
"""

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kubette.kubeadm.config import Cluster, ConfigError
from kubette.stdx import files

NAMES = ("ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.pub", "sa.key")
_OWN_ETCD = ("etcd/ca.crt", "etcd/ca.key")
_EXTERNAL_ETCD = {"caFile": "external-etcd-ca.crt", "certFile": "external-etcd.crt", "keyFile": "external-etcd.key"}
_NONCE_BYTES = 12


def new_key() -> str:
    """A certificate key: 32 bytes in hex."""
    return secrets.token_hex(32)


def _cipher(key: str) -> AESGCM:
    try:
        raw = bytes.fromhex(key)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ConfigError("error decoding certificate key: it must be 64 hexadecimal digits")
    return AESGCM(raw)


def files_of(cluster: Cluster, directory: Path) -> dict[str, Path]:
    """Key of the Secret -> file. An etcd elsewhere is reached with the certificate of the first control plane; its authority's key is not here."""
    external = {name: Path(str(cluster.etcd_external[key])) for key, name in _EXTERNAL_ETCD.items() if cluster.etcd_external.get(key)}
    own = () if cluster.etcd_external else _OWN_ETCD
    return {name.replace("/", "-"): directory / name for name in (*NAMES, *own)} | external


def encrypt(shared: Mapping[str, Path], key: str) -> dict[str, str]:
    """Secret data: key -> base64 of the encrypted file."""
    cipher, data = _cipher(key), {}
    for name, path in shared.items():
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + cipher.encrypt(nonce, path.read_bytes(), None)
        data[name] = base64.b64encode(sealed).decode()
    return data


def decrypt(shared: Mapping[str, Path], key: str, data: Mapping[str, str]) -> None:
    """Write the shared files. Raises ConfigError for a wrong key."""
    cipher = _cipher(key)
    for name, path in shared.items():
        sealed = base64.b64decode(data.get(name, ""))
        try:
            content = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError) as error:
            raise ConfigError("error decoding secret data with provided key: cipher: message authentication failed") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, content, mode=0o600 if name.endswith(".key") else 0o644)
