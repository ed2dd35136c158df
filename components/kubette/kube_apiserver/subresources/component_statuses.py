"""`componentstatuses` (deprecated, still what `kubectl get cs` asks for): scheduler, controller manager and etcd, asked when asked."""

import asyncio
import re
from typing import Any

from kubette.apimachinery import status
from kubette.component_base import tls
from kubette.etcd_client import EtcdError
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.node_proxy import connect
from kubette.kube_apiserver.storage.record import Record
from kubette.kube_apiserver.subresources.kubelet_location import Location
from kubette.kube_apiserver.verbs import render

Object = dict[str, Any]

# Upstream asks the two processes on its own machine, by their secure ports, without looking at their certificates.
PORTS = {"scheduler": 10259, "controller-manager": 10257}
TIMEOUT_S = 5.0
DEPRECATED = "v1 ComponentStatus is deprecated in v1.19+"


async def _process(port: int) -> tuple[bool, str]:
    """(healthy, what it said)."""
    location = Location("https", "127.0.0.1", port, "/healthz")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await connect(location, tls.client_context(verify=False), "127.0.0.1")
            try:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                answer = (await reader.read(4096)).decode("latin-1")
            finally:
                writer.close()
    except TimeoutError:
        return False, f'Get "https://127.0.0.1:{port}/healthz": context deadline exceeded'
    except (OSError, status.ApiError) as error:
        why = re.sub(r"^error trying to reach service: ", "", str(error))
        return False, f'Get "https://127.0.0.1:{port}/healthz": {why}'
    return answer.startswith("HTTP/1.1 200"), answer.rpartition("\r\n\r\n")[2].strip() or "ok"


async def _etcd(call: Call) -> tuple[bool, str]:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await call.core.feed.probe()
    except (EtcdError, TimeoutError) as error:
        return False, str(error) or "context deadline exceeded"
    return True, "ok"


async def _of(call: Call, name: str) -> Object:
    healthy, message = await (_etcd(call) if name == "etcd-0" else _process(PORTS[name]))
    condition = {"type": "Healthy", "status": "True" if healthy else "False"}
    condition["message"] = message
    if not healthy:
        condition["error"] = message
        condition["message"] = ""
    return {"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name}, "conditions": [condition]}


async def list_all(call: Call) -> Answer:
    call.warn(DEPRECATED)
    found = await asyncio.gather(*(_of(call, name) for name in (*PORTS, "etcd-0")))
    return render.many(call, [_record(one) for one in found], {})


async def get_one(call: Call) -> Answer:
    call.warn(DEPRECATED)
    if call.info.name not in (*PORTS, "etcd-0"):
        raise status.not_found("componentstatuses", call.info.name)
    return render.one(call, _record(await _of(call, call.info.name)))


def _record(obj: Object) -> Record:
    return Record(obj["metadata"]["name"], 0, render.encode(obj))
