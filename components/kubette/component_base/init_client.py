"""Client of init's control socket (ARCHITECTURE.md, "init's control socket"): one JSON object a line over a unix socket.

    async with init_client.connect() as init:
        await init.call("StartTransientUnit", name="cri-0123.scope", properties={...})
        async for event, params in init.subscribe():
            ...

One connection carries calls and events side by side. PID 1 outlives everything on its machine, so a lost connection is not
retried here: calls raise `InitUnavailable`, `subscribe` ends, and the owner decides. Event buffers are bounded: a subscriber that
falls EVENTS_MAX behind loses its connection and must list again, as with any watch.
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from kubette.stdx import tasks

SOCKET_PATH = "/run/systemd/private"
# A line carries at most one unit's properties or one chunk of output.
LINE_BYTES_MAX = 4 << 20
EVENTS_MAX = 10_000
CALL_TIMEOUT_S = 120.0  # longer than DefaultTimeoutStartSec: init itself bounds every job


class InitError(Exception):
    """init refused a call: `name` is systemd's D-Bus error name, `message` what systemctl would print."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


class InitUnavailable(ConnectionError):
    """No init answers: not a machine, or it is going down. A call that was under way may or may not have happened."""


class Connection:
    """One connection; made by `connect`, usable from any task of its loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, scope: tasks.Scope) -> None:
        self._reader = reader
        self._writer = writer
        self._next_id = 0
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._events: asyncio.Queue[tuple[str, dict[str, Any]] | None] = asyncio.Queue(EVENTS_MAX)
        self._closed = False
        scope.start(self._read(), name="init-client")

    async def call(self, method: str, timeout_s: float = CALL_TIMEOUT_S, **params: Any) -> Any:
        """Call a method and return its result. Raises InitError when refused, InitUnavailable when the connection is gone."""
        if self._closed:
            raise InitUnavailable("cannot call init: the connection is closed")
        self._next_id += 1
        call_id = self._next_id
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = answer
        try:
            self._writer.write(json.dumps({"id": call_id, "method": method, "params": params}).encode() + b"\n")
            async with asyncio.timeout(timeout_s):
                await self._writer.drain()
                return await answer
        except (ConnectionError, BrokenPipeError) as error:
            raise InitUnavailable(f"cannot call init: {error}") from error
        finally:
            self._calls.pop(call_id, None)

    async def subscribe(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """`(event, params)` from now on: every UnitChanged and UnitRemoved. Ends with the connection."""
        await self.call("Subscribe")
        async for event in self.events():
            yield event

    async def events(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """The events of this connection in order; ends with the connection."""
        while (event := await self._events.get()) is not None:
            yield event

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                self._deliver(json.loads(line))
        except (OSError, ValueError, asyncio.QueueFull):
            pass  # the ending below tells everyone who waits
        finally:
            self._closed = True
            for answer in self._calls.values():
                if not answer.done():
                    answer.set_exception(InitUnavailable("cannot call init: the connection was lost"))
            if self._events.full():
                self._events.get_nowait()
            self._events.put_nowait(None)
            self._writer.close()

    def _deliver(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self._events.put_nowait((message["event"], message["params"]))
            return
        answer = self._calls.get(message["id"])
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(InitError(message["error"]["name"], message["error"]["message"]))
        else:
            answer.set_result(message.get("result"))


@contextlib.asynccontextmanager
async def connect(path: str = SOCKET_PATH) -> AsyncIterator[Connection]:
    """A connection for the length of the block. Raises InitUnavailable when nobody listens."""
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX)
    except OSError as error:
        raise InitUnavailable(f"cannot reach init at {path}: {error}") from error
    async with tasks.Scope() as scope:
        try:
            yield Connection(reader, writer, scope)
        finally:
            writer.close()


class Attachment:
    """A unit's output from now on, and its input. Made by `attach`."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    async def output(self) -> AsyncIterator[tuple[str, bytes]]:
        """`("stdout" | "stderr", data)` until the unit's output ends or the connection is lost."""
        async for event, params in self._connection.events():
            if event == "Output":
                yield params["stream"], base64.b64decode(params["data"])
            elif event == "OutputEnd":
                return

    async def write(self, data: bytes) -> None:
        """Give the unit input; returns when its pipe has taken all of it (back-pressure)."""
        await self._connection.call("WriteInput", name=self._name, data=base64.b64encode(data).decode())

    async def close_input(self) -> None:
        """End of file on the unit's standard input."""
        await self._connection.call("WriteInput", name=self._name, data="", eof=True)

    async def resize(self, width: int, height: int) -> None:
        """Set the terminal's size (only for units with StandardInput=pty)."""
        await self._connection.call("ResizeUnit", name=self._name, width=width, height=height)


@contextlib.asynccontextmanager
async def attach(name: str, path: str = SOCKET_PATH) -> AsyncIterator[Attachment]:
    """Attach to a running unit over a connection of its own. Leaving the block detaches; the unit lives on."""
    async with connect(path) as connection:
        await connection.call("AttachUnit", name=name)
        yield Attachment(connection, name)
