"""Pure: endpoint slices, ingresses, network policies, addresses, autoscaling, disruption budgets, storage classes."""

import ipaddress
from typing import Any

from kubette.apimachinery import field_errors, meta, names, quantity
from kubette.apimachinery.field_errors import FieldError, child
from kubette.kube_apiserver.registry import core_strategies, object_meta, pod_validation
from kubette.kube_apiserver.registry.pod_validation import not_negative
from kubette.kube_apiserver.registry.strategy import Context, Object, Strategy, immutable

Errors = list[FieldError]
_PROTOCOLS = ("SCTP", "TCP", "UDP")


class EndpointSliceStrategy(Strategy):
    def default(self, obj: Object) -> None:
        for port in obj.get("ports") or []:
            if port.get("name") is None:
                port["name"] = ""
            port.setdefault("protocol", "TCP")

    def prepare_for_create(self, obj: Object, context: Context) -> None:
        meta.metadata(obj)["generation"] = 1

    def prepare_for_update(self, obj: Object, old: Object, subresource: str = "", context: Context | None = None) -> None:
        same = all(obj.get(name) == old.get(name) for name in ("endpoints", "ports", "addressType"))
        same = same and all((obj.get("metadata") or {}).get(name) == (old.get("metadata") or {}).get(name) for name in ("labels", "annotations"))
        meta.metadata(obj)["generation"] = meta.generation(old) + (not same)

    def validate_spec(self, obj: Object) -> Errors:
        errors: Errors = []
        family = obj.get("addressType")
        errors += pod_validation.one_of(family, "addressType", ("FQDN", "IPv4", "IPv6"))
        endpoints, ports = obj.get("endpoints") or [], obj.get("ports") or []
        if len(endpoints) > 1000:
            errors.append(field_errors.too_many("endpoints", len(endpoints), 1000))
        for index, endpoint in enumerate(endpoints):
            where = child("endpoints", index)
            addresses = endpoint.get("addresses") or []
            if not addresses:
                errors.append(field_errors.required(child(where, "addresses"), "must contain at least 1 address"))
            for number, address in enumerate(addresses):
                at = child(child(where, "addresses"), number)
                if family == "FQDN":
                    errors += [field_errors.invalid(at, address, text) for text in names.dns1123_subdomain(address)]
                else:
                    errors += _ip_of_family(address, family, at)
        seen: set[Any] = set()
        for index, port in enumerate(ports):
            where = child("ports", index)
            name = port.get("name") or ""
            if name:
                errors += [field_errors.invalid(child(where, "name"), name, text) for text in names.dns1123_label(name)]
            if name in seen:
                errors.append(field_errors.duplicate(child(where, "name"), name))
            seen.add(name)
            errors += pod_validation.one_of(port.get("protocol"), child(where, "protocol"), _PROTOCOLS)
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        return immutable(obj.get("addressType"), old.get("addressType"), "addressType")


