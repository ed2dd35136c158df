"""LimitRanger and ResourceQuota: defaults and bounds of a namespace (upstream: plugin/pkg/admission/limitranger, resourcequota)."""

from collections.abc import Iterator
from typing import Any

from kubette.apimachinery.quantity import Quantity, parse
from kubette.kube_apiserver.admission.interfaces import AdmissionAttributes, Lister, Operation, Plugin, forbidden


def _containers(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from pod["spec"].get("initContainers") or ()
    yield from pod["spec"].get("containers") or ()


class LimitRanger(Plugin):
    """Fills in the namespace's default requests and limits, and refuses what is outside its bounds."""

    name = "LimitRanger"

    def __init__(self, lister: Lister) -> None:
        self._lister = lister

    def handles(self, attrs: AdmissionAttributes) -> bool:
        return attrs.operation is Operation.create and attrs.resource == "pods" and not attrs.group and not attrs.subresource

    async def _items(self, namespace: str, kind: str) -> list[dict[str, Any]]:
        ranges = await self._lister.list("", "limitranges", namespace)
        return [item for each in ranges for item in each["spec"].get("limits") or () if item["type"] == kind]

    async def admit(self, attrs: AdmissionAttributes) -> None:
        assert attrs.object is not None
        for item in await self._items(attrs.namespace, "Container"):
            for container in _containers(attrs.object):
                resources = container.setdefault("resources", {})
                for field, defaults in (("limits", item.get("default")), ("requests", item.get("defaultRequest"))):
                    for name, amount in (defaults or {}).items():
                        resources.setdefault(field, {}).setdefault(name, amount)

    async def validate(self, attrs: AdmissionAttributes) -> None:
        assert attrs.object is not None
        problems: list[str] = []
        for item in await self._items(attrs.namespace, "Container"):
            for container in _containers(attrs.object):
                problems += violations(item, container.get("resources") or {})
        if problems:
            raise forbidden(attrs, "; ".join(problems) if len(problems) == 1 else "[" + ", ".join(problems) + "]")


def violations(item: dict[str, Any], resources: dict[str, Any]) -> list[str]:
    """Pure: how one container breaks one LimitRange item."""
    requests, limits, found = resources.get("requests") or {}, resources.get("limits") or {}, []
    for name, bound in (item.get("min") or {}).items():
        if name not in requests:
            found.append(f"minimum {name} usage per Container is {bound}.  No request is specified")
        elif parse(requests[name]) < parse(bound):
            found.append(f"minimum {name} usage per Container is {bound}, but request is {requests[name]}")
    for name, bound in (item.get("max") or {}).items():
        if name not in limits:
            found.append(f"maximum {name} usage per Container is {bound}.  No limit is specified")
        elif parse(limits[name]) > parse(bound):
            found.append(f"maximum {name} usage per Container is {bound}, but limit is {limits[name]}")
    return found


_COUNTED = {
    ("", "pods"),
    ("", "services"),
    ("", "configmaps"),
    ("", "secrets"),
    ("", "persistentvolumeclaims"),
    ("", "replicationcontrollers"),
    ("", "resourcequotas"),
}


def usage(group: str, resource: str, obj: dict[str, Any]) -> dict[str, Quantity]:
    """Pure: what one object counts against quotas."""
    counted = {f"count/{resource}.{group}" if group else f"count/{resource}": parse("1")}
    if (group, resource) in _COUNTED:
        counted[resource] = parse("1")
    if (group, resource) == ("", "services"):
        kind = obj["spec"].get("type", "ClusterIP")
        if kind in ("NodePort", "LoadBalancer"):
            counted["services.nodeports"] = parse(str(len(obj["spec"].get("ports") or ())))
        if kind == "LoadBalancer":
            counted["services.loadbalancers"] = parse("1")
    if (group, resource) == ("", "pods"):
        for container in obj["spec"].get("containers") or ():
            resources = container.get("resources") or {}
            for field in ("requests", "limits"):
                for name, amount in (resources.get(field) or {}).items():
                    keys = [f"{field}.{name}"] + ([name] if field == "requests" else [])
                    for key in keys:
                        counted[key] = counted[key] + parse(amount) if key in counted else parse(amount)
    return counted


class ResourceQuota(Plugin):
    """Refuses what would bring a namespace over a quota, by the usage that the stored objects have now."""

    name = "ResourceQuota"

    def __init__(self, lister: Lister) -> None:
        self._lister = lister

    def handles(self, attrs: AdmissionAttributes) -> bool:
        return attrs.operation is Operation.create and bool(attrs.namespace) and not attrs.subresource and attrs.resource != "events"

    async def validate(self, attrs: AdmissionAttributes) -> None:
        assert attrs.object is not None
        quotas = await self._lister.list("", "resourcequotas", attrs.namespace)
        if not quotas:
            return
        added = usage(attrs.group, attrs.resource, attrs.object)
        for quota in quotas:
            hard = quota["spec"].get("hard") or {}
            if attrs.resource == "pods" and not attrs.group:
                missing = sorted(
                    name for name in hard if name.split(".")[0] in ("requests", "limits") or name in ("cpu", "memory") if name not in added
                )
                if missing:
                    raise forbidden(attrs, f"failed quota: {quota['metadata']['name']}: must specify {_compact(missing)}")
            relevant = [name for name in hard if name in added]
            if relevant:
                await self._check(attrs, quota, {name: added[name] for name in relevant})

    async def _check(self, attrs: AdmissionAttributes, quota: dict[str, Any], added: dict[str, Quantity]) -> None:
        used = {name: parse("0") for name in added}
        for obj in await self._lister.list(attrs.group, attrs.resource, attrs.namespace):
            if attrs.resource == "pods" and (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
                continue
            for name, amount in usage(attrs.group, attrs.resource, obj).items():
                if name in used:
                    used[name] = used[name] + amount
        hard = quota["spec"]["hard"]
        over = sorted(name for name in added if used[name] + added[name] > parse(hard[name]))
        if over:

            def shown(amounts: dict[str, Any]) -> str:
                return ",".join(f"{name}={amounts[name]}" for name in over)

            raise forbidden(
                attrs, f"exceeded quota: {quota['metadata']['name']}, requested: {shown(added)}, used: {shown(used)}, limited: {shown(hard)}"
            )


def _compact(names: list[str]) -> str:
    return ",".join(names)
