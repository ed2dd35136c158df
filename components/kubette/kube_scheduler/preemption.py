"""Pure: DefaultPreemption: which pods must go so that a more important one fits (upstream: framework/plugins/defaultpreemption)."""

from collections.abc import Sequence
from dataclasses import dataclass

from kubette.apimachinery import selectors
from kubette.kube_scheduler.framework import FitError, Profile, Rejection, Snapshot, explain
from kubette.kube_scheduler.node_info import NodeInfo, Object
from kubette.kube_scheduler.queue import priority


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node, and the pods whose eviction makes room on it."""

    node: str
    victims: tuple[Object, ...]
    violations: int  # victims whose eviction breaks a disruption budget


@dataclass(frozen=True, slots=True)
class Verdict:
    """A candidate, or none and why."""

    candidate: Candidate | None
    message: str


def preempt(profile: Profile, pod: Object, snapshot: Snapshot, failure: FitError, budgets: Sequence[Object]) -> Verdict:
    """The cheapest node to make room on: fewest broken budgets, then least important victims, then fewest."""
    count = len(snapshot.nodes)
    if pod["spec"].get("preemptionPolicy") == "Never":
        return Verdict(None, "preemption: not eligible due to preemptionPolicy=Never.")
    refusals: dict[str, Rejection] = {}
    candidates = []
    for node in snapshot.nodes:
        rejection = failure.rejections.get(node.name)
        if rejection is not None and not rejection.resolvable:
            refusals[node.name] = Rejection(("Preemption is not helpful for scheduling",), resolvable=False)
            continue
        candidate = _victims_on(profile, pod, node, snapshot, budgets)
        if candidate is None:
            refusals[node.name] = Rejection(("No preemption victims found for incoming pod",), resolvable=False)
        else:
            candidates.append(candidate)
    if candidates:
        return Verdict(min(candidates, key=_cost), "")
    return Verdict(None, f"preemption: 0/{count} nodes are available: {explain(refusals)}." if refusals else "")


def _victims_on(profile: Profile, pod: Object, node: NodeInfo, snapshot: Snapshot, budgets: Sequence[Object]) -> Candidate | None:
    """Evict every less important pod, then put back as many as possible, the most important first."""
    lower = [p for p in node.pods.values() if priority(p) < priority(pod)]
    if not lower:
        return None
    stripped = node.without(lower)
    if not profile.fits(pod, stripped, _replaced(snapshot, stripped)):
        return None
    broken, kept_safe = _split_by_budget(lower, budgets)
    victims = []
    violations = 0
    for protected, group in ((True, broken), (False, kept_safe)):
        for each in sorted(group, key=lambda p: (-priority(p), (p.get("status") or {}).get("startTime") or "")):
            stripped.add_pod(each)
            if not profile.fits(pod, stripped, _replaced(snapshot, stripped)):
                stripped.remove_pod(each)
                victims.append(each)
                violations += protected
    return Candidate(node.name, tuple(victims), violations)


def _replaced(snapshot: Snapshot, changed: NodeInfo) -> Snapshot:
    nodes = [changed if n.name == changed.name else n for n in snapshot.nodes]
    return Snapshot(nodes, snapshot.namespace_labels, snapshot.default_selector)


def _split_by_budget(pods: Sequence[Object], budgets: Sequence[Object]) -> tuple[list[Object], list[Object]]:
    """(pods whose eviction would break a budget, the others); each budget is spent as pods are counted."""
    left = {id(b): int((b.get("status") or {}).get("disruptionsAllowed") or 0) for b in budgets}
    broken: list[Object] = []
    fine: list[Object] = []
    for pod in sorted(pods, key=lambda p: -priority(p)):
        metadata = pod["metadata"]
        covering = [
            b
            for b in budgets
            if b["metadata"].get("namespace") == metadata.get("namespace")
            and (b.get("spec") or {}).get("selector")
            and selectors.from_label_selector(b["spec"]["selector"]).matches(metadata.get("labels") or {})
        ]
        for budget in covering:
            left[id(budget)] -= 1
        (broken if any(left[id(b)] < 0 for b in covering) else fine).append(pod)
    return broken, fine


def _cost(candidate: Candidate) -> tuple[int, int, int, int, str]:
    priorities = [priority(p) for p in candidate.victims]
    return candidate.violations, max(priorities, default=-(2**31)), sum(priorities), len(priorities), candidate.node
