"""Pure: services (upstream's `pkg/registry/core/service`). Addresses and node ports are allocated by the caller, between preparation and validation."""

import ipaddress
from typing import Any

from kubette.apimachinery import field_errors, names
from kubette.apimachinery.field_errors import FieldError, child
from kubette.kube_apiserver.registry import object_meta, pod_validation
from kubette.kube_apiserver.registry.strategy import Context, Object, Strategy

Errors = list[FieldError]

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_CLIENT_IP_TIMEOUT_S = 10800
_CLIENT_IP_TIMEOUT_S_MAX = 86400


class ServiceStrategy(Strategy):
    name_check = staticmethod(names.dns1035_label)
    initial_status = {"loadBalancer": {}}
    allow_create_on_update = True
    selectable = ("spec.clusterIP", "spec.type")

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("sessionAffinity"):
            spec["sessionAffinity"] = "None"
        if spec["sessionAffinity"] == "None":
            spec.pop("sessionAffinityConfig", None)
        elif spec["sessionAffinity"] == "ClientIP":
            config = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
            config.setdefault("timeoutSeconds", _CLIENT_IP_TIMEOUT_S)
        if not spec.get("type"):
            spec["type"] = "ClusterIP"
        for port in spec.get("ports") or []:
            if not port.get("protocol"):
                port["protocol"] = "TCP"
            if port.get("targetPort") in (None, 0, ""):
                port["targetPort"] = port.get("port")
        if spec["type"] in ("NodePort", "LoadBalancer") and not spec.get("externalTrafficPolicy"):
            spec["externalTrafficPolicy"] = "Cluster"
        if spec["type"] != "ExternalName" and not spec.get("internalTrafficPolicy"):
            spec["internalTrafficPolicy"] = "Cluster"
        if spec["type"] == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
            ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress")
            for one in ingress or []:
                if one.get("ip"):
                    one.setdefault("ipMode", "VIP")
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        elif spec.get("clusterIPs") and not spec.get("clusterIP"):
            spec["clusterIP"] = spec["clusterIPs"][0]

    def prepare_for_create(self, obj: Object, context: Context) -> None:
        super().prepare_for_create(obj, context)
        _default_families(obj["spec"])

    def prepare_for_update(self, obj: Object, old: Object, subresource: str = "", context: Context | None = None) -> None:
        super().prepare_for_update(obj, old, subresource, context)
        if subresource:
            return
        _keep_allocated(obj.setdefault("spec", {}), old.get("spec") or {})
        _default_families(obj["spec"])

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        kind = spec.get("type")
        headless = spec.get("clusterIP") == "None"
        if not spec.get("ports") and not headless and kind != "ExternalName":
            errors.append(field_errors.required("spec.ports"))
        if kind == "LoadBalancer" and headless:
            errors.append(field_errors.invalid("spec.clusterIPs[0]", "None", "may not be set to 'None' for LoadBalancer services"))
        elif kind == "NodePort" and headless:
            errors.append(field_errors.invalid("spec.clusterIPs[0]", "None", "may not be set to 'None' for NodePort services"))
        elif kind == "ExternalName":
            if spec.get("clusterIP"):
                errors.append(field_errors.forbidden("spec.clusterIPs", "may not be set for ExternalName services"))
            name = str(spec.get("externalName") or "")
            if name:
                errors += [field_errors.invalid("spec.externalName", name, text) for text in names.dns1123_subdomain(name.removesuffix("."))]
            else:
                errors.append(field_errors.required("spec.externalName"))
        errors += _ports(spec, kind, headless)
        errors += object_meta.labels(spec.get("selector"), "spec.selector")
        errors += _affinity(spec)
        if kind not in _TYPES:
            errors.append(field_errors.not_supported("spec.type", kind, _TYPES))
        errors += _addresses(spec)
        errors += _traffic_policies(spec, kind)
        if kind != "LoadBalancer":
            for name in ("loadBalancerClass", "allocateLoadBalancerNodePorts"):
                if spec.get(name) is not None:
                    errors.append(field_errors.forbidden(f"spec.{name}", "may only be used when `type` is 'LoadBalancer'"))
            if spec.get("loadBalancerSourceRanges"):
                text = "may only be used when `type` is 'LoadBalancer'"
                errors.append(field_errors.forbidden("spec.LoadBalancerSourceRanges", text))
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        new, former = obj.get("spec") or {}, old.get("spec") or {}
        errors: Errors = []
        if "ExternalName" not in (new.get("type"), former.get("type")) and former.get("clusterIP"):
            if new.get("clusterIP") != former["clusterIP"]:
                errors.append(field_errors.invalid("spec.clusterIPs[0]", new.get("clusterIPs") or [], "may not change once set"))
        if former.get("type") == new.get("type") == "LoadBalancer" and new.get("loadBalancerClass") != former.get("loadBalancerClass"):
            errors.append(field_errors.invalid("spec.loadBalancerClass", new.get("loadBalancerClass"), "may not change once set"))
        return errors


