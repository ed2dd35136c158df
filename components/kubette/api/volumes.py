"""Pure: claims and volumes as the binder and the scheduler both see them (upstream: component-helpers/storage/volume, util/pv_helpers.go)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kubette.apimachinery import meta, quantity, selectors

Object = dict[str, Any]

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
STORAGE_PROVISIONERS = ("volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner")
NO_PROVISIONER = "kubernetes.io/no-provisioner"
_CLASS_BEFORE_1_6 = "volume.beta.kubernetes.io/storage-class"


def class_of(obj: Object) -> str:
    """The storage class of a claim or a volume; empty when it has none."""
    return meta.annotations(obj).get(_CLASS_BEFORE_1_6) or (obj.get("spec") or {}).get("storageClassName") or ""


def waits_for_consumer(storage_class: Object | None) -> bool:
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def is_for(volume: Object, claim: Object) -> bool:
    """Whether the volume is kept for this claim, by the binder or by who made it."""
    reference = volume["spec"].get("claimRef")
    if not reference or (reference.get("namespace"), reference.get("name")) != (meta.namespace(claim), meta.name(claim)):
        return False
    return reference.get("uid") in (None, "", meta.uid(claim))


def shortcoming(volume: Object, claim: Object) -> str:
    """Why the volume cannot be what the claim asks for; empty when it can."""
    if _storage(claim["spec"].get("resources", {}).get("requests")) > _storage(volume["spec"].get("capacity")):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if _mode(volume) != _mode(claim):
        return "incompatible volumeMode"
    if not set(claim["spec"].get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ()):
        return "incompatible accessMode"
    return ""


def best_match(
    claim: Object, volumes: Iterable[Object], on_node: Callable[[Object], bool] | None = None, waits: bool = False, taken: Iterable[str] = ()
) -> Object | None:
    """The volume made for this claim, or else the smallest free one that will do. With `waits` only the former counts until a node is chosen."""
    wanted = claim["spec"].get("selector")
    selector = selectors.from_label_selector(wanted) if wanted else None
    best: Object | None = None
    for volume in volumes:
        if meta.name(volume) in taken or meta.is_being_deleted(volume):
            continue
        reserved = is_for(volume, claim)
        if volume["spec"].get("claimRef") and not reserved:
            continue
        if _mode(volume) != _mode(claim) or _storage(claim["spec"].get("resources", {}).get("requests")) > _storage(volume["spec"].get("capacity")):
            continue
        if reserved:
            return volume if on_node is None or on_node(volume) else None
        if waits and on_node is None:
            continue
        if (volume.get("status") or {}).get("phase") != "Available" or (selector and not selector.matches(meta.labels(volume))):
            continue
        if shortcoming(volume, claim) or (on_node is not None and not on_node(volume)):
            continue
        if best is None or _storage(volume["spec"]["capacity"]) < _storage(best["spec"]["capacity"]):
            best = volume
    return best


def reserved_for(volume: Object, claim: Object) -> Object:
    """The volume with the reference that keeps it for the claim; marked as ours to undo unless somebody had reserved it already."""
    metadata, reference = dict(volume["metadata"]), volume["spec"].get("claimRef")
    if not reference:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), BOUND_BY_CONTROLLER: "yes"}
    found = {
        "kind": "PersistentVolumeClaim",
        "namespace": meta.namespace(claim),
        "name": meta.name(claim),
        "uid": meta.uid(claim),
        "apiVersion": "v1",
        "resourceVersion": meta.resource_version(claim),
    }
    return {**volume, "metadata": metadata, "spec": {**volume["spec"], "claimRef": found}}


def claims_of(pod: Object) -> list[str]:
    """The names of the claims that a pod mounts; of its ephemeral volumes those that are made for it."""
    found = []
    for volume in pod["spec"].get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            found.append(str(volume["persistentVolumeClaim"]["claimName"]))
        elif volume.get("ephemeral"):
            found.append(ephemeral_claim(pod, volume))
    return found


def ephemeral_claim(pod: Object, volume: Object) -> str:
    return f"{meta.name(pod)}-{volume['name']}"


def _mode(obj: Object) -> str:
    return obj["spec"].get("volumeMode") or "Filesystem"


def _storage(amounts: Mapping[str, Any] | None) -> quantity.Quantity:
    return quantity.parse((amounts or {}).get("storage", "0"))
