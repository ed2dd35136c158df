"""Pure: which EndpointSlices a service should have, with as few writes as can be (upstream's endpointslice reconciler).

Slices of one address type whose endpoints share their ports form a group. Within a group endpoints stay where they are; removed ones
leave, changed ones are replaced in place, new ones fill slices that are written anyway, then a new slice.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from kubette.apimachinery import meta
from kubette.kube_controller_manager import pods, service_pods
from kubette.kube_controller_manager.objects import spec

Object = dict[str, Any]

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"

_RESERVED_LABELS = frozenset({SERVICE_NAME, MANAGED_BY, service_pods.HEADLESS})


@dataclass(slots=True)
class Plan:
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def address_types(service: Object) -> list[str]:
    families = spec(service).get("ipFamilies")
    if families:
        return list(families)
    cluster_ip = spec(service).get("clusterIP") or ""
    return ["IPv6"] if ":" in cluster_ip else ["IPv4"]


def endpoint(service: Object, pod: Object, address_type: str, zones: Mapping[str, str]) -> Object | None:
    """One endpoint; None if the pod has no address of that type. `zones` maps node to zone."""
    version = 6 if address_type == "IPv6" else 4
    addresses = [ip for ip in service_pods.pod_ips(pod) if ipaddress.ip_address(ip).version == version]
    if not addresses:
        return None
    serving, terminating = pods.is_ready(pod), meta.is_being_deleted(pod)
    publish = bool(spec(service).get("publishNotReadyAddresses"))
    found: Object = {
        "addresses": addresses[:1],
        "conditions": {"ready": publish or (serving and not terminating), "serving": serving, "terminating": terminating},
        "targetRef": service_pods.target_reference(pod),
    }
    node = spec(pod).get("nodeName")
    if node:
        found["nodeName"] = node
        if zones.get(node):
            found["zone"] = zones[node]
    host = service_pods.hostname(service, pod)
    if host:
        found["hostname"] = host
    return found


def labels(service: Object) -> dict[str, str]:
    found = {k: v for k, v in meta.labels(service).items() if k not in _RESERVED_LABELS}
    found |= {SERVICE_NAME: meta.name(service), MANAGED_BY: MANAGER}
    if service_pods.is_headless(service):
        found[service_pods.HEADLESS] = ""
    return found


def _ports_key(ports: Sequence[Object] | None) -> bytes:
    found = sorted((p.get("name") or "", p.get("port") or 0, p.get("protocol") or "TCP", p.get("appProtocol") or "") for p in ports or ())
    return orjson.dumps(found)


def _identity(one: Object) -> tuple[str, str]:
    """What makes it the same endpoint: the pod, and its address."""
    return (one.get("targetRef") or {}).get("uid", ""), ",".join(one["addresses"])


def _same(one: Object, other: Object) -> bool:
    fields = ("conditions", "nodeName", "zone", "hostname")
    return all((one.get(f) or None) == (other.get(f) or None) for f in fields)


def plan_slices(service: Object, members: Sequence[Object], existing: Sequence[Object], zones: Mapping[str, str], per_slice_max: int) -> Plan:
    """`existing` are the service's slices that we manage."""
    plan = Plan()
    wanted_labels, moment = labels(service), service_pods.trigger_time(service, members)
    types = address_types(service)
    plan.delete += [s for s in existing if s["addressType"] not in types]
    for address_type in types:
        slices = [s for s in existing if s["addressType"] == address_type and not meta.is_being_deleted(s)]
        groups, group_ports = _group(service, members, address_type, zones)
        before = len(plan.create)
        by_key: dict[bytes, list[Object]] = {}
        for one in slices:
            by_key.setdefault(_ports_key(one.get("ports")), []).append(one)
        # A group whose ports nobody serves any more ends; its slices are reused for new ones of the same service below.
        for key, stale in by_key.items():
            if key not in groups:
                plan.delete += stale
        for key, wanted in groups.items():
            _fill(plan, service, address_type, group_ports[key], wanted, by_key.get(key, []), wanted_labels, moment, per_slice_max)
        kept = [s for s in slices if not any(s is d for d in plan.delete)]
        if not kept and len(plan.create) == before:
            # An empty slice says: this service has no endpoints. No slice at all says: nobody has looked yet.
            placeholder = next((s for s in slices if not s.get("ports")), None)
            if placeholder is not None:
                plan.delete = [d for d in plan.delete if d is not placeholder]
                if placeholder.get("endpoints") or meta.labels(placeholder) != wanted_labels:
                    plan.update.append(_updated(placeholder, [], wanted_labels, moment))
            else:
                plan.create.append(_new_slice(service, address_type, [], [], wanted_labels, moment))
    return plan


