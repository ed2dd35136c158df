"""exec and attach over an upgraded connection (kubelet's pkg/cri/streaming/remotecommand).

Channels of the WebSocket protocols: 0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize; v5 adds 255, which half-closes the channel it names. On SPDY each is a stream with the
header `streamtype`. From v4 on the error channel ends with a Status in JSON that carries the exit code; before, with a text or nothing.
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from kubette.runtime import sessions, wire
from kubette.runtime.errors import CriError
from kubette.stdx import tasks

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
WEBSOCKET_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io", "")
SPDY_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io", "")
# How long a client may take to open its streams (upstream's streamCreationTimeout).
STREAM_CREATION_S = 30.0
# How long a client may take to hang up after it has been told the end.
FAREWELL_S = 5.0

SessionOpener = Callable[[], contextlib.AbstractAsyncContextManager[sessions.Session]]


def status(code: int) -> dict[str, Any]:
    """The Status of an exit code, as remotecommand's v4 writes it."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure(message: str) -> dict[str, Any]:
    """The Status of a command that could not be run."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


class Client(Protocol):
    """The user's end, whatever the protocol: output and the end go there, `input` comes from there."""

    async def output(self, stream: str, data: bytes) -> None: ...

    async def finish(self, result: dict[str, Any], code: int | None) -> None: ...

    def input(self) -> AsyncIterator[tuple[str, bytes]]:
        """`("stdin", data)`, `("stdin", b"")` at its end, `("resize", json)`; ends when the client has gone."""
        ...


async def serve(
    request: wire.Request,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    open_session: SessionOpener,
    command: sessions.Command,
    reports_exit: bool,
) -> None:
    """Upgrade the connection and carry one session over it."""
    client: Client
    if request.is_websocket:
        protocol = wire.choose(request.listed("sec-websocket-protocol"), WEBSOCKET_PROTOCOLS)
        if protocol is None:
            await wire.refuse(writer, 400, "unable to upgrade: unsupported protocol")
            return
        client = _WebSocketClient(await wire.accept_websocket(request, reader, writer, protocol), protocol)
        await client.greet(command)
    elif request.is_spdy:
        protocol = wire.choose(request.listed("x-stream-protocol-version"), SPDY_PROTOCOLS)
        if protocol is None:
            await wire.refuse(
                writer, 403, f"unable to upgrade: unable to negotiate protocol: client supports {request.listed('x-stream-protocol-version')}"
            )
            return
        client = _SpdyClient(wire.SpdyServer(await wire.accept_spdy(reader, writer, protocol)), protocol)
        await client.collect(command)
    else:
        await wire.refuse(
            writer, 400, "you must specify at least 1 of stdin, stdout, stderr" if request.method == "GET" else "Upgrade request required"
        )
        return
    await _carry(client, open_session, reports_exit)


async def _carry(client: Client, open_session: SessionOpener, reports_exit: bool) -> None:
    async with tasks.Scope() as group:
        try:
            async with open_session() as session:
                incoming = group.start(_pump_input(client, session))
                outgoing = group.start(_pump_output(client, session))
                # A client that goes away ends the session; so does the end of the output.
                await asyncio.wait({incoming, outgoing}, return_when=asyncio.FIRST_COMPLETED)
                if outgoing.done():
                    code = await session.wait() if reports_exit else 0
                    await client.finish(status(code), code)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(FAREWELL_S):
                            await asyncio.wait({incoming})
                outgoing.cancel()
                incoming.cancel()
        except CriError as error:
            await client.finish(failure(error.message), None)


async def _pump_input(client: Client, session: sessions.Session) -> None:
    async for kind, data in client.input():
        if kind == "resize":
            with contextlib.suppress(ValueError, TypeError, KeyError):
                for line in data.splitlines():
                    size = json.loads(line)
                    await session.resize(int(size["Width"]), int(size["Height"]))
        elif data:
            await session.write(data)
        else:
            await session.close_input()


