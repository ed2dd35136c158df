"""A serving certificate in memory for a port that only this host's probes and a scraper without CA ask (upstream's MaybeDefaultWithSelfSignedCerts)."""

import datetime
import ipaddress
import os
import socket
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubette.stdx.clock import SYSTEM_CLOCK

LIFETIME_DAYS = 365


def make(host: str) -> bytes:
    """Certificate and key as one PEM text."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{host}@{int(SYSTEM_CLOCK.wall())}")])
    now = datetime.datetime.fromtimestamp(SYSTEM_CLOCK.wall(), datetime.UTC)
    addresses = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=LIFETIME_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName(host), *map(x509.IPAddress, addresses)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM) + private


def server_context(bind_address: str) -> ssl.SSLContext:
    """A server's context with a fresh certificate; the key never touches a disk."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    host = socket.gethostname() if bind_address in ("", "0.0.0.0", "::") else bind_address
    fd = os.memfd_create("serving-certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, make(host))
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context
