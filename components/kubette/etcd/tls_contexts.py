"""TLS of the two sides, clients and members: contexts out of files, certificates made where none are given, and who is let in."""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from kubette.component_base import logs, tls
from kubette.component_base.run import StartupError
from kubette.etcd import peer_identity
from kubette.etcd.config import Tls

log = logs.logger(__name__)
_VERSIONS = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3, "": ssl.TLSVersion.MAXIMUM_SUPPORTED}
_LOOKUP_TIMEOUT_S = 5.0


def prepare(files: Tls, side: str, data_dir: str, urls: Iterable[str], years: int) -> Tls:
    """The files to use: those given, or (with --auto-tls) a self-signed pair in the data directory, made once. Raises StartupError."""
    if bool(files.cert_file) != bool(files.key_file):
        raise StartupError(f"KeyFile and CertFile must both be present[key: {files.key_file}, cert: {files.cert_file}]")
    if not files.auto:
        return files
    if files.cert_file:
        log.warning(f"ignoring {side} auto TLS since certs given")
        return replace(files, auto=False)
    directory = Path(data_dir) / "fixtures" / side
    cert, key = directory / "cert.pem", directory / "key.pem"
    if not (cert.exists() and key.exists()):
        from kubette.component_base import self_signed

        hosts = [urlsplit(url).hostname or urlsplit(url).path for url in urls]
        try:
            Path(data_dir).mkdir(parents=True, exist_ok=True, mode=0o700)
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            certificate, private = self_signed.make(hosts, years)
            _write(key, private, 0o600)
            _write(cert, certificate, 0o644)
        except OSError as error:
            raise StartupError(f"cannot create cert directory: {error.strerror}: {error.filename}") from error
        log.info("created cert file", path=str(cert))
    return replace(files, cert_file=str(cert), key_file=str(key))


