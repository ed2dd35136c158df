"""kubeadm's writes to the cluster: create an object, or make the one that is there equal to it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from kubette.apimachinery.status import ApiError
from kubette.client import resources as r
from kubette.client.kubeconfig import ClientConfig, from_document, from_file
from kubette.client.resources import Resource
from kubette.client.rest import FAILURES, Client
from kubette.client.transport import TransportError

_KINDS = {
    res.kind: res
    for res in (
        r.CLUSTERROLEBINDINGS,
        r.CLUSTERROLES,
        r.CONFIGMAPS,
        r.DAEMONSETS,
        r.DEPLOYMENTS,
        r.ROLEBINDINGS,
        r.ROLES,
        r.SECRETS,
        r.SERVICEACCOUNTS,
        r.SERVICES,
    )
}
_RETRY_TIMEOUT_S = 60.0
_RETRY_PAUSE_S = 0.1

T = TypeVar("T")


def connect(kubeconfig: Path | ClientConfig | dict[str, Any], told: Callable[[str], None] | None = None, offline: bool = False) -> Client:
    """A client that is closed by `async with`; with `told` one that only tells what it would write, and if `offline` asks nothing either."""
    if isinstance(kubeconfig, dict):
        kubeconfig = from_document(kubeconfig)
    settings = from_file(str(kubeconfig)) if isinstance(kubeconfig, Path) else kubeconfig
    if told is not None:
        from kubette.kubeadm import dry_run

        return dry_run.DryRunClient(settings, told, offline)
    return Client(settings, user_agent="kubeadm", field_manager="kubeadm")


def resource_of(body: dict[str, Any]) -> Resource:
    return _KINDS[body["kind"]]


async def ensure(client: Client, body: dict[str, Any]) -> None:
    """Create `body`; where its name is taken, replace what is there (an unset ClusterIP or token stays)."""
    resource = resource_of(body)
    metadata = body["metadata"]
    namespace = metadata.get("namespace", "")
    try:
        await client.create(resource, namespace, body)
    except ApiError as error:
        # A Service that is there is refused for its ClusterIP, which it holds itself, before its name is looked at.
        if error.reason != "AlreadyExists" and not (error.reason == "Invalid" and body["kind"] == "Service"):
            raise
        current = await client.get(resource, namespace, metadata["name"])
        version = {"resourceVersion": current["metadata"]["resourceVersion"]}
        await client.update(resource, {**body, "metadata": {**metadata, **version}})


async def ensure_all(client: Client, bodies: list[dict[str, Any]]) -> None:
    """All at once: none of them needs another to exist."""
    async with asyncio.TaskGroup() as group:
        for body in bodies:
            group.create_task(ensure(client, body))


async def retried(work: Callable[[], Awaitable[T]], timeout_s: float = _RETRY_TIMEOUT_S) -> T:
    """Repeat `work` while the API server is not there yet or refuses for now. Raises the last error."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        try:
            return await work()
        except* (*FAILURES, OSError, TimeoutError) as group:
            failure = group.exceptions[0]
            while isinstance(failure, BaseExceptionGroup):
                failure = failure.exceptions[0]
            if loop.time() > deadline:
                raise failure from None
        await asyncio.sleep(_RETRY_PAUSE_S)


async def reachable(client: Client, timeout_s: float = _RETRY_TIMEOUT_S) -> dict[str, Any]:
    """The server's version, once it answers: after an upgrade that was broken off the API server may be on its way up. Raises what the client raises."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        try:
            return await client.request("GET", "/version")
        except TransportError:
            if loop.time() > deadline:
                raise
        await asyncio.sleep(_RETRY_PAUSE_S)


def config_map(name: str, namespace: str, data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def secret(name: str, namespace: str, kind: str, data: dict[str, str]) -> dict[str, Any]:
    """`data` values are base64 text."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "type": kind, "data": data}


def dump(document: dict[str, Any]) -> str:
    """A document as it stands in a ConfigMap."""
    return yaml.safe_dump(document, sort_keys=False, default_flow_style=False, width=1000)
