"""Pure: node selector terms (core/v1 NodeSelector), used by node affinity and by topology spreading."""

from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]


def required_matches(pod: Object, labels: Mapping[str, str], name: str) -> bool:
    """Whether a node satisfies the pod's nodeSelector and required node affinity."""
    spec = pod["spec"]
    selector = spec.get("nodeSelector") or {}
    if any(labels.get(k) != v for k, v in selector.items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(term_matches(term, labels, name) for term in required.get("nodeSelectorTerms") or ())


def term_matches(term: Object, labels: Mapping[str, str], name: str) -> bool:
    """All requirements of a term hold; an empty term matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_matches(e, labels) for e in expressions) and all(_matches(f, {"metadata.name": name}) for f in fields)


def _matches(requirement: Object, values: Mapping[str, str]) -> bool:
    key, operator = requirement["key"], requirement["operator"]
    wanted: list[str] = requirement.get("values") or []
    value = values.get(key)
    match operator:
        case "In":
            return value is not None and value in wanted
        case "NotIn":
            return value is None or value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            try:
                left, right = int(value or ""), int(wanted[0])
            except (ValueError, IndexError):
                return False
            return left > right if operator == "Gt" else left < right
    return False
