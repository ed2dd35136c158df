"""Pure: which pods stand behind a service, and on which ports: what Endpoints and EndpointSlices have in common."""

from collections.abc import Iterable
from typing import Any

from kubette.apimachinery import meta, timestamps
from kubette.kube_controller_manager import pods
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]

HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


def has_endpoints(service: Object) -> bool:
    """Services without a selector are someone else's, ExternalName ones have none."""
    return bool(spec(service).get("selector")) and spec(service).get("type") != "ExternalName"


def selects(service: Object, pod: Object) -> bool:
    labels = meta.labels(pod)
    selector = spec(service).get("selector") or {}
    return bool(selector) and all(labels.get(k) == v for k, v in selector.items())


def is_headless(service: Object) -> bool:
    return spec(service).get("clusterIP") == "None"


def pod_ips(pod: Object) -> list[str]:
    several = [ip["ip"] for ip in status(pod).get("podIPs") or () if ip.get("ip")]
    single = status(pod).get("podIP")
    return several or ([single] if single else [])


def belongs(pod: Object, include_terminating: bool) -> bool:
    """A pod with an address that has not ended."""
    if pods.is_terminal(pod) or not pod_ips(pod):
        return False
    return include_terminating or not meta.is_being_deleted(pod)


def target_port(service_port: Object, pod: Object) -> int | None:
    """The number behind a service's port on this pod; None when the pod has no port of that name."""
    target = service_port.get("targetPort")
    if target in (None, 0, ""):
        return int(service_port["port"])
    if isinstance(target, int):
        return target
    protocol = service_port.get("protocol", "TCP")
    containers = [*(spec(pod).get("containers") or ()), *(c for c in spec(pod).get("initContainers") or () if c.get("restartPolicy") == "Always")]
    for container in containers:
        for port in container.get("ports") or ():
            if port.get("name") == target and port.get("protocol", "TCP") == protocol:
                return int(port["containerPort"])
    return None


def ports(service: Object, pod: Object) -> list[Object]:
    """The service's ports as this pod serves them; those it does not serve are left out."""
    found = []
    for service_port in spec(service).get("ports") or ():
        number = target_port(service_port, pod)
        if number is None:
            continue
        port: Object = {"name": service_port.get("name") or "", "port": number, "protocol": service_port.get("protocol", "TCP")}
        if service_port.get("appProtocol"):
            port["appProtocol"] = service_port["appProtocol"]
        found.append(port)
    return found


def hostname(service: Object, pod: Object) -> str:
    """The name a pod of a headless service has in DNS."""
    if spec(pod).get("hostname") and spec(pod).get("subdomain") == meta.name(service) and meta.namespace(pod) == meta.namespace(service):
        return str(spec(pod)["hostname"])
    return ""


def target_reference(pod: Object) -> Object:
    return {"kind": "Pod", "namespace": meta.namespace(pod), "name": meta.name(pod), "uid": meta.uid(pod)}


def trigger_time(service: Object, members: Iterable[Object]) -> str:
    """The last moment something changed that matters here: the service's creation or a pod's readiness."""
    moments = [meta.creation_timestamp(service)]
    for pod in members:
        ready = pods.ready_condition(pod)
        if ready is not None and ready.get("lastTransitionTime"):
            moments.append(ready["lastTransitionTime"])
    return max((m for m in moments if m), key=timestamps.parse_time, default="")


def significant(pod: Object) -> Object:
    """What of a pod matters to its services; an update that changes nothing here need not be looked at."""
    return {
        "labels": meta.labels(pod),
        "ips": pod_ips(pod),
        "ready": pods.is_ready(pod),
        "terminal": pods.is_terminal(pod),
        "deleting": meta.is_being_deleted(pod),
        "node": spec(pod).get("nodeName"),
        "hostname": (spec(pod).get("hostname"), spec(pod).get("subdomain")),
    }
