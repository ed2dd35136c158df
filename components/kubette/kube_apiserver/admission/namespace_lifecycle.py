"""NamespaceLifecycle: nothing is created in a namespace that is missing or going; the built-in ones stay."""

from kubette.apimachinery import status
from kubette.kube_apiserver.admission.interfaces import AdmissionAttributes, Lister, Operation, Plugin, forbidden

_IMMORTAL = ("default", "kube-system", "kube-public")


class NamespaceLifecycle(Plugin):
    name = "NamespaceLifecycle"

    def __init__(self, lister: Lister) -> None:
        self._lister = lister

    async def validate(self, attrs: AdmissionAttributes) -> None:
        if attrs.resource == "namespaces" and not attrs.group:
            if attrs.operation is Operation.delete and attrs.name in _IMMORTAL:
                raise forbidden(attrs, "this namespace may not be deleted")
            return
        # A review is about a namespace, it is not stored in one.
        if attrs.operation is not Operation.create or not attrs.namespace or attrs.resource == "localsubjectaccessreviews":
            return
        namespace = await self._lister.get("", "namespaces", "", attrs.namespace)
        if namespace is None:
            raise status.not_found("namespaces", attrs.namespace)
        if (namespace.get("status") or {}).get("phase") == "Terminating" or namespace["metadata"].get("deletionTimestamp"):
            error = forbidden(attrs, f"unable to create new content in namespace {attrs.namespace} because it is being terminated")
            error.details.setdefault("causes", []).append(
                {"reason": "NamespaceTerminating", "message": f"namespace {attrs.namespace} is being terminated", "field": "metadata.namespace"}
            )
            raise error
