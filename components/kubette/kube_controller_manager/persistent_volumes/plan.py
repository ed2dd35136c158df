"""Pure: what is to be done about one claim, and about one volume (upstream: pkg/controller/volume/persistentvolume/pv_controller.go)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kubette.api import volumes
from kubette.api.volumes import best_match, class_of
from kubette.apimachinery import meta
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]

LOST_REFERENCE = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
LOST_VOLUME = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
MISBOUND = "Two claims are bound to the same volume, this one is bound incorrectly"


@dataclass(frozen=True, slots=True)
class Told:
    """An event."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ClaimStep:
    """The claim becomes Pending or Lost, or is bound to `volume`; `provisioner` is whose turn it is otherwise."""

    phase: str = "Pending"
    volume: Object | None = None
    told: Told | None = None
    provisioner: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """What a decision about a claim looks at."""

    volumes: Sequence[Object]
    classes: dict[str, Object] = field(default_factory=dict)
    consumers: Sequence[Object] = ()  # pods that mount the claim


def for_claim(claim: Object, world: World) -> ClaimStep:
    named = spec(claim).get("volumeName") or ""
    if volumes.BIND_COMPLETED in meta.annotations(claim):
        return _bound_claim(claim, named, world)
    if named:
        return _claim_that_names(claim, named, world)
    storage_class = world.classes.get(class_of(claim))
    waits = volumes.waits_for_consumer(storage_class) and volumes.SELECTED_NODE not in meta.annotations(claim)
    found = best_match(claim, world.volumes, waits=waits)
    if found is not None:
        return ClaimStep("Bound", found)
    if waits:
        return ClaimStep(told=_waiting(world.consumers))
    if not class_of(claim):
        return ClaimStep(told=Told("Normal", "FailedBinding", "no persistent volumes available for this claim and no storage class is set"))
    return _provision(class_of(claim), storage_class)


