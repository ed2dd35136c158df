"""init as the runtime sees it: one connection that carries calls and events, made again when it is lost.

PID 1 outlives the runtime, so events may have happened while nobody listened: `listen` begins with the list of units and then follows the
events (snapshot, then ordered changes, as everywhere in this project).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from kubette.component_base import init_client, logs

log = logs.logger(__name__)

RECONNECT_S = 0.5
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"


class Units:
    """Calls and events of the machine's init. `listen` must run for calls to work."""

    def __init__(self, socket_path: str, changed: Callable[[dict[str, Any]], None], listed: Callable[[dict[str, dict[str, Any]]], None]) -> None:
        self._path = socket_path
        self._changed = changed
        self._listed = listed
        self._connection: init_client.Connection | None = None
        self.connected = asyncio.Event()

    async def listen(self) -> None:
        """Follow init for ever."""
        while True:
            try:
                async with init_client.connect(self._path) as connection:
                    await self._follow(connection)
            except (init_client.InitUnavailable, init_client.InitError, TimeoutError) as error:
                log.v(2, "Lost the connection to init", err=error)
            finally:
                self._connection = None
                self.connected.clear()
            await asyncio.sleep(RECONNECT_S)

    async def _follow(self, connection: init_client.Connection) -> None:
        # Subscribe first: what changes during the listing is then told twice rather than never.
        await connection.call("Subscribe")
        self._listed({unit["Id"]: unit for unit in await connection.call("ListUnits", patterns=["cri-*.scope"])})
        self._connection = connection
        self.connected.set()
        async for event, params in connection.events():
            if event == "UnitChanged":
                self._changed(params)

    async def call(self, method: str, **params: Any) -> Any:
        """A method of init; waits for the connection if it is being made again."""
        async with asyncio.timeout(init_client.CALL_TIMEOUT_S):
            await self.connected.wait()
        assert self._connection is not None, "connected without a connection"
        return await self._connection.call(method, **params)

    async def kill(self, name: str, signal: int, whom: str = "main") -> None:
        """Signal a unit; one that is gone is no error."""
        with contextlib.suppress(init_client.InitError):
            await self.call("KillUnit", name=name, whom=whom, signal=signal)

    async def forget(self, name: str) -> None:
        """Remove a stopped unit from init's list."""
        with contextlib.suppress(init_client.InitError):
            await self.call("ResetFailedUnit", name=name)

    @contextlib.asynccontextmanager
    async def attach(self, name: str) -> AsyncIterator[init_client.Attachment]:
        """A unit's output and input, over a connection of its own."""
        async with init_client.attach(name, self._path) as attachment:
            yield attachment