def _group(
    service: Object, members: Sequence[Object], address_type: str, zones: Mapping[str, str]
) -> tuple[dict[bytes, list[Object]], dict[bytes, list[Object]]]:
    groups: dict[bytes, list[Object]] = {}
    group_ports: dict[bytes, list[Object]] = {}
    for pod in members:
        found = endpoint(service, pod, address_type, zones)
        if found is None:
            continue
        ports = service_pods.ports(service, pod)
        key = _ports_key(ports)
        group_ports.setdefault(key, ports)
        groups.setdefault(key, []).append(found)
    return groups, group_ports


def _fill(
    plan: Plan,
    service: Object,
    address_type: str,
    ports: list[Object],
    wanted: list[Object],
    slices: list[Object],
    wanted_labels: dict[str, str],
    moment: str,
    per_slice_max: int,
) -> None:
    missing = {_identity(e): e for e in wanted}
    contents: dict[str, list[Object]] = {}
    changed: set[str] = set()
    for one in slices:
        name, kept = meta.name(one), []
        for old in one.get("endpoints") or ():
            new = missing.pop(_identity(old), None)
            if new is None:
                changed.add(name)
            else:
                kept.append(old if _same(old, new) else new)
                if not _same(old, new):
                    changed.add(name)
        if meta.labels(one) != wanted_labels:
            changed.add(name)
        contents[name] = kept
    new_ones = list(missing.values())
    # Slices that are written anyway come first, the fullest before the emptier.
    for one in sorted(slices, key=lambda s: (meta.name(s) not in changed, -len(contents[meta.name(s)]))):
        name = meta.name(one)
        room = per_slice_max - len(contents[name])
        if not new_ones or room <= 0:
            continue
        if name not in changed and len(new_ones) > room:
            continue  # a slice that would be touched must at least take all of them
        contents[name] += new_ones[:room]
        new_ones = new_ones[room:]
        changed.add(name)
    for one in slices:
        name = meta.name(one)
        if not contents[name]:
            plan.delete.append(one)
        elif name in changed:
            plan.update.append(_updated(one, contents[name], wanted_labels, moment))
    while new_ones:
        chunk, new_ones = new_ones[:per_slice_max], new_ones[per_slice_max:]
        plan.create.append(_new_slice(service, address_type, chunk, ports, wanted_labels, moment))


def _updated(old: Object, endpoints: list[Object], wanted_labels: dict[str, str], moment: str) -> Object:
    annotations = dict(meta.annotations(old))
    if moment:
        annotations[service_pods.TRIGGER_TIME] = moment
    return {**old, "metadata": {**old["metadata"], "labels": wanted_labels, "annotations": annotations}, "endpoints": endpoints}


def _new_slice(
    service: Object, address_type: str, endpoints: list[Object], ports: list[Object], wanted_labels: dict[str, str], moment: str
) -> Object:
    metadata: Object = {
        "generateName": meta.name(service)[:57] + "-",
        "namespace": meta.namespace(service),
        "labels": wanted_labels,
        "ownerReferences": [meta.controller_reference(service, "v1", "Service")],
    }
    if moment:
        metadata["annotations"] = {service_pods.TRIGGER_TIME: moment}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": address_type,
        "endpoints": endpoints,
        "ports": ports,
    }
