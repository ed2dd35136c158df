"""Pure: how long a pod may stay on a node with these NoExecute taints."""

from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]


def no_execute(taints: Sequence[Object]) -> list[Object]:
    return [t for t in taints if t.get("effect") == "NoExecute"]


def tolerates(toleration: Object, taint: Object) -> bool:
    """ToleratesTaint: effect, key and (unless Exists) value agree; an empty key with Exists tolerates all."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def stay_s(taints: Sequence[Object], tolerations: Sequence[Object]) -> float | None:
    """Seconds the pod may stay: 0 when a taint is not tolerated, None for ever, else the shortest tolerationSeconds used."""
    used: list[Object] = []
    for taint in taints:
        matching = [t for t in tolerations if tolerates(t, taint)]
        if not matching:
            return 0.0
        used += matching
    limits = [max(0.0, float(t["tolerationSeconds"])) for t in used if t.get("tolerationSeconds") is not None]
    return min(limits) if limits else None
