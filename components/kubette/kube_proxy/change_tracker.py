"""Pure: Services and EndpointSlices as the ports to be proxied (upstream: pkg/proxy/servicechangetracker.go, endpointschangetracker.go, topology.go)."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
SERVICE_NAME = "kubernetes.io/service-name"
_PROXY_NAME = "service.kubernetes.io/service-proxy-name"


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One address behind a port."""

    address: str
    port: int
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    local: bool = False


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service, with the endpoints that its traffic may go to."""

    namespace: str
    name: str
    port_name: str
    protocol: str
    cluster_ip: str
    port: int
    node_port: int
    external_ips: tuple[str, ...]
    load_balancer_ips: tuple[str, ...]
    internal_local: bool
    external_local: bool
    affinity_s: int
    cluster_endpoints: tuple[Endpoint, ...]
    local_endpoints: tuple[Endpoint, ...]

    @property
    def full_name(self) -> str:
        """`default/web:http`, as comments and chain hashes have it."""
        return f"{self.namespace}/{self.name}" + (f":{self.port_name}" if self.port_name else "")

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where traffic to the cluster address goes."""
        return self.local_endpoints if self.internal_local else self.cluster_endpoints

    @property
    def external_endpoints(self) -> tuple[Endpoint, ...]:
        """Where traffic from outside goes."""
        return self.local_endpoints if self.external_local else self.cluster_endpoints


def usable(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Ready ones; if none is ready, those that terminate but still serve (KEP-1669)."""
    found = sorted(set(endpoints))
    ready = tuple(e for e in found if e.ready)
    return ready or tuple(e for e in found if e.serving and e.terminating)


def is_proxied(service: Object) -> bool:
    spec = service["spec"]
    if _PROXY_NAME in (service["metadata"].get("labels") or {}):
        return False
    return spec.get("type") != "ExternalName" and spec.get("clusterIP") not in (None, "", "None")


def service_ports(services: Iterable[Object], slices: Sequence[Object], node: str) -> list[ServicePort]:
    """Every port to be proxied on `node`, sorted by name so that equal clusters give equal rules."""
    by_service: dict[tuple[str, str], list[Object]] = {}
    for each in slices:
        name = (each["metadata"].get("labels") or {}).get(SERVICE_NAME)
        if name and each.get("addressType", "IPv4") == "IPv4":
            by_service.setdefault((each["metadata"]["namespace"], name), []).append(each)
    found = []
    for service in services:
        if is_proxied(service):
            metadata = service["metadata"]
            own = by_service.get((metadata["namespace"], metadata["name"]), [])
            found += [_service_port(service, port, own, node) for port in service["spec"].get("ports") or ()]
    return sorted(found, key=lambda p: (p.namespace, p.name, p.port_name, p.protocol))


def _service_port(service: Object, port: Object, slices: Sequence[Object], node: str) -> ServicePort:
    spec, metadata = service["spec"], service["metadata"]
    endpoints = [e for each in slices for e in _endpoints(each, port, node)]
    affinity = 0
    if spec.get("sessionAffinity") == "ClientIP":
        affinity = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds") or 10800
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    external = spec.get("type") in ("NodePort", "LoadBalancer")
    return ServicePort(
        metadata["namespace"],
        metadata["name"],
        port.get("name") or "",
        (port.get("protocol") or "TCP").lower(),
        spec["clusterIP"],
        port["port"],
        (port.get("nodePort") or 0) if external else 0,
        tuple(ip for ip in spec.get("externalIPs") or () if _is_ipv4(ip)),
        tuple(i["ip"] for i in ingress if i.get("ip") and i.get("ipMode", "VIP") == "VIP"),
        spec.get("internalTrafficPolicy") == "Local",
        external and spec.get("externalTrafficPolicy") == "Local",
        affinity,
        usable(endpoints),
        usable(e for e in endpoints if e.local),
    )


def _endpoints(each: Object, port: Object, node: str) -> Iterable[Endpoint]:
    numbers = [
        p["port"]
        for p in each.get("ports") or ()
        if (p.get("name") or "") == (port.get("name") or "") and p.get("port") and _protocol(p) == _protocol(port)
    ]
    for endpoint in each.get("endpoints") or ():
        conditions = endpoint.get("conditions") or {}
        ready = conditions.get("ready", True) is not False
        serving = conditions.get("serving", ready) is not False
        for number in numbers:
            for address in endpoint.get("addresses") or ():
                yield Endpoint(address, number, ready, serving, bool(conditions.get("terminating")), endpoint.get("nodeName") == node)


def _protocol(port: Object) -> str:
    return str(port.get("protocol") or "TCP")


def _is_ipv4(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False
