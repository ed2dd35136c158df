"""Pure: printers of the core group: pods, services, nodes, events, volumes, configuration."""

from typing import Any

from kubette.apimachinery import selectors
from kubette.kube_apiserver.registry import pod_status_text
from kubette.kube_apiserver.registry.cells import Object, Printer, age, columns, containers, labels, name, since, spec, status

# A service's load balancer addresses are cut to this in plain output; Tables are always wide, so it is not.
_NONE = "<none>"


def _pod(obj: Object, now: float) -> list[Any]:
    text = pod_status_text.pod_text(obj, now)
    pod_ips = status(obj).get("podIPs") or []
    address = pod_ips[0].get("ip") if pod_ips else status(obj).get("podIP")
    gates = spec(obj).get("readinessGates") or []
    conditions = {one.get("type"): one.get("status") for one in status(obj).get("conditions") or []}
    met = sum(conditions.get(gate.get("conditionType")) == "True" for gate in gates)
    return [
        name(obj),
        text.ready,
        text.status,
        text.restarts,
        age(obj, now),
        address or _NONE,
        spec(obj).get("nodeName") or _NONE,
        status(obj).get("nominatedNodeName") or _NONE,
        f"{met}/{len(gates)}" if gates else _NONE,
    ]


def _pod_template(obj: Object, now: float) -> list[Any]:
    template = obj.get("template") or {}
    return [name(obj), *containers(template), labels((template.get("metadata") or {}).get("labels"))]


def _replication_controller(obj: Object, now: float) -> list[Any]:
    template = spec(obj).get("template") or {}
    counts = [spec(obj).get("replicas") or 0, status(obj).get("replicas") or 0, status(obj).get("readyReplicas") or 0]
    return [name(obj), *counts, age(obj, now), *containers(template), labels(spec(obj).get("selector"))]


def load_balancer(obj: Object) -> str:
    """Addresses of `status.loadBalancer`."""
    ingress = (status(obj).get("loadBalancer") or {}).get("ingress") or []
    return ",".join(sorted({str(one.get("ip") or one.get("hostname")) for one in ingress if one.get("ip") or one.get("hostname")}))


def _external_ip(obj: Object) -> str:
    external = spec(obj).get("externalIPs") or []
    match spec(obj).get("type"):
        case "ClusterIP" | "NodePort":
            return ",".join(external) or _NONE
        case "LoadBalancer":
            addresses = load_balancer(obj)
            return ",".join([*([addresses] if addresses else []), *external]) or "<pending>"
        case "ExternalName":
            return str(spec(obj).get("externalName") or "")
    return "<unknown>"


def _service(obj: Object, now: float) -> list[Any]:
    ports = []
    for port in spec(obj).get("ports") or []:
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        ports.append(f"{port.get('port')}{node_port}/{port.get('protocol')}")
    cluster_ips = spec(obj).get("clusterIPs") or []
    address = cluster_ips[0] if cluster_ips else spec(obj).get("clusterIP") or _NONE
    cells = [name(obj), spec(obj).get("type"), address, _external_ip(obj), ",".join(ports) or _NONE, age(obj, now)]
    return [*cells, labels(spec(obj).get("selector"))]


def _endpoints(obj: Object, now: float) -> list[Any]:
    addresses: list[str] = []
    count = 0
    for subset in obj.get("subsets") or []:
        ports = subset.get("ports") or []
        found = subset.get("addresses") or []
        if not ports:
            addresses += [str(one.get("ip")) for one in found]
            count += len(found)
        for port in ports:
            addresses += [_join_host_port(str(one.get("ip")), port.get("port")) for one in found]
            count += len(found)
    text = ",".join(addresses[:3])
    if count > 3:
        text += f" + {count - 3} more..."
    return [name(obj), text or _NONE, age(obj, now)]


