"""Pure: NodeResourcesFit (filter, LeastAllocated score) and NodeResourcesBalancedAllocation."""

from collections.abc import Sequence
from typing import Any

from kubette.kube_scheduler.framework import MAX_SCORE, Rejection, Snapshot, unresolvable, unschedulable
from kubette.kube_scheduler.node_info import Amounts, NodeInfo, Object, ranked_requests, requests

_RANKED = ("cpu", "memory")


class NodeResourcesFit:
    name = "NodeResourcesFit"

    def pre_filter(self, pod: Object, snapshot: Snapshot) -> Amounts:
        return requests(pod)

    def filter(self, state: Amounts, pod: Object, node: NodeInfo) -> Rejection | None:
        short = []
        if len(node.pods) + 1 > node.allocatable.get("pods", 0) // 1000:
            short.append("Too many pods")
        impossible = bool(short) and node.allocatable.get("pods", 0) < 1000
        for name, wanted in state.items():
            have = node.allocatable.get(name, 0)
            if wanted and wanted > have - node.requested.get(name, 0):
                short.append(f"Insufficient {name}")
                impossible = impossible or wanted > have
        if not short:
            return None
        # Evicting others cannot help when the node is too small altogether.
        return unresolvable(*short) if impossible else unschedulable(*short)

    def pre_score(self, pod: Object, snapshot: Snapshot, nodes: Sequence[NodeInfo]) -> Amounts:
        return ranked_requests(pod)

    def score(self, state: Amounts, pod: Object, node: NodeInfo) -> int:
        """The mean share that would stay free."""
        total = 0
        for name in _RANKED:
            have = node.allocatable.get(name, 0)
            used = node.ranked.get(name, 0) + state.get(name, 0)
            total += (have - used) * MAX_SCORE // have if have and used <= have else 0
        return total // len(_RANKED)

    def normalize(self, state: Any, scores: dict[str, int]) -> dict[str, int]:
        return scores


class NodeResourcesBalancedAllocation:
    name = "NodeResourcesBalancedAllocation"

    def pre_score(self, pod: Object, snapshot: Snapshot, nodes: Sequence[NodeInfo]) -> Amounts | None:
        wanted = requests(pod)
        # A pod that asks for nothing balances nothing.
        return wanted if any(wanted.get(name) for name in _RANKED) else None

    def score(self, state: Amounts, pod: Object, node: NodeInfo) -> int:
        shares = []
        for name in _RANKED:
            have = node.allocatable.get(name, 0)
            if have:
                shares.append(min(1.0, (node.requested.get(name, 0) + state.get(name, 0)) / have))
        deviation = abs(shares[0] - shares[1]) / 2 if len(shares) == 2 else 0.0
        return int((1 - deviation) * MAX_SCORE)

    def normalize(self, state: Any, scores: dict[str, int]) -> dict[str, int]:
        return scores
