"""Pure: the patch that brings a pod's status in the API server to what the kubelet knows.

A strategic merge patch: conditions are merged by type (others' conditions are left alone), everything else that the kubelet owns is
replaced or removed. The uid in it makes the server refuse a pod that was deleted and created anew under the same name.
"""

from typing import Any

Object = dict[str, Any]

OWNED = (
    "phase", "conditions", "message", "reason", "hostIP", "hostIPs", "podIP", "podIPs", "startTime", "initContainerStatuses", "containerStatuses",
    "ephemeralContainerStatuses", "qosClass", "observedGeneration",
)  # fmt: skip
MERGED_BY_KEY = ("podIPs", "hostIPs")


def normalized(value: Any) -> Any:
    """Without nulls and empty objects: servers differ in which of those they keep."""
    if isinstance(value, dict):
        cleaned = {k: normalized(v) for k, v in value.items()}
        return {k: v for k, v in cleaned.items() if v not in (None, {}, [])}
    if isinstance(value, list):
        return [normalized(item) for item in value]
    return value


def status_patch(shown: Object, known: Object) -> Object | None:
    """The `status` part of the patch from what the server shows to what the kubelet knows; None when they say the same."""
    patch: Object = {}
    for name in OWNED:
        if name == "conditions":
            by_type = {c["type"]: c for c in shown.get("conditions") or []}
            # A key that a condition no longer has (the reason why it was False) is named as null: a merge would keep it.
            changed = [
                {**dict.fromkeys(by_type.get(c["type"], {}).keys() - c.keys()), **c}
                for c in known.get("conditions") or []
                if normalized(by_type.get(c["type"])) != normalized(c)
            ]
            if changed:
                patch["conditions"] = changed
            continue
        old, new = shown.get(name), known.get(name)
        if normalized(old) == normalized(new) or (not new and not old):
            continue
        if new is None:
            patch[name] = None
        elif name in MERGED_BY_KEY and old:
            patch[name] = [{"$patch": "replace"}, *new]
        else:
            patch[name] = new
    return patch or None
