"""Pure: a container's environment (kubelet_pods' makeEnvironmentVariables and third_party/forked/golang/expansion).

Order, later wins: the variables of services, envFrom in order, env in order; `$(NAME)` is expanded from what came before it
(and from the services' variables), `$$` is a dollar sign, an unknown reference stays as it is written.
"""

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

from kubette.apimachinery import quantity
from kubette.kubelet import pod_spec

Object = dict[str, Any]


class InvalidEnvironment(Exception):
    """The environment cannot be made; the container waits with CreateContainerConfigError and this message."""


def expand(text: str, lookup: Callable[[str], str | None]) -> str:
    """Kubernetes' `$(NAME)` expansion."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        value = lookup(match[1])
        return match[0] if value is None else value

    return re.sub(r"\$\$|\$\(([^)]*)\)", replace, text)


def service_variables(services: list[Object], namespace: str, enable_service_links: bool) -> dict[str, str]:
    """The docker-link variables of the services the pod may see; `kubernetes` of namespace default is always among them."""
    variables: dict[str, str] = {}
    chosen: dict[str, Object] = {}
    for service in services:
        name, space = service["metadata"]["name"], service["metadata"].get("namespace", "default")
        if not _has_cluster_ip(service):
            continue
        if space == "default" and name == "kubernetes":
            chosen.setdefault(name, service)
        elif space == namespace and enable_service_links:
            chosen[name] = service
    for name in sorted(chosen):
        variables.update(_links(chosen[name]))
    return variables


def _has_cluster_ip(service: Object) -> bool:
    return (service.get("spec") or {}).get("clusterIP") not in (None, "", "None")


def _links(service: Object) -> dict[str, str]:
    prefix = service["metadata"]["name"].upper().replace("-", "_")
    ip = str(service["spec"]["clusterIP"])
    host = f"[{ip}]" if ":" in ip else ip
    ports = service["spec"].get("ports") or []
    variables = {f"{prefix}_SERVICE_HOST": ip}
    if not ports:
        return variables
    variables[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
    for port in ports:
        if port.get("name"):
            variables[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    for index, port in enumerate(ports):
        protocol = port.get("protocol") or "TCP"
        url = f"{protocol.lower()}://{host}:{port['port']}"
        if index == 0:
            variables[f"{prefix}_PORT"] = url
        port_prefix = f"{prefix}_PORT_{port['port']}_{protocol.upper()}"
        variables[port_prefix] = url
        variables[f"{port_prefix}_PROTO"] = protocol.lower()
        variables[f"{port_prefix}_PORT"] = str(port["port"])
        variables[f"{port_prefix}_ADDR"] = ip
    return variables


def needed_objects(container: Object) -> set[tuple[str, str]]:
    """(`configmaps` or `secrets`, name) of everything the environment refers to."""
    needed = set()
    for source in container.get("envFrom") or []:
        if "configMapRef" in source:
            needed.add(("configmaps", source["configMapRef"]["name"]))
        if "secretRef" in source:
            needed.add(("secrets", source["secretRef"]["name"]))
    for entry in container.get("env") or []:
        value_from = entry.get("valueFrom") or {}
        if "configMapKeyRef" in value_from:
            needed.add(("configmaps", value_from["configMapKeyRef"]["name"]))
        if "secretKeyRef" in value_from:
            needed.add(("secrets", value_from["secretKeyRef"]["name"]))
    return needed


def make_environment(
    pod: Object, container: Object, objects: Mapping[tuple[str, str], Object | None], services: Mapping[str, str], allocatable: Mapping[str, str]
) -> dict[str, str]:
    """The variables of one container. `objects` holds what `needed_objects` named (None: does not exist). Raises InvalidEnvironment."""
    result: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        result.update(_env_from(pod, source, objects))
    for entry in container.get("env") or []:
        name = entry["name"]
        if entry.get("valueFrom"):
            value = _value_from(pod, container, entry["valueFrom"], objects, allocatable)
            if value is None:
                continue
        else:
            value = expand(str(entry.get("value") or ""), lambda key: result.get(key, services.get(key)))
        result[name] = value
    return {**services, **result}


def _env_from(pod: Object, source: Object, objects: Mapping[tuple[str, str], Object | None]) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for kind, field in (("configmaps", "configMapRef"), ("secrets", "secretRef")):
        if field not in source:
            continue
        reference = source[field]
        found = objects.get((kind, reference["name"]))
        if found is None:
            if reference.get("optional"):
                return {}
            raise InvalidEnvironment(f'{kind[:-1]} "{reference["name"]}" not found')
        return {prefix + key: value for key, value in _data(kind, found).items()}
    return {}


def _data(kind: str, found: Object) -> dict[str, str]:
    if kind == "configmaps":
        return dict(found.get("data") or {})
    return {key: base64.b64decode(value).decode(errors="surrogateescape") for key, value in (found.get("data") or {}).items()}


def _value_from(
    pod: Object, container: Object, source: Object, objects: Mapping[tuple[str, str], Object | None], allocatable: Mapping[str, str]
) -> str | None:
    if "fieldRef" in source:
        return field_value(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return resource_value(pod, container, source["resourceFieldRef"], allocatable)
    for kind, field, title in (("configmaps", "configMapKeyRef", "ConfigMap"), ("secrets", "secretKeyRef", "Secret")):
        if field not in source:
            continue
        reference = source[field]
        found = objects.get((kind, reference["name"]))
        if found is None:
            if reference.get("optional"):
                return None
            raise InvalidEnvironment(f'{kind[:-1]} "{reference["name"]}" not found')
        data = _data(kind, found)
        if reference["key"] not in data:
            if reference.get("optional"):
                return None
            raise InvalidEnvironment(f"couldn't find key {reference['key']} in {title} {pod_spec.namespace(pod)}/{reference['name']}")
        return data[reference["key"]]
    raise InvalidEnvironment(f"invalid environment source {sorted(source)}")


def field_value(pod: Object, path: str) -> str:
    """A downward API field of the pod (fieldpath.ExtractFieldPathAsString, and what only the kubelet knows)."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    if subscript := re.fullmatch(r"metadata\.(annotations|labels)\['(.+)'\]", path):
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    if path in ("metadata.annotations", "metadata.labels"):
        return "\n".join(f"{k}={_go_quote(v)}" for k, v in sorted((metadata.get(path.split(".")[1]) or {}).items()))
    simple = {
        "metadata.name": metadata["name"],
        "metadata.namespace": pod_spec.namespace(pod),
        "metadata.uid": metadata.get("uid", ""),
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": status.get("hostIP", ""),
        "status.hostIPs": ",".join(e["ip"] for e in status.get("hostIPs") or []),
        "status.podIP": status.get("podIP", ""),
        "status.podIPs": ",".join(e["ip"] for e in status.get("podIPs") or []),
    }
    if path not in simple:
        raise InvalidEnvironment(f"unsupported fieldPath: {path}")
    return str(simple[path])


def _go_quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def resource_value(pod: Object, container: Object, reference: Object, allocatable: Mapping[str, str]) -> str:
    """A resource field, rounded up to the divisor; a missing limit is the node's allocatable."""
    if name := reference.get("containerName"):
        chosen = pod_spec.find_container(pod, name)
        if chosen is None:
            raise InvalidEnvironment(f"container {name} not found")
        container = chosen
    group, _, resource = str(reference["resource"]).partition(".")
    resources = container.get("resources") or {}
    text = (resources.get(group) or {}).get(resource)
    if text is None and group == "requests":
        text = (resources.get("limits") or {}).get(resource)
    if text is None:
        text = allocatable.get(resource, "0") if group == "limits" else "0"
    value, divisor = quantity.parse(text), quantity.parse(reference.get("divisor") or "1")
    if not divisor:
        divisor = quantity.parse("1")
    if resource == "cpu":
        return str(-(-value.milli_value // max(divisor.milli_value, 1)))
    return str(-(-value.value // max(divisor.value, 1)))
