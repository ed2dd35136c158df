"""`pods/log`, `pods/exec`, `pods/attach`, `pods/portforward`, and the proxies of pods, services and nodes."""

from typing import Any
from urllib.parse import quote

from aiohttp import web

from kubette.apimachinery import meta, status
from kubette.kube_apiserver import node_proxy
from kubette.kube_apiserver.admission.interfaces import Operation
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.subresources import kubelet_location
from kubette.kube_apiserver.subresources.kubelet_location import Location
from kubette.kube_apiserver.verbs import write

Object = dict[str, Any]
Streamed = Answer | web.StreamResponse


async def _pod(call: Call) -> Object:
    store = call.resource.store
    assert store is not None
    return (await store.get(call.info.namespace, call.info.name)).object()


async def _kubelet(call: Call, pod: Object, target: str) -> Location:
    name = kubelet_location.node_name(pod)
    node = await call.core.lister.get("", "nodes", "", name)
    if node is None:
        raise status.not_found("nodes", name)
    return _node_location(call, node, target)


def _node_location(call: Call, node: Object, target: str) -> Location:
    host = kubelet_location.node_address(node, call.core.config.options.kubelet_preferred_address_types)
    return Location("https", host, kubelet_location.kubelet_port(node), target)


async def _connect(call: Call, options: Object) -> None:
    """Admission of a CONNECT."""
    attrs = write.attributes(call, Operation.connect, options, None, False)
    await call.core.chain.admit(attrs)
    await call.core.chain.validate(attrs)


async def log(call: Call) -> Streamed:
    pod = await _pod(call)
    location = await _kubelet(call, pod, kubelet_location.log_target(pod, call.query))
    return await node_proxy.stream(call.core.dialer, call.request, location, kubelet=True, method="GET", checked=True)


async def connect(call: Call) -> Streamed:
    """exec, attach and portforward: only as an upgraded connection."""
    pod = await _pod(call)
    if "upgrade" not in call.request.headers.get("Connection", "").lower():
        raise status.bad_request("Upgrade request required")
    subresource = call.info.subresource
    location = await _kubelet(call, pod, kubelet_location.stream_target(pod, subresource, call.query))
    await _connect(call, {"kind": {"exec": "PodExecOptions", "attach": "PodAttachOptions"}.get(subresource, "PodPortForwardOptions")})
    return await node_proxy.upgrade(call.core.dialer, call.request, location, kubelet=True)


def _target(call: Call) -> str:
    """What follows `/proxy`, with the query."""
    tail = quote(call.info.tail or "/", safe="/:@!$&'()*+,;=~-._")
    raw = call.request.rel_url.raw_query_string
    return tail + (f"?{raw}" if raw else "")


async def _forward(call: Call, location: Location, kubelet: bool) -> Streamed:
    await _connect(call, {"kind": "ProxyOptions"})
    if "upgrade" in call.request.headers.get("Connection", "").lower():
        return await node_proxy.upgrade(call.core.dialer, call.request, location, kubelet=kubelet)
    return await node_proxy.stream(call.core.dialer, call.request, location, kubelet=kubelet)


def split_name(text: str) -> tuple[str, str, str]:
    """`https:web:443` → scheme, name, port (upstream's SplitSchemeNamePort). Raises BadRequest."""
    parts = text.split(":")
    if len(parts) == 1:
        return "http", text, ""
    if len(parts) == 2:
        return "http", parts[0], parts[1]
    if len(parts) == 3 and parts[0] in ("", "http", "https"):
        return parts[0] or "http", parts[1], parts[2]
    raise status.bad_request(f"invalid request {text!r}")


async def proxy_node(call: Call) -> Streamed:
    scheme, name, port = split_name(call.info.name)
    node = await call.core.lister.get("", "nodes", "", name)
    if node is None:
        raise status.not_found("nodes", name)
    location = _node_location(call, node, _target(call))
    if port and port != str(location.port):
        # Any other port of the node is not its kubelet: no client certificate for it.
        return await _forward(call, Location(scheme, location.host, _port(port), location.target), kubelet=False)
    return await _forward(call, location, kubelet=True)


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise status.bad_request(f"invalid port {text!r}")
    return int(text)


async def proxy_pod(call: Call) -> Streamed:
    scheme, name, port = split_name(call.info.name)
    store = call.resource.store
    assert store is not None
    pod = (await store.get(call.info.namespace, name)).object()
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        raise status.bad_request("address not allowed")
    if not port:
        ports = [one["containerPort"] for c in pod["spec"]["containers"] for one in c.get("ports") or []]
        port = str(ports[0]) if ports else "80"
    return await _forward(call, Location(scheme, address, _port(port), _target(call)), kubelet=False)


async def proxy_service(call: Call) -> Streamed:
    """A service is proxied to one of its ready endpoints, not through its address: the API server need not have kube-proxy."""
    scheme, name, wanted = split_name(call.info.name)
    store = call.resource.store
    assert store is not None
    service = (await store.get(call.info.namespace, name)).object()
    ports = (service.get("spec") or {}).get("ports") or []
    chosen = (
        next((one for one in ports if wanted in (one.get("name"), str(one.get("port")))), None) if wanted else (ports[0] if len(ports) == 1 else None)
    )
    if chosen is None:
        raise status.service_unavailable(f"no service port {wanted!r} found for service {name!r}")
    slices = await call.core.lister.list("discovery.k8s.io", "endpointslices", call.info.namespace)
    for one in slices:
        if meta.labels(one).get("kubernetes.io/service-name") != name:
            continue
        number = next((p.get("port") for p in one.get("ports") or [] if (p.get("name") or "") == (chosen.get("name") or "")), None)
        ready = [e for e in one.get("endpoints") or [] if (e.get("conditions") or {}).get("ready", True)]
        if number and ready:
            endpoint = call.core.rng.choice(ready)
            return await _forward(call, Location(scheme, endpoint["addresses"][0], int(number), _target(call)), kubelet=False)
    raise status.service_unavailable(f'no endpoints available for service "{name}"')
