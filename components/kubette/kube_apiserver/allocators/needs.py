"""Pure: what a Service needs to be given, keeps, and gives back (upstream: pkg/registry/core/service/storage/alloc.go)."""

from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
NONE = "None"


def addresses(service: Object | None) -> list[str]:
    """The ClusterIPs a Service holds."""
    if service is None or service["spec"].get("type") == "ExternalName":
        return []
    spec = service["spec"]
    held = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [ip for ip in held if ip != NONE]


def node_ports(service: Object | None) -> list[int]:
    """The node ports a Service holds; TCP and UDP may share one."""
    if service is None or service["spec"].get("type") not in ("NodePort", "LoadBalancer"):
        return []
    ports = [p["nodePort"] for p in service["spec"].get("ports") or () if p.get("nodePort")]
    if service["spec"].get("healthCheckNodePort"):
        ports.append(service["spec"]["healthCheckNodePort"])
    return sorted(set(ports))


def wants_address(service: Object) -> bool:
    """Whether a ClusterIP must be chosen."""
    spec = service["spec"]
    return spec.get("type") != "ExternalName" and not spec.get("clusterIP") and not spec.get("clusterIPs")


def keep_allocated(service: Object, old: Object) -> None:
    """An update that leaves an allocated field out keeps its value, as `kubectl replace` of an old manifest expects."""
    spec, old_spec = service["spec"], old["spec"]
    if "ExternalName" not in (spec.get("type"), old_spec.get("type")):
        if not spec.get("clusterIP") and old_spec.get("clusterIP"):
            spec["clusterIP"] = old_spec["clusterIP"]
        if not spec.get("clusterIPs") and spec.get("clusterIP") == old_spec.get("clusterIP") and old_spec.get("clusterIPs"):
            spec["clusterIPs"] = list(old_spec["clusterIPs"])
    if node_ports(old) and spec.get("type") in ("NodePort", "LoadBalancer"):
        taken = {p.get("nodePort") for p in spec.get("ports") or ()}
        held = {(p.get("protocol", "TCP"), p["port"]): p.get("nodePort") for p in old_spec.get("ports") or ()}
        for port in spec.get("ports") or ():
            earlier = held.get((port.get("protocol", "TCP"), port["port"]))
            if not port.get("nodePort") and earlier and earlier not in taken:
                port["nodePort"] = earlier


def drop_unneeded(service: Object) -> None:
    """A type that has no node ports or address must not show any."""
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        spec.pop("clusterIP", None)
        spec.pop("clusterIPs", None)


def missing_node_ports(service: Object) -> list[Object]:
    """The ports that need a node port chosen."""
    spec = service["spec"]
    if spec.get("type") == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
        return []
    if spec.get("type") not in ("NodePort", "LoadBalancer"):
        return []
    return [p for p in spec.get("ports") or () if not p.get("nodePort")]


@dataclass(slots=True)
class Taken:
    """What one write has taken, to be given back if it fails."""

    addresses: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