def _join_host_port(host: str, port: Any) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _node(obj: Object, now: float) -> list[Any]:
    states = [
        "Ready" if condition.get("status") == "True" else "NotReady"
        for condition in status(obj).get("conditions") or []
        if condition.get("type") == "Ready"
    ] or ["Unknown"]
    if spec(obj).get("unschedulable"):
        states.append("SchedulingDisabled")
    roles = set()
    for key, value in ((obj.get("metadata") or {}).get("labels") or {}).items():
        if key.startswith("node-role.kubernetes.io/") and key.removeprefix("node-role.kubernetes.io/"):
            roles.add(key.removeprefix("node-role.kubernetes.io/"))
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    info = status(obj).get("nodeInfo") or {}
    addresses = status(obj).get("addresses") or []

    def address(type: str) -> str:
        return next((str(one.get("address")) for one in addresses if one.get("type") == type), _NONE)

    return [
        name(obj),
        ",".join(states),
        ",".join(sorted(roles)) or _NONE,
        age(obj, now),
        info.get("kubeletVersion") or "",
        address("InternalIP"),
        address("ExternalIP"),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _event(obj: Object, now: float) -> list[Any]:
    first = since(obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime"), now)
    last_time = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp")
    last = since(last_time, now) if last_time else first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    series = obj.get("series")
    if series:
        last = since(series.get("lastObservedTime"), now)
        # The event that began the series is not counted in it.
        count = int(series.get("count") or 0) + 1
    regarding = obj.get("involvedObject") or obj.get("regarding") or {}
    kind = str(regarding.get("kind") or "").lower()
    target = f"{kind}/{regarding['name']}" if regarding.get("name") else kind
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    instance = source.get("host") or obj.get("reportingInstance")
    message = str(obj.get("message") or obj.get("note") or "").strip()
    return [
        last,
        obj.get("type") or "",
        obj.get("reason") or "",
        target,
        regarding.get("fieldPath") or "",
        f"{component}, {instance}" if instance else component,
        message,
        first,
        count,
        name(obj),
    ]


def _namespace(obj: Object, now: float) -> list[Any]:
    return [name(obj), status(obj).get("phase") or "", age(obj, now)]


def _secret(obj: Object, now: float) -> list[Any]:
    return [name(obj), obj.get("type") or "", len(obj.get("data") or {}), age(obj, now)]


def _config_map(obj: Object, now: float) -> list[Any]:
    return [name(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age(obj, now)]


def _service_account(obj: Object, now: float) -> list[Any]:
    return [name(obj), len(obj.get("secrets") or []), age(obj, now)]


_ACCESS_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def _modes(found: list[str] | None) -> str:
    return ",".join(short for mode, short in _ACCESS_MODES.items() if mode in (found or []))


def _storage_class_name(obj: Object) -> str:
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(_CLASS_ANNOTATION) or spec(obj).get("storageClassName") or "")


def _volume_phase(obj: Object) -> str:
    return "Terminating" if (obj.get("metadata") or {}).get("deletionTimestamp") else str(status(obj).get("phase") or "")


def _persistent_volume(obj: Object, now: float) -> list[Any]:
    claim = spec(obj).get("claimRef")
    return [
        name(obj),
        (spec(obj).get("capacity") or {}).get("storage") or "0",
        _modes(spec(obj).get("accessModes")),
        spec(obj).get("persistentVolumeReclaimPolicy") or "",
        _volume_phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _storage_class_name(obj),
        spec(obj).get("volumeAttributesClassName") or "<unset>",
        status(obj).get("reason") or "",
        age(obj, now),
        spec(obj).get("volumeMode") or "<unset>",
    ]


def _persistent_volume_claim(obj: Object, now: float) -> list[Any]:
    bound = bool(spec(obj).get("volumeName"))
    return [
        name(obj),
        _volume_phase(obj),
        spec(obj).get("volumeName") or "",
        ((status(obj).get("capacity") or {}).get("storage") or "0") if bound else "",
        _modes(status(obj).get("accessModes")) if bound else "",
        _storage_class_name(obj),
        spec(obj).get("volumeAttributesClassName") or "<unset>",
        age(obj, now),
        spec(obj).get("volumeMode") or "<unset>",
    ]


def _component_status(obj: Object, now: float) -> list[Any]:
    healthy = next((one for one in obj.get("conditions") or [] if one.get("type") == "Healthy"), None)
    if healthy is None:
        return [name(obj), "Unknown", "", ""]
    state = "Healthy" if healthy.get("status") == "True" else "Unhealthy"
    return [name(obj), state, healthy.get("message") or "", healthy.get("error") or ""]


def _resource_quota(obj: Object, now: float) -> list[Any]:
    hard, used = status(obj).get("hard") or {}, status(obj).get("used") or {}
    shown = {resource: f"{resource}: {used.get(resource, '0')}/{hard[resource]}" for resource in sorted(hard)}
    requests = ", ".join(text for resource, text in shown.items() if not resource.startswith("limits."))
    limits = ", ".join(text for resource, text in shown.items() if resource.startswith("limits."))
    return [name(obj), requests, limits, age(obj, now)]


def selector(found: dict[str, Any] | None) -> str:
    """A metav1.LabelSelector in a cell."""
    return selectors.format_label_selector(found)


_PV_COLUMNS = ("Name", "Capacity", "Access Modes", "Reclaim Policy", "Status", "Claim", "StorageClass", "VolumeAttributesClass", "Reason", "Age")

PRINTERS: dict[tuple[str, str], Printer] = {
    ("", "pods"): (columns("Name", "Ready", "Status", "Restarts", "Age", "IP*", "Node*", "Nominated Node*", "Readiness Gates*"), _pod),
    ("", "podtemplates"): (columns("Name", "Containers", "Images", "Pod Labels"), _pod_template),
    ("", "replicationcontrollers"): (
        columns("Name", "Desired#", "Current#", "Ready#", "Age", "Containers*", "Images*", "Selector*"),
        _replication_controller,
    ),
    ("", "services"): (columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector*"), _service),
    ("", "endpoints"): (columns("Name", "Endpoints", "Age"), _endpoints),
    ("", "nodes"): (
        columns("Name", "Status", "Roles", "Age", "Version", "Internal-IP*", "External-IP*", "OS-Image*", "Kernel-Version*", "Container-Runtime*"),
        _node,
    ),
    ("", "events"): (
        columns("Last Seen", "Type", "Reason", "Object", "Subobject*", "Source*", "Message", "First Seen*", "Count#*", "Name*"),
        _event,
    ),
    ("", "namespaces"): (columns("Name", "Status", "Age"), _namespace),
    ("", "secrets"): (columns("Name", "Type", "Data", "Age"), _secret),
    ("", "configmaps"): (columns("Name", "Data", "Age"), _config_map),
    ("", "serviceaccounts"): (columns("Name", "Secrets", "Age"), _service_account),
    ("", "persistentvolumes"): (columns(*_PV_COLUMNS, "VolumeMode*"), _persistent_volume),
    ("", "persistentvolumeclaims"): (
        columns("Name", "Status", "Volume", "Capacity", "Access Modes", "StorageClass", "VolumeAttributesClass", "Age", "VolumeMode*"),
        _persistent_volume_claim,
    ),
    ("", "componentstatuses"): (columns("Name", "Status", "Message", "Error"), _component_status),
    ("", "resourcequotas"): (columns("Name", "Request", "Limit", "Age"), _resource_quota),
}
