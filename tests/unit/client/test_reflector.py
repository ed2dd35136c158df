"""When a reflector resumes its watch, and when it lists again, without a server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kubette.apimachinery import status
from kubette.client import reflector, resources
from kubette.client.transport import TransportError
from kubette.stdx.backoff import Backoff

Object = dict[str, Any]


def obj(name: str, version: int) -> Object:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


class Server:
    """Watches end as `script` says, one after the other; the last one stays open. Every list is at revision 100."""

    def __init__(self, *script: Exception | list[tuple[str, Object]]) -> None:
        self._script = list(script)
        self.asked: list[str] = []
        self.idle = asyncio.Event()

    async def list_all(self, resource: object, namespace: str = "", **_: object) -> tuple[list[Object], str]:
        self.asked.append("list")
        return [], "100"

    @asynccontextmanager
    async def watch(
        self, resource: object, namespace: str = "", *, resource_version: str, **_: object
    ) -> AsyncIterator[AsyncIterator[tuple[str, Object]]]:
        self.asked.append(f"watch {resource_version}")
        outcome = self._script.pop(0) if self._script else None
        if isinstance(outcome, TransportError):
            raise outcome  # nobody answers

        async def events() -> AsyncIterator[tuple[str, Object]]:
            if isinstance(outcome, Exception):
                raise outcome  # an ERROR event
            if outcome is None:
                self.idle.set()
                await asyncio.Event().wait()
            for event in outcome or []:
                yield event
            raise TransportError("the connection broke", definite=False)

        yield events()


class Sink:
    def replace(self, objects: list[Object]) -> None: ...

    def apply(self, kind: str, obj: Object) -> None: ...


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "RETRY", Backoff(base_s=0.0, cap_s=0.0))


async def asked(server: Server) -> list[str]:
    task = asyncio.create_task(reflector.Reflector(server, resources.PODS, Sink()).run())  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        await server.idle.wait()
    task.cancel()
    return server.asked


async def test_a_watch_that_breaks_is_resumed_after_the_last_event() -> None:
    assert await asked(Server([("ADDED", obj("a", 105))])) == ["list", "watch 100", "watch 105"]


async def test_a_revision_that_is_gone_or_was_never_reached_is_listed_again() -> None:
    for error in (status.expired(), status.too_large_resource_version(100, 50)):
        assert await asked(Server(error)) == ["list", "watch 100", "list", "watch 100"]
    assert await asked(Server(status.service_unavailable("later"))) == ["list", "watch 100", "watch 100"]


async def test_a_server_that_was_away_is_listed_again() -> None:
    """It may be back over an etcd that was restored from a backup."""
    assert await asked(Server([("ADDED", obj("a", 105))], TransportError("refused", definite=True))) == [
        "list",
        "watch 100",
        "watch 105",
        "list",
        "watch 100",
    ]
