"""Pure: from a manifest of this machine to a pod as the API server would have made it (config/common.go), and to its mirror.

There is no API server to default a static pod, so its defaults are set here. Its uid is a hash of the manifest, the file and the
node: the same file gives the same pod after a restart, a changed file gives another pod.
"""

import copy
import hashlib
from typing import Any

import orjson

from kubette.kubelet import pod_spec

Object = dict[str, Any]

PROBE_DEFAULTS = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}


class InvalidManifest(Exception):
    """The file is no pod; the text says why."""


def from_manifest(document: Any, path: str, node_name: str, now_text: str) -> Object:
    """The static pod of one file. Raises InvalidManifest."""
    if not isinstance(document, dict) or document.get("kind") != "Pod":
        raise InvalidManifest(f"couldn't parse as pod(Object 'Kind' is missing or not Pod), please check config file: {path}")
    if document.get("apiVersion") != "v1":
        raise InvalidManifest(f'no kind "Pod" is registered for version "{document.get("apiVersion")}"')
    pod = copy.deepcopy(document)
    metadata = pod.setdefault("metadata", {})
    spec = pod.get("spec")
    if not metadata.get("name") or not isinstance(spec, dict) or not spec.get("containers"):
        raise InvalidManifest(f"invalid pod in {path}: metadata.name and spec.containers: Required value")
    for container in pod_spec.all_containers(pod):
        if not container.get("name") or not container.get("image"):
            raise InvalidManifest(f"invalid pod in {path}: spec.containers[].name and spec.containers[].image: Required value")
    digest = metadata.get("uid") or hash_of(document, path, node_name)
    metadata["uid"] = digest
    metadata["name"] = f"{metadata['name']}-{node_name.lower()}"
    metadata.setdefault("namespace", "default")
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        pod_spec.CONFIG_HASH: digest,
        pod_spec.CONFIG_SEEN: now_text,
        pod_spec.CONFIG_SOURCE: "file",
    }
    spec["nodeName"] = node_name
    tolerations = spec.setdefault("tolerations", [])
    everything = {"effect": "NoExecute", "operator": "Exists"}
    if everything not in tolerations:
        tolerations.append(everything)
    set_defaults(pod)
    return pod


def hash_of(document: Object, path: str, node_name: str) -> str:
    """32 hex digits, stable over restarts."""
    content = orjson.dumps(document, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.md5(f"host:{node_name}file:{path}".encode() + content, usedforsecurity=False).hexdigest()


def set_defaults(pod: Object) -> None:
    """core/v1's defaults of a pod, as far as this node reads them."""
    spec = pod["spec"]
    for field, value in (
        ("restartPolicy", "Always"),
        ("dnsPolicy", "ClusterFirst"),
        ("terminationGracePeriodSeconds", pod_spec.DEFAULT_GRACE_PERIOD_S),
        ("enableServiceLinks", True),
        ("schedulerName", "default-scheduler"),
        ("securityContext", {}),
    ):
        spec.setdefault(field, value)
    if str(spec.get("priorityClassName", "")).startswith("system-") and "priority" not in spec:
        # Admission would have resolved these two, which every cluster has.
        spec["priority"] = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}.get(spec["priorityClassName"], 0)
    for volume in spec.get("volumes") or []:
        for kind in ("configMap", "secret", "projected", "downwardAPI"):
            if kind in volume:
                volume[kind] = volume[kind] or {}
                volume[kind].setdefault("defaultMode", 0o644)
        if "hostPath" in volume:
            volume["hostPath"].setdefault("type", "")
    for container in pod_spec.all_containers(pod):
        _container_defaults(pod, container)


def _container_defaults(pod: Object, container: Object) -> None:
    image = container["image"]
    tagged = ":" in image.rsplit("/", 1)[-1] or "@" in image
    latest = not tagged or image.endswith(":latest")
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = container.setdefault("resources", {})
    for name, value in (resources.get("limits") or {}).items():
        resources.setdefault("requests", {}).setdefault(name, value)
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
        if pod_spec.host_network(pod):
            port.setdefault("hostPort", port["containerPort"])
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(kind)
        if probe:
            for field, value in PROBE_DEFAULTS.items():
                probe.setdefault(field, value)
            if "httpGet" in probe:
                probe["httpGet"].setdefault("path", "/")
                probe["httpGet"].setdefault("scheme", "HTTP")
    for entry in container.get("env") or []:
        if "fieldRef" in (entry.get("valueFrom") or {}):
            entry["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")


def mirror_of(pod: Object, node: Object) -> Object:
    """What the API server is shown of a static pod: owned by the node, and named by the hash of what it mirrors."""
    mirror = copy.deepcopy(pod)
    metadata = mirror["metadata"]
    metadata["annotations"][pod_spec.CONFIG_MIRROR] = metadata["annotations"][pod_spec.CONFIG_HASH]
    metadata["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Node", "name": node["metadata"]["name"], "uid": node["metadata"]["uid"], "controller": True}
    ]
    for field in ("uid", "resourceVersion", "creationTimestamp"):
        metadata.pop(field, None)
    mirror.pop("status", None)
    return mirror


def is_mirror_of(mirror: Object, pod: Object) -> bool:
    """Whether the mirror shows the present manifest."""
    return pod_spec.annotations(mirror).get(pod_spec.CONFIG_MIRROR) == pod_spec.annotations(pod).get(pod_spec.CONFIG_HASH)
