"""Keeps etcd's history short: every --etcd-compaction-interval, one server compacts up to where the history stood an interval ago.

The servers agree by a compare-and-swap on the version of the key `compact_rev_key` (upstream's etcd3 compactor), so with three servers it still
happens once an interval.
"""

import asyncio

from kubette.component_base import logs
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_client import Client

log = logs.logger(__name__)

KEY = b"compact_rev_key"


class Compactor:
    def __init__(self, client: Client, interval_s: float) -> None:
        self._client, self._interval_s = client, interval_s
        self._version, self._revision = 0, 0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.tick()

    async def tick(self) -> None:
        """One round: if no other server was here since, compact up to the revision seen last time."""
        compare = pb.Compare(result=pb.Compare.EQUAL, target=pb.Compare.VERSION, key=KEY, version=self._version)
        put = pb.RequestOp(request_put=pb.PutRequest(key=KEY, value=str(self._revision).encode()))
        get = pb.RequestOp(request_range=pb.RangeRequest(key=KEY))
        answer = await self._client.txn(pb.TxnRequest(compare=[compare], success=[put], failure=[get]))
        revision, self._revision = self._revision, int(answer.header.revision)
        if not answer.succeeded:
            found = answer.responses[0].response_range.kvs
            self._version = int(found[0].version) if found else 0
            return
        self._version += 1
        if revision:
            await self._client.compact(revision)
            log.v(2, "Compacted etcd", revision=revision)
