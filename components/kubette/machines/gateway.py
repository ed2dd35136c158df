"""The gateway of a cluster: what stands around the machines of a real one (`ps` shows `kubette: gateway NAME`).

A load balancer for the API (on the switch, and on the host's loopback), the cloud's route controller (Nodes to routes on the switch) and the host's node ports
(Services to listeners on 127.0.0.1). All of it follows watches and the supervisor's word on who has power; nothing is polled but the health of
several control planes and the age of the administrator's kubeconfig.

One process in two networks: its threads are in the switch's network namespace, all but one that stayed in the host's and opens listening sockets there.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kubette.component_base import logs, run
from kubette.machines import forwarding, layout, namespaces, network, node_ports, spec
from kubette.machines.load_balancer import LoadBalancer
from kubette.machines.node_ports import NodePort
from kubette.stdx import tasks

log = logs.logger(__name__)

HOST_ADDRESS = "127.0.0.1"
RETRY_PORT_S = 10.0  # a node port somebody else has on the host is tried again after this
ADMIN_POLL_S = 1.0
LISTEN_BACKLOG = 1024
CONTROL_BYTES_MAX = 1 << 20


def main(place: layout.Layout, cluster: spec.Cluster, switch_fd: int, api_socket: socket.socket | None, channel: socket.socket) -> int:
    """Run in a fork of the supervisor until SIGTERM, or until the supervisor is gone."""
    run.set_title(f"kubette: gateway {cluster.name}", [])
    # The pool's thread is made now, in the host's network; setns moves the calling thread alone.
    host_side = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="host")
    host_side.submit(int).result()
    namespaces.setns(switch_fd, namespaces.CLONE_NEWNET)
    os.close(switch_fd)
    run.run_loop(Gateway(place, cluster, api_socket, channel, host_side).serve())
    return 0


class _Mirror:
    """A reflector's sink: the objects by key, and a call after each change."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._objects: dict[str, dict[str, Any]] = {}
        self._changed = changed

    def replace(self, objects: list[dict[str, Any]]) -> None:
        self._objects = {_key(obj): obj for obj in objects}
        self._changed()

    def apply(self, kind: str, obj: dict[str, Any]) -> None:
        if kind == "DELETED":
            self._objects.pop(_key(obj), None)
        else:
            self._objects[_key(obj)] = obj
        self._changed()

    def values(self) -> list[dict[str, Any]]:
        return list(self._objects.values())


