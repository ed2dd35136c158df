"""Pure: defaults of pods and pod templates (upstream's `pkg/apis/core/v1/defaults.go`)."""

from collections.abc import Iterator
from typing import Any

from kubette.apimachinery import quantity

Object = dict[str, Any]

DEFAULT_MODE = 0o644
TOKEN_EXPIRATION_S = 3600


def default_pod_spec(spec: Object) -> None:
    """What pods and templates have in common."""
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("schedulerName", "default-scheduler")
    # The deprecated alias is kept equal to its successor.
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    host_network = bool(spec.get("hostNetwork"))
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(name) or []:
            default_container(container, host_network and name != "ephemeralContainers")
    for volume in spec.get("volumes") or []:
        default_volume(volume)
    overhead = spec.get("overhead")
    if overhead:
        _round_up(overhead)


def default_pod(pod: Object) -> None:
    """What only pods have, not templates: so that it changes with the release without changing templates' hashes."""
    spec = pod.setdefault("spec", {})
    default_pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    for container in each_container(spec):
        resources = container.get("resources") or {}
        limits = resources.get("limits")
        if limits:
            requests = resources.setdefault("requests", {})
            for name, amount in limits.items():
                requests.setdefault(name, amount)


def each_container(spec: Object) -> Iterator[Object]:
    """Init containers, then containers: those whose resources count."""
    yield from spec.get("initContainers") or []
    yield from spec.get("containers") or []


def image_tag(image: str) -> str:
    """`latest` if the reference has neither tag nor digest."""
    if "@" in image:
        return ""
    tag = image.rpartition("/")[2].partition(":")[2]
    return tag or "latest"


def default_container(container: Object, host_network: bool = False) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = "Always" if image_tag(str(container.get("image") or "")) == "latest" else "IfNotPresent"
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    # Resources are a Go struct that is always written.
    resources = container.setdefault("resources", {})
    for name in ("limits", "requests"):
        if resources.get(name):
            _round_up(resources[name])
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
        if host_network and not port.get("hostPort"):
            port["hostPort"] = port.get("containerPort")
    for variable in container.get("env") or []:
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference is not None:
            reference.setdefault("apiVersion", "v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if probe is not None:
            _default_probe(probe)
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _default_http_get(hook)


def _default_probe(probe: Object) -> None:
    for name, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        if not probe.get(name):
            probe[name] = value
    _default_http_get(probe)
    grpc = probe.get("grpc")
    if grpc is not None:
        grpc.setdefault("service", "")


def _default_http_get(handler: Object) -> None:
    action = handler.get("httpGet")
    if action is not None:
        action.setdefault("path", "/")
        action.setdefault("scheme", "HTTP")


_VOLUME_SOURCE_DEFAULTS: dict[str, Object] = {
    "secret": {"defaultMode": DEFAULT_MODE},
    "configMap": {"defaultMode": DEFAULT_MODE},
    "downwardAPI": {"defaultMode": DEFAULT_MODE},
    "projected": {"defaultMode": DEFAULT_MODE},
    "hostPath": {"type": ""},
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
}


def default_volume(volume: Object) -> None:
    """An unnamed source is an emptyDir; sources get their modes."""
    if not any(value is not None for name, value in volume.items() if name != "name"):
        volume["emptyDir"] = {}
    default_volume_source(volume)
    _default_field_refs((volume.get("downwardAPI") or {}).get("items") or [])
    for source in (volume.get("projected") or {}).get("sources") or []:
        token = source.get("serviceAccountToken")
        if token is not None:
            token.setdefault("expirationSeconds", TOKEN_EXPIRATION_S)
        _default_field_refs((source.get("downwardAPI") or {}).get("items") or [])
    template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if template is not None:
        template.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    image = volume.get("image")
    if image is not None and not image.get("pullPolicy"):
        image["pullPolicy"] = "Always" if image_tag(str(image.get("reference") or "")) == "latest" else "IfNotPresent"


def default_volume_source(source: Object) -> None:
    """Of a volume or of a persistent volume's spec."""
    for name, defaults in _VOLUME_SOURCE_DEFAULTS.items():
        found = source.get(name)
        if found is not None:
            for field, value in defaults.items():
                found.setdefault(field, value)


def _default_field_refs(items: list[Object]) -> None:
    for item in items:
        if item.get("fieldRef") is not None:
            item["fieldRef"].setdefault("apiVersion", "v1")


def _round_up(resources: Object) -> None:
    """Resource lists keep nothing finer than thousandths."""
    for name, amount in resources.items():
        resources[name] = str(quantity.parse(amount).round_up_milli())


def round_up(resources: Object | None) -> None:
    if resources:
        _round_up(resources)


# --- quality of service -----------------------------------------------------------------------------------------------


def qos_class(pod: Object) -> str:
    """`status.qosClass`: Guaranteed, Burstable or BestEffort, by cpu and memory of all containers."""
    spec = pod.get("spec") or {}
    pod_level = spec.get("resources") or {}
    sources = [pod_level] if pod_level.get("requests") or pod_level.get("limits") else [one.get("resources") or {} for one in each_container(spec)]
    requests: dict[str, quantity.Quantity] = {}
    limits: dict[str, quantity.Quantity] = {}
    guaranteed = True
    for resources in sources:
        limited = set()
        for kind, totals in (("requests", requests), ("limits", limits)):
            for name, amount in (resources.get(kind) or {}).items():
                parsed = quantity.parse(amount)
                if name in ("cpu", "memory") and parsed:
                    totals[name] = totals[name] + parsed if name in totals else parsed
                    if kind == "limits":
                        limited.add(name)
        guaranteed = guaranteed and limited == {"cpu", "memory"}
    if not requests and not limits:
        return "BestEffort"
    if guaranteed and all(requests.get(name) in (None, limits[name]) for name in limits) and len(requests) == len(limits):
        return "Guaranteed"
    return "Burstable"
