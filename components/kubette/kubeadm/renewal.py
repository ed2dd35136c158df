"""Certificates read and renewed where they are: pairs of files, or inside a kubeconfig file (upstream: phases/certs/renewal).

A renewed certificate keeps its subject, names and uses; its key is new. Authorities are never renewed: everything that trusts
them would have to change at the same moment.
"""

import base64
import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509

from kubette.kubeadm import expiration, pki
from kubette.kubeadm.config import ConfigError
from kubette.kubeadm.expiration import Finding, Managed
from kubette.stdx import files


@dataclass(frozen=True, slots=True)
class Place:
    """Where the certificates of this machine are."""

    certificates: Path
    kubernetes_dir: Path

    def read(self, managed: Managed) -> x509.Certificate | None:
        """None when it is missing. Raises ConfigError for one that cannot be read."""
        if not managed.in_kubeconfig:
            path = self.certificates / f"{managed.stem}.crt"
            return pki.load_certificate(path) if path.exists() else None
        path = self.kubernetes_dir / managed.name
        if not path.exists():
            return None
        try:
            user = _current_user(yaml.safe_load(path.read_text()))
            return x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"]))
        except (KeyError, StopIteration, TypeError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"failed to load kubeconfig file {path}: it embeds no client certificate ({error})") from error

    def write(self, managed: Managed, certificate: x509.Certificate, key: pki.Key, authority: x509.Certificate) -> None:
        """A kubeconfig file keeps its server and names; it gets the CA's certificate as it is now."""
        if not managed.in_kubeconfig:
            pki.write_pair(self.certificates, managed.stem, certificate, key)
            return
        path = self.kubernetes_dir / managed.name
        document = yaml.safe_load(path.read_text())
        user = _current_user(document)
        user["client-certificate-data"] = base64.b64encode(pki.pem(certificate)).decode()
        user["client-key-data"] = base64.b64encode(pki.key_pem(key)).decode()
        for cluster in document["clusters"]:
            cluster["cluster"]["certificate-authority-data"] = base64.b64encode(pki.pem(authority)).decode()
        files.write_atomic(path, yaml.safe_dump(document, sort_keys=False, width=1000), mode=0o600)

    def is_external(self, authority: str) -> bool:
        return pki.is_external(self.certificates, authority)


def _current_user(document: dict[str, Any]) -> dict[str, Any]:
    current = next(c["context"] for c in document["contexts"] if c["name"] == document["current-context"])
    user: dict[str, Any] = next(u["user"] for u in document["users"] if u["name"] == current["user"])
    return user


def findings(place: Place, with_etcd: bool = True) -> tuple[list[Finding], list[Finding]]:
    """(leaves, authorities) of this machine; those for an etcd elsewhere are not kubeadm's."""
    leaves = []
    for managed in expiration.managed(with_etcd):
        found = place.read(managed)
        expires = found.not_valid_after_utc if found else None
        leaves.append(Finding(managed.name, managed.authority_name, expires, place.is_external(managed.authority)))
    authorities = []
    for stem, name in expiration.AUTHORITY_NAMES.items():
        if stem == "etcd/ca" and not with_etcd:
            continue
        path = place.certificates / f"{stem}.crt"
        expires = pki.load_certificate(path).not_valid_after_utc if path.exists() else None
        authorities.append(Finding(name, "", expires, place.is_external(stem)))
    return leaves, authorities


def renew(
    place: Place,
    chosen: list[Managed],
    now: datetime.datetime,
    say: Callable[[str], None],
    validity: datetime.timedelta = pki.LEAF_VALIDITY,
) -> None:
    """Renew what is there, and say of each what happened. Raises ConfigError when a CA cannot be used."""
    found = {managed: place.read(managed) for managed in chosen}
    keys = iter(pki.new_keys(sum(certificate is not None for certificate in found.values())))
    for managed, certificate in found.items():
        if certificate is None:
            say(f"MISSING! {managed.long_name}")
        elif place.is_external(managed.authority):
            say(f"Detected external {managed.authority}, {managed.long_name} can't be renewed")
        else:
            renew_one(place, managed, certificate, next(keys), now, validity)
            say(f"{managed.long_name} renewed")


def renew_one(
    place: Place, managed: Managed, certificate: x509.Certificate, key: pki.Key, now: datetime.datetime, validity: datetime.timedelta
) -> None:
    authority = pki.load_authority(place.certificates, managed.authority)
    place.write(managed, pki.renewed(certificate, key, authority, now, validity), key, authority.certificate)
