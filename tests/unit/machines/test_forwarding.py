"""Connections through a forwarder reach a machine whole, and fail over at the connection."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kubette.component_base.run import run_loop
from kubette.machines import forwarding
from kubette.stdx import tasks


def listener() -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


async def upper_case(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers when the client has ended its side: a test of half-open connections too."""
    writer.write((await reader.read()).upper())
    await writer.drain()
    writer.close()


def on_uvloop(story: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """The gateway's own loop, where a transport begins to read later than asyncio's does."""

    def test() -> None:
        run_loop(story())

    test.__name__, test.__doc__ = story.__name__, story.__doc__
    return test


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (what is waited for is the kernel's doing, no event of ours)
            await asyncio.sleep(0.001)


async def ask(port: int, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


@on_uvloop
async def test_bytes_sent_at_once_arrive_and_a_half_closed_connection_is_answered() -> None:
    server = await asyncio.start_server(upper_case, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    entrance = listener()
    async with tasks.Scope() as scope:
        forwarder = forwarding.TcpForwarder(scope, lambda: [("node01", "127.0.0.1", target)])
        await forwarder.start(entrance)
        answers = await asyncio.gather(*(ask(entrance.getsockname()[1], f"hello {i}".encode()) for i in range(20)))
        assert answers == [f"HELLO {i}".encode() for i in range(20)]
        await forwarder.close()
    server.close()


@on_uvloop
async def test_a_refusing_machine_is_passed_over_and_nobody_left_is_a_reset() -> None:
    server = await asyncio.start_server(upper_case, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    unused = listener()
    refusing = unused.getsockname()[1]
    unused.close()
    candidates = [("node01", "127.0.0.1", refusing), ("node02", "127.0.0.1", target)]
    entrance = listener()
    async with tasks.Scope() as scope:
        forwarder = forwarding.TcpForwarder(scope, lambda: candidates)
        await forwarder.start(entrance)
        assert await ask(entrance.getsockname()[1], b"x") == b"X"
        candidates.clear()
        with pytest.raises(ConnectionError):
            await ask(entrance.getsockname()[1], b"x")
        await forwarder.close()
    server.close()


@on_uvloop
async def test_connections_of_a_machine_without_power_are_cut() -> None:
    server = await asyncio.start_server(upper_case, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    entrance = listener()
    async with tasks.Scope() as scope:
        forwarder = forwarding.TcpForwarder(scope, lambda: [("node01", "127.0.0.1", target)])
        await forwarder.start(entrance)
        reader, writer = await asyncio.open_connection("127.0.0.1", entrance.getsockname()[1])
        writer.write(b"still talking")
        await until(lambda: any(c.machine for c in forwarder.connections))
        forwarder.cut("node02")
        assert forwarder.connections
        forwarder.cut("node01")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        await until(lambda: not forwarder.connections)
        writer.close()
        await forwarder.close()
    server.close()


@on_uvloop
async def test_without_half_close_the_server_s_end_ends_the_connection() -> None:
    """A TLS client must learn at once that its server was killed."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    entrance = listener()
    async with tasks.Scope() as scope:
        forwarder = forwarding.TcpForwarder(scope, lambda: [("node01", "127.0.0.1", target)], half_close=False)
        await forwarder.start(entrance)
        reader, writer = await asyncio.open_connection("127.0.0.1", entrance.getsockname()[1])
        writer.write(b"x")
        assert await reader.read() == b""
        await until(lambda: not forwarder.connections)
        writer.close()
        await forwarder.close()
    server.close()


@on_uvloop
async def test_datagrams_are_answered_to_the_client_that_asked() -> None:
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data.upper(), addr)  # type: ignore[attr-defined]

    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    target = server.get_extra_info("sockname")[1]
    entrance = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    entrance.bind(("127.0.0.1", 0))
    entrance.setblocking(False)
    port = entrance.getsockname()[1]
    async with tasks.Scope() as scope:
        forwarder = forwarding.UdpForwarder(scope, lambda: [("node01", "127.0.0.1", target)])
        await forwarder.start(entrance)
        for text in (b"one", b"two"):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.setblocking(False)
            client.connect(("127.0.0.1", port))
            await loop.sock_sendall(client, text)
            async with asyncio.timeout(5):
                assert await loop.sock_recv(client, 100) == text.upper()
            client.close()
        await forwarder.close()
    server.close()
