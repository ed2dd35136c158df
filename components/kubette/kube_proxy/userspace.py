"""The userspace back-end, for machines without iptables: service addresses become this machine's own, and their ports are relayed.

A cluster address is put on the loopback interface, so that pods (which route through this machine) and the machine itself reach a
listener there. TCP connections and UDP flows are relayed to one endpoint each, in turn, or by the client's address for ClientIP affinity.
"""

import asyncio
import itertools
import socket
import struct
from collections.abc import Sequence
from typing import Any

from kubette.component_base import logs
from kubette.kube_proxy.change_tracker import Endpoint, ServicePort
from kubette.stdx.clock import SYSTEM_CLOCK
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)

_CHUNK = 65536
_CONNECT_TIMEOUT_S = 5.0
_UDP_IDLE_S = 60.0
_UDP_FLOWS_MAX = 4096

Where = tuple[str, str, int]  # protocol, address, port


class _Target:
    """The endpoints of one port, replaced when they change; connections in progress keep theirs."""

    def __init__(self) -> None:
        self.endpoints: tuple[Endpoint, ...] = ()
        self.affinity_s = 0
        self._turn = itertools.count()
        self._sticky: dict[str, tuple[Endpoint, float]] = {}

    def candidates(self, client: str) -> list[Endpoint]:
        """In the order to try."""
        if not self.endpoints:
            return []
        now = SYSTEM_CLOCK.monotonic()
        start = next(self._turn) % len(self.endpoints)
        order = [*self.endpoints[start:], *self.endpoints[:start]]
        if self.affinity_s:
            held = self._sticky.get(client)
            if held is not None and held[0] in order and now - held[1] < self.affinity_s:
                order.remove(held[0])
                order.insert(0, held[0])
            self._sticky[client] = (order[0], now)
            if len(self._sticky) > _UDP_FLOWS_MAX:
                self._sticky.pop(next(iter(self._sticky)))
        return order


class _TcpListener:
    def __init__(self, target: _Target, scope: Scope) -> None:
        self._target, self._scope = target, scope
        self._server: asyncio.Server | None = None

    async def start(self, address: str, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, address, port, reuse_address=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = writer.get_extra_info("peername")[0]
        for endpoint in self._target.candidates(client):
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    there, back = await asyncio.open_connection(endpoint.address, endpoint.port)
            except (OSError, TimeoutError):
                continue
            try:
                await asyncio.gather(_copy(reader, back), _copy(there, writer))
            finally:
                back.close()
                writer.close()
            return
        # A reset, as a REJECT rule would answer: closing with a linger time of zero sends one.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except (OSError, ConnectionError):
        writer.transport.abort()


class _UdpListener(asyncio.DatagramProtocol):
    """One socket per flow towards its endpoint, forgotten when idle."""

    def __init__(self, target: _Target, scope: Scope) -> None:
        self._target, self._scope = target, scope
        self._flows: dict[Any, tuple[asyncio.DatagramTransport, float]] = {}
        self.transport: asyncio.DatagramTransport | None = None

    async def start(self, address: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=(address, port))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        flow = self._flows.get(addr)
        if flow is not None:
            flow[0].sendto(data)
            self._flows[addr] = (flow[0], SYSTEM_CLOCK.monotonic())
        else:
            self._scope.start(self._open(data, addr), "udp flow")

    async def _open(self, data: bytes, addr: Any) -> None:
        self._expire()
        candidates = self._target.candidates(addr[0])
        if not candidates or self.transport is None:
            return
        back = self.transport

        class Reply(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, _: Any) -> None:
                back.sendto(data, addr)

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Reply, remote_addr=(candidates[0].address, candidates[0].port))
        self._flows[addr] = (transport, SYSTEM_CLOCK.monotonic())
        transport.sendto(data)

    def _expire(self) -> None:
        now = SYSTEM_CLOCK.monotonic()
        for addr, (transport, used) in list(self._flows.items()):
            if now - used > _UDP_IDLE_S or len(self._flows) > _UDP_FLOWS_MAX:
                transport.close()
                del self._flows[addr]

    def close(self) -> None:
        for transport, _ in self._flows.values():
            transport.close()
        if self.transport is not None:
            self.transport.close()


class Userspace:
    """Listeners per address and port, made and closed as Services come and go."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._listeners: dict[Where, _TcpListener | _UdpListener] = {}
        self._targets: dict[Where, _Target] = {}
        self._addresses: set[str] = set()

    async def prepare(self) -> None:
        return

    async def apply(self, ports: Sequence[ServicePort]) -> None:
        wanted: dict[Where, tuple[tuple[Endpoint, ...], int]] = {}
        for port in ports:
            for address in (port.cluster_ip, *port.external_ips, *port.load_balancer_ips):
                endpoints = port.endpoints if address == port.cluster_ip else port.external_endpoints
                wanted[port.protocol, address, port.port] = (endpoints, port.affinity_s)
            if port.node_port:
                wanted[port.protocol, "0.0.0.0", port.node_port] = (port.external_endpoints, port.affinity_s)
        for where in [w for w in self._listeners if w not in wanted]:
            self._listeners.pop(where).close()
            del self._targets[where]
        await self._own_addresses({w[1] for w in wanted} - {"0.0.0.0"})
        for where, (endpoints, affinity_s) in wanted.items():
            target = self._targets.setdefault(where, _Target())
            target.endpoints, target.affinity_s = endpoints, affinity_s
            if where not in self._listeners:
                await self._listen(where, target)

    async def _listen(self, where: Where, target: _Target) -> None:
        protocol, address, port = where
        listener = _TcpListener(target, self._scope) if protocol == "tcp" else _UdpListener(target, self._scope)
        try:
            await listener.start(address, port)
        except OSError as error:
            log.error("Failed to listen for a service", err=error, protocol=protocol, address=address, port=port)
            return
        self._listeners[where] = listener

    async def _own_addresses(self, wanted: set[str]) -> None:
        """Put service addresses on lo, take away those no longer used."""
        if wanted == self._addresses:
            return
        await asyncio.to_thread(_change_addresses, self._addresses - wanted, wanted - self._addresses)
        self._addresses = wanted

    async def cleanup(self) -> None:
        """What was made ends with the process, except the addresses."""
        await self._own_addresses(set())


def _change_addresses(gone: set[str], new: set[str]) -> None:
    """On the loopback interface. Not the asynchronous netlink client: uvloop knows no netlink sockets."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as ip:
        for verb, addresses in (("del", gone), ("add", new)):
            for address in sorted(addresses):
                try:
                    ip.addr(verb, index=1, address=address, prefixlen=32)
                except NetlinkError as error:
                    if error.code not in (17, 99):  # it is there already, or gone already
                        raise