def _ip_of_family(address: str, family: Any, path: str) -> Errors:
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return [field_errors.invalid(path, address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    if f"IPv{version}" != family:
        return [field_errors.invalid(path, address, f"must be an {family} address")]
    return core_strategies.endpoint_ip(address, path)


class IngressStrategy(Strategy):
    has_generation = True
    initial_status = {"loadBalancer": {}}

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        if not spec.get("rules") and spec.get("defaultBackend") is None:
            errors.append(field_errors.invalid("spec", None, "either `defaultBackend` or `rules` must be specified"))
        if spec.get("defaultBackend") is not None:
            errors += _backend(spec["defaultBackend"], "spec.defaultBackend")
        for index, rule in enumerate(spec.get("rules") or []):
            where = child("spec.rules", index)
            host = rule.get("host")
            if host:
                if pod_validation.is_ip(host):
                    errors.append(field_errors.invalid(child(where, "host"), host, "must be a DNS name, not an IP address"))
                check = names.wildcard_subdomain if "*" in host else names.dns1123_subdomain
                errors += [field_errors.invalid(child(where, "host"), host, text) for text in check(host)]
            if rule.get("http") is not None:
                errors += _http_paths(rule["http"].get("paths") or [], child(where, "http.paths"))
        for index, tls in enumerate(spec.get("tls") or []):
            for number, host in enumerate(tls.get("hosts") or []):
                check = names.wildcard_subdomain if "*" in host else names.dns1123_subdomain
                at = child(child(child("spec.tls", index), "hosts"), number)
                errors += [field_errors.invalid(at, host, text) for text in check(host)]
        name = spec.get("ingressClassName")
        if name is not None:
            errors += [field_errors.invalid("spec.ingressClassName", name, text) for text in names.dns1123_subdomain(name)]
        return errors


def _http_paths(paths: list[Object], where: str) -> Errors:
    if not paths:
        return [field_errors.required(where)]
    errors: Errors = []
    for index, path in enumerate(paths):
        at = child(where, index)
        kind = path.get("pathType")
        if kind is None:
            errors.append(field_errors.required(child(at, "pathType"), "pathType must be specified"))
        elif kind not in ("Exact", "ImplementationSpecific", "Prefix"):
            errors.append(field_errors.not_supported(child(at, "pathType"), kind, ("Exact", "ImplementationSpecific", "Prefix")))
        elif (kind != "ImplementationSpecific" or path.get("path")) and not str(path.get("path") or "").startswith("/"):
            errors.append(field_errors.invalid(child(at, "path"), path.get("path") or "", "must be an absolute path"))
        if path.get("backend"):
            errors += _backend(path["backend"], child(at, "backend"))
        else:
            errors.append(field_errors.required(child(at, "backend"), "port name or number is required"))
    return errors


def _backend(backend: Object, path: str) -> Errors:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        return [field_errors.invalid(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return [field_errors.required(child(child(path, "resource"), name)) for name in ("kind", "name") if not resource.get(name)]
    if service is None:
        return [field_errors.required(path, "port name or number is required")]
    errors: Errors = []
    where = child(path, "service")
    if not service.get("name"):
        errors.append(field_errors.required(child(where, "name")))
    else:
        errors += [field_errors.invalid(child(where, "name"), service["name"], text) for text in names.dns1035_label(service["name"])]
    port = service.get("port") or {}
    if port.get("name") and port.get("number"):
        errors.append(field_errors.invalid(path, "", "cannot set both port name & port number"))
    elif port.get("name"):
        errors += [field_errors.invalid(child(where, "port.name"), port["name"], text) for text in names.port_name(port["name"])]
    elif port.get("number"):
        errors += [field_errors.invalid(child(where, "port.number"), port["number"], text) for text in names.port_number(port["number"])]
    else:
        errors.append(field_errors.required(path, "port name or number is required"))
    return errors


class IngressClassStrategy(Strategy):
    has_generation = True

    def default(self, obj: Object) -> None:
        parameters = (obj.get("spec") or {}).get("parameters")
        if parameters is not None:
            parameters.setdefault("scope", "Cluster")

    def validate_spec(self, obj: Object) -> Errors:
        controller = (obj.get("spec") or {}).get("controller") or ""
        if not controller:
            return [field_errors.required("spec.controller")]
        if "/" not in controller:
            text = 'must be a domain-prefixed path (such as "acme.io/foo")'
            return [field_errors.invalid("spec.controller", controller, text)]
        return []

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        return immutable((obj.get("spec") or {}).get("controller"), (old.get("spec") or {}).get("controller"), "spec.controller")


class NetworkPolicyStrategy(Strategy):
    has_generation = True

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("podSelector", {})
        for direction in ("ingress", "egress"):
            for rule in spec.get(direction) or []:
                for port in rule.get("ports") or []:
                    port.setdefault("protocol", "TCP")
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors = object_meta.label_selector(spec.get("podSelector"), "spec.podSelector")
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for index, rule in enumerate(spec.get(direction) or []):
                where = child(child("spec", direction), index)
                for number, port in enumerate(rule.get("ports") or []):
                    errors += _policy_port(port, child(child(where, "ports"), number))
                for number, peer in enumerate(rule.get(peers) or []):
                    errors += _policy_peer(peer, child(child(where, peers), number))
        for index, kind in enumerate(spec.get("policyTypes") or []):
            if kind not in ("Egress", "Ingress"):
                errors.append(field_errors.not_supported(child("spec.policyTypes", index), kind, ("Egress", "Ingress")))
        return errors


def _policy_port(port: Object, path: str) -> Errors:
    errors: Errors = []
    if port.get("protocol") not in _PROTOCOLS:
        errors.append(field_errors.not_supported(child(path, "protocol"), port.get("protocol"), _PROTOCOLS))
    if port.get("port") is not None:
        errors += pod_validation.port_or_name(port["port"], child(path, "port"))
    end = port.get("endPort")
    if end is not None:
        if not isinstance(port.get("port"), int):
            errors.append(
                field_errors.required(
                    child(path, "port"), "may not be specified when `port` is non-numeric" if port.get("port") else "must be specified"
                )
            )
        elif end < port["port"]:
            errors.append(field_errors.invalid(child(path, "endPort"), end, "must be greater than or equal to `port`"))
    return errors


def _policy_peer(peer: Object, path: str) -> Errors:
    errors: Errors = []
    used = [name for name in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(name) is not None]
    for name in used:
        if name == "ipBlock":
            cidr = peer[name].get("cidr") or ""
            try:
                network = ipaddress.ip_network(cidr, strict=False)
            except ValueError:
                text = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
                return [field_errors.invalid(child(path, "ipBlock.cidr"), cidr, text)]
            for index, excepted in enumerate(peer[name].get("except") or []):
                try:
                    inner = ipaddress.ip_network(excepted, strict=False)
                    inside = inner.version == network.version and inner.subnet_of(network) and inner != network  # type: ignore[arg-type]
                except ValueError:
                    inside = False
                if not inside:
                    at = child(child(path, "ipBlock.except"), index)
                    errors.append(field_errors.invalid(at, excepted, "must be a strict subset of `cidr`"))
        else:
            errors += object_meta.label_selector(peer[name], child(path, name))
    if not used:
        errors.append(field_errors.required(path, "must specify a peer"))
    elif "ipBlock" in used and len(used) > 1:
        errors.append(field_errors.forbidden(path, "may not specify both ipBlock and another peer"))
    return errors


class ServiceCIDRStrategy(Strategy):
    initial_status = {}

    def validate_spec(self, obj: Object) -> Errors:
        cidrs = (obj.get("spec") or {}).get("cidrs") or []
        if not cidrs:
            return [field_errors.required("spec.cidrs", "at least one CIDR required")]
        errors: Errors = []
        for index, cidr in enumerate(cidrs):
            try:
                ipaddress.ip_network(cidr)
            except ValueError:
                text = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
                errors.append(field_errors.invalid(child("spec.cidrs", index), cidr, text))
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        return immutable((obj.get("spec") or {}).get("cidrs"), (old.get("spec") or {}).get("cidrs"), "spec.cidrs")


class IPAddressStrategy(Strategy):
    selectable = ("spec.parentRef.resource",)

    def validate_spec(self, obj: Object) -> Errors:
        if not pod_validation.is_ip(meta.name(obj)):
            return [field_errors.invalid("metadata.name", meta.name(obj), "must be a valid IP address in canonical form")]
        parent = (obj.get("spec") or {}).get("parentRef")
        if parent is None:
            return [field_errors.required("spec.parentRef")]
        return [field_errors.required(child("spec.parentRef", name)) for name in ("resource", "name") if not parent.get(name)]

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        return immutable((obj.get("spec") or {}).get("parentRef"), (old.get("spec") or {}).get("parentRef"), "spec.parentRef")


# --- autoscaling and policy -------------------------------------------------------------------------------------------

_SCALE_UP = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}],
}
_SCALE_DOWN = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}


