"""Pure: the QoS class of a pod and what follows from it: OOM score, CPU shares and quota (upstream's qos and cm helpers)."""

from typing import Any

from kubette.apimachinery import quantity
from kubette.kubelet import pod_spec

GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"
CPU_PERIOD_US = 100_000
SHARES_MIN, SHARES_MAX, SHARES_PER_CPU = 2, 262_144, 1024
QUOTA_US_MIN = 1000


def qos_class(pod: pod_spec.Pod) -> str:
    """Guaranteed when every container limits cpu and memory to what it requests, BestEffort when none asks for anything."""
    guaranteed, anything = True, False
    for container in [*pod_spec.containers(pod), *pod_spec.init_containers(pod)]:
        resources = container.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        for name in ("cpu", "memory"):
            request, limit = quantity.parse(requests.get(name, "0")), quantity.parse(limits.get(name, "0"))
            anything = anything or bool(request) or bool(limit)
            if not limit or (name in requests and request != limit):
                guaranteed = False
    if not anything:
        return BEST_EFFORT
    return GUARANTEED if guaranteed else BURSTABLE


def oom_score_adj(pod: pod_spec.Pod, container: dict[str, Any], memory_capacity: int) -> int:
    """How early the kernel kills the container when memory runs out."""
    if pod_spec.is_critical(pod):
        return -997
    cls = qos_class(pod)
    if cls == GUARANTEED:
        return -997
    if cls == BEST_EFFORT:
        return 1000
    request = quantity.parse(((container.get("resources") or {}).get("requests") or {}).get("memory", "0")).value
    score = 1000 - (1000 * request) // max(memory_capacity, 1)
    return max(3, min(999, score))


def cpu_shares(milli_cpu: int) -> int:
    return max(SHARES_MIN, min(SHARES_MAX, milli_cpu * SHARES_PER_CPU // 1000)) if milli_cpu else SHARES_MIN


def cpu_quota_us(milli_cpu: int) -> int:
    """Microseconds a period; 0 is no limit."""
    return max(QUOTA_US_MIN, milli_cpu * CPU_PERIOD_US // 1000) if milli_cpu else 0


def pod_requests(pod: pod_spec.Pod) -> dict[str, quantity.Quantity]:
    """What the pod as a whole asks of the node: the sum of its containers or the largest init container, sidecars added (KEP-753)."""
    total: dict[str, quantity.Quantity] = {}
    sidecars: dict[str, quantity.Quantity] = {}
    peak: dict[str, quantity.Quantity] = {}
    for container in pod_spec.containers(pod):
        _add(total, _requests(container))
    for container in pod_spec.init_containers(pod):
        requests = _requests(container)
        if pod_spec.is_sidecar(container):
            _add(total, requests)
            _add(sidecars, requests)
            _raise(peak, sidecars)
        else:
            _add(requests, sidecars)
            _raise(peak, requests)
    _raise(total, peak)
    _add(total, {k: quantity.parse(v) for k, v in (pod["spec"].get("overhead") or {}).items()})
    return total


def _requests(container: dict[str, Any]) -> dict[str, quantity.Quantity]:
    return {k: quantity.parse(v) for k, v in ((container.get("resources") or {}).get("requests") or {}).items()}


def _add(into: dict[str, quantity.Quantity], more: dict[str, quantity.Quantity]) -> None:
    for name, value in more.items():
        into[name] = into[name] + value if name in into else value


def _raise(into: dict[str, quantity.Quantity], other: dict[str, quantity.Quantity]) -> None:
    for name, value in other.items():
        if name not in into or into[name] < value:
            into[name] = value
