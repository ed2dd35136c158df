"""What locks and elections are made of: a key under a name, on a lease, and waiting for those that came before.

Counterpart of clientv3/concurrency, on the server's side. The oldest key under a name owns it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from kubette.etcd.mvcc.store import Change
from kubette.etcd.mvcc.watchers import Watcher
from kubette.etcd.server import Server
from kubette.etcd.services.kv import KV
from kubette.etcd.services.lease import Lease
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.errors import Code, RpcError
from kubette.etcd_api.kv_pb2 import KeyValue

SESSION_TTL_S = 60  # of a lease that is made because the request names none (upstream's default)


class Sessions:
    """One instance a server."""

    def __init__(self, server: Server, kv: KV, lease: Lease) -> None:
        self._server = server
        self._kv = kv
        self._lease = lease

    async def lease(self, wanted: int) -> int:
        """The lease of a request, made if it names none."""
        if wanted:
            return wanted
        answer = await self._lease.grant(pb.LeaseGrantRequest(TTL=SESSION_TTL_S).SerializeToString())
        return int(pb.LeaseGrantResponse.FromString(answer).ID)

    async def txn(self, key: bytes, created_at: int, success: Sequence[pb.RequestOp], failure: Sequence[pb.RequestOp] = ()) -> pb.TxnResponse:
        """A transaction that asks whether `key` was created at that revision (0: is not there)."""
        compare = pb.Compare(key=key, target=pb.Compare.CREATE, result=pb.Compare.EQUAL, create_revision=created_at)
        request = pb.TxnRequest(compare=[compare], success=success, failure=failure).SerializeToString()
        return pb.TxnResponse.FromString(await _as_a_client(lambda: self._kv.txn(request)))

    async def range(self, request: pb.RangeRequest) -> pb.RangeResponse:
        answer = self._kv.range(request.SerializeToString())
        return pb.RangeResponse.FromString(answer if isinstance(answer, bytes) else await answer)

    async def delete(self, key: bytes) -> pb.DeleteRangeResponse:
        request = pb.DeleteRangeRequest(key=key).SerializeToString()
        return pb.DeleteRangeResponse.FromString(await _as_a_client(lambda: self._kv.delete_range(request)))

    def abandon(self, key: bytes) -> None:
        """Whoever waited has left: so must the key, for the sake of those behind it."""
        try:
            self._kv.delete_range(pb.DeleteRangeRequest(key=key).SerializeToString()).add_done_callback(
                lambda done: None if done.cancelled() else (done.exception(), None)[1]
            )
        except RpcError:
            pass  # then it goes with its lease

    async def wait_turn(self, prefix: bytes, key: bytes, created: int, lease: int) -> pb.ResponseHeader:
        """Until nothing under the prefix is older than `key`; the lease is kept alive meanwhile. Raises RpcError when the key is lost."""
        while True:
            found = await self.range(oldest(prefix, pb.RangeRequest.DESCEND, created - 1))
            if not found.kvs:
                break
            await self._wait_deleted(found.kvs[0].key, found.header.revision, lease)
        own = await self.range(pb.RangeRequest(key=key))
        if not own.kvs or own.kvs[0].create_revision != created:
            raise RpcError(Code.UNKNOWN, "mutex: session is expired")
        return own.header

    async def _wait_deleted(self, key: bytes, seen: int, lease: int) -> None:
        gone = asyncio.Event()

        def deliver(at: int, changes: Sequence[Change]) -> bool:
            gone.set()
            return True

        watcher = Watcher(key, b"", seen + 1, deliver, lambda compacted: gone.set(), no_put=True, no_delete=False)
        hub = self._server.state.hub
        hub.add(watcher)
        self._server.sync_watchers.set()
        try:
            while not gone.is_set():
                known = self._server.state.lessor.leases.get(lease)
                pause = max(known.ttl / 3, 0.2) if known is not None else 1.0
                try:
                    async with asyncio.timeout(pause):
                        await gone.wait()
                except TimeoutError:
                    if not await self._lease.renew(lease):
                        raise RpcError(Code.NOT_FOUND, "etcdserver: requested lease not found") from None
        finally:
            hub.remove(watcher)


def oldest(prefix: bytes, order: "pb.RangeRequest.SortOrder", until: int = 0) -> pb.RangeRequest:
    """Of the keys under a prefix, the first in the order of creation (or the last, descending), none younger than `until`."""
    return pb.RangeRequest(
        key=prefix, range_end=prefix_end(prefix), limit=1, sort_target=pb.RangeRequest.CREATE, sort_order=order, max_create_revision=until
    )


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all that begin with a prefix (which ends with a slash here)."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


async def _as_a_client(ask: Callable[[], Awaitable[bytes]]) -> bytes:
    """Upstream's services ask by a client of their own: what is refused comes back without its code."""
    try:
        return await ask()
    except RpcError as error:
        raise RpcError(Code.UNKNOWN, error.message) from None


def put(key: bytes, value: bytes, lease: int) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))


def get(key: bytes) -> pb.RequestOp:
    return pb.RequestOp(request_range=pb.RangeRequest(key=key))


def created_by(answer: pb.TxnResponse) -> int:
    """The create revision of the key after a transaction of put, or else get."""
    if answer.succeeded:
        return int(answer.header.revision)
    pair: KeyValue = answer.responses[0].response_range.kvs[0]
    return int(pair.create_revision)
