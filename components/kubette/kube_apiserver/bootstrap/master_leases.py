"""Which API servers are alive: a key with a lease for each in etcd (upstream's lease endpoint reconciler).

`/registry/masterleases/<ip>` lives 15 s and is written again every 10 s. So the endpoints of `kubernetes` name every living server,
and one that died without a word disappears.
"""

import orjson

from kubette.etcd_client import Client
from kubette.kube_apiserver.storage import keys

TTL_S = 15
REFRESH_S = 10.0


class MasterLeases:
    def __init__(self, client: Client, etcd_prefix: str) -> None:
        self._client = client
        self._prefix = (etcd_prefix.rstrip("/") + "/masterleases/").encode()

    async def renew(self, address: str) -> None:
        """Raises EtcdError."""
        lease = await self._client.lease_grant(TTL_S)
        value = {"kind": "Endpoints", "apiVersion": "v1", "metadata": {}, "subsets": [{"addresses": [{"ip": address}]}]}
        await self._client.put(self._prefix + address.encode(), orjson.dumps(value), lease=int(lease.ID))

    async def remove(self, address: str) -> None:
        await self._client.delete(self._prefix + address.encode())

    async def living(self) -> list[str]:
        """The addresses in order."""
        answer = await self._client.range(self._prefix, keys.prefix_end(self._prefix), keys_only=True)
        return sorted(kv.key[len(self._prefix) :].decode() for kv in answer.kvs)
