"""The certificate of a server that was given none: self-signed, kept in --cert-dir (upstream's MaybeDefaultWithSelfSignedCerts)."""

from collections.abc import Sequence
from pathlib import Path

from kubette.component_base.run import StartupError
from kubette.stdx import files


def ensure(cert_dir: str, hosts: Sequence[str]) -> tuple[str, str]:
    """(certificate file, key file) of `apiserver` in the directory, made if they are not there."""
    directory = Path(cert_dir)
    cert, key = directory / "apiserver.crt", directory / "apiserver.key"
    if not (cert.exists() and key.exists()):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # Making one takes the whole of cryptography; a server with certificates never loads it for this.
            from kubette.component_base import self_signed

            certificate_pem, key_pem = self_signed.make(hosts)
            files.write_atomic(key, key_pem, 0o600)
            files.write_atomic(cert, certificate_pem, 0o644)
        except OSError as error:
            raise StartupError(f"error creating self-signed certificates: {error.strerror}: {error.filename}") from error
    return str(cert), str(key)
