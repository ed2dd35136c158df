"""Pure: what the cloud owes to a cluster's objects: routes to the nodes' pod networks, and open node ports."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class NodePort:
    """A port to be open on the host."""

    port: int
    protocol: str  # "TCP" or "UDP"


def wanted_ports(services: Iterable[Object]) -> dict[NodePort, str]:
    """Every node port, with the service it belongs to (`namespace/name`). SCTP has no user-space forwarder."""
    ports: dict[NodePort, str] = {}
    for service in services:
        spec, metadata = service.get("spec") or {}, service["metadata"]
        if spec.get("type") not in ("NodePort", "LoadBalancer"):
            continue
        for entry in spec.get("ports") or []:
            protocol = entry.get("protocol") or "TCP"
            if entry.get("nodePort") and protocol in ("TCP", "UDP"):
                ports[NodePort(entry["nodePort"], protocol)] = f"{metadata['namespace']}/{metadata['name']}"
        health_check = spec.get("healthCheckNodePort")
        if health_check:
            ports[NodePort(health_check, "TCP")] = f"{metadata['namespace']}/{metadata['name']}"
    return ports


def wanted_routes(nodes: Iterable[Object]) -> dict[str, str]:
    """Pod network to the address of its machine, for IPv4. What is not a network or an address makes no route."""
    routes: dict[str, str] = {}
    for node in nodes:
        spec, status = node.get("spec") or {}, node.get("status") or {}
        address = next((a["address"] for a in status.get("addresses") or [] if a.get("type") == "InternalIP" and _is_ipv4(a["address"])), "")
        networks = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
        for network in networks:
            if address and _is_ipv4_network(network):
                routes[network] = address
    return routes


def _is_ipv4(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False


def _is_ipv4_network(text: str) -> bool:
    try:
        return ipaddress.ip_network(text).version == 4
    except ValueError:
        return False