def _waiting(consumers: Sequence[Object]) -> Told:
    if not consumers:
        return Told("Normal", "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
    unscheduled = [meta.name(pod) for pod in consumers if not spec(pod).get("nodeName")]
    if len(unscheduled) > 1:
        return Told("Normal", "WaitForPodScheduled", f"waiting for pods {','.join(sorted(unscheduled))} to be scheduled")
    return Told("Normal", "WaitForPodScheduled", f"waiting for pod {(unscheduled or [meta.name(consumers[0])])[0]} to be scheduled")


def _provision(name: str, storage_class: Object | None) -> ClaimStep:
    """No provisioner is built in, as upstream's were all moved out of the tree: who has one of his own is called by an annotation."""
    if storage_class is None:
        return ClaimStep(told=Told("Warning", "ProvisioningFailed", f'storageclass.storage.k8s.io "{name}" not found'))
    provisioner = str(storage_class.get("provisioner"))
    if provisioner.startswith("kubernetes.io/"):
        return ClaimStep(told=Told("Warning", "ProvisioningFailed", f"no volume plugin matched name: {provisioner}"))
    waiting = (
        f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. "
        "If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    )
    return ClaimStep(told=Told("Normal", "ExternalProvisioning", waiting), provisioner=provisioner)


def _claim_that_names(claim: Object, named: str, world: World) -> ClaimStep:
    """Somebody, or an earlier and unfinished step, has put the volume's name into the claim."""
    volume = _volume(named, world)
    if volume is None:
        return ClaimStep()
    if not volume["spec"].get("claimRef"):
        wrong = volumes.shortcoming(volume, claim)
        if wrong:
            return ClaimStep(told=Told("Warning", "VolumeMismatch", f'Cannot bind to requested volume "{named}": {wrong}'))
        return ClaimStep("Bound", volume)
    if volumes.is_for(volume, claim):
        return ClaimStep("Bound", volume)
    return ClaimStep(told=Told("Warning", "FailedBinding", f'volume "{named}" already bound to a different claim.'))


def _bound_claim(claim: Object, named: str, world: World) -> ClaimStep:
    if not named:
        return ClaimStep("Lost", told=Told("Warning", "ClaimLost", LOST_REFERENCE))
    volume = _volume(named, world)
    if volume is None:
        return ClaimStep("Lost", told=Told("Warning", "ClaimLost", LOST_VOLUME))
    if not volume["spec"].get("claimRef") or volumes.is_for(volume, claim):
        return ClaimStep("Bound", volume)
    return ClaimStep("Lost", told=Told("Warning", "ClaimMisbound", MISBOUND))


def _volume(name: str, world: World) -> Object | None:
    return next((one for one in world.volumes if meta.name(one) == name), None)


@dataclass(frozen=True, slots=True)
class VolumeStep:
    """The phase of a volume; `reclaims` when its claim is gone for good, `unreserved` when it waits for one that chose another."""

    phase: str
    reclaims: bool = False
    unreserved: Object | None = None
    asks: str = ""  # key of the claim whose turn it is


def for_volume(volume: Object, claim: Object | None) -> VolumeStep:
    """`claim` is the one that the volume's reference names, if it exists."""
    reference = spec(volume).get("claimRef")
    phase = status(volume).get("phase") or "Pending"
    if not reference:
        return VolumeStep("Available")
    key = f"{reference.get('namespace')}/{reference.get('name')}"
    if not reference.get("uid"):
        return VolumeStep("Available", asks=key)
    if claim is None or meta.uid(claim) != reference["uid"]:
        return VolumeStep("Failed" if phase == "Failed" else "Released", reclaims=True)
    bound_to = spec(claim).get("volumeName")
    if not bound_to:
        return VolumeStep(phase if phase != "Pending" else "Available", asks=key)
    if bound_to == meta.name(volume):
        return VolumeStep("Bound")
    return VolumeStep("Available", unreserved=unreserved(volume))


def unreserved(volume: Object) -> Object:
    """Without the binder's own reference; somebody else's stays, for whichever claim of that name comes."""
    metadata = dict(volume["metadata"])
    if volumes.BOUND_BY_CONTROLLER in meta.annotations(volume):
        metadata["annotations"] = {k: v for k, v in meta.annotations(volume).items() if k != volumes.BOUND_BY_CONTROLLER}
        return {**volume, "metadata": metadata, "spec": {k: v for k, v in volume["spec"].items() if k != "claimRef"}}
    reference = {k: v for k, v in volume["spec"]["claimRef"].items() if k not in ("uid", "resourceVersion")}
    return {**volume, "metadata": metadata, "spec": {**volume["spec"], "claimRef": reference}}


def claim_bound_to(claim: Object, volume: Object) -> Object:
    metadata = dict(claim["metadata"])
    marks = {volumes.BIND_COMPLETED: "yes"}
    if not spec(claim).get("volumeName"):
        marks[volumes.BOUND_BY_CONTROLLER] = "yes"
    metadata["annotations"] = {**meta.annotations(claim), **marks}
    return {**claim, "metadata": metadata, "spec": {**claim["spec"], "volumeName": meta.name(volume)}}


def claim_status(claim: Object, volume: Object) -> Object:
    """What a bound claim shows of its volume."""
    found = {**status(claim), "phase": "Bound", "accessModes": volume["spec"]["accessModes"], "capacity": volume["spec"]["capacity"]}
    return found


def disposal(volume: Object) -> str:
    """The directory that `Delete` removes. Raises ValueError, in upstream's words, where no plugin of ours can."""
    source = spec(volume).get("hostPath")
    if source is None:
        raise ValueError(f'error getting deleter volume plugin for volume "{meta.name(volume)}": no deletable volume plugin matched')
    path = str(source.get("path"))
    if not path.startswith("/tmp/") or path == "/tmp/" or ".." in path.split("/"):
        raise ValueError(f"host_path deleter only supports /tmp/.+ but received provided {path}")
    return path
