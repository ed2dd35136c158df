"""The certificate of a server that was given none: self-signed, kept in --cert-dir (upstream's MaybeDefaultWithSelfSignedCerts)."""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from kubette.component_base.run import StartupError
from kubette.stdx import files
from kubette.stdx.clock import SYSTEM_CLOCK

LIFETIME = datetime.timedelta(days=365)


def ensure(cert_dir: str, hosts: Sequence[str]) -> tuple[str, str]:
    """(certificate file, key file) of `apiserver` in the directory, made if they are not there."""
    directory = Path(cert_dir)
    cert, key = directory / "apiserver.crt", directory / "apiserver.key"
    if not (cert.exists() and key.exists()):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            certificate_pem, key_pem = _self_signed(hosts)
            files.write_atomic(key, key_pem, 0o600)
            files.write_atomic(cert, certificate_pem, 0o644)
        except OSError as error:
            raise StartupError(f"error creating self-signed certificates: {error.strerror}: {error.filename}") from error
    return str(cert), str(key)


def _self_signed(hosts: Sequence[str]) -> tuple[bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.fromtimestamp(SYSTEM_CLOCK.wall(), datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{hosts[0]}@{int(now.timestamp())}")])
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), private
