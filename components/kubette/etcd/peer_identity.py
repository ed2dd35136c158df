"""Pure: whether the certificate that the other end showed may come in: its name, its addresses, its revocation.

Counterpart of upstream's TLS listener. Certificates are the dicts of `SSLObject.getpeercert`.
"""

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from typing import Any

Certificate = Mapping[str, Any]


def common_name(certificate: Certificate) -> str:
    """Empty without one."""
    return next((value for name in certificate.get("subject", ()) for key, value in name if key == "commonName"), "")


def _alternatives(certificate: Certificate, kind: str) -> list[str]:
    return [value for key, value in certificate.get("subjectAltName", ()) if key == kind]


def dns_names(certificate: Certificate) -> list[str]:
    return _alternatives(certificate, "DNS")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def names_host(certificate: Certificate, host: str) -> bool:
    """Whether the certificate is good for this host name or address (Go's VerifyHostname)."""
    address = _address(host)
    if address is not None:
        return any(_address(each) == address for each in _alternatives(certificate, "IP Address"))
    labels = host.lower().rstrip(".").split(".")
    return any(_matches(each.lower().rstrip(".").split("."), labels) for each in dns_names(certificate))


def _matches(pattern: list[str], labels: list[str]) -> bool:
    return len(pattern) == len(labels) and pattern[1:] == labels[1:] and pattern[0] in ("*", labels[0])


def refusal(certificate: Certificate, cns: Collection[str], hostnames: Iterable[str], revoked: Collection[int]) -> str:
    """Why this certificate is not let in; empty when it is."""
    serial = int(certificate.get("serialNumber") or "0", 16)
    if serial in revoked:
        return "transport: certificate serial " + str(serial) + " revoked"
    if cns and common_name(certificate) not in cns:
        return "client certificate authentication failed"
    allowed = list(hostnames)
    if allowed and not any(names_host(certificate, each) for each in allowed):
        return "client certificate authentication failed"
    return ""


def address_verdict(certificate: Certificate, remote: str) -> bool | None:
    """Whether a member calls from where its certificate says it lives; None when its DNS names must be looked up to know."""
    addresses, names = _alternatives(certificate, "IP Address"), dns_names(certificate)
    if not addresses and not names:
        return True
    if addresses and names_host(certificate, remote):
        return True
    return None if names else False
