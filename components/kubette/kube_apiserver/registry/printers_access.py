"""Pure: printers of access control, certificates, coordination, scheduling, storage and API registration."""

from typing import Any

from kubette.apimachinery import meta, timestamps
from kubette.kube_apiserver.registry.cells import Object, Printer, age, columns, name, spec, status


def _subjects(obj: Object) -> list[str]:
    users, groups, accounts = [], [], []
    for subject in obj.get("subjects") or []:
        match subject.get("kind"):
            case "User":
                users.append(str(subject.get("name")))
            case "Group":
                groups.append(str(subject.get("name")))
            case "ServiceAccount":
                accounts.append(f"{subject.get('namespace')}/{subject.get('name')}")
    return [", ".join(users), ", ".join(groups), ", ".join(accounts)]


def _binding(obj: Object, now: float) -> list[Any]:
    role = obj.get("roleRef") or {}
    return [name(obj), f"{role.get('kind')}/{role.get('name')}", age(obj, now), *_subjects(obj)]


def csr_condition(obj: Object) -> str:
    """`Pending`, `Approved,Issued`, `Denied`, …"""
    types = {one.get("type") for one in status(obj).get("conditions") or []}
    text = "Denied" if "Denied" in types else "Approved" if "Approved" in types else "Pending"
    if "Failed" in types:
        text += ",Failed"
    return text + ",Issued" if status(obj).get("certificate") else text


def _certificate_signing_request(obj: Object, now: float) -> list[Any]:
    seconds = spec(obj).get("expirationSeconds")
    duration = "<none>" if seconds is None else timestamps.human_duration(seconds)
    return [name(obj), age(obj, now), spec(obj).get("signerName") or "<none>", spec(obj).get("username") or "", duration, csr_condition(obj)]


def _lease(obj: Object, now: float) -> list[Any]:
    return [name(obj), spec(obj).get("holderIdentity") or "", age(obj, now)]


def _priority_class(obj: Object, now: float) -> list[Any]:
    default = bool(obj.get("globalDefault"))
    return [name(obj), obj.get("value") or 0, default, age(obj, now), obj.get("preemptionPolicy") or ""]


def _storage_class(obj: Object, now: float) -> list[Any]:
    annotations = meta.annotations(obj)
    keys = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
    default = any(annotations.get(key) == "true" for key in keys)
    return [
        name(obj) + (" (default)" if default else ""),
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


def _volume_attachment(obj: Object, now: float) -> list[Any]:
    volume = (spec(obj).get("source") or {}).get("persistentVolumeName") or ""
    return [name(obj), spec(obj).get("attacher") or "", volume, spec(obj).get("nodeName") or "", bool(status(obj).get("attached")), age(obj, now)]


def _csi_node(obj: Object, now: float) -> list[Any]:
    return [name(obj), len(spec(obj).get("drivers") or []), age(obj, now)]


def _csi_driver(obj: Object, now: float) -> list[Any]:
    requests = spec(obj).get("tokenRequests")
    return [
        name(obj),
        spec(obj).get("attachRequired", True),
        bool(spec(obj).get("podInfoOnMount")),
        bool(spec(obj).get("storageCapacity")),
        "<unset>" if requests is None else ",".join(str(one.get("audience") or "") for one in requests),
        bool(spec(obj).get("requiresRepublish")),
        ",".join(spec(obj).get("volumeLifecycleModes") or []) or "<none>",
        age(obj, now),
    ]


def _csi_storage_capacity(obj: Object, now: float) -> list[Any]:
    return [name(obj), obj.get("storageClassName") or "", obj.get("capacity") or "<unset>"]


def _volume_attributes_class(obj: Object, now: float) -> list[Any]:
    return [name(obj), obj.get("driverName") or "", age(obj, now)]


def _api_service(obj: Object, now: float) -> list[Any]:
    service = spec(obj).get("service")
    shown = f"{service.get('namespace')}/{service.get('name')}" if service else "Local"
    condition = meta.condition(obj, "Available")
    available = "Unknown"
    if condition is not None:
        available = str(condition.get("status"))
        if available != "True" and condition.get("reason"):
            available += f" ({condition['reason']})"
    return [name(obj), shown, available, age(obj, now)]


_BINDING_COLUMNS = columns("Name", "Role", "Age", "Users*", "Groups*", "ServiceAccounts*")

PRINTERS: dict[tuple[str, str], Printer] = {
    ("rbac.authorization.k8s.io", "rolebindings"): (_BINDING_COLUMNS, _binding),
    ("rbac.authorization.k8s.io", "clusterrolebindings"): (_BINDING_COLUMNS, _binding),
    ("certificates.k8s.io", "certificatesigningrequests"): (
        columns("Name", "Age", "SignerName", "Requestor", "RequestedDuration", "Condition"),
        _certificate_signing_request,
    ),
    ("coordination.k8s.io", "leases"): (columns("Name", "Holder", "Age"), _lease),
    ("scheduling.k8s.io", "priorityclasses"): (columns("Name", "Value#", "Global-Default?", "Age", "PreemptionPolicy"), _priority_class),
    ("storage.k8s.io", "storageclasses"): (
        columns("Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion?", "Age"),
        _storage_class,
    ),
    ("storage.k8s.io", "volumeattachments"): (columns("Name", "Attacher", "PV", "Node", "Attached?", "Age"), _volume_attachment),
    ("storage.k8s.io", "csinodes"): (columns("Name", "Drivers#", "Age"), _csi_node),
    ("storage.k8s.io", "csidrivers"): (
        columns("Name", "AttachRequired?", "PodInfoOnMount?", "StorageCapacity?", "TokenRequests", "RequiresRepublish?", "Modes", "Age"),
        _csi_driver,
    ),
    ("storage.k8s.io", "csistoragecapacities"): (columns("Name", "StorageClassName", "Capacity"), _csi_storage_capacity),
    ("storage.k8s.io", "volumeattributesclasses"): (columns("Name", "DriverName", "Age"), _volume_attributes_class),
    ("apiregistration.k8s.io", "apiservices"): (columns("Name", "Service", "Available", "Age"), _api_service),
}
