"""port-forward over an upgraded connection (kubelet's pkg/cri/streaming/portforward).

SPDY, plain or tunnelled in a WebSocket as kubectl does since 1.31: per connection of the user's a pair of streams, `error` and `data`, with the headers `port` and
`requestid`. Plain WebSocket (the Python and JavaScript clients): per port two channels, data and error, each begun by the port's number.
"""

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from kubette.component_base import logs
from kubette.runtime import wire
from kubette.runtime.errors import CriError
from kubette.stdx import tasks

log = logs.logger(__name__)

SPDY_PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
WEBSOCKET_PROTOCOLS = (TUNNEL_PROTOCOL, "v4.channel.k8s.io", "portforward.k8s.io", "")
CHUNK_BYTES = 32 << 10
# How long the second stream of a pair may take after the first (upstream's streamCreationTimeout).
PAIR_TIMEOUT_S = 30.0

Dial = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def serve(request: wire.Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dial: Dial, ports: tuple[int, ...]) -> None:
    """Upgrade the connection and forward over it until the client hangs up."""
    if request.is_spdy:
        if wire.choose(request.listed("x-stream-protocol-version"), (SPDY_PROTOCOL, "")) is None:
            await wire.refuse(
                writer, 403, f"unable to upgrade: unable to negotiate protocol: client supports {request.listed('x-stream-protocol-version')}"
            )
            return
        await _forward_spdy(wire.SpdyServer(await wire.accept_spdy(reader, writer, SPDY_PROTOCOL)), dial)
    elif request.is_websocket:
        protocol = wire.choose(request.listed("sec-websocket-protocol"), WEBSOCKET_PROTOCOLS)
        if protocol is None:
            await wire.refuse(writer, 400, "unable to upgrade: unsupported protocol")
            return
        messages = await wire.accept_websocket(request, reader, writer, protocol)
        if protocol == TUNNEL_PROTOCOL:
            await _forward_spdy(wire.SpdyServer(messages), dial)
        else:
            await _forward_channels(messages, dial, ports)
    else:
        await wire.refuse(writer, 400, "Upgrade request required")


async def _forward_spdy(server: wire.SpdyServer, dial: Dial) -> None:
    waiting: dict[str, wire.SpdyStream] = {}
    async with tasks.Scope() as group:
        running: set[asyncio.Task[None]] = set()
        async for stream in server:
            request_id = stream.headers.get("requestid", "")
            other = waiting.pop(request_id, None)
            if other is None:
                waiting[request_id] = stream
                group.start(_expire(waiting, request_id, stream))
                continue
            pair = {s.headers.get("streamtype", ""): s for s in (stream, other)}
            if set(pair) != {"data", "error"} or not stream.headers.get("port", "").isdigit():
                await stream.reset()
                await other.reset()
                continue
            task = group.start(_forward_pair(server, pair["data"], pair["error"], int(stream.headers["port"]), dial))
            running.add(task)
            task.add_done_callback(running.discard)
        for task in list(running):
            task.cancel()


async def _expire(waiting: dict[str, wire.SpdyStream], request_id: str, stream: wire.SpdyStream) -> None:
    """Half of a pair whose other half does not come is given up."""
    await asyncio.sleep(PAIR_TIMEOUT_S)
    if waiting.get(request_id) is stream:
        del waiting[request_id]
        await stream.reset()


async def _forward_pair(server: wire.SpdyServer, data: wire.SpdyStream, error: wire.SpdyStream, port: int, dial: Dial) -> None:
    try:
        reader, writer = await dial(port)
    except (OSError, CriError, TimeoutError) as problem:
        # kubectl prints this text behind "an error occurred forwarding".
        with contextlib.suppress(ConnectionError):
            await error.send(str(problem).encode())
            await error.close()
            await data.close()
        return
    try:
        await asyncio.gather(_to_pod(data, writer), _from_pod(reader, data))
    except OSError as problem:
        log.v(3, "Forwarded connection ended", port=port, err=problem)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await data.close()
            await error.close()
        server.forget(data)
        server.forget(error)


async def _to_pod(source: Any, writer: asyncio.StreamWriter) -> None:
    async for chunk in source:
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _from_pod(reader: asyncio.StreamReader, sink: wire.SpdyStream) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        await sink.send(chunk)
    await sink.close()


async def _forward_channels(messages: wire.Messages, dial: Dial, ports: tuple[int, ...]) -> None:
    """Channel 2n is the data and 2n+1 the error of the n-th port; the first message of each names the port."""
    writers: dict[int, asyncio.StreamWriter] = {}
    async with tasks.Scope() as group:
        readers = []
        for index, port in enumerate(ports):
            for channel in (2 * index, 2 * index + 1):
                await messages.send(bytes([channel]) + struct.pack("<H", port))
            try:
                reader, writers[2 * index] = await dial(port)
            except (OSError, CriError, TimeoutError) as problem:
                await messages.send(bytes([2 * index + 1]) + str(problem).encode())
                continue
            readers.append(group.start(_channel_from_pod(messages, 2 * index, reader)))
        async for message in messages:
            writer = writers.get(message[0]) if message else None
            if writer is not None:
                with contextlib.suppress(ConnectionError):
                    writer.write(message[1:])
                    await writer.drain()
        for task in readers:
            task.cancel()
    for writer in writers.values():
        writer.close()


async def _channel_from_pod(messages: wire.Messages, channel: int, reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(CHUNK_BYTES):
            await messages.send(bytes([channel]) + chunk)
