"""Certificates for tests: authorities, and what they issue, as files."""

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_BEGIN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Issued:
    cert: str
    key: str
    serial: int


def _name(common_name: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


class Authority:
    """Its certificate is at `cert`."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._label = name
        builder = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.cert = self._write(f"{name}.crt", builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        return builder.serial_number(x509.random_serial_number()).not_valid_before(_BEGIN).not_valid_after(_END)

    def _write(self, name: str, content: bytes) -> str:
        path = self._directory / name.replace(":", "_").replace("/", "_")
        path.write_bytes(content)
        return str(path)

    def issue(self, common_name: str, *, addresses: Sequence[str] = (), names: Sequence[str] = (), organization: str = "") -> Issued:
        """A certificate for servers and clients."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(common_name, organization), key)
        alternatives: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
        alternatives += [x509.DNSName(each) for each in names]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        stem = f"{self._label}-{common_name}-{certificate.serial_number % 10**8}"
        cert = self._write(f"{stem}.crt", certificate.public_bytes(serialization.Encoding.PEM))
        return Issued(cert, self._write(f"{stem}.key", pem), certificate.serial_number)

    def revoke(self, *issued: Issued) -> str:
        """A revocation list with these; its path."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name).last_update(_BEGIN).next_update(_END)
        for each in issued:
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(each.serial).revocation_date(_BEGIN).build())
        return self._write(f"{self._label}.crl", builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def client_context(self, issued: Issued | None = None) -> ssl.SSLContext:
        """A client that trusts this authority, and shows a certificate if it has one."""
        context = ssl.create_default_context(cafile=self.cert)
        if issued is not None:
            context.load_cert_chain(issued.cert, issued.key)
        return context
