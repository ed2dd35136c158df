"""Pure: where a pod's or node's kubelet is, and which of its paths a subresource means (upstream's pod and node strategies)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from kubette.apimachinery import meta, status

Object = dict[str, Any]

KUBELET_PORT = 10250


@dataclass(frozen=True, slots=True)
class Location:
    """`target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str


def node_address(node: Object, preferred: Sequence[str]) -> str:
    """The first address of the preferred types. Raises an ApiError when there is none."""
    addresses = (node.get("status") or {}).get("addresses") or []
    for kind in preferred:
        for one in addresses:
            if one.get("type") == kind and one.get("address"):
                return str(one["address"])
    raise status.internal(f"no preferred addresses found; known addresses: {[one.get('address') for one in addresses]}")


def kubelet_port(node: Object) -> int:
    endpoints = (node.get("status") or {}).get("daemonEndpoints") or {}
    return int((endpoints.get("kubeletEndpoint") or {}).get("Port") or KUBELET_PORT)


def container_of(pod: Object, name: str) -> str:
    """The container meant: named, the default, or the only one. Raises BadRequest."""
    spec = pod.get("spec") or {}
    every = [c["name"] for key in ("containers", "initContainers", "ephemeralContainers") for c in spec.get(key) or []]
    if name:
        if name not in every:
            raise status.bad_request(f"container {name} is not valid for pod {meta.name(pod)}")
        return name
    main = [c["name"] for c in spec.get("containers") or []]
    if len(main) == 1:
        return str(main[0])
    listed = f"[{' '.join(main)}]"
    init = [c["name"] for c in spec.get("initContainers") or []]
    if init:
        listed += f" or one of the init containers: [{' '.join(init)}]"
    raise status.bad_request(f"a container name must be specified for pod {meta.name(pod)}, choose one of: {listed}")


def node_name(pod: Object) -> str:
    """Raises BadRequest for a pod that is nowhere."""
    name = (pod.get("spec") or {}).get("nodeName")
    if not name:
        raise status.bad_request(f"pod {meta.name(pod)} does not have a host assigned")
    return str(name)


def _flags(query: Mapping[str, str], names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, query[name]) for name in names if query.get(name)]


def log_target(pod: Object, query: Mapping[str, str]) -> str:
    """`/containerLogs/<namespace>/<pod>/<container>?…`."""
    container = container_of(pod, query.get("container", ""))
    names = ("follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream")
    given = urlencode(_flags(query, names))
    return f"/containerLogs/{meta.namespace(pod)}/{meta.name(pod)}/{container}" + (f"?{given}" if given else "")


def stream_target(pod: Object, subresource: str, query: Any) -> str:
    """`/exec/…`, `/attach/…`, `/portForward/…` with the kubelet's own parameter names."""
    path = f"/{'portForward' if subresource == 'portforward' else subresource}/{meta.namespace(pod)}/{meta.name(pod)}"
    if subresource == "portforward":
        given = [("port", port) for port in query.getall("ports", [])]
        return path + (f"?{urlencode(given)}" if given else "")
    container = container_of(pod, query.get("container", ""))
    kubelet = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
    given = [(theirs, "1") for ours, theirs in kubelet.items() if query.get(ours, "") in ("1", "true")]
    if subresource == "exec":
        given += [("command", word) for word in query.getall("command", [])]
    return f"{path}/{container}?{urlencode(given)}"
