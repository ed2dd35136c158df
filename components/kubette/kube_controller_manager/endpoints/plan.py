"""Pure: the subsets of one service's Endpoints."""

import ipaddress
from collections.abc import Sequence
from typing import Any

from kubette.apimachinery import meta
from kubette.kube_controller_manager import pods, service_pods
from kubette.kube_controller_manager.objects import spec

Object = dict[str, Any]

CAPACITY_MAX = 1000  # addresses in one Endpoints object, upstream's limit
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"


def subsets(service: Object, members: Sequence[Object]) -> list[Object]:
    """Addresses that share their ports share a subset; within it, ready and not ready ones apart (RepackSubsets)."""
    families = spec(service).get("ipFamilies") or ["IPv4"]
    version = 6 if families[0] == "IPv6" else 4
    tolerate_unready = bool(spec(service).get("publishNotReadyAddresses"))
    by_ports: dict[tuple[tuple[str, int, str, str], ...], Object] = {}
    for pod in members:
        address = next((ip for ip in service_pods.pod_ips(pod) if ipaddress.ip_address(ip).version == version), None)
        if address is None:
            continue
        entry: Object = {"ip": address, "targetRef": service_pods.target_reference(pod)}
        if spec(pod).get("nodeName"):
            entry["nodeName"] = spec(pod)["nodeName"]
        host = service_pods.hostname(service, pod)
        if host:
            entry["hostname"] = host
        found = service_pods.ports(service, pod)
        if not found and spec(service).get("ports"):
            continue  # none of the service's ports exists on this pod
        key = tuple(sorted((p["name"], p["port"], p["protocol"], p.get("appProtocol", "")) for p in found))
        subset = by_ports.setdefault(key, {"addresses": [], "notReadyAddresses": [], "ports": _ports(key)})
        subset["addresses" if tolerate_unready or pods.is_ready(pod) else "notReadyAddresses"].append(entry)
    result = []
    for key in sorted(by_ports):
        subset = {k: v for k, v in by_ports[key].items() if v}
        for field in ("addresses", "notReadyAddresses"):
            if field in subset:
                subset[field] = sorted(subset[field], key=lambda a: (a["ip"], a["targetRef"]["uid"]))
        result.append(subset)
    return result


def _ports(key: tuple[tuple[str, int, str, str], ...]) -> list[Object]:
    ports = []
    for name, number, protocol, app_protocol in key:
        port: Object = {"port": number, "protocol": protocol}
        if name:
            port = {"name": name, **port}
        if app_protocol:
            port["appProtocol"] = app_protocol
        ports.append(port)
    return ports


def truncate(found: list[Object]) -> bool:
    """Cut to capacity, ready addresses first; answers whether something was cut."""
    total = sum(len(s.get(f) or ()) for s in found for f in ("addresses", "notReadyAddresses"))
    if total <= CAPACITY_MAX:
        return False
    room = CAPACITY_MAX
    for field in ("addresses", "notReadyAddresses"):
        for subset in found:
            kept = (subset.get(field) or [])[: max(0, room)]
            room -= len(kept)
            if kept:
                subset[field] = kept
            else:
                subset.pop(field, None)
    return True


def plan_endpoints(service: Object, members: Sequence[Object], existing: Object | None, managed_label: bool) -> Object | None:
    """The Endpoints object to write; None when the existing one is right."""
    found = subsets(service, members)
    over = truncate(found)
    labels = {k: v for k, v in meta.labels(service).items() if k != service_pods.HEADLESS}
    if service_pods.is_headless(service):
        labels[service_pods.HEADLESS] = ""
    if managed_label:
        labels[MANAGED_BY] = "endpoint-controller"
    old = existing or {}
    annotations = {k: v for k, v in meta.annotations(old).items() if k not in (OVER_CAPACITY, service_pods.TRIGGER_TIME)}
    if over:
        annotations[OVER_CAPACITY] = "truncated"
    unchanged = existing is not None and _comparable(old.get("subsets") or []) == _comparable(found) and meta.labels(old) == labels
    if unchanged and (meta.annotations(old).get(OVER_CAPACITY) == "truncated") == over:
        return None
    moment = service_pods.trigger_time(service, members)
    if moment:
        annotations[service_pods.TRIGGER_TIME] = moment
    metadata = {
        **(old.get("metadata") or {"name": meta.name(service), "namespace": meta.namespace(service)}),
        "labels": labels,
        "annotations": annotations,
    }
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": found}


def _comparable(found: list[Object]) -> list[Object]:
    """Without the targets' resourceVersion, which older controllers wrote and which means nothing."""
    result = []
    for subset in found:
        copy: Object = {
            "ports": sorted((p.get("name", ""), p["port"], p.get("protocol", "TCP"), p.get("appProtocol", "")) for p in subset.get("ports") or ())
        }
        for field in ("addresses", "notReadyAddresses"):
            copy[field] = [
                {**a, "targetRef": {k: v for k, v in (a.get("targetRef") or {}).items() if k != "resourceVersion"}} for a in subset.get(field) or ()
            ]
        result.append(copy)
    return result
