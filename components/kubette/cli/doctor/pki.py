"""Certificates and keys out of PEM texts and kubeconfigs: who signed what, which key belongs to which certificate."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key, load_pem_public_key

from kubette.cli.doctor.facts import Certificate

_KUBECONFIG_ENDS = (".conf", ".kubeconfig", "/kubeconfig", "/.kube/config")
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error)


def is_kubeconfig(path: str) -> bool:
    return path.endswith(_KUBECONFIG_ENDS) and "/systemd/" not in path


def read(texts: Mapping[str, str]) -> tuple[tuple[Certificate, ...], dict[str, str]]:
    """The certificates and the keys (path → fingerprint of the public key) of one machine."""
    pems: dict[str, str] = {}
    keys: dict[str, str] = {}
    for path, text in texts.items():
        if is_kubeconfig(path):
            pems.update(_of_kubeconfig(path, text, keys))
            continue
        if "-----BEGIN CERTIFICATE-----" in text:
            pems[path] = text
        if "PRIVATE KEY-----" in text or "-----BEGIN PUBLIC KEY-----" in text:
            keys[path] = _key_of(text)
    loaded: dict[str, x509.Certificate] = {}
    for path, text in pems.items():
        try:
            loaded[path] = x509.load_pem_x509_certificate(text[text.index("-----BEGIN CERTIFICATE-----") :].encode())
        except _UNREADABLE:
            continue
    authorities = {path: certificate for path, certificate in loaded.items() if _is_ca(certificate) and "(" not in path}
    return tuple(_certificate(path, each, authorities) for path, each in sorted(loaded.items())), keys


def _of_kubeconfig(path: str, text: str, keys: dict[str, str]) -> dict[str, str]:
    found = {}
    try:
        document: Any = yaml.safe_load(text)
        for entry in document.get("clusters") or []:
            if data := (entry.get("cluster") or {}).get("certificate-authority-data"):
                found[f"{path} (certificate authority)"] = base64.b64decode(data).decode()
        for entry in document.get("users") or []:
            user = entry.get("user") or {}
            if data := user.get("client-certificate-data"):
                found[f"{path} (client certificate)"] = base64.b64decode(data).decode()
            if data := user.get("client-key-data"):
                keys[f"{path} (client key)"] = _key_of(base64.b64decode(data).decode())
    except (*_UNREADABLE, AttributeError, yaml.YAMLError):
        pass
    return found


def _fingerprint(key: PublicKeyTypes) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _key_of(text: str) -> str:
    """Empty for one that cannot be read."""
    try:
        if "PRIVATE KEY-----" in text:
            at = text.index("-----BEGIN", max(0, text.index("PRIVATE KEY-----") - 20))
            return _fingerprint(load_pem_private_key(text[at:].encode(), None).public_key())
        return _fingerprint(load_pem_public_key(text.encode()))
    except _UNREADABLE:
        return ""


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def _certificate(path: str, certificate: x509.Certificate, authorities: Mapping[str, x509.Certificate]) -> Certificate:
    return Certificate(
        path,
        certificate.subject.rfc4514_string(),
        certificate.issuer.rfc4514_string(),
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
        _names(certificate),
        next((at for at, ca in sorted(authorities.items()) if _has_signed(ca, certificate)), ""),
        _fingerprint(certificate.public_key()),
        _is_ca(certificate),
    )


def _has_signed(ca: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
