"""Pure: the core group without pods and services: configuration, namespaces, nodes, volumes, events, quotas."""

import base64
import ipaddress
from typing import Any

from kubette.apimachinery import field_errors, meta, names, quantity
from kubette.apimachinery.field_errors import FieldError, child, key
from kubette.apimachinery.validation import copy
from kubette.kube_apiserver.registry import pod_defaults, pod_validation, volume_validation
from kubette.kube_apiserver.registry.strategy import Context, Object, Strategy, immutable, restore

Errors = list[FieldError]

# Of the values of a ConfigMap or Secret together.
DATA_BYTES_MAX = 1024 * 1024


def _immutable_data(obj: Object, old: Object, fields: tuple[str, ...]) -> Errors:
    if not old.get("immutable"):
        return []
    errors: Errors = []
    text = "field is immutable when `immutable` is set"
    if not obj.get("immutable"):
        errors.append(field_errors.forbidden("immutable", text))
    return errors + [field_errors.forbidden(name, text) for name in fields if (obj.get(name) or {}) != (old.get(name) or {})]


class ConfigMapStrategy(Strategy):
    def validate_spec(self, obj: Object) -> Errors:
        errors: Errors = []
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        size = 0
        for name, value in data.items():
            errors += [field_errors.invalid(key("data", name), name, text) for text in names.config_key(name)]
            if name in binary:
                text = f'duplicate of key present in binaryData: "{name}"'
                errors.append(field_errors.invalid(key("data", name), name, text))
            size += len(value.encode())
        for name, value in binary.items():
            errors += [field_errors.invalid(key("binaryData", name), name, text) for text in names.config_key(name)]
            size += len(value) * 3 // 4
        if size > DATA_BYTES_MAX:
            errors.append(field_errors.too_long("", DATA_BYTES_MAX))
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        return _immutable_data(obj, old, ("data", "binaryData"))


_SECRET_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_SERVICE_ACCOUNT_TOKEN = "kubernetes.io/service-account-token"
_SERVICE_ACCOUNT_NAME = "kubernetes.io/service-account.name"


class SecretStrategy(Strategy):
    selectable = ("type",)

    def default(self, obj: Object) -> None:
        if not obj.get("type"):
            obj["type"] = "Opaque"
        plain = obj.pop("stringData", None)
        if plain:
            data = obj.setdefault("data", {})
            for name, value in plain.items():
                data[name] = base64.b64encode(value.encode()).decode()

    def validate_spec(self, obj: Object) -> Errors:
        data, kind = obj.get("data") or {}, obj.get("type")
        errors: Errors = []
        size = 0
        for name, value in data.items():
            errors += [field_errors.invalid(key("data", name), name, text) for text in names.config_key(name)]
            size += len(value) * 3 // 4
        if size > DATA_BYTES_MAX:
            errors.append(field_errors.too_long("data", DATA_BYTES_MAX))
        errors += [field_errors.required(key("data", name)) for name in _SECRET_KEYS.get(str(kind), ()) if name not in data]
        if kind == _SERVICE_ACCOUNT_TOKEN and not meta.annotations(obj).get(_SERVICE_ACCOUNT_NAME):
            errors.append(field_errors.required(key("metadata.annotations", _SERVICE_ACCOUNT_NAME)))
        if kind == "kubernetes.io/basic-auth" and not ("username" in data or "password" in data):
            errors += [field_errors.required("data[username]"), field_errors.required("data[password]")]
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        return immutable(obj.get("type"), old.get("type"), "type") + _immutable_data(obj, old, ("data",))


