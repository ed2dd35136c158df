"""Pure: the certificates kubeadm manages, and what is said about their expiry (upstream: phases/certs/renewal, cmd/certs.go)."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kubette.kubeadm import tables


@dataclass(frozen=True, slots=True)
class Managed:
    """A leaf certificate: in `<stem>.crt` below the certificates directory, or inside the kubeconfig file `name`."""

    name: str
    stem: str
    authority: str  # stem of the CA
    long_name: str

    @property
    def in_kubeconfig(self) -> bool:
        return not self.stem

    @property
    def authority_name(self) -> str:
        return AUTHORITY_NAMES[self.authority]


AUTHORITY_NAMES = {"ca": "ca", "etcd/ca": "etcd-ca", "front-proxy-ca": "front-proxy-ca"}
_EMBEDDED = "certificate embedded in the kubeconfig file for the"
# In the order of their names, as upstream prints them.
MANAGED = (
    Managed("admin.conf", "", "ca", f"{_EMBEDDED} admin to use and for kubeadm itself"),
    Managed("apiserver", "apiserver", "ca", "certificate for serving the Kubernetes API"),
    Managed("apiserver-etcd-client", "apiserver-etcd-client", "etcd/ca", "certificate the apiserver uses to access etcd"),
    Managed("apiserver-kubelet-client", "apiserver-kubelet-client", "ca", "certificate for the API server to connect to kubelet"),
    Managed("controller-manager.conf", "", "ca", f"{_EMBEDDED} controller manager to use"),
    Managed("etcd-healthcheck-client", "etcd/healthcheck-client", "etcd/ca", "certificate for liveness probes to healthcheck etcd"),
    Managed("etcd-peer", "etcd/peer", "etcd/ca", "certificate for etcd nodes to communicate with each other"),
    Managed("etcd-server", "etcd/server", "etcd/ca", "certificate for serving etcd"),
    Managed("front-proxy-client", "front-proxy-client", "front-proxy-ca", "certificate for the front proxy client"),
    Managed("scheduler.conf", "", "ca", f"{_EMBEDDED} scheduler manager to use"),
    Managed("super-admin.conf", "", "ca", f"{_EMBEDDED} super-admin"),
)


def managed(with_etcd: bool) -> list[Managed]:
    """Those of a cluster whose etcd is kubeadm's own, or is not."""
    return [each for each in MANAGED if with_etcd or each.authority != "etcd/ca"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One certificate as it was found; `expires` is None for one that is missing."""

    name: str
    authority: str
    expires: datetime.datetime | None
    external: bool = False


def report(leaves: Sequence[Finding], authorities: Sequence[Finding], now: datetime.datetime) -> str:
    """The two tables of `kubeadm certs check-expiration`."""
    head = ("CERTIFICATE", "EXPIRES", "RESIDUAL TIME", "CERTIFICATE AUTHORITY", "EXTERNALLY MANAGED")
    rows = [head]
    for leaf in leaves:
        if leaf.expires is None:
            rows.append((f"!MISSING! {leaf.name}", "", "", "", ""))
        else:
            rows.append((leaf.name, _moment(leaf.expires), _residual(leaf.expires, now), leaf.authority, _yes_no(leaf.external)))
    authority_rows = [("CERTIFICATE AUTHORITY", "EXPIRES", "RESIDUAL TIME", "EXTERNALLY MANAGED")]
    for each in authorities:
        if each.expires is None:
            authority_rows.append((f"!MISSING! {each.name}", "", "", ""))
        else:
            authority_rows.append((each.name, _moment(each.expires), _residual(each.expires, now), _yes_no(each.external)))
    return f"{tables.render(rows)}\n\n{tables.render(authority_rows)}"


def document(leaves: Sequence[Finding], authorities: Sequence[Finding], now: datetime.datetime) -> dict[str, Any]:
    """The same as an object, for `-o json` and `-o yaml`."""
    return {
        "kind": "CertificateExpirationInfo",
        "apiVersion": "output.kubeadm.k8s.io/v1alpha3",
        "certificates": [_entry(leaf, now) | {"caName": leaf.authority} for leaf in leaves],
        "certificateAuthorities": [_entry(each, now) for each in authorities],
    }


def _entry(found: Finding, now: datetime.datetime) -> dict[str, Any]:
    if found.expires is None:
        return {"name": found.name, "expirationDate": None, "residualTime": 0, "externallyManaged": False, "missing": True}
    return {
        "name": found.name,
        "expirationDate": found.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "residualTime": int((found.expires - now).total_seconds()),
        "externallyManaged": found.external,
    }


def _moment(when: datetime.datetime) -> str:
    return when.astimezone(datetime.UTC).strftime("%b %d, %Y %H:%M UTC")


def _residual(expires: datetime.datetime, now: datetime.datetime) -> str:
    return tables.short_duration((expires - now).total_seconds())


def _yes_no(value: bool) -> str:
    return ("yes" if value else "no").ljust(8)
