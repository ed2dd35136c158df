"""TLS contexts as upstream's servers and clients build them (TLS 1.2 and later), reloaded when a certificate file changes."""

import os
import ssl
from pathlib import Path

from kubette.component_base.run import StartupError


def _load(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    try:
        context.load_cert_chain(cert_file, key_file)
    except FileNotFoundError as error:
        missing = next((f for f in (cert_file, key_file) if not Path(f).exists()), error.filename)
        raise StartupError(f"open {missing}: no such file or directory") from error
    except (ssl.SSLError, OSError) as error:
        raise StartupError(f"failed to load key pair {cert_file}, {key_file}: {error}") from error


def _load_ca(context: ssl.SSLContext, ca_file: str) -> None:
    try:
        context.load_verify_locations(cafile=ca_file)
    except FileNotFoundError as error:
        raise StartupError(f"open {ca_file}: no such file or directory") from error
    except (ssl.SSLError, OSError) as error:
        raise StartupError(f"failed to load CA bundle {ca_file}: {error}") from error


def server_context(cert_file: str, key_file: str, client_ca_file: str = "", require_client: bool = False) -> ssl.SSLContext:
    """A server's context; with `client_ca_file` a client's certificate is verified if it sends one (or must send one)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, cert_file, key_file)
    if client_ca_file:
        _load_ca(context, client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
    return context


def client_context(ca_file: str = "", cert_file: str = "", key_file: str = "", verify: bool = True, ca_data: str = "") -> ssl.SSLContext:
    """A client's context. `ca_data` is PEM text; without any CA the system's are used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_data:
        context.load_verify_locations(cadata=ca_data)
    elif ca_file:
        _load_ca(context, ca_file)
    else:
        context.load_default_certs()
    if cert_file:
        _load(context, cert_file, key_file)
    return context


class ReloadingPair:
    """A server context whose certificate follows its files: call `refresh` when a connection or a timer gives the occasion.

    New handshakes use the new pair, open connections keep theirs (upstream's dynamiccertificates).
    """

    def __init__(self, context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
        self._context, self._cert_file, self._key_file = context, cert_file, key_file
        self._stamp = self._read_stamp()

    def _read_stamp(self) -> tuple[int, int]:
        try:
            return os.stat(self._cert_file).st_mtime_ns, os.stat(self._key_file).st_mtime_ns
        except OSError:
            return 0, 0

    def refresh(self) -> bool:
        """Load the pair again if the files changed; answers whether it did. A broken pair keeps the old one."""
        stamp = self._read_stamp()
        if stamp == self._stamp or stamp == (0, 0):
            return False
        try:
            _load(self._context, self._cert_file, self._key_file)
        except StartupError:
            return False
        self._stamp = stamp
        return True
