"""Pure: the scheduling framework: plugins filter nodes, score the rest, and their words explain a refusal.

Counterpart upstream: pkg/scheduler/framework. A plugin's `pre_filter` and `pre_score` compute once per pod what every node needs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kubette.kube_scheduler.node_info import NodeInfo, Object

MAX_SCORE = 100


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a node does not fit. `resolvable` is False when evicting other pods could not help."""

    reasons: tuple[str, ...]
    resolvable: bool
    plugin: str = ""


def unschedulable(*reasons: str) -> Rejection:
    return Rejection(reasons, resolvable=True)


def unresolvable(*reasons: str) -> Rejection:
    return Rejection(reasons, resolvable=False)


@dataclass(frozen=True, slots=True)
class Storage:
    """Claims by namespace/name, volumes and classes by name."""

    claims: dict[str, Object] = field(default_factory=dict)
    volumes: dict[str, Object] = field(default_factory=dict)
    classes: dict[str, Object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one scheduling cycle looks at: all nodes, and labels of namespaces for affinity terms."""

    nodes: Sequence[NodeInfo]
    namespace_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    # Selectors of the services and controllers that own a pod: what "replicas of the same thing" means for default spreading.
    default_selector: Callable[[Object], Callable[[dict[str, str]], bool] | None] = lambda _pod: None
    storage: Storage = field(default_factory=Storage)


class FilterPlugin(Protocol):
    name: str

    def pre_filter(self, pod: Object, snapshot: Snapshot) -> Any:
        """What `filter` needs about the pod; a Rejection refuses the pod on every node."""

    def filter(self, state: Any, pod: Object, node: NodeInfo) -> Rejection | None: ...


class ScorePlugin(Protocol):
    name: str

    def pre_score(self, pod: Object, snapshot: Snapshot, nodes: Sequence[NodeInfo]) -> Any:
        """What `score` needs; None skips the plugin for this pod."""

    def score(self, state: Any, pod: Object, node: NodeInfo) -> int: ...

    def normalize(self, state: Any, scores: dict[str, int]) -> dict[str, int]: ...


@dataclass(slots=True)
class FitError(Exception):
    """No node fits. `rejections` has one entry a node."""

    node_count: int
    rejections: dict[str, Rejection]
    pre_filter: str = ""
    post_filter: str = ""

    def __str__(self) -> str:
        """`0/4 nodes are available: 4 Insufficient cpu.`"""
        text = f"0/{self.node_count} nodes are available"
        if self.pre_filter:
            text += f": {self.pre_filter}."
        else:
            text += (": " + explain(self.rejections) + ".") if self.rejections else "."
            if not self.node_count:
                return "no nodes available to schedule pods"
        return f"{text} {self.post_filter}" if self.post_filter else text


def explain(rejections: dict[str, Rejection]) -> str:
    """`1 node(s) were unschedulable, 2 Insufficient cpu`: each reason with its number of nodes, sorted as text."""
    counts: dict[str, int] = {}
    for rejection in rejections.values():
        for reason in rejection.reasons:
            counts[reason] = counts.get(reason, 0) + 1
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))


@dataclass(frozen=True, slots=True)
class Profile:
    """The plugins of one scheduler name; scorers with their weights."""

    filters: Sequence[FilterPlugin]
    scorers: Sequence[tuple[ScorePlugin, int]]

    def feasible(self, pod: Object, snapshot: Snapshot) -> list[NodeInfo]:
        """The nodes that every filter accepts. Raises FitError when there is none."""
        states = []
        for plugin in self.filters:
            state = plugin.pre_filter(pod, snapshot)
            if isinstance(state, Rejection):
                rejection = Rejection(state.reasons, state.resolvable, plugin.name)
                raise FitError(len(snapshot.nodes), dict.fromkeys((n.name for n in snapshot.nodes), rejection), ", ".join(state.reasons))
            states.append(state)
        fitting, rejections = [], {}
        for node in snapshot.nodes:
            refused = self._first_rejection(states, pod, node)
            if refused is None:
                fitting.append(node)
            else:
                rejections[node.name] = refused
        if not fitting:
            raise FitError(len(snapshot.nodes), rejections)
        return fitting

    def _first_rejection(self, states: Sequence[Any], pod: Object, node: NodeInfo) -> Rejection | None:
        for plugin, state in zip(self.filters, states, strict=True):
            refused = plugin.filter(state, pod, node)
            if refused is not None:
                return Rejection(refused.reasons, refused.resolvable, plugin.name)
        return None

    def fits(self, pod: Object, node: NodeInfo, snapshot: Snapshot) -> bool:
        """Whether one (changed) node would fit; for preemption."""
        states = [plugin.pre_filter(pod, snapshot) for plugin in self.filters]
        if any(isinstance(state, Rejection) for state in states):
            return False
        return self._first_rejection(states, pod, node) is None

    def ranked(self, pod: Object, snapshot: Snapshot, nodes: Sequence[NodeInfo]) -> dict[str, int]:
        """Weighted total per node name."""
        totals = dict.fromkeys((node.name for node in nodes), 0)
        for plugin, weight in self.scorers:
            state = plugin.pre_score(pod, snapshot, nodes)
            if state is None:
                continue
            scores = plugin.normalize(state, {node.name: plugin.score(state, pod, node) for node in nodes})
            for name, score in scores.items():
                totals[name] += score * weight
        return totals


def scaled(scores: dict[str, int], *, reverse: bool = False) -> dict[str, int]:
    """Upstream's DefaultNormalizeScore: the best becomes MAX_SCORE; `reverse` when a low score is the good one."""
    highest = max(scores.values(), default=0)
    if highest == 0:
        return dict.fromkeys(scores, MAX_SCORE if reverse else 0)
    result = {name: score * MAX_SCORE // highest for name, score in scores.items()}
    return {name: MAX_SCORE - score for name, score in result.items()} if reverse else result
