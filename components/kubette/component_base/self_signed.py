"""A certificate for a server that was given none (upstream's MaybeDefaultWithSelfSignedCerts): self-signed, its own authority."""

import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubette.stdx.clock import SYSTEM_CLOCK

YEAR = datetime.timedelta(days=365)


def make(hosts: Sequence[str], years: int = 1) -> tuple[bytes, bytes]:
    """(certificate, key) as PEM text for these names and addresses; the first names it."""
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
        .not_valid_after(now + years * YEAR)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), private


def server_context(bind_address: str) -> ssl.SSLContext:
    """A server's context with a fresh certificate; the key never touches a disk."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    host = socket.gethostname() if bind_address in ("", "0.0.0.0", "::") else bind_address
    fd = os.memfd_create("serving-certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, b"".join(make([host, "localhost", "127.0.0.1", "::1"])))
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context
