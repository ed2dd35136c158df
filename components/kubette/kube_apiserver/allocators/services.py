"""Service addresses and node ports, shared by all API servers through etcd.

An address is taken by creating its IPAddress object (KEP-1880): two servers cannot both succeed. Node ports are bits of the
RangeAllocation `/registry/ranges/servicenodeports`, changed by compare-and-swap, as upstream keeps them.
"""

import base64
import contextlib
import ipaddress
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson

from kubette.apimachinery import field_errors, status
from kubette.etcd_client.client import Client, prefix_end
from kubette.kube_apiserver.allocators import needs
from kubette.kube_apiserver.allocators.needs import Object, Taken

_SWAP_ATTEMPTS = 64  # as many servers as could ever write at once


def static_band(size: int) -> int:
    """KEP-3070: how many addresses at the start of the range are chosen last, so that people may pick them."""
    return min(max(16, size // 16), 256)


class ServiceAllocators:
    """Gives and takes back what Services hold."""

    def __init__(
        self,
        etcd: Client,
        prefix: str,
        service_cidr: str,
        node_ports: tuple[int, int],
        now: Callable[[], str],
        new_uid: Callable[[], str],
        rng: random.Random,
    ) -> None:
        self._etcd, self._now, self._new_uid, self._rng = etcd, now, new_uid, rng
        self._ip_prefix = f"{prefix}/ipaddresses/".encode()
        self._ports_key = f"{prefix}/ranges/servicenodeports".encode()
        self._network = ipaddress.ip_network(service_cidr)
        self._first_port, self._last_port = node_ports

    @contextlib.asynccontextmanager
    async def allocating(self, obj: Object, old: Object | None, dry_run: bool) -> AsyncIterator[None]:
        """Fill in what `obj` lacks; give it back when the block fails, and after it what `old` had and `obj` has no more."""
        taken = Taken()
        if old is not None:
            needs.keep_allocated(obj, old)
        needs.drop_unneeded(obj)
        try:
            await self._take(obj, old, taken, dry_run)
            yield
        except BaseException:
            await self._give_back(taken.addresses, taken.ports)
            raise
        if dry_run:
            await self._give_back(taken.addresses, taken.ports)
        elif old is not None:
            gone = [ip for ip in needs.addresses(old) if ip not in needs.addresses(obj)]
            await self._give_back(gone, [p for p in needs.node_ports(old) if p not in needs.node_ports(obj)])

    async def release(self, obj: Object) -> None:
        """After a Service was removed."""
        await self._give_back(needs.addresses(obj), needs.node_ports(obj))

    async def _give_back(self, addresses: list[str], ports: list[int]) -> None:
        for address in addresses:
            await self._etcd.delete(self._ip_prefix + address.encode())
        if ports:
            await self._change_ports(release=ports)

    async def _take(self, obj: Object, old: Object | None, taken: Taken, dry_run: bool) -> None:
        held = needs.addresses(old)
        for address in needs.addresses(obj):
            if address not in held:
                await self._take_address(obj, address, taken)
        if needs.wants_address(obj):
            address = await self._choose_address(obj, taken)
            obj["spec"] |= {"clusterIP": address, "clusterIPs": [address]}
        elif obj["spec"].get("clusterIP") and not obj["spec"].get("clusterIPs"):
            obj["spec"]["clusterIPs"] = [obj["spec"]["clusterIP"]]
        held_ports = needs.node_ports(old)
        asked = [p for p in needs.node_ports(obj) if p not in held_ports]
        wanting = needs.missing_node_ports(obj)
        if asked or wanting:
            chosen = await self._change_ports(take=asked, choose=len(wanting), service=obj)
            taken.ports += asked + chosen
            for port, number in zip(wanting, chosen, strict=True):
                port["nodePort"] = number

    # Addresses

    def _refused(self, obj: Object, address: str, why: str) -> status.ApiError:
        error = field_errors.invalid("spec.clusterIPs", [address], f"failed to allocate IP {address}: {why}")
        return status.invalid("Service", obj["metadata"].get("name", ""), [error])

    async def _take_address(self, obj: Object, address: str, taken: Taken) -> None:
        try:
            inside = ipaddress.ip_address(address) in self._network
        except ValueError:
            return  # validation says what is wrong with it
        if not inside:
            raise self._refused(obj, address, f"the provided network does not match the current range: {self._network}")
        if not await self._claim(obj, address):
            raise self._refused(obj, address, "provided IP is already allocated")
        taken.addresses.append(address)

    async def _claim(self, obj: Object, address: str) -> bool:
        metadata = obj["metadata"]
        parent = {"group": "", "name": metadata.get("name", ""), "namespace": metadata.get("namespace", ""), "resource": "services"}
        labels = {"ipaddress.kubernetes.io/ip-family": f"IPv{self._network.version}", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
        body = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IPAddress",
            "metadata": {"name": address, "uid": self._new_uid(), "creationTimestamp": self._now(), "labels": labels},
            "spec": {"parentRef": parent},
        }
        answer = await self._etcd.put_if(self._ip_prefix + address.encode(), orjson.dumps(body), 0)
        return bool(answer.succeeded)

    async def _choose_address(self, obj: Object, taken: Taken) -> str:
        found = await self._etcd.range(self._ip_prefix, prefix_end(self._ip_prefix), keys_only=True)
        used = {kv.key.removeprefix(self._ip_prefix).decode() for kv in found.kvs}
        usable = self._network.num_addresses - 2  # neither the network's own address nor the last
        band = static_band(self._network.num_addresses)
        for first, last in ((band + 1, usable), (1, min(band, usable))):
            if first > last:
                continue
            start = self._rng.randint(first, last)
            for step in range(last - first + 1):
                address = str(self._network[first + (start - first + step) % (last - first + 1)])
                if address not in used and await self._claim(obj, address):
                    taken.addresses.append(address)
                    return address
        raise status.internal("failed to allocate a serviceIP: range is full")

    # Node ports

    async def _change_ports(
        self, take: list[int] | None = None, choose: int = 0, release: list[int] | None = None, service: Object | None = None
    ) -> list[int]:
        """One compare-and-swap of the bitmap; answers the chosen ports. Raises Invalid for a port that cannot be had."""
        for _ in range(_SWAP_ATTEMPTS):
            found = await self._etcd.range(self._ports_key)
            revision = found.kvs[0].mod_revision if found.kvs else 0
            bits = _bits(orjson.loads(found.kvs[0].value)) if found.kvs else 0
            for port in take or ():
                self._check_port(service or {}, port, bits)
                bits |= 1 << (port - self._first_port)
            chosen = self._choose_ports(bits, choose)
            for port in chosen:
                bits |= 1 << (port - self._first_port)
            for port in release or ():
                bits &= ~(1 << (port - self._first_port))
            answer = await self._etcd.put_if(self._ports_key, orjson.dumps(self._range(bits)), revision)
            if answer.succeeded:
                return chosen
        raise status.server_timeout("services", "allocate node ports")

    def _check_port(self, service: Object, port: int, bits: int) -> None:
        if not self._first_port <= port <= self._last_port:
            why = f"provided port is not in the valid range. The range of valid ports is {self._first_port}-{self._last_port}"
        elif bits >> (port - self._first_port) & 1:
            why = "provided port is already allocated"
        else:
            return
        ports = service["spec"].get("ports") or []
        index = next((i for i, p in enumerate(ports) if p.get("nodePort") == port), None)
        path = f"spec.ports[{index}].nodePort" if index is not None else "spec.healthCheckNodePort"
        raise status.invalid("Service", service["metadata"].get("name", ""), [field_errors.invalid(path, port, why)])

    def _choose_ports(self, bits: int, count: int) -> list[int]:
        size = self._last_port - self._first_port + 1
        chosen: list[int] = []
        if not count:
            return chosen
        start = self._rng.randrange(size)
        for step in range(size):
            offset = (start + step) % size
            if not bits >> offset & 1:
                chosen.append(self._first_port + offset)
                if len(chosen) == count:
                    return chosen
        raise status.internal("failed to allocate a nodePort: range is full")

    def _range(self, bits: int) -> dict[str, Any]:
        data = bits.to_bytes((bits.bit_length() + 7) // 8, "big")
        return {
            "apiVersion": "v1",
            "kind": "RangeAllocation",
            "metadata": {},
            "range": f"{self._first_port}-{self._last_port}",
            "data": base64.b64encode(data).decode(),
        }


def _bits(allocation: dict[str, Any]) -> int:
    return int.from_bytes(base64.b64decode(allocation.get("data") or ""), "big")
