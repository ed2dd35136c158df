"""Pure: how much of each quota resource the objects of a namespace use (pkg/quota/v1)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kubette.apimachinery import meta, quantity
from kubette.apimachinery.quantity import Quantity
from kubette.kube_controller_manager import pods
from kubette.kube_controller_manager.objects import spec

Object = dict[str, Any]
Usage = dict[str, Quantity]

_COMPUTE = ("cpu", "memory", "ephemeral-storage")


def _add(into: Usage, name: str, amount: Quantity) -> None:
    into[name] = into[name] + amount if name in into else amount


def _sum(containers: Iterable[Object], field: str) -> Usage:
    total: Usage = {}
    for container in containers:
        for name, value in ((container.get("resources") or {}).get(field) or {}).items():
            _add(total, name, quantity.parse(value))
    return total


def pod_resources(pod: Object, field: str) -> Usage:
    """Requests or limits of a pod: its containers together, or its hungriest init container if that is more."""
    inits = spec(pod).get("initContainers") or []
    total = _sum([*(spec(pod).get("containers") or []), *(c for c in inits if c.get("restartPolicy") == "Always")], field)
    for container in inits:
        if container.get("restartPolicy") == "Always":
            continue
        for name, amount in _sum([container], field).items():
            if name not in total or total[name] < amount:
                total[name] = amount
    for name, value in (spec(pod).get("overhead") or {}).items():
        if field == "requests" or name in total:
            _add(total, name, quantity.parse(value))
    return total


def of_pod(pod: Object) -> Usage:
    """Finished pods use only their place in `count/pods`."""
    found: Usage = {"count/pods": quantity.of(1)}
    if pods.is_terminal(pod):
        return found
    found["pods"] = quantity.of(1)
    requests, limits = pod_resources(pod, "requests"), pod_resources(pod, "limits")
    for name, amount in requests.items():
        found[f"requests.{name}"] = amount
        if name in _COMPUTE or name.startswith("hugepages-"):
            found[name] = amount
    for name, amount in limits.items():
        found[f"limits.{name}"] = amount
    return found


def of_service(service: Object) -> Usage:
    found: Usage = {"services": quantity.of(1), "count/services": quantity.of(1)}
    ports = len(spec(service).get("ports") or [])
    kind = spec(service).get("type")
    if kind == "NodePort":
        found["services.nodeports"] = quantity.of(ports)
    elif kind == "LoadBalancer":
        found["services.loadbalancers"] = quantity.of(1)
        if spec(service).get("allocateLoadBalancerNodePorts", True):
            found["services.nodeports"] = quantity.of(ports)
    return found


def of_claim(claim: Object) -> Usage:
    found: Usage = {"persistentvolumeclaims": quantity.of(1), "count/persistentvolumeclaims": quantity.of(1)}
    requested = ((spec(claim).get("resources") or {}).get("requests") or {}).get("storage")
    amount = quantity.parse(requested) if requested else quantity.zero()
    found["requests.storage"] = amount
    storage_class = spec(claim).get("storageClassName")
    if storage_class:
        prefix = f"{storage_class}.storageclass.storage.k8s.io/"
        found[prefix + "requests.storage"] = amount
        found[prefix + "persistentvolumeclaims"] = quantity.of(1)
    return found


def counter(group_resource: str) -> Callable[[Object], Usage]:
    """Any other kind counts as `count/<resource>.<group>`, the old ones also by their bare name."""
    names = [f"count/{group_resource}"] + ([group_resource] if group_resource in _BARE else [])
    return lambda _: {name: quantity.of(1) for name in names}


_BARE = frozenset({"configmaps", "secrets", "replicationcontrollers", "resourcequotas"})
EVALUATORS: dict[str, Callable[[Object], Usage]] = {"pods": of_pod, "services": of_service, "persistentvolumeclaims": of_claim}


def needed_resources(hard: Iterable[str]) -> set[str]:
    """The group-resources whose objects must be looked at for these limits."""
    found = set()
    for name in hard:
        if name.startswith("count/"):
            found.add(name.removeprefix("count/"))
        elif name in _BARE:
            found.add(name)
        elif name == "services" or name.startswith("services."):
            found.add("services")
        elif name.endswith(("persistentvolumeclaims", "requests.storage")):
            found.add("persistentvolumeclaims")
        else:
            found.add("pods")
    return found


def matches_scopes(quota: Object, pod: Object) -> bool:
    """Whether a pod falls under the quota's scopes. Other kinds fall under quotas without scopes only."""
    expressions = [{"scopeName": s, "operator": "Exists"} for s in spec(quota).get("scopes") or []]
    expressions += (spec(quota).get("scopeSelector") or {}).get("matchExpressions") or []
    return all(_matches_scope(e, pod) for e in expressions)


def has_scopes(quota: Object) -> bool:
    return bool(spec(quota).get("scopes") or (spec(quota).get("scopeSelector") or {}).get("matchExpressions"))


def _matches_scope(expression: Object, pod: Object) -> bool:
    name = expression["scopeName"]
    if name == "PriorityClass":
        return _matches_values(expression, spec(pod).get("priorityClassName") or "")
    terminating = spec(pod).get("activeDeadlineSeconds") is not None
    best_effort = not pod_resources(pod, "requests") and not pod_resources(pod, "limits")
    affinity = spec(pod).get("affinity") or {}
    facts = {
        "Terminating": terminating,
        "NotTerminating": not terminating,
        "BestEffort": best_effort,
        "NotBestEffort": not best_effort,
        "CrossNamespacePodAffinity": any(
            t.get("namespaces") or t.get("namespaceSelector") is not None
            for kind in ("podAffinity", "podAntiAffinity")
            for t in (affinity.get(kind) or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or ()
        ),
    }
    return facts.get(name, False)


def _matches_values(expression: Object, value: str) -> bool:
    match expression.get("operator", "Exists"):
        case "In":
            return value in expression.get("values", [])
        case "NotIn":
            return value not in expression.get("values", [])
        case "DoesNotExist":
            return not value
        case _:
            return bool(value)


def used(quota: Object, contents: Mapping[str, Sequence[Object]]) -> dict[str, str]:
    """The `status.used` of a quota; `contents` are the namespace's objects by group-resource."""
    hard = spec(quota).get("hard") or {}
    total: Usage = {name: quantity.zero() for name in hard}
    for group_resource, found in contents.items():
        evaluate = EVALUATORS.get(group_resource) or counter(group_resource)
        for obj in found:
            if has_scopes(quota) and (group_resource != "pods" or not matches_scopes(quota, obj)):
                continue
            if meta.is_being_deleted(obj) and group_resource == "pods" and not spec(obj).get("nodeName"):
                continue
            for name, amount in evaluate(obj).items():
                if name in total:
                    total[name] = total[name] + amount
    return {name: str(amount) for name, amount in total.items()}