class NamespaceStrategy(Strategy):
    name_check = staticmethod(names.dns1123_label)
    initial_status = {"phase": "Active"}
    selectable = ("status.phase",)

    def default(self, obj: Object) -> None:
        if meta.name(obj):
            self._label(obj)
        obj.setdefault("spec", {})
        obj.setdefault("status", {}).setdefault("phase", "Active")

    def _label(self, obj: Object) -> None:
        meta.metadata(obj).setdefault("labels", {})["kubernetes.io/metadata.name"] = meta.name(obj)

    def prepare_for_create(self, obj: Object, context: Context) -> None:
        super().prepare_for_create(obj, context)
        self._label(obj)
        finalizers = obj["spec"].setdefault("finalizers", [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")

    def prepare_for_update(self, obj: Object, old: Object, subresource: str = "", context: Context | None = None) -> None:
        super().prepare_for_update(obj, old, subresource, context)
        if subresource == "finalize":
            restore(obj, old, "status")
            metadata = obj.get("metadata")
            # Only spec.finalizers is written by this subresource; the rest is as it was.
            obj["metadata"] = copy(old.get("metadata") or {})
            obj["metadata"]["resourceVersion"] = (metadata or {}).get("resourceVersion") or meta.resource_version(old)
        elif not subresource:
            restore(obj, old, "spec")

    def validate_spec(self, obj: Object) -> Errors:
        errors: Errors = []
        for index, finalizer in enumerate((obj.get("spec") or {}).get("finalizers") or []):
            where = child("spec.finalizers", index)
            problems = names.qualified_name(finalizer)
            errors += [field_errors.invalid(where, finalizer, text) for text in problems]
            if not problems and "/" not in finalizer and finalizer not in ("kubernetes", "orphan", "foregroundDeletion"):
                text = "name is neither a standard finalizer name nor is it fully qualified"
                errors.append(field_errors.invalid(where, finalizer, text))
        return errors

    def validate_status(self, obj: Object, old: Object) -> Errors:
        phase = (obj.get("status") or {}).get("phase")
        if meta.is_being_deleted(obj):
            if phase != "Terminating":
                return [field_errors.invalid("status.Phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")]
        elif phase != "Active":
            return [field_errors.invalid("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty")]
        return []


class NodeStrategy(Strategy):
    """Nodes: kubelets create them with a status, so that is kept."""

    selectable = ("spec.unschedulable",)

    def default(self, obj: Object) -> None:
        status = obj.get("status")
        if status and status.get("capacity") and not status.get("allocatable"):
            status["allocatable"] = dict(status["capacity"])
        for name in ("capacity", "allocatable"):
            pod_defaults.round_up((status or {}).get(name))
        spec = obj.setdefault("spec", {})
        if spec.get("podCIDR") and not spec.get("podCIDRs"):
            spec["podCIDRs"] = [spec["podCIDR"]]
        elif spec.get("podCIDRs"):
            spec["podCIDR"] = spec["podCIDRs"][0]

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        seen: set[tuple[Any, Any]] = set()
        for index, taint in enumerate(spec.get("taints") or []):
            where = child("metadata.taints", index)
            errors += [field_errors.invalid(child(where, "key"), taint.get("key"), text) for text in names.qualified_name(taint.get("key") or "")]
            problems = names.label_value(taint.get("value") or "")
            if problems:
                errors.append(field_errors.invalid(child(where, "value"), taint.get("value"), ";".join(problems)))
            errors += pod_validation.one_of(taint.get("effect"), child(where, "effect"), ("NoSchedule", "PreferNoSchedule", "NoExecute"))
            pair = (taint.get("key"), taint.get("effect"))
            if pair in seen:
                text = "taints must be unique by key and effect pair"
                errors.append(FieldError("Duplicate value", where, taint, text))
            seen.add(pair)
        for index, cidr in enumerate(spec.get("podCIDRs") or []):
            try:
                ipaddress.ip_network(cidr)
            except ValueError:
                errors.append(
                    field_errors.invalid(child("spec.podCIDRs", index), cidr, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
                )
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        new, former = obj.get("spec") or {}, old.get("spec") or {}
        errors: Errors = []
        if former.get("podCIDRs") and new.get("podCIDRs") != former["podCIDRs"]:
            errors.append(field_errors.forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'))
        if former.get("providerID") and new.get("providerID") != former["providerID"]:
            errors.append(field_errors.forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid'))
        return errors

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return super().selectable_fields(obj) | {"spec.unschedulable": "true" if (obj.get("spec") or {}).get("unschedulable") else "false"}


class EndpointsStrategy(Strategy):
    allow_create_on_update = True

    def default(self, obj: Object) -> None:
        for subset in obj.get("subsets") or []:
            for port in subset.get("ports") or []:
                port.setdefault("protocol", "TCP")

    def validate_spec(self, obj: Object) -> Errors:
        errors: Errors = []
        for index, subset in enumerate(obj.get("subsets") or []):
            where = child("subsets", index)
            if not subset.get("addresses") and not subset.get("notReadyAddresses"):
                errors.append(field_errors.required(where, "must specify `addresses` or `notReadyAddresses`"))
            for name in ("addresses", "notReadyAddresses"):
                for number, address in enumerate(subset.get(name) or []):
                    errors += endpoint_ip(address.get("ip"), child(child(child(where, name), number), "ip"))
            ports = subset.get("ports") or []
            for number, port in enumerate(ports):
                at = child(child(where, "ports"), number)
                if len(ports) > 1 and not port.get("name"):
                    errors.append(field_errors.required(child(at, "name")))
                elif port.get("name"):
                    errors += [field_errors.invalid(child(at, "name"), port["name"], text) for text in names.dns1123_label(port["name"])]
                errors += [field_errors.invalid(child(at, "port"), port.get("port"), text) for text in names.port_number(port.get("port") or 0)]
                errors += pod_validation.one_of(port.get("protocol"), child(at, "protocol"), ("SCTP", "TCP", "UDP"))
        return errors


def endpoint_ip(value: Any, path: str) -> Errors:
    """An address that traffic may be sent to."""
    try:
        address = ipaddress.ip_address(str(value or ""))
    except ValueError:
        return [field_errors.invalid(path, value or "", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    if address.is_unspecified:
        return [field_errors.invalid(path, value, "may not be unspecified (0.0.0.0 or ::)")]
    if address.is_loopback:
        return [field_errors.invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if address.is_link_local:
        return [field_errors.invalid(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    return []


class EventStrategy(Strategy):
    allow_create_on_update = True
    selectable = (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    )

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        source = (obj.get("source") or {}).get("component") or obj.get("reportingComponent") or ""
        return super().selectable_fields(obj) | {"source": str(source)}

    def validate_spec(self, obj: Object) -> Errors:
        involved = (obj.get("involvedObject") or {}).get("namespace") or ""
        namespace = meta.namespace(obj)
        # Events of cluster-scoped objects live in the namespace default.
        if (involved or "default") != namespace and not (not involved and namespace in ("", "default", "kube-system")):
            return [field_errors.invalid("involvedObject.namespace", involved, "does not match event.namespace")]
        return []


class LimitRangeStrategy(Strategy):
    allow_create_on_update = True

    def default(self, obj: Object) -> None:
        for item in (obj.get("spec") or {}).get("limits") or []:
            if item.get("type") != "Container":
                continue
            default, request = item.setdefault("default", {}), item.setdefault("defaultRequest", {})
            for source, target in ((item.get("max"), default), (default, request), (item.get("min"), request)):
                for name, amount in (source or {}).items():
                    target.setdefault(name, amount)
            for name in ("default", "defaultRequest"):
                if not item[name]:
                    del item[name]

    def validate_spec(self, obj: Object) -> Errors:
        errors: Errors = []
        seen: set[Any] = set()
        for index, item in enumerate((obj.get("spec") or {}).get("limits") or []):
            where = child("spec.limits", index)
            if item.get("type") in seen:
                errors.append(field_errors.duplicate(child(where, "type"), item.get("type")))
            seen.add(item.get("type"))
            low, high = item.get("min") or {}, item.get("max") or {}
            for name in low:
                if name in high and quantity.parse(low[name]) > quantity.parse(high[name]):
                    text = f"min value {low[name]} is greater than max value {high[name]}"
                    errors.append(field_errors.invalid(key(child(where, "min"), name), low[name], text))
        return errors


class ResourceQuotaStrategy(Strategy):
    initial_status = {}
    allow_create_on_update = True

    def default(self, obj: Object) -> None:
        pod_defaults.round_up((obj.get("spec") or {}).get("hard"))

    def validate_spec(self, obj: Object) -> Errors:
        errors: Errors = []
        for name, amount in ((obj.get("spec") or {}).get("hard") or {}).items():
            errors += [field_errors.invalid(key("spec.hard", name), name, text) for text in names.qualified_name(name)]
            errors += pod_validation.resource_amount(name, amount, key("spec.hard", name))
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        return immutable((obj.get("spec") or {}).get("scopes"), (old.get("spec") or {}).get("scopes"), "spec.scopes")


_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def _access_modes(modes: list[str] | None, path: str) -> Errors:
    if not modes:
        return [field_errors.required(path, "at least 1 access mode is required")]
    errors = [field_errors.not_supported(path, mode, _ACCESS_MODES) for mode in modes if mode not in _ACCESS_MODES]
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        errors.append(field_errors.forbidden(path, "may not use ReadWriteOncePod with other access modes"))
    return errors


_PV_COMMON = frozenset(
    [
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeMode",
        "volumeAttributesClassName",
    ]
)


class PersistentVolumeStrategy(Strategy):
    initial_status = {"phase": "Pending"}

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
        spec.setdefault("volumeMode", "Filesystem")
        obj.setdefault("status", {}).setdefault("phase", "Pending")
        pod_defaults.default_volume_source(spec)

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors = _access_modes(spec.get("accessModes"), "spec.accessModes")
        capacity = spec.get("capacity") or {}
        if not capacity:
            errors.append(field_errors.required("spec.capacity"))
        elif set(capacity) != {"storage"}:
            errors.append(field_errors.not_supported("spec.capacity", capacity, ["storage"]))
        for name, amount in capacity.items():
            if quantity.parse(amount).nanos <= 0:
                errors.append(field_errors.invalid(key("spec.capacity", name), amount, "must be greater than zero"))
        policy = spec.get("persistentVolumeReclaimPolicy")
        if policy not in ("Delete", "Recycle", "Retain"):
            errors.append(field_errors.not_supported("spec.persistentVolumeReclaimPolicy", policy, ("Delete", "Recycle", "Retain")))
        sources = [name for name in spec if name not in _PV_COMMON]
        if not sources:
            errors.append(field_errors.required("spec", "must specify a volume type"))
        errors += [field_errors.forbidden(child("spec", name), "may not specify more than 1 volume type") for name in sources[1:]]
        host_path = spec.get("hostPath")
        if host_path is not None:
            errors += volume_validation.no_backsteps(host_path.get("path") or "", "spec.hostPath.path")
        affinity = (spec.get("nodeAffinity") or {}).get("required")
        if affinity is not None:
            errors += pod_validation.node_selector(affinity, "spec.nodeAffinity.required")
        elif spec.get("local") is not None:
            errors.append(field_errors.required("spec.nodeAffinity", "Local volume requires node affinity"))
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        new, former = obj.get("spec") or {}, old.get("spec") or {}
        sources = [{name: value for name, value in spec.items() if name not in _PV_COMMON} for spec in (new, former)]
        errors: Errors = []
        if sources[0] != sources[1]:
            errors.append(field_errors.forbidden("spec.persistentvolumesource", "spec.persistentvolumesource is immutable after creation"))
        errors += immutable(new.get("volumeMode"), former.get("volumeMode"), "spec.volumeMode")
        if former.get("nodeAffinity") is not None:
            errors += immutable(new.get("nodeAffinity"), former.get("nodeAffinity"), "spec.nodeAffinity")
        return errors


_CLAIM_TEXT = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"


class PersistentVolumeClaimStrategy(Strategy):
    initial_status = {"phase": "Pending"}

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        spec.setdefault("volumeMode", "Filesystem")
        spec.setdefault("resources", {})
        obj.setdefault("status", {}).setdefault("phase", "Pending")

    def prepare_for_create(self, obj: Object, context: Context) -> None:
        super().prepare_for_create(obj, context)
        # `dataSource` and `dataSourceRef` are two spellings of one field for local references.
        spec = obj["spec"]
        if spec.get("dataSource") and not spec.get("dataSourceRef"):
            spec["dataSourceRef"] = dict(spec["dataSource"])

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors = _access_modes(spec.get("accessModes"), "spec.accessModes")
        storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
        if storage is None:
            errors.append(field_errors.required("spec.resources[storage]"))
        elif quantity.parse(storage).nanos <= 0:
            errors.append(field_errors.invalid("spec.resources[storage]", storage, "must be greater than zero"))
        storage_class = spec.get("storageClassName")
        if storage_class:
            errors += [field_errors.invalid("spec.storageClassName", storage_class, text) for text in names.dns1123_subdomain(storage_class)]
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        new, former = copy(obj.get("spec") or {}), copy(old.get("spec") or {})
        # What the binder sets, and growth, may change; so may an absent class be filled in.
        if not former.get("volumeName"):
            former.pop("volumeName", None)
            new.pop("volumeName", None)
        if former.get("storageClassName") is None:
            new.pop("storageClassName", None)
        errors: Errors = []
        before, after = (((spec.get("resources") or {}).get("requests") or {}).get("storage") for spec in (former, new))
        for spec in (former, new):
            (spec.get("resources") or {}).pop("requests", None)
            spec.pop("volumeAttributesClassName", None)
        if new != former:
            errors.append(field_errors.forbidden("spec", _CLAIM_TEXT))
        bound = (old.get("status") or {}).get("phase") == "Bound"
        if before and after and before != after:
            if not bound:
                errors.append(field_errors.forbidden("spec", _CLAIM_TEXT))
            elif quantity.parse(after) < quantity.parse(before):
                errors.append(field_errors.forbidden("spec.resources.requests.storage", "field can not be less than previous value"))
        return errors
