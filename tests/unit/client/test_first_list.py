"""Lists that a program begins with."""

import asyncio
from typing import Any

from kubette.client import resources
from kubette.client.reflector import Reflector
from kubette.client.rest import Client, ClientConfig


class LaggingServer(Client):
    """Its cache, which answers a list at resourceVersion 0, still has a pod that is gone."""

    def __init__(self) -> None:
        super().__init__(ClientConfig("http://127.0.0.1:1"))

    async def request(self, method: str, path: str, params: Any = None, body: Any = None, **_: Any) -> Any:
        assert (method, path) == ("GET", "/api/v1/pods")
        if (params or {}).get("resourceVersion") == "0":
            return {"metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"name": "old", "resourceVersion": "4"}}]}
        return {"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "new", "resourceVersion": "8"}}]}


class Names:
    """A sink."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.filled = asyncio.Event()

    def replace(self, objects: list[dict[str, Any]]) -> None:
        self.names = [each["metadata"]["name"] for each in objects]
        self.filled.set()

    def apply(self, kind: str, obj: dict[str, Any]) -> None: ...


async def test_a_program_that_starts_does_not_travel_back_in_time() -> None:
    """INV-A4: a kubelet restarted beside a lagging API server would start a pod again that is gone, or has moved."""
    names = Names()
    running = asyncio.create_task(Reflector(LaggingServer(), resources.PODS, names).run())
    await asyncio.wait_for(names.filled.wait(), 30)
    running.cancel()
    assert names.names == ["new"]
