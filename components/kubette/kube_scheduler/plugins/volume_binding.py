"""Pure: VolumeBinding: a pod goes where its volumes are, or can be (upstream: plugins/volumebinding).

Claims that are bound decide by their volume's node affinity. A claim whose class waits for its first consumer is matched here with a
volume that the node can reach; `choice` says which, and `volume_binder.py` writes it down before the pod is bound.
"""

from dataclasses import dataclass, field
from typing import Any

from kubette.api import node_selectors, volumes
from kubette.apimachinery import meta
from kubette.kube_scheduler.framework import Rejection, Snapshot, Storage, unresolvable, unschedulable
from kubette.kube_scheduler.node_info import NodeInfo, Object

UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
ELSEWHERE = "node(s) didn't match PersistentVolume's node affinity"
NONE_FITS = "node(s) didn't find available persistent volumes to bind"
LOST = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pod's claims, apart by what is still to be done for them."""

    bound: tuple[Object, ...] = ()
    waiting: tuple[Object, ...] = ()
    storage: Storage = field(default_factory=Storage)


@dataclass(frozen=True, slots=True)
class Choice:
    """For one node: which volume each waiting claim gets, and the claims a provisioner is to make one for."""

    reserve: tuple[tuple[Object, Object], ...] = ()  # (claim, volume)
    provision: tuple[Object, ...] = ()


class VolumeBinding:
    name = "VolumeBinding"

    def pre_filter(self, pod: Object, snapshot: Snapshot) -> Wanted | Rejection:
        storage = snapshot.storage
        bound, waiting, immediate = [], [], False
        for name in volumes.claims_of(pod):
            claim = storage.claims.get(f"{meta.namespace(pod)}/{name}")
            if claim is None:
                return unresolvable(f'persistentvolumeclaim "{name}" not found')
            if meta.is_being_deleted(claim):
                return unresolvable(f'persistentvolumeclaim "{name}" is being deleted')
            if (claim.get("status") or {}).get("phase") == "Lost":
                return unresolvable(
                    f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{claim["spec"].get("volumeName") or ""}"'
                )
            if claim["spec"].get("volumeName") and volumes.BIND_COMPLETED in meta.annotations(claim):
                bound.append(claim)
            elif claim["spec"].get("volumeName") or not volumes.waits_for_consumer(storage.classes.get(volumes.class_of(claim))):
                immediate = True
            else:
                waiting.append(claim)
        return unresolvable(UNBOUND) if immediate else Wanted(tuple(bound), tuple(waiting), storage)

    def filter(self, state: Wanted, pod: Object, node: NodeInfo) -> Rejection | None:
        for claim in state.bound:
            volume = state.storage.volumes.get(claim["spec"]["volumeName"])
            if volume is None:
                return unresolvable(LOST)
            if not reaches(node, volume):
                return unresolvable(ELSEWHERE)
        return unschedulable(NONE_FITS) if state.waiting and choice(state, node) is None else None


def chosen(pod: Object, node: str, snapshot: Snapshot) -> Choice | None:
    """What the pod's waiting claims get on the node that was chosen; None when none waits."""
    if not volumes.claims_of(pod):
        return None
    state = VolumeBinding().pre_filter(pod, snapshot)
    info = next((one for one in snapshot.nodes if one.name == node), None)
    return choice(state, info) if isinstance(state, Wanted) and state.waiting and info is not None else None


def reaches(node: NodeInfo, volume: Object) -> bool:
    required: Any = (volume["spec"].get("nodeAffinity") or {}).get("required")
    if not required:
        return True
    return any(node_selectors.term_matches(term, node.labels, node.name) for term in required.get("nodeSelectorTerms") or ())


def choice(state: Wanted, node: NodeInfo) -> Choice | None:
    """None when a claim finds nothing on this node. The claims with the largest wishes do not go first, as upstream's do not."""
    reserve: list[tuple[Object, Object]] = []
    provision = []
    for claim in state.waiting:
        taken = [meta.name(volume) for _, volume in reserve]
        volume = volumes.best_match(claim, state.storage.volumes.values(), lambda one: reaches(node, one), taken=taken)
        if volume is not None:
            reserve.append((claim, volume))
        elif _provisioner(state.storage, claim) in ("", volumes.NO_PROVISIONER):
            return None
        else:
            provision.append(claim)
    return Choice(tuple(reserve), tuple(provision))


def _provisioner(storage: Storage, claim: Object) -> str:
    return str(storage.classes.get(volumes.class_of(claim), {}).get("provisioner") or "")
