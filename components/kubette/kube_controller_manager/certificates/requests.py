"""A CertificateSigningRequest read: its conditions, and the X.509 request inside it judged by the rules of the built-in signers.

cryptography is imported only when there is a request to read.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from kubette.apimachinery import meta
from kubette.kube_controller_manager import objects

Object = dict[str, Any]

KUBE_APISERVER_CLIENT = "kubernetes.io/kube-apiserver-client"
KUBE_APISERVER_CLIENT_KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY_UNKNOWN = "kubernetes.io/legacy-unknown"
SIGNERS = (KUBELET_SERVING, KUBE_APISERVER_CLIENT, KUBE_APISERVER_CLIENT_KUBELET, LEGACY_UNKNOWN)

_NODE_PREFIX, _NODES_GROUP = "system:node:", "system:nodes"


class RequestError(ValueError):
    """The request is not one that its signer may sign; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """What an X.509 request asks for, in plain values."""

    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()


def with_condition(csr: Object, type: str, reason: str, message: str, stamp: str) -> Object:
    """The request with one more condition, true from `stamp` on."""
    condition = {"type": type, "status": "True", "reason": reason, "message": message, "lastUpdateTime": stamp, "lastTransitionTime": stamp}
    conditions = [*(objects.status(csr).get("conditions") or []), condition]
    return objects.with_status(csr, {**objects.status(csr), "conditions": conditions})


def has_condition(csr: Object, type: str) -> bool:
    return meta.condition(csr, type) is not None


def is_decided(csr: Object) -> bool:
    return has_condition(csr, "Approved") or has_condition(csr, "Denied")


def waits_for_signature(csr: Object) -> bool:
    signed = (csr.get("status") or {}).get("certificate")
    return has_condition(csr, "Approved") and not has_condition(csr, "Denied") and not has_condition(csr, "Failed") and not signed


def pem_of(csr: Object) -> bytes:
    """Raises RequestError."""
    try:
        return base64.b64decode(csr["spec"]["request"], validate=True)
    except (binascii.Error, KeyError, ValueError) as error:
        raise RequestError(f"unable to parse csr {meta.name(csr)!r}: {error}") from error


def parse(csr: Object) -> Request:
    """The request inside, its self-signature checked. Raises RequestError."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        request = x509.load_pem_x509_csr(pem_of(csr))
        valid = request.is_signature_valid
    except ValueError as error:
        raise RequestError(f"unable to parse csr {meta.name(csr)!r}: {error}") from error
    if not valid:
        raise RequestError("unable to verify certificate request signature")
    names: Any = ()
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass

    def of(kind: Any) -> tuple[str, ...]:
        return tuple(str(v) for v in names.get_values_for_type(kind)) if names else ()

    subject = request.subject
    return Request(
        common_name=next((str(a.value) for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)), ""),
        organizations=tuple(str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)),
        dns_names=of(x509.DNSName),
        ip_addresses=of(x509.IPAddress),
        emails=of(x509.RFC822Name),
        uris=of(x509.UniformResourceIdentifier),
    )


def validate_kubelet_client(request: Request, usages: set[str]) -> None:
    """What kube-apiserver-client-kubelet signs: a node's identity and nothing else. Raises RequestError."""
    if request.organizations != (_NODES_GROUP,):
        raise RequestError(f"subject organization is not {_NODES_GROUP}")
    if not request.common_name.startswith(_NODE_PREFIX) or request.common_name == _NODE_PREFIX:
        raise RequestError(f"subject common name does not begin with {_NODE_PREFIX}")
    if request.dns_names or request.ip_addresses or request.emails or request.uris:
        raise RequestError("subject alternative names are not allowed")
    if usages not in ({"digital signature", "client auth"}, {"key encipherment", "digital signature", "client auth"}):
        raise RequestError("usages did not match [key encipherment digital signature client auth]")


def validate_kubelet_serving(request: Request, usages: set[str]) -> None:
    """Raises RequestError."""
    if request.organizations != (_NODES_GROUP,):
        raise RequestError(f"subject organization is not {_NODES_GROUP}")
    if not request.common_name.startswith(_NODE_PREFIX):
        raise RequestError(f"subject common name does not begin with {_NODE_PREFIX}")
    if not request.dns_names and not request.ip_addresses:
        raise RequestError("DNS or IP subjectAltName is required")
    if request.emails or request.uris:
        raise RequestError("only DNS and IP subjectAltNames are allowed")
    if usages not in ({"digital signature", "server auth"}, {"key encipherment", "digital signature", "server auth"}):
        raise RequestError("usages did not match [key encipherment digital signature server auth]")


def validate_client(usages: set[str]) -> None:
    """Raises RequestError."""
    allowed = {"key encipherment", "digital signature", "client auth"}
    if not usages <= allowed:
        raise RequestError("usages are not allowed for client certificates")
    if "client auth" not in usages:
        raise RequestError("missing required usage for client auth")


def validate_for_signer(signer: str, request: Request, usages: set[str]) -> None:
    """Raises RequestError when `signer` must not sign this."""
    if signer == KUBE_APISERVER_CLIENT_KUBELET:
        validate_kubelet_client(request, usages)
    elif signer == KUBELET_SERVING:
        validate_kubelet_serving(request, usages)
    elif signer == KUBE_APISERVER_CLIENT:
        validate_client(usages)


def is_node_client(csr: Object, request: Request) -> bool:
    """Whether this is a kubelet asking for its client certificate."""
    if csr["spec"].get("signerName") != KUBE_APISERVER_CLIENT_KUBELET:
        return False
    try:
        validate_kubelet_client(request, set(csr["spec"].get("usages") or ()))
    except RequestError:
        return False
    return True


def is_self_node_client(csr: Object, request: Request) -> bool:
    """A kubelet renewing the identity it asks with."""
    return is_node_client(csr, request) and csr["spec"].get("username") == request.common_name