async def _pump_output(client: Client, session: sessions.Session) -> None:
    async for stream, data in session.output():
        await client.output(stream, data)


class _WebSocketClient:
    """One message a chunk, its first byte (or digit) the channel."""

    def __init__(self, messages: wire.Messages, protocol: str) -> None:
        self._messages = messages
        self._base64 = "base64" in protocol
        self._v4 = protocol.startswith(("v4", "v5"))
        self._v5 = protocol.startswith("v5")

    async def greet(self, command: sessions.Command) -> None:
        """Upstream writes an empty message to each output channel first, so that a client sees the connection work."""
        for channel, wanted in ((STDOUT, command.stdout), (STDERR, command.stderr), (ERROR, True)):
            if wanted:
                await self._send(channel, b"")

    async def _send(self, channel: int, data: bytes) -> None:
        if self._base64:
            await self._messages.send(str(channel).encode() + base64.b64encode(data), text=True)
        else:
            await self._messages.send(bytes([channel]) + data)

    async def output(self, stream: str, data: bytes) -> None:
        await self._send(STDOUT if stream == "stdout" else STDERR, data)

    async def finish(self, result: dict[str, Any], code: int | None) -> None:
        if self._v4:
            await self._send(ERROR, json.dumps(result).encode())
        elif result["status"] != "Success":
            await self._send(ERROR, result["message"].encode())
        await self._messages.close()

    async def input(self) -> AsyncIterator[tuple[str, bytes]]:
        async for message in self._messages:
            if not message:
                continue
            channel, data = message[0], message[1:]
            if self._base64:
                channel, data = channel - ord("0"), base64.b64decode(data)
            if channel == STDIN and data:
                yield "stdin", data
            elif channel == RESIZE:
                yield "resize", data
            elif channel == CLOSE and self._v5 and data[:1] == bytes([STDIN]):
                yield "stdin", b""


class _SpdyClient:
    """One stream a channel."""

    def __init__(self, server: wire.SpdyServer, protocol: str) -> None:
        self._server = server
        self._streams: dict[str, wire.SpdyStream] = {}
        self._opened = aiter(server)
        self._v4 = protocol.startswith(("v4", "v5"))
        self._resizes = self._v4 or protocol.startswith("v3")

    async def collect(self, command: sessions.Command) -> None:
        """Wait until the client has opened the streams that the command calls for."""
        wanted = {"error"} | {name for name in ("stdin", "stdout", "stderr") if getattr(command, name)}
        if command.tty and self._resizes:
            wanted.add("resize")
        async with asyncio.timeout(STREAM_CREATION_S):
            while wanted - self._streams.keys():
                stream = await anext(self._opened)
                self._streams[stream.headers.get("streamtype", "")] = stream

    async def output(self, stream: str, data: bytes) -> None:
        if stream in self._streams:
            await self._streams[stream].send(data)

    async def finish(self, result: dict[str, Any], code: int | None) -> None:
        if self._v4:
            await self._streams["error"].send(json.dumps(result).encode())
        elif result["status"] != "Success":
            await self._streams["error"].send(result["message"].encode())
        for stream in self._streams.values():
            await stream.close()

    async def input(self) -> AsyncIterator[tuple[str, bytes]]:
        queue: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue(wire.SpdyStream.FRAMES_MAX)

        async def read_connection() -> None:
            with contextlib.suppress(ConnectionError, *wire.PROTOCOL_ERRORS):
                async for stream in self._opened:
                    self._streams.setdefault(stream.headers.get("streamtype", ""), stream)
            await queue.put(None)

        async def read_stream(name: str) -> None:
            async for data in self._streams[name]:
                await queue.put((name, data))
            if name == "stdin":
                await queue.put(("stdin", b""))

        async with tasks.Scope() as group:
            readers = [group.start(read_connection())]
            readers += [group.start(read_stream(name)) for name in ("stdin", "resize") if name in self._streams]
            try:
                while (item := await queue.get()) is not None:
                    yield item
            finally:
                for task in readers:
                    task.cancel()
