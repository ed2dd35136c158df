"""Nobody grants rights that he does not have: escalation checks of RBAC and of certificate signers.

Counterparts upstream: pkg/registry/rbac (policybased storage) and plugin/pkg/admission/certificates.
"""

from typing import Any

from kubette.kube_apiserver.admission.interfaces import AdmissionAttributes, Operation, Plugin, forbidden
from kubette.kube_apiserver.auth import rbac_rules
from kubette.kube_apiserver.auth.interfaces import PRIVILEGED_GROUP, Authorizer, AuthzAttributes
from kubette.kube_apiserver.auth.rbac import Rbac

_RBAC = "rbac.authorization.k8s.io"
_CERTIFICATES = "certificates.k8s.io"


class EscalationCheck(Plugin):
    """Roles may hold, and bindings may give, only what their author holds (or may `escalate`, or may `bind`)."""

    name = "RBACEscalationCheck"

    def __init__(self, rbac: Rbac, authorizer: Authorizer) -> None:
        self._rbac, self._authorizer = rbac, authorizer

    def handles(self, attrs: AdmissionAttributes) -> bool:
        return attrs.group == _RBAC and attrs.operation in (Operation.create, Operation.update) and PRIVILEGED_GROUP not in attrs.user.groups

    async def _may(self, attrs: AdmissionAttributes, verb: str, resource: str, name: str) -> bool:
        question = AuthzAttributes(attrs.user, verb, _RBAC, attrs.version, resource, namespace=attrs.namespace, name=name)
        return (await self._authorizer.authorize(question)).allowed

    async def validate(self, attrs: AdmissionAttributes) -> None:
        obj, old = attrs.object, attrs.old_object
        assert obj is not None
        if attrs.resource in ("roles", "clusterroles"):
            if old is not None and old.get("rules") == obj.get("rules") and old.get("aggregationRule") == obj.get("aggregationRule"):
                return
            if await self._may(attrs, "escalate", attrs.resource, attrs.name):
                return
            wanted: list[dict[str, Any]] = list(obj.get("rules") or ())
            if obj.get("aggregationRule"):
                wanted.append({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
        else:
            reference = obj["roleRef"]
            if old is not None and old["roleRef"] == reference and old.get("subjects") == obj.get("subjects"):
                return
            resource = "clusterroles" if reference["kind"] == "ClusterRole" else "roles"
            if await self._may(attrs, "bind", resource, reference["name"]):
                return
            wanted = await self._rbac.role_rules(reference, attrs.namespace)
        owned = await self._rbac.rules_of(attrs.user, attrs.namespace)
        missing = rbac_rules.uncovered(owned, wanted)
        if missing:
            groups = " ".join(f'"{g}"' for g in attrs.user.groups)
            lines = "\n".join(sorted(rbac_rules.describe(rule) for rule in missing))
            reason = f'user "{attrs.user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{lines}'
            raise forbidden(attrs, reason)


class CertificateSigners(Plugin):
    """CertificateApproval, CertificateSigning and CertificateSubjectRestriction in one: they ask the same object."""

    name = "CertificateApproval"

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def handles(self, attrs: AdmissionAttributes) -> bool:
        return attrs.group == _CERTIFICATES and attrs.resource == "certificatesigningrequests"

    async def validate(self, attrs: AdmissionAttributes) -> None:
        obj = attrs.object
        if obj is None:
            return
        signer = obj["spec"].get("signerName", "")
        if attrs.subresource == "approval":
            await self._require(attrs, "approve", signer)
        elif attrs.subresource == "status":
            before = ((attrs.old_object or {}).get("status") or {}).get("certificate")
            if (obj.get("status") or {}).get("certificate") != before:
                await self._require(attrs, "sign", signer)
        elif attrs.operation is Operation.create and signer == "kubernetes.io/kube-apiserver-client" and _asks_for_masters(obj):
            raise forbidden(attrs, "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed")

    async def _require(self, attrs: AdmissionAttributes, verb: str, signer: str) -> None:
        for name in (signer, signer.split("/")[0] + "/*"):
            question = AuthzAttributes(attrs.user, verb, _CERTIFICATES, "*", "signers", name=name)
            if (await self._authorizer.authorize(question)).allowed:
                return
        noun = "approving" if verb == "approve" else "signing"
        raise forbidden(attrs, f'user not permitted to {verb} requests with signerName "{signer}" ({noun})')


def _asks_for_masters(request: dict[str, Any]) -> bool:
    import base64
    import binascii

    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        parsed = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
    except (ValueError, KeyError, binascii.Error):
        return False  # validation says what is wrong with it
    return any(a.value == PRIVILEGED_GROUP for a in parsed.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
