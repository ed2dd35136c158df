"""DefaultStorageClass and StorageObjectInUseProtection: claims and volumes."""

from kubette.kube_apiserver.admission.interfaces import AdmissionAttributes, Lister, Operation, Plugin

_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_FINALIZERS = {"persistentvolumeclaims": "kubernetes.io/pvc-protection", "persistentvolumes": "kubernetes.io/pv-protection"}


class DefaultStorageClass(Plugin):
    """A claim that names no class gets the newest default one."""

    name = "DefaultStorageClass"

    def __init__(self, lister: Lister) -> None:
        self._lister = lister

    def handles(self, attrs: AdmissionAttributes) -> bool:
        return attrs.operation is Operation.create and attrs.resource == "persistentvolumeclaims" and not attrs.subresource

    async def admit(self, attrs: AdmissionAttributes) -> None:
        assert attrs.object is not None
        if "storageClassName" in attrs.object["spec"]:
            return
        classes = await self._lister.list("storage.k8s.io", "storageclasses")
        defaults = [c["metadata"] for c in classes if (c["metadata"].get("annotations") or {}).get(_DEFAULT) == "true"]
        if defaults:
            attrs.object["spec"]["storageClassName"] = max(defaults, key=lambda m: (m.get("creationTimestamp", ""), m["name"]))["name"]


class StorageObjectInUseProtection(Plugin):
    """Claims and volumes carry a finalizer that keeps them while they are used."""

    name = "StorageObjectInUseProtection"

    def handles(self, attrs: AdmissionAttributes) -> bool:
        return attrs.operation is Operation.create and attrs.resource in _FINALIZERS and not attrs.subresource

    async def admit(self, attrs: AdmissionAttributes) -> None:
        assert attrs.object is not None
        finalizers = attrs.object["metadata"].setdefault("finalizers", [])
        if _FINALIZERS[attrs.resource] not in finalizers:
            finalizers.append(_FINALIZERS[attrs.resource])
