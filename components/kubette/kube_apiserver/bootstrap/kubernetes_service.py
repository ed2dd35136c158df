"""The service `default/kubernetes` and the addresses behind it, kept right by every server (upstream's kubernetesservice controller)."""

from kubette.apimachinery import meta
from kubette.etcd_client import Client
from kubette.kube_apiserver.bootstrap import objects
from kubette.kube_apiserver.bootstrap.loopback import Loopback
from kubette.kube_apiserver.bootstrap.master_leases import MasterLeases
from kubette.kube_apiserver.config import Config


class KubernetesService:
    def __init__(self, config: Config, loopback: Loopback, client: Client, port: int) -> None:
        self._loopback = loopback
        self._leases = MasterLeases(client, config.options.etcd_prefix)
        self._address, self._port = config.advertise_address, port
        self._cluster_ip = str(config.service_range.network_address + 1)

    async def reconcile(self) -> None:
        """Renew the own lease and make service, Endpoints and EndpointSlice say what is so."""
        await self._loopback.ensure("", "services", objects.kubernetes_service(self._cluster_ip, self._port))
        await self._leases.renew(self._address)
        await self._publish(await self._leases.living())

    async def withdraw(self) -> None:
        """Before a shutdown: clients should go elsewhere."""
        await self._leases.remove(self._address)
        addresses = await self._leases.living()
        if addresses:
            await self._publish(addresses)

    async def _publish(self, addresses: list[str]) -> None:
        for group, resource, wanted, fields in (
            ("", "endpoints", objects.endpoints(addresses, self._port), ("subsets",)),
            ("discovery.k8s.io", "endpointslices", objects.endpoint_slice(addresses, self._port), ("endpoints", "ports")),
        ):
            current = await self._loopback.get(group, resource, "default", meta.name(wanted))
            if current is None:
                await self._loopback.ensure(group, resource, wanted)
            elif any(current.get(field) != wanted.get(field) for field in fields):
                await self._loopback.update(group, resource, {**current, **{field: wanted[field] for field in fields}})