class HorizontalPodAutoscalerStrategy(Strategy):
    initial_status = {"desiredReplicas": 0, "currentMetrics": None}

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("minReplicas", 1)
        if not spec.get("metrics"):
            target = {"type": "Utilization", "averageUtilization": 80}
            spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
        behavior = spec.get("behavior")
        if behavior is not None:
            for name, defaults in (("scaleUp", _SCALE_UP), ("scaleDown", _SCALE_DOWN)):
                rules = behavior.setdefault(name, {})
                for field, value in defaults.items():
                    rules.setdefault(field, [dict(one) for one in value] if isinstance(value, list) else value)

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        low, high = spec.get("minReplicas"), spec.get("maxReplicas") or 0
        if low is not None and low < 1:
            errors.append(field_errors.invalid("spec.minReplicas", low, "must be greater than or equal to 1"))
        if high < 1:
            errors.append(field_errors.invalid("spec.maxReplicas", high, "must be greater than 0"))
        if low is not None and high < low:
            errors.append(field_errors.invalid("spec.maxReplicas", high, "must be greater than or equal to `minReplicas`"))
        reference = spec.get("scaleTargetRef") or {}
        errors += [field_errors.required(child("spec.scaleTargetRef", name)) for name in ("kind", "name") if not reference.get(name)]
        for index, metric in enumerate(spec.get("metrics") or []):
            where = child("spec.metrics", index)
            kinds = ("ContainerResource", "External", "Object", "Pods", "Resource")
            errors += pod_validation.one_of(metric.get("type"), child(where, "type"), kinds)
        return errors