def _write(path: Path, content: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def _restrict(context: ssl.SSLContext, files: Tls) -> None:
    context.minimum_version = _VERSIONS[files.min_version or "TLS1.2"]
    context.maximum_version = _VERSIONS[files.max_version]
    if files.ciphers:
        context.set_ciphers(files.ciphers)


def server_context(files: Tls) -> ssl.SSLContext | None:
    """Of a listener; None without files. A CA file means that clients must show a certificate, as upstream has it."""
    if not files.cert_file:
        return None
    required = bool(files.ca_file) or files.client_cert_auth
    context = tls.server_context(files.cert_file, files.key_file, files.ca_file, required)
    if required and not files.ca_file:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED
    _restrict(context, files)
    return context


def client_context(files: Tls) -> ssl.SSLContext | None:
    """For calling members; None without files. A certificate that the other made itself cannot be verified."""
    if not files.cert_file:
        return None
    cert, key = (files.client_cert_file, files.client_key_file) if files.client_cert_file else (files.cert_file, files.key_file)
    context = tls.client_context(files.ca_file, cert, key, verify=not files.auto)
    _restrict(context, files)
    return context


class Doorman:
    """Looks at the certificate of each new connection of one side, after the handshake."""

    def __init__(self, files: Tls, endpoint: str, check_address: bool) -> None:
        self._files = files
        self._endpoint = endpoint
        self._check_address = check_address and not files.skip_san_verification
        self._revoked: frozenset[int] = frozenset()
        self._stamp = 0
        if files.crl_file:
            self._load_revoked()

    @property
    def is_needed(self) -> bool:
        files = self._files
        return bool(files.cert_file and (files.crl_file or files.allowed_cns or files.allowed_hostnames or self._check_address))

    def _load_revoked(self) -> None:
        """Follow the revocation list. Raises StartupError."""
        path = Path(self._files.crl_file)
        try:
            stamp = path.stat().st_mtime_ns
            if stamp == self._stamp:
                return
            content = path.read_bytes()
        except OSError as error:
            raise StartupError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
        from cryptography import x509

        try:
            crl = x509.load_pem_x509_crl(content) if content.startswith(b"-----") else x509.load_der_x509_crl(content)
        except ValueError as error:
            raise StartupError(f"failed to parse certificate revocation list {path}: {error}") from error
        self._revoked = frozenset(each.serial_number for each in crl)
        self._stamp = stamp

    def refusal(self, transport: asyncio.BaseTransport) -> str | None:
        """Why the connection is refused, empty when it is let in; None when that takes a look-up (see `looked_up`)."""
        if self._files.crl_file:
            try:
                self._load_revoked()
            except StartupError as error:
                return str(error)
        certificate = transport.get_extra_info("peercert")
        if not certificate:
            return ""  # none was asked for
        reason = peer_identity.refusal(certificate, self._files.allowed_cns, self._files.allowed_hostnames, self._revoked)
        if reason or not self._check_address:
            return reason
        remote = _remote(transport)
        verdict = peer_identity.address_verdict(certificate, remote)
        if verdict is None:
            return None
        return "" if verdict else f"x509: certificate is not valid for {remote}"

    async def looked_up(self, transport: asyncio.BaseTransport) -> str:
        """The verdict when only the addresses of the certificate's DNS names can tell."""
        certificate = transport.get_extra_info("peercert") or {}
        remote = _remote(transport)
        names = peer_identity.dns_names(certificate)
        for name in names:
            if name.startswith("*."):
                continue
            try:
                async with asyncio.timeout(_LOOKUP_TIMEOUT_S):
                    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
            except (OSError, TimeoutError, UnicodeError):
                continue
            if any(address[0] == remote for *_, address in found):
                return ""
        return f'tls: "{remote}" does not match any of DNSNames [{" ".join(repr(each) for each in names)}]'.replace("'", '"')

    def refuse(self, transport: asyncio.BaseTransport, reason: str) -> None:
        log.warning(f"rejected connection on {self._endpoint} endpoint", remote_addr=_remote(transport), err=reason)
        transport.abort()  # type: ignore[attr-defined]


def tell_failures(context: ssl.SSLContext, endpoint: str) -> None:
    """Log handshakes that fail: the event loop drops such a connection without a word. (Whose it was the loop does not tell either.)"""

    class Told(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                log.warning(f"rejected connection on {endpoint} endpoint", err=handshake_failure(error))
                raise

    context.sslobject_class = Told


# OpenSSL's reasons in Go's words. An alert is what the other side said of us.
_HANDSHAKE_FAILURES = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "tls: client didn't provide a certificate",
    "HTTP_REQUEST": "tls: first record does not look like a TLS handshake",
    "HTTPS_PROXY_REQUEST": "tls: first record does not look like a TLS handshake",
    "WRONG_VERSION_NUMBER": "tls: first record does not look like a TLS handshake",
    "UNSUPPORTED_PROTOCOL": "tls: client offered only unsupported versions",
    "NO_SHARED_CIPHER": "tls: no cipher suite supported by both client and server",
    "TLSV1_ALERT_UNKNOWN_CA": "remote error: tls: unknown certificate authority",
    "SSLV3_ALERT_BAD_CERTIFICATE": "remote error: tls: bad certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "remote error: tls: expired certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "remote error: tls: unknown certificate",
}
# X509_V_ERR_… of a client's certificate.
_VERIFY_FAILURES = {
    2: "x509: certificate signed by unknown authority",
    9: "x509: certificate has expired or is not yet valid",
    10: "x509: certificate has expired or is not yet valid",
    18: "x509: certificate signed by unknown authority",
    19: "x509: certificate signed by unknown authority",
    20: "x509: certificate signed by unknown authority",
    21: "x509: certificate signed by unknown authority",
    26: "x509: certificate specifies an incompatible key usage",
}


def handshake_failure(error: ssl.SSLError) -> str:
    """Why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "tls: failed to verify certificate: " + _VERIFY_FAILURES.get(error.verify_code, f"x509: {error.verify_message}")
    reason = error.reason or str(error)
    return _HANDSHAKE_FAILURES.get(reason, f"tls: {reason.lower().replace('_', ' ')}")


def _remote(transport: asyncio.BaseTransport) -> str:
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else str(name or "")
