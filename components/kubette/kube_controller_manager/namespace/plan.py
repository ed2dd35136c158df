"""Pure: what is said about a namespace that goes away, and in which order its content goes (pkg/controller/namespace/deletion)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import timestamps
from kubette.client.resources import Discovered
from kubette.kube_controller_manager import objects

Object = dict[str, Any]

FINALIZER = "kubernetes"


@dataclass(slots=True)
class Remains:
    """What an attempt to delete everything left."""

    discovery_failed: Mapping[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)  # group-resource -> objects still there
    finalizers: dict[str, int] = field(default_factory=dict)  # finalizer -> objects that wait for it

    @property
    def nothing(self) -> bool:
        return not (self.counts or self.errors or self.discovery_failed)


def order(found: Sequence[Discovered]) -> list[list[Discovered]]:
    """Pods first and alone: nothing they rely on (network policies, secrets) may vanish under running pods."""
    deletable = [d for d in found if d.resource.namespaced and "delete" in d.verbs and ("list" in d.verbs or "deletecollection" in d.verbs)]
    pods = [d for d in deletable if d.resource.group == "" and d.resource.resource == "pods"]
    return [pods, [d for d in deletable if d not in pods]]


def _listed(pairs: Mapping[str, Any], joint: str, ending: str = "") -> str:
    return ", ".join(f"{key}{joint}{value}{ending}" for key, value in sorted(pairs.items()))


def _problems(remains: Remains) -> list[tuple[str, str, str, str, str]]:
    """Per condition: its type, the reason and text of trouble (empty for none), the reason and text of none."""
    failed, errors = remains.discovery_failed, remains.errors
    discovery = f"Discovery failed for some groups, {len(failed)} failing: {_listed(failed, ': ')}" if failed else ""
    content = f"Failed to delete all resource types, {len(errors)} remaining: {', '.join(sorted(errors))}" if errors else ""
    remaining = f"Some resources are remaining: {_listed(remains.counts, ' has ', ' resource instances')}" if remains.counts else ""
    held = f"Some content in the namespace has finalizers remaining: {_listed(remains.finalizers, ' in ', ' resource instances')}"
    return [
        ("NamespaceDeletionDiscoveryFailure", "DiscoveryFailed", discovery, "ResourcesDiscovered", "All resources successfully discovered"),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "GroupVersionParsingFailed",
            "",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            "ContentDeletionFailed",
            content,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        ("NamespaceContentRemaining", "SomeResourcesRemain", remaining, "ContentRemoved", "All content successfully removed"),
        (
            "NamespaceFinalizersRemaining",
            "SomeFinalizersRemain",
            held if remains.finalizers else "",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ]


def conditions(current: list[Object], remains: Remains, now: float) -> list[Object]:
    """The five conditions of a terminating namespace."""
    stamp = timestamps.format_time(now)
    found = list(current)
    for name, reason, problem, fine_reason, fine in _problems(remains):
        condition = {"type": name, "status": "True" if problem else "False", "reason": reason if problem else fine_reason, "message": problem or fine}
        existing = objects.find_condition(found, name)
        unchanged = existing is not None and existing["status"] == condition["status"]
        condition["lastTransitionTime"] = existing.get("lastTransitionTime", stamp) if existing is not None and unchanged else stamp
        found = [*objects.without_condition(found, name), condition]
    return sorted(found, key=lambda c: str(c["type"]))
