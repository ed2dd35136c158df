"""Issues certificates for approved requests with the cluster's CA (upstream's pkg/controller/certificates/authority)."""

import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from kubette.kube_controller_manager.certificates.requests import RequestError

BACKDATE_S = 300  # clocks of other machines may be behind
SHORT_S = 8 * 3600  # backdating must not eat a short certificate's life

_KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_EXTENDED_KEY_USAGES = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
}


class Authority:
    """A CA certificate and its key, read again for each signature: a rotated CA needs no restart."""

    def __init__(self, cert_file: str, key_file: str) -> None:
        self._cert_file, self._key_file = Path(cert_file), Path(key_file)

    def sign(self, pem: bytes, usages: list[str], duration_s: float, now: float) -> bytes:
        """The certificate in PEM. Raises RequestError for a usage that does not exist."""
        ca = x509.load_pem_x509_certificates(self._cert_file.read_bytes())[0]
        key: Any = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
        request = x509.load_pem_x509_csr(pem)
        moment = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
        not_before = moment - datetime.timedelta(seconds=BACKDATE_S)
        starts = moment if duration_s < SHORT_S else not_before
        not_after = min(starts + datetime.timedelta(seconds=duration_s), ca.not_valid_after_utc)
        if not_after < moment:
            raise RequestError("refusing to sign a certificate that expired in the past: the signer has expired")
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(ca.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(_key_usage(usages), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        extended = [_EXTENDED_KEY_USAGES[u] for u in usages if u in _EXTENDED_KEY_USAGES]
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        try:
            identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        except x509.ExtensionNotFound:
            pass
        try:
            names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            builder = builder.add_extension(names.value, critical=names.critical)
        except x509.ExtensionNotFound:
            pass
        algorithm = None if type(key).__name__.endswith("Ed25519PrivateKey") else hashes.SHA256()
        return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def _key_usage(usages: list[str]) -> x509.KeyUsage:
    flags = dict.fromkeys(set(_KEY_USAGES.values()), False)
    for usage in usages:
        if usage in _KEY_USAGES:
            flags[_KEY_USAGES[usage]] = True
        elif usage not in _EXTENDED_KEY_USAGES:
            raise RequestError(f"unrecognized usage value: {usage}")
    return x509.KeyUsage(**flags)
