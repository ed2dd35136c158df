"""Pure: which pods nobody else will remove (pkg/controller/podgc)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from kubette.apimachinery import meta
from kubette.kube_controller_manager import pods
from kubette.kube_controller_manager.objects import spec

Object = dict[str, Any]

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


@dataclass(frozen=True, slots=True)
class Removal:
    """A pod to delete without grace. `fail` marks it Failed first, with this message."""

    pod: Object
    why: str
    reason: str = ""
    message: str = ""


def surplus_terminated(all_pods: Sequence[Object], threshold: int) -> list[Removal]:
    """The oldest finished pods beyond the threshold; 0 or less keeps all."""
    finished = [p for p in all_pods if pods.is_terminal(p)]
    surplus = len(finished) - threshold
    if threshold <= 0 or surplus <= 0:
        return []
    oldest = sorted(finished, key=lambda p: (meta.creation_timestamp(p), meta.name(p)))[:surplus]
    return [Removal(p, "terminated") for p in oldest]


def on_missing_nodes(all_pods: Sequence[Object], nodes: Collection[str]) -> dict[str, list[Object]]:
    """Pods by the name of a node that does not exist."""
    found: dict[str, list[Object]] = {}
    for pod in all_pods:
        node = spec(pod).get("nodeName")
        if node and node not in nodes:
            found.setdefault(node, []).append(pod)
    return found


def orphaned(pod: Object) -> Removal:
    return Removal(pod, "orphaned", "DeletionByPodGC", "PodGC: node no longer exists")


def unscheduled_terminating(all_pods: Sequence[Object]) -> list[Removal]:
    """Deleted before any kubelet had them: no one will confirm their end."""
    return [Removal(p, "terminating and unscheduled") for p in all_pods if meta.is_being_deleted(p) and not spec(p).get("nodeName")]


def on_out_of_service_nodes(all_pods: Sequence[Object], nodes: Sequence[Object]) -> list[Removal]:
    """An administrator vouches (by taint) that these nodes are down: their terminating pods are over."""
    down = {
        meta.name(n) for n in nodes if not meta.is_condition_true(n, "Ready") and any(t["key"] == OUT_OF_SERVICE for t in spec(n).get("taints") or [])
    }
    return [Removal(p, "out of service") for p in all_pods if meta.is_being_deleted(p) and spec(p).get("nodeName") in down]
