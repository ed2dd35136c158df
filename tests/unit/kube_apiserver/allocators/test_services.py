"""Addresses and node ports over an etcd made of a dict: unique, given back, refused in upstream's words."""

import random
from types import SimpleNamespace
from typing import Any

import pytest

from kubette.apimachinery.status import ApiError
from kubette.kube_apiserver.allocators.services import ServiceAllocators, static_band


class Etcd:
    """The three calls of the client that the allocator makes."""

    def __init__(self) -> None:
        self.data: dict[bytes, tuple[bytes, int]] = {}
        self.revision = 0

    async def range(self, key: bytes, range_end: bytes = b"", keys_only: bool = False) -> Any:
        found = [k for k in sorted(self.data) if k == key or (range_end and key <= k < range_end)]
        return SimpleNamespace(kvs=[SimpleNamespace(key=k, value=self.data[k][0], mod_revision=self.data[k][1]) for k in found])

    async def put_if(self, key: bytes, value: bytes, mod_revision: int) -> Any:
        if self.data.get(key, (b"", 0))[1] != mod_revision:
            return SimpleNamespace(succeeded=False)
        self.revision += 1
        self.data[key] = (value, self.revision)
        return SimpleNamespace(succeeded=True)

    async def delete(self, key: bytes) -> None:
        self.data.pop(key, None)


def allocators(etcd: Etcd, cidr: str = "10.96.0.0/24") -> ServiceAllocators:
    return ServiceAllocators(etcd, "/registry", cidr, (30000, 30003), lambda: "2026-11-22T00:00:00Z", lambda: "uid", random.Random(7))  # type: ignore[arg-type]


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"type": "ClusterIP", "ports": [{"port": 80}], **spec}}


async def create(allocator: ServiceAllocators, obj: dict[str, Any], old: dict[str, Any] | None = None, dry_run: bool = False) -> dict[str, Any]:
    async with allocator.allocating(obj, old, dry_run):
        return obj


async def test_every_service_gets_its_own_address_until_the_range_is_full() -> None:
    allocator = allocators(Etcd(), "10.96.0.0/27")
    given = [(await create(allocator, service(f"s{i}")))["spec"]["clusterIP"] for i in range(30)]
    assert len(set(given)) == 30
    # The band for people's own choices is used last.
    assert all(int(ip.rsplit(".", 1)[1]) > static_band(32) for ip in given[:14])
    with pytest.raises(ApiError, match="range is full"):
        await create(allocator, service("one-too-many"))


async def test_a_chosen_address_is_refused_when_taken_or_outside() -> None:
    allocator = allocators(Etcd())
    await create(allocator, service("a", clusterIP="10.96.0.10"))
    with pytest.raises(ApiError, match="failed to allocate IP 10.96.0.10: provided IP is already allocated"):
        await create(allocator, service("b", clusterIP="10.96.0.10"))
    with pytest.raises(ApiError, match="does not match the current range"):
        await create(allocator, service("c", clusterIP="10.1.0.1"))
    headless = await create(allocator, service("d", clusterIP="None"))
    assert headless["spec"]["clusterIP"] == "None"


async def test_what_a_failed_or_dry_write_took_is_free_again() -> None:
    etcd = Etcd()
    allocator = allocators(etcd)

    async def failing() -> None:
        async with allocator.allocating(service("a", type="NodePort"), None, False):
            raise RuntimeError("validation failed")

    with pytest.raises(RuntimeError):
        await failing()
    await create(allocator, service("b", type="NodePort"), dry_run=True)
    assert not [k for k in etcd.data if b"ipaddresses" in k]
    ports = [(await create(allocator, service(f"n{i}", type="NodePort")))["spec"]["ports"][0]["nodePort"] for i in range(4)]
    assert sorted(ports) == [30000, 30001, 30002, 30003]
    with pytest.raises(ApiError, match="failed to allocate a nodePort: range is full"):
        await create(allocator, service("full", type="NodePort"))


async def test_node_ports_are_bounded_and_unique() -> None:
    allocator = allocators(Etcd())
    await create(allocator, service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30001}]))
    with pytest.raises(ApiError, match=r"spec.ports\[0\].nodePort: Invalid value: 30001: provided port is already allocated"):
        await create(allocator, service("b", type="NodePort", ports=[{"port": 80, "nodePort": 30001}]))
    with pytest.raises(ApiError, match="The range of valid ports is 30000-30003"):
        await create(allocator, service("c", type="NodePort", ports=[{"port": 80, "nodePort": 80}]))


async def test_an_update_keeps_what_it_leaves_out_and_frees_what_it_gives_up() -> None:
    etcd = Etcd()
    allocator = allocators(etcd)
    old = await create(allocator, service("a", type="NodePort"))
    kept = await create(allocator, service("a", type="NodePort"), old)
    assert kept["spec"]["clusterIP"] == old["spec"]["clusterIP"]
    assert kept["spec"]["ports"] == old["spec"]["ports"]
    await create(allocator, service("a", type="ClusterIP"), kept)
    again = await create(allocator, service("b", type="NodePort", ports=[{"port": 80, "nodePort": old["spec"]["ports"][0]["nodePort"]}]))
    await allocator.release(again)
    gone = await create(allocator, service("a", type="ExternalName", externalName="x.example"), old)
    assert "clusterIP" not in gone["spec"]
    assert not [k for k in etcd.data if b"ipaddresses" in k]
