"""Pure: TaintToleration."""

from collections.abc import Sequence
from typing import Any

from kubette.kube_scheduler.framework import Rejection, Snapshot, scaled, unresolvable
from kubette.kube_scheduler.node_info import NodeInfo, Object


def toleration_matches(toleration: Object, taint: Object) -> bool:
    """core/v1's Toleration.ToleratesTaint."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def tolerates(pod: Object, taint: Object) -> bool:
    return any(toleration_matches(t, taint) for t in pod["spec"].get("tolerations") or ())


class TaintToleration:
    name = "TaintToleration"

    def pre_filter(self, pod: Object, snapshot: Snapshot) -> None:
        return None

    def filter(self, state: None, pod: Object, node: NodeInfo) -> Rejection | None:
        for taint in node.taints:
            if taint["effect"] in ("NoSchedule", "NoExecute") and not tolerates(pod, taint):
                return unresolvable(f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value') or ''}}}")
        return None

    def pre_score(self, pod: Object, snapshot: Snapshot, nodes: Sequence[NodeInfo]) -> bool:
        return True

    def score(self, state: Any, pod: Object, node: NodeInfo) -> int:
        """How many soft taints the pod does not tolerate: the fewer the better."""
        return sum(taint["effect"] == "PreferNoSchedule" and not tolerates(pod, taint) for taint in node.taints)

    def normalize(self, state: Any, scores: dict[str, int]) -> dict[str, int]:
        return scaled(scores, reverse=True)