def _key(obj: dict[str, Any]) -> str:
    metadata = obj["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


class Gateway:
    """Everything of one cluster's surroundings."""

    def __init__(
        self,
        place: layout.Layout,
        cluster: spec.Cluster,
        api_socket: socket.socket | None,
        channel: socket.socket,
        host_side: concurrent.futures.Executor,
    ) -> None:
        self._layout, self._cluster, self._api_socket, self._channel, self._host_side = place, cluster, api_socket, channel, host_side
        self._admin = place.machine_root(cluster.control_planes[0].name) / cluster.admin_kubeconfig
        self._balancer = LoadBalancer(cluster.control_planes, self._cut)
        self._on: set[str] = set()
        self._forwarders: list[forwarding.TcpForwarder] = []
        self._ports: dict[NodePort, forwarding.TcpForwarder | forwarding.UdpForwarder] = {}
        self._failed_ports: dict[NodePort, str] = {}
        self._routes: dict[str, str] = {}
        self._nodes = _Mirror(lambda: self._wake.set())
        self._services = _Mirror(lambda: self._wake.set())
        self._turn = 0

    async def serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake, self._reload, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._loop.add_signal_handler(signal.SIGTERM, stop.set)
        # A thread made now starts in the switch's network, where routes are set (netlink's synchronous calls have no place in a loop).
        self._switch_side = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="switch")
        async with tasks.Scope() as scope:
            self._scope = scope
            await self._open_api()
            scope.start(self._listen_to_supervisor(stop), "supervisor")
            scope.start(self._balancer.check_for_ever(), "health")
            scope.start(self._follow_api(), "api")
            scope.start(self._watch_admin_file(), "admin")
            scope.start(self._synchronize(), "synchronize")
            failure = scope.start(scope.wait(), "failure")
            stopped = scope.start(stop.wait(), "stop")
            await asyncio.wait([failure, stopped], return_when=asyncio.FIRST_COMPLETED)
            if failure.done():
                failure.result()
            for forwarder in [*self._forwarders, *self._ports.values()]:
                await forwarder.close()

    # The API

    async def _open_api(self) -> None:
        listener = socket.create_server((spec.LOAD_BALANCER_ADDRESS, spec.API_PORT), backlog=LISTEN_BACKLOG)
        for sock in [listener] if self._api_socket is None else [listener, self._api_socket]:
            forwarder = forwarding.TcpForwarder(self._scope, self._balancer.candidates, half_close=False)
            await forwarder.start(sock)
            self._forwarders.append(forwarder)

    def _cut(self, machine: str) -> None:
        for forwarder in [*self._forwarders, *self._ports.values()]:
            forwarder.cut(machine)

    async def _listen_to_supervisor(self, stop: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection(sock=self._channel, limit=CONTROL_BYTES_MAX)
        self._writer = writer
        while line := await reader.readline():
            message = json.loads(line)
            if "machinesOn" in message:
                on = set(message["machinesOn"])
                for name in self._on - on:
                    self._cut(name)
                self._on = on
                self._balancer.set_power(on)
            if message.get("reload"):
                self._reload.set()
        stop.set()

    # Objects

    async def _follow_api(self) -> None:
        """Watch Nodes and Services with the admin's certificate, as soon as it is there; again when told to reload, and when it is another."""
        from kubette.client import reflector, resources, rest
        from kubette.client.kubeconfig import KubeconfigError, from_file

        while True:
            self._reload.clear()
            try:
                config = from_file(str(self._admin), master=f"https://{self._cluster.endpoint}")
                # A name that every API server's certificate has: the load balancer's address may be in none.
                config = dataclasses.replace(config, tls_server_name="kubernetes")
            except KubeconfigError:
                await self._reload.wait()
                continue
            async with rest.Client(config, user_agent="kubette-gateway") as client, tasks.Scope() as watches:
                for resource, sink in ((resources.NODES, self._nodes), (resources.SERVICES, self._services)):
                    watches.start(reflector.Reflector(client, resource, sink).run(), resource.resource)
                reloaded, failed = watches.start(self._reload.wait()), watches.start(watches.wait())
                await asyncio.wait([reloaded, failed], return_when=asyncio.FIRST_COMPLETED)
                if failed.done():
                    failed.result()

    async def _watch_admin_file(self) -> None:
        """Whoever types kubeadm on the machines does not tell us when there is a cluster, or another one."""
        seen = _changed_at(self._admin)
        while True:
            await asyncio.sleep(ADMIN_POLL_S)
            before, seen = seen, _changed_at(self._admin)
            if seen != before:
                self._reload.set()

    async def _synchronize(self) -> None:
        """Make routes and ports what the objects say, after every change."""
        while True:
            retry = RETRY_PORT_S if self._failed_ports else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(retry):
                    await self._wake.wait()
            self._wake.clear()
            await self._loop.run_in_executor(self._switch_side, self._set_routes, node_ports.wanted_routes(self._nodes.values()))
            await self._set_ports(node_ports.wanted_ports(self._services.values()))
            self._report()

    def _set_routes(self, wanted: dict[str, str]) -> None:
        """In the switch's thread."""
        if wanted == self._routes:
            return
        with network.open_netlink() as netlink:
            for destination in self._routes.keys() - wanted.keys():
                network.delete_route(netlink, destination)
                del self._routes[destination]
            for destination, gateway in sorted(wanted.items()):
                if self._routes.get(destination) == gateway:
                    continue
                try:
                    network.replace_route(netlink, destination, gateway)
                except Exception as error:  # netlink's own errors: an address outside the switch, or an absurd network
                    log.error("Failed to set route", err=error, destination=destination, gateway=gateway)
                    continue
                self._routes[destination] = gateway
                log.info("Set route", destination=destination, gateway=gateway)

    async def _set_ports(self, wanted: dict[NodePort, str]) -> None:
        for port in sorted(self._ports.keys() - wanted.keys()):
            await self._ports.pop(port).close()
            log.info("Closed node port", port=port.port, protocol=port.protocol)
        self._failed_ports = {port: text for port, text in self._failed_ports.items() if port in wanted}
        for port in sorted(wanted.keys() - self._ports.keys()):
            try:
                listener = await self._loop.run_in_executor(self._host_side, _open_port, port)
            except OSError as error:
                if port not in self._failed_ports:
                    log.error("Failed to open node port", err=error, port=port.port, protocol=port.protocol, service=wanted[port])
                self._failed_ports[port] = error.strerror or str(error)
                continue
            self._failed_ports.pop(port, None)
            candidates = self._port_candidates(port.port)
            kind = forwarding.TcpForwarder if port.protocol == "TCP" else forwarding.UdpForwarder
            self._ports[port] = forwarder = kind(self._scope, candidates)
            await forwarder.start(listener)
            log.info("Opened node port", port=port.port, protocol=port.protocol, service=wanted[port])

    def _port_candidates(self, port: int) -> forwarding.Candidates:
        def candidates() -> Sequence[forwarding.Candidate]:
            """The machines that have power, workers first, in turns."""
            machines = [m for m in (*self._cluster.workers, *self._cluster.control_planes) if m.name in self._on]
            self._turn += 1
            workers = [m for m in machines if m.role == "worker"]
            turn = self._turn % len(workers) if workers else 0
            ordered = workers[turn:] + workers[:turn] + [m for m in machines if m.role != "worker"]
            return [(m.name, m.address, port) for m in ordered]

        return candidates

    def _report(self) -> None:
        status = {
            "routes": dict(sorted(self._routes.items())),
            "nodePorts": [{"port": p.port, "protocol": p.protocol} for p in sorted(self._ports)],
            "failedNodePorts": [{"port": p.port, "protocol": p.protocol, "error": text} for p, text in sorted(self._failed_ports.items())],
        }
        self._writer.write(json.dumps(status).encode() + b"\n")


def _open_port(port: NodePort) -> socket.socket:
    """In the host's thread: listen on the host's loopback."""
    kind = socket.SOCK_STREAM if port.protocol == "TCP" else socket.SOCK_DGRAM
    sock = socket.socket(socket.AF_INET, kind)
    try:
        if kind is socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST_ADDRESS, port.port))
        if kind is socket.SOCK_STREAM:
            sock.listen(LISTEN_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
