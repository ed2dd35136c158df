"""Certificates, keys and kubeconfig credentials, where kubeadm puts them (upstream: cmd/kubeadm/app/phases/certs).

All cryptography is the library's. Keys are RSA-2048 like upstream's default; they are made in threads, because the library works
outside the interpreter's lock.
"""

import datetime
import hashlib
import ipaddress
import os
from collections.abc import Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubette.component_base import flags
from kubette.kubeadm.config import Cluster, ConfigError, Local
from kubette.stdx import files

CA_VALIDITY = datetime.timedelta(days=3650)
LEAF_VALIDITY = datetime.timedelta(days=365)

Key = rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that can sign."""

    certificate: x509.Certificate
    key: Key


@dataclass(frozen=True, slots=True)
class Leaf:
    """One certificate to be made: file stem below the certificates directory, subject, uses, names."""

    stem: str
    authority: str
    common_name: str
    organizations: tuple[str, ...] = ()
    client: bool = False
    server: bool = False
    sans: tuple[str, ...] = ()


AUTHORITIES = {"ca": "kubernetes", "front-proxy-ca": "front-proxy-ca", "etcd/ca": "etcd-ca"}


def leaves(cluster: Cluster, local: Local) -> list[Leaf]:
    """The certificates of a control-plane machine, in the order kubeadm makes them."""
    api_sans = [
        local.node_name,
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{cluster.dns_domain}",
        cluster.service_ip,
        local.advertise_address,
    ]
    if cluster.control_plane_endpoint:
        api_sans.append(cluster.control_plane_endpoint.rsplit(":", 1)[0])
    api_sans += cluster.api_server_cert_sans
    etcd_sans = (local.node_name, "localhost", local.advertise_address, "127.0.0.1", "::1")
    etcd = cluster.components.get("etcd", {})
    server_sans, peer_sans = ((*etcd_sans, *(etcd.get(name) or ())) for name in ("serverCertSANs", "peerCertSANs"))
    found = [
        Leaf("apiserver", "ca", "kube-apiserver", server=True, sans=tuple(dict.fromkeys(api_sans))),
        Leaf("apiserver-kubelet-client", "ca", "kube-apiserver-kubelet-client", ("kubeadm:cluster-admins",), client=True),
        Leaf("front-proxy-client", "front-proxy-ca", "front-proxy-client", client=True),
        Leaf("etcd/server", "etcd/ca", local.node_name, client=True, server=True, sans=server_sans),
        Leaf("etcd/peer", "etcd/ca", local.node_name, client=True, server=True, sans=peer_sans),
        Leaf("etcd/healthcheck-client", "etcd/ca", "kube-etcd-healthcheck-client", client=True),
        Leaf("apiserver-etcd-client", "etcd/ca", "kube-apiserver-etcd-client", client=True),
    ]
    # An etcd elsewhere has its own; the API server's for it is brought here by whoever runs that etcd.
    return [leaf for leaf in found if not (cluster.etcd_external and leaf.authority == "etcd/ca")]


def validities(cluster: Cluster) -> tuple[datetime.timedelta, datetime.timedelta]:
    """How long a new authority and a new leaf are valid in this cluster."""
    periods = (cluster.ca_validity, cluster.certificate_validity)
    authority, leaf = (datetime.timedelta(seconds=flags.parse_duration(period)) for period in periods)
    return authority, leaf


def new_keys(count: int) -> list[Key]:
    """RSA-2048 keys, made on all cores."""
    with futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(lambda _: rsa.generate_private_key(public_exponent=65537, key_size=2048), range(count)))


def _name(common_name: str, *organizations: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative_names(sans: Sequence[str]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = []
    for san in sans:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(san)))
        except ValueError:
            names.append(x509.DNSName(san))
    return x509.SubjectAlternativeName(names)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def new_authority(common_name: str, key: Key, now: datetime.datetime, validity: datetime.timedelta = CA_VALIDITY) -> Authority:
    """A self-signed CA, valid for ten years unless told otherwise."""
    subject = _name(common_name)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Five minutes back, so that a machine whose clock is a little behind accepts it.
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + validity)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def sign(leaf: Leaf, key: Key, authority: Authority, now: datetime.datetime, validity: datetime.timedelta = LEAF_VALIDITY) -> x509.Certificate:
    """A leaf certificate, valid for a year unless told otherwise."""
    uses = [ExtendedKeyUsageOID.SERVER_AUTH] * leaf.server + [ExtendedKeyUsageOID.CLIENT_AUTH] * leaf.client
    names = _alternative_names(leaf.sans) if leaf.sans else None
    return _issue(_name(leaf.common_name, *leaf.organizations), uses, names, key, authority, now + validity)


def renewed(
    certificate: x509.Certificate, key: Key, authority: Authority, now: datetime.datetime, validity: datetime.timedelta = LEAF_VALIDITY
) -> x509.Certificate:
    """The same subject, uses and names with a new key, valid for another year unless told otherwise."""
    uses = list(_extension(certificate, x509.ExtendedKeyUsage) or [])
    return _issue(certificate.subject, uses, _extension(certificate, x509.SubjectAlternativeName), key, authority, now + validity)


_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _issue(
    subject: x509.Name,
    uses: list[x509.ObjectIdentifier],
    names: x509.SubjectAlternativeName | None,
    key: Key,
    authority: Authority,
    not_after: datetime.datetime,
) -> x509.Certificate:
    issuer_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(authority.certificate.not_valid_before_utc)
        .not_valid_after(not_after)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(issuer_identifier, critical=False)
    )
    if names:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def request(leaf: Leaf, key: Key) -> bytes:
    """A certificate signing request in PEM, for an authority that is elsewhere."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(leaf.common_name, *leaf.organizations))
    if leaf.sans:
        builder = builder.add_extension(_alternative_names(leaf.sans), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: Key) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())


def public_key_pem(key: Key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_key_hash(certificate: x509.Certificate) -> str:
    """The pin of `--discovery-token-ca-cert-hash`: SHA-256 of the public key's DER (RFC 7469)."""
    der = certificate.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(der).hexdigest()


def write_pair(directory: Path, stem: str, certificate: x509.Certificate, key: Key) -> None:
    """`stem.crt` readable by all, `stem.key` by the owner alone."""
    (directory / stem).parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(directory / f"{stem}.crt", pem(certificate))
    files.write_atomic(directory / f"{stem}.key", key_pem(key), mode=0o600)


def is_external(directory: Path, stem: str) -> bool:
    """A CA whose key is kept elsewhere: we can use its certificates, not make new ones."""
    return (directory / f"{stem}.crt").exists() and not (directory / f"{stem}.key").exists()


def load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"couldn't load certificate {path}: {error}") from error


def load_authority(directory: Path, stem: str) -> Authority:
    """A CA whose key is on this machine. Raises ConfigError."""
    certificate = load_certificate(directory / f"{stem}.crt")
    try:
        key = serialization.load_pem_private_key((directory / f"{stem}.key").read_bytes(), None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"couldn't load CA certificate key {directory / stem}.key: {error}") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigError(f"CA certificate key {directory / stem}.key is not an RSA key")
    return Authority(certificate, key)