def _default_families(spec: Object) -> None:
    """A single-stack cluster: the family of the given address, else IPv4."""
    if spec.get("type") == "ExternalName":
        return
    if not spec.get("ipFamilies"):
        address = spec.get("clusterIP") or ""
        spec["ipFamilies"] = ["IPv6" if ":" in address else "IPv4"]
    if not spec.get("ipFamilyPolicy"):
        spec["ipFamilyPolicy"] = "RequireDualStack" if len(spec["ipFamilies"]) == 2 else "SingleStack"


_NEEDS_NODE_PORT = ("NodePort", "LoadBalancer")


def _keep_allocated(spec: Object, old: Object) -> None:
    """An update that does not mention what was allocated keeps it (`patchAllocatedValues`); a change of type drops what no longer fits."""
    needs_ip = spec.get("type") != "ExternalName"
    if needs_ip and old.get("type") != "ExternalName":
        if not spec.get("clusterIP") and not spec.get("clusterIPs"):
            for name in ("clusterIP", "clusterIPs"):
                if old.get(name):
                    spec[name] = old[name]
        for name in ("ipFamilies", "ipFamilyPolicy"):
            if not spec.get(name) and old.get(name):
                spec[name] = old[name]
    if not needs_ip:
        for name in ("clusterIP", "clusterIPs"):
            if spec.get(name) == old.get(name):
                spec.pop(name, None)
        for name in ("ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            spec.pop(name, None)
    used = {(port.get("protocol"), port.get("port")): port.get("nodePort") for port in old.get("ports") or []}
    taken = {port.get("nodePort") for port in spec.get("ports") or [] if port.get("nodePort")}
    for port in spec.get("ports") or []:
        former = used.get((port.get("protocol"), port.get("port")))
        if spec.get("type") in _NEEDS_NODE_PORT:
            if not port.get("nodePort") and old.get("type") in _NEEDS_NODE_PORT and former and former not in taken:
                port["nodePort"] = former
        elif old.get("type") in _NEEDS_NODE_PORT and port.get("nodePort") in used.values():
            port.pop("nodePort", None)
    if spec.get("type") not in _NEEDS_NODE_PORT and old.get("type") in _NEEDS_NODE_PORT:
        for name in ("externalTrafficPolicy", "healthCheckNodePort", "allocateLoadBalancerNodePorts"):
            if spec.get(name) == old.get(name):
                spec.pop(name, None)
    elif spec.get("type") != "LoadBalancer" and old.get("type") == "LoadBalancer":
        for name in ("allocateLoadBalancerNodePorts", "healthCheckNodePort", "loadBalancerClass"):
            if spec.get(name) == old.get(name):
                spec.pop(name, None)
    elif spec.get("type") == old.get("type") == "LoadBalancer" and not spec.get("healthCheckNodePort") and old.get("healthCheckNodePort"):
        if spec.get("externalTrafficPolicy") == "Local":
            spec["healthCheckNodePort"] = old["healthCheckNodePort"]


def _ports(spec: Object, kind: Any, headless: bool) -> Errors:
    errors: Errors = []
    ports = spec.get("ports") or []
    seen_names: set[str] = set()
    seen: set[tuple[Any, Any]] = set()
    node_ports: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        where = child("spec.ports", index)
        name = port.get("name")
        if len(ports) > 1 and not name:
            errors.append(field_errors.required(child(where, "name")))
        elif name:
            errors += [field_errors.invalid(child(where, "name"), name, text) for text in names.dns1123_label(name)]
            if name in seen_names:
                errors.append(field_errors.duplicate(child(where, "name"), name))
            seen_names.add(name)
        errors += [field_errors.invalid(child(where, "port"), port.get("port") or 0, text) for text in names.port_number(port.get("port") or 0)]
        errors += pod_validation.one_of(port.get("protocol"), child(where, "protocol"), ("SCTP", "TCP", "UDP"))
        errors += pod_validation.port_or_name(port.get("targetPort"), child(where, "targetPort"))
        if port.get("appProtocol") is not None:
            errors += [
                field_errors.invalid(child(where, "appProtocol"), port["appProtocol"], text) for text in names.qualified_name(port["appProtocol"])
            ]
        pair = (port.get("protocol"), port.get("port"))
        if pair in seen:
            errors.append(field_errors.duplicate(where, {"port": port.get("port"), "protocol": port.get("protocol")}))
        seen.add(pair)
        node_port = port.get("nodePort")
        if node_port:
            if kind == "ClusterIP":
                text = "may not be used when `type` is 'ClusterIP'"
                errors.append(field_errors.forbidden(child(where, "nodePort"), text))
            elif (port.get("protocol"), node_port) in node_ports:
                errors.append(field_errors.duplicate(child(where, "nodePort"), node_port))
            node_ports.add((port.get("protocol"), node_port))
    return errors


def _affinity(spec: Object) -> Errors:
    affinity = spec.get("sessionAffinity")
    if affinity not in ("ClientIP", "None"):
        return [field_errors.not_supported("spec.sessionAffinity", affinity, ("ClientIP", "None"))]
    if affinity == "ClientIP":
        timeout = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds") or 0
        if not 0 < timeout <= _CLIENT_IP_TIMEOUT_S_MAX:
            text = f"must be greater than 0 and less than {_CLIENT_IP_TIMEOUT_S_MAX}"
            return [field_errors.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", timeout, text)]
    return []


def _addresses(spec: Object) -> Errors:
    errors: Errors = []
    cluster_ips = spec.get("clusterIPs") or []
    if spec.get("clusterIP") and cluster_ips and cluster_ips[0] != spec["clusterIP"]:
        errors.append(field_errors.invalid("spec.clusterIPs", cluster_ips, "first value must match `clusterIP`"))
    for index, address in enumerate(cluster_ips):
        if address == "None" and index == 0:
            continue
        if not pod_validation.is_ip(address):
            text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            errors.append(field_errors.invalid(child("spec.clusterIPs", index), address, text))
    for index, address in enumerate(spec.get("externalIPs") or []):
        where = child("spec.externalIPs", index)
        if not pod_validation.is_ip(address):
            errors.append(field_errors.invalid(where, address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
        elif ipaddress.ip_address(address).is_loopback:
            errors.append(field_errors.invalid(where, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    return errors


def _traffic_policies(spec: Object, kind: Any) -> Errors:
    errors: Errors = []
    external, internal = spec.get("externalTrafficPolicy"), spec.get("internalTrafficPolicy")
    if external:
        if kind not in _NEEDS_NODE_PORT and not spec.get("externalIPs"):
            text = "may only be set for externally-accessible services"
            errors.append(field_errors.invalid("spec.externalTrafficPolicy", external, text))
        elif external not in ("Cluster", "Local"):
            errors.append(field_errors.not_supported("spec.externalTrafficPolicy", external, ("Cluster", "Local")))
    if internal and internal not in ("Cluster", "Local"):
        errors.append(field_errors.not_supported("spec.internalTrafficPolicy", internal, ("Cluster", "Local")))
    if spec.get("healthCheckNodePort") and not (kind == "LoadBalancer" and external == "Local"):
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        errors.append(field_errors.invalid("spec.healthCheckNodePort", spec["healthCheckNodePort"], text))
    return errors
