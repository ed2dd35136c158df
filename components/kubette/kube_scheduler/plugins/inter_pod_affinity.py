"""Pure: InterPodAffinity: near to or far from other pods, by label, within a topology domain."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import selectors
from kubette.kube_scheduler.framework import MAX_SCORE, Rejection, Snapshot, unresolvable, unschedulable
from kubette.kube_scheduler.node_info import NodeInfo, Object

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

Domain = tuple[str, str]  # topology key and value


def terms(pod: Object, kind: str, when: str) -> list[Object]:
    return ((pod["spec"].get("affinity") or {}).get(kind) or {}).get(when) or []


@dataclass(slots=True)
class Term:
    """One affinity term of one pod, ready to be matched."""

    topology_key: str
    selector: Any
    namespaces: frozenset[str]
    namespace_selector: Any

    @classmethod
    def of(cls, owner: Object, term: Object) -> "Term":
        names = frozenset(term.get("namespaces") or ())
        namespace_selector = selectors.from_label_selector(term["namespaceSelector"]) if term.get("namespaceSelector") is not None else None
        if not names and namespace_selector is None:
            names = frozenset((owner["metadata"].get("namespace", ""),))
        selector = dict(term.get("labelSelector") or {})
        labels = owner["metadata"].get("labels") or {}
        expressions = list(selector.get("matchExpressions") or ())
        expressions += [{"key": k, "operator": "In", "values": [labels[k]]} for k in term.get("matchLabelKeys") or () if k in labels]
        expressions += [{"key": k, "operator": "NotIn", "values": [labels[k]]} for k in term.get("mismatchLabelKeys") or () if k in labels]
        if expressions:
            selector["matchExpressions"] = expressions
        matcher = selectors.from_label_selector(selector) if term.get("labelSelector") is not None else None
        return cls(term["topologyKey"], matcher, names, namespace_selector)

    def matches(self, pod: Object, snapshot: Snapshot) -> bool:
        namespace = pod["metadata"].get("namespace", "")
        in_scope = namespace in self.namespaces or (
            self.namespace_selector is not None and self.namespace_selector.matches(snapshot.namespace_labels.get(namespace, {}))
        )
        return in_scope and self.selector is not None and bool(self.selector.matches(pod["metadata"].get("labels") or {}))


@dataclass(slots=True)
class _Required:
    affinity: list[Term]
    anti_affinity: list[Term]
    near: dict[Domain, set[int]] = field(default_factory=dict)  # domain -> which affinity terms are satisfied there
    far: set[Domain] = field(default_factory=set)  # domains with a pod that ours keeps away from
    refused: set[Domain] = field(default_factory=set)  # domains whose pods keep away from ours
    first_of_group: bool = False


def _existing(snapshot: Snapshot) -> Iterator[tuple[NodeInfo, Object]]:
    for node in snapshot.nodes:
        for pod in node.pods.values():
            yield node, pod


class InterPodAffinity:
    name = "InterPodAffinity"

    def pre_filter(self, pod: Object, snapshot: Snapshot) -> _Required:
        state = _Required(
            [Term.of(pod, t) for t in terms(pod, "podAffinity", _REQUIRED)],
            [Term.of(pod, t) for t in terms(pod, "podAntiAffinity", _REQUIRED)],
        )
        for node, other in _existing(snapshot):
            for index, term in enumerate(state.affinity):
                if term.topology_key in node.labels and term.matches(other, snapshot):
                    state.near.setdefault((term.topology_key, node.labels[term.topology_key]), set()).add(index)
            for term in state.anti_affinity:
                if term.topology_key in node.labels and term.matches(other, snapshot):
                    state.far.add((term.topology_key, node.labels[term.topology_key]))
            for raw in terms(other, "podAntiAffinity", _REQUIRED):
                term = Term.of(other, raw)
                if term.topology_key in node.labels and term.matches(pod, snapshot):
                    state.refused.add((term.topology_key, node.labels[term.topology_key]))
        # The first pod of a group that wants to be near itself may go anywhere.
        state.first_of_group = not state.near and all(term.matches(pod, snapshot) for term in state.affinity)
        return state

    def filter(self, state: _Required, pod: Object, node: NodeInfo) -> Rejection | None:
        for index, term in enumerate(state.affinity):
            value = node.labels.get(term.topology_key)
            satisfied = value is not None and (index in state.near.get((term.topology_key, value), ()) or state.first_of_group)
            if not satisfied:
                return unresolvable("node(s) didn't match pod affinity rules")
        for term in state.anti_affinity:
            if (term.topology_key, node.labels.get(term.topology_key, "")) in state.far:
                return unschedulable("node(s) didn't match pod anti-affinity rules")
        if any((key, value) in state.refused for key, value in node.labels.items()):
            return unschedulable("node(s) didn't satisfy existing pods anti-affinity rules")
        return None

    def pre_score(self, pod: Object, snapshot: Snapshot, nodes: Sequence[NodeInfo]) -> dict[Domain, int] | None:
        """Weight of every topology domain: our preferences about others, and theirs about us."""
        weights: dict[Domain, int] = {}

        def count(node: NodeInfo, owner: Object, subject: Object, weighted: list[Object], sign: int) -> None:
            for each in weighted:
                term = Term.of(owner, each["podAffinityTerm"])
                if term.topology_key in node.labels and term.matches(subject, snapshot):
                    domain = (term.topology_key, node.labels[term.topology_key])
                    weights[domain] = weights.get(domain, 0) + sign * each["weight"]

        near, far = terms(pod, "podAffinity", _PREFERRED), terms(pod, "podAntiAffinity", _PREFERRED)
        for node, other in _existing(snapshot):
            count(node, pod, other, near, 1)
            count(node, pod, other, far, -1)
            if (other["spec"].get("affinity") or {}).keys() & {"podAffinity", "podAntiAffinity"}:
                count(node, other, pod, terms(other, "podAffinity", _PREFERRED), 1)
                count(node, other, pod, terms(other, "podAntiAffinity", _PREFERRED), -1)
        return weights or None

    def score(self, state: dict[Domain, int], pod: Object, node: NodeInfo) -> int:
        return sum(state.get((key, value), 0) for key, value in node.labels.items())

    def normalize(self, state: Any, scores: dict[str, int]) -> dict[str, int]:
        lowest, highest = min(scores.values()), max(scores.values())
        if lowest == highest:
            return dict.fromkeys(scores, 0)
        return {name: (score - lowest) * MAX_SCORE // (highest - lowest) for name, score in scores.items()}
