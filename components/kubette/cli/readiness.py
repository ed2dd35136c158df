"""Waiting for a cluster: until its API answers, and until every node is Ready *now* (a node that lost power still says Ready for a while)."""

import asyncio
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubette.client import reflector, resources, rest
from kubette.client.kubeconfig import from_file
from kubette.stdx import tasks

LEASE_NAMESPACE = "kube-node-lease"
API_PAUSE_S = 0.1


class _Mirror:
    def __init__(self, changed: Callable[[], None]) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self._changed = changed

    def replace(self, objects: list[dict[str, Any]]) -> None:
        self.objects = {obj["metadata"]["name"]: obj for obj in objects}
        self._changed()

    def apply(self, kind: str, obj: dict[str, Any]) -> None:
        if kind == "DELETED":
            self.objects.pop(obj["metadata"]["name"], None)
        else:
            self.objects[obj["metadata"]["name"]] = obj
        self._changed()


def is_ready(node: dict[str, Any] | None, lease: dict[str, Any] | None, since: float) -> bool:
    """Ready, and alive after `since` (Unix time): the kubelet renewed its lease since the machine started."""
    conditions = ((node or {}).get("status") or {}).get("conditions") or []
    if not any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions):
        return False
    renewed = ((lease or {}).get("spec") or {}).get("renewTime")
    return bool(renewed) and datetime.datetime.fromisoformat(str(renewed)).timestamp() >= since


async def _wait_nodes(kubeconfig: Path, since: dict[str, float], timeout_s: float) -> list[str]:
    changed = asyncio.Event()
    nodes, leases = _Mirror(changed.set), _Mirror(changed.set)

    def waiting() -> list[str]:
        return [n for n, start in since.items() if not is_ready(nodes.objects.get(n), leases.objects.get(n), start)]

    async with rest.Client(from_file(str(kubeconfig)), user_agent="kubette") as api, tasks.Scope() as scope:
        scope.start(reflector.Reflector(api, resources.NODES, nodes).run())
        scope.start(reflector.Reflector(api, resources.LEASES, leases, namespace=LEASE_NAMESPACE).run())
        try:
            async with asyncio.timeout(timeout_s):
                while waiting():
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            pass
        return waiting()


def wait_nodes(kubeconfig: Path, since: dict[str, float], timeout_s: float) -> list[str]:
    """Wait until every node named in `since` is Ready and has been alive since then; answers those that are not in time."""
    return asyncio.run(_wait_nodes(kubeconfig, since, timeout_s))


async def _wait_api(kubeconfig: Path, timeout_s: float) -> str:
    last = "no answer"
    try:
        async with asyncio.timeout(timeout_s), rest.Client(from_file(str(kubeconfig)), user_agent="kubette", timeout_s=5.0) as api:
            while True:
                try:
                    await api.list(resources.NODES, limit=1)
                    return ""
                except rest.FAILURES as error:
                    last = str(error) or type(error).__name__
                await asyncio.sleep(API_PAUSE_S)
    except TimeoutError:
        return last


def wait_api(kubeconfig: Path, timeout_s: float) -> str:
    """Wait until the API answers its administrator; answers "" or the last failure."""
    return asyncio.run(_wait_api(kubeconfig, timeout_s))