class PodDisruptionBudgetStrategy(Strategy):
    has_generation = True
    initial_status = {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            errors.append(field_errors.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
        for name in ("minAvailable", "maxUnavailable"):
            value = spec.get(name)
            if isinstance(value, int):
                errors += not_negative(value, f"spec.{name}")
            elif isinstance(value, str):
                problems = names.percent(value)
                errors += [field_errors.invalid(f"spec.{name}", value, text) for text in problems]
                if not problems and int(value[:-1]) > 100:
                    errors.append(field_errors.invalid(f"spec.{name}", value, "must not be greater than 100%"))
        policy = spec.get("unhealthyPodEvictionPolicy")
        if policy is not None and policy not in ("AlwaysAllow", "IfHealthyBudget"):
            errors.append(field_errors.not_supported("spec.unhealthyPodEvictionPolicy", policy, ("AlwaysAllow", "IfHealthyBudget")))
        return errors + object_meta.label_selector(spec.get("selector"), "spec.selector")


# --- storage ----------------------------------------------------------------------------------------------------------


class StorageClassStrategy(Strategy):
    def default(self, obj: Object) -> None:
        obj.setdefault("reclaimPolicy", "Delete")
        obj.setdefault("volumeBindingMode", "Immediate")

    def validate_spec(self, obj: Object) -> Errors:
        errors: Errors = []
        if not obj.get("provisioner"):
            errors.append(field_errors.required("provisioner", ""))
        if obj.get("reclaimPolicy") not in ("Delete", "Retain"):
            errors.append(field_errors.not_supported("reclaimPolicy", obj.get("reclaimPolicy"), ("Delete", "Retain")))
        mode = obj.get("volumeBindingMode")
        if mode not in ("Immediate", "WaitForFirstConsumer"):
            errors.append(field_errors.not_supported("volumeBindingMode", mode, ("Immediate", "WaitForFirstConsumer")))
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        errors: Errors = []
        if (obj.get("parameters") or {}) != (old.get("parameters") or {}):
            errors.append(field_errors.forbidden("parameters", "updates to parameters are forbidden."))
        if obj.get("provisioner") != old.get("provisioner"):
            errors.append(field_errors.forbidden("provisioner", "updates to provisioner are forbidden."))
        if obj.get("reclaimPolicy") != old.get("reclaimPolicy"):
            errors.append(field_errors.forbidden("reclaimPolicy", "updates to reclaimPolicy are forbidden."))
        return errors + immutable(obj.get("volumeBindingMode"), old.get("volumeBindingMode"), "volumeBindingMode")


class CSIDriverStrategy(Strategy):
    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("attachRequired", True)
        for name in ("podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"):
            spec.setdefault(name, False)
        spec.setdefault("fsGroupPolicy", "ReadWriteOnceWithFSType")
        if not spec.get("volumeLifecycleModes"):
            spec["volumeLifecycleModes"] = ["Persistent"]


class CSIStorageCapacityStrategy(Strategy):
    def validate_spec(self, obj: Object) -> Errors:
        errors: Errors = []
        if not obj.get("storageClassName"):
            errors.append(field_errors.required("storageClassName"))
        if obj.get("capacity") is not None and quantity.parse(obj["capacity"]).nanos < 0:
            errors.append(field_errors.invalid("capacity", obj["capacity"], pod_validation.NOT_NEGATIVE))
        return errors


class VolumeAttachmentStrategy(Strategy):
    initial_status = {"attached": False}

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors = [field_errors.required(child("spec", name)) for name in ("attacher", "nodeName") if not spec.get(name)]
        source = spec.get("source") or {}
        if not source.get("persistentVolumeName") and source.get("inlineVolumeSpec") is None:
            errors.append(field_errors.required("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        return immutable(obj.get("spec"), old.get("spec"), "spec")
