"""The certificates that control planes share, encrypted with the certificate key (upstream: phases/copycerts).

AES-256-GCM by the library, nonce first, stored in the Secret `kubeadm-certs`.
"""

import base64
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kubette.kubeadm.config import ConfigError
from kubette.stdx import files

NAMES = ("ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.pub", "sa.key", "etcd/ca.crt", "etcd/ca.key")
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


def encrypt(directory: Path, key: str) -> dict[str, str]:
    """Secret data: file name (with `-` for `/`) -> base64 of the encrypted file."""
    cipher, data = _cipher(key), {}
    for name in NAMES:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + cipher.encrypt(nonce, (directory / name).read_bytes(), None)
        data[name.replace("/", "-")] = base64.b64encode(sealed).decode()
    return data


def decrypt(directory: Path, key: str, data: dict[str, str]) -> None:
    """Write the shared files below `directory`. Raises ConfigError for a wrong key."""
    cipher = _cipher(key)
    for name in NAMES:
        sealed = base64.b64decode(data.get(name.replace("/", "-"), ""))
        try:
            content = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError) as error:
            raise ConfigError("error decoding secret data with provided key: cipher: message authentication failed") from error
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, content, mode=0o600 if name.endswith(".key") else 0o644)
