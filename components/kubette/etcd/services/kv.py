"""The KV service: reads from the state, writes through the log."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from kubette.etcd import auth
from kubette.etcd.rim.grpc import Method
from kubette.etcd.server import Server
from kubette.etcd_api import errors
from kubette.etcd_api import rpc_pb2 as pb

PUT, DELETE_RANGE, TXN, COMPACTION, ALARM = 4, 5, 6, 7, 10  # fields of InternalRaftRequest
_MAX_TXN_LEVELS = 40  # protobuf refuses messages nested 100 deep: what gets into the log must be readable inside its envelope


class KV:
    """One instance a server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def methods(self) -> dict[bytes, Method]:
        return {
            b"/etcdserverpb.KV/Range": Method(self.range),
            b"/etcdserverpb.KV/Put": Method(self.put),
            b"/etcdserverpb.KV/DeleteRange": Method(self.delete_range),
            b"/etcdserverpb.KV/Txn": Method(self.txn),
            b"/etcdserverpb.KV/Compact": Method(self.compact),
        }

    def range(self, body: bytes) -> "bytes | Coroutine[Any, Any, bytes]":
        request = pb.RangeRequest.FromString(body)
        _check_range(request)
        if request.serializable:
            self._server.check_readable(request.key, request.range_end)
            return self._server.applier.read(request)
        return self._linearizable_range(request)

    async def _linearizable_range(self, request: pb.RangeRequest) -> bytes:
        self._refuse_learner()
        await self._server.linearizable()
        self._server.check_readable(request.key, request.range_end)
        return self._server.applier.read(request)

    def _refuse_learner(self) -> None:
        if self._server.is_learner:
            raise errors.error(errors.NOT_SUPPORTED_FOR_LEARNER)

    def put(self, body: bytes) -> "asyncio.Future[bytes]":
        request = pb.PutRequest.FromString(body)
        _check_put(request)
        self._refuse_learner()
        self._check_quota()
        return self._server.propose(PUT, body)

    def delete_range(self, body: bytes) -> "asyncio.Future[bytes]":
        request = pb.DeleteRangeRequest.FromString(body)
        if not request.key:
            raise errors.error(errors.EMPTY_KEY)
        self._refuse_learner()
        return self._server.propose(DELETE_RANGE, body)

    def txn(self, body: bytes) -> "asyncio.Future[bytes] | Coroutine[Any, Any, bytes]":
        request = pb.TxnRequest.FromString(body)
        _check_txn(request, self._server.limits.max_txn_ops, 1)
        _check_overlaps(request.success)
        _check_overlaps(request.failure)
        self._refuse_learner()
        operations = list(_operations(request))
        if all(each.WhichOneof("request") == "request_range" for each in operations):
            # A transaction that changes nothing needs no place in the log.
            return self._read_txn(request, all(each.request_range.serializable for each in operations) and bool(operations))
        if any(each.WhichOneof("request") == "request_put" for each in operations):
            self._check_quota()
        return self._server.propose(TXN, body)

    async def _read_txn(self, request: pb.TxnRequest, serializable: bool) -> bytes:
        if not serializable:
            await self._server.linearizable()
        if self._server.state.auth.enabled:
            auth.check_txn(self._server.state.auth, self._server.caller(), request, self._server.applier.keys_of_lease)
        return self._server.applier.read_txn(request)

    def compact(self, body: bytes) -> "asyncio.Future[bytes]":
        self._refuse_learner()
        return self._server.propose_message(COMPACTION, pb.CompactionRequest, body)

    def _check_quota(self) -> None:
        """Refuse what would grow a full database, and say so to all members (upstream's quota)."""
        server = self._server
        quota = server.limits.quota_bytes
        if quota <= 0 or server.state.size <= quota:
            return
        if (pb.NOSPACE, server.member_id) not in server.state.alarms:
            alarm = pb.AlarmRequest(action=pb.AlarmRequest.ACTIVATE, memberID=server.member_id, alarm=pb.NOSPACE)
            server.propose(ALARM, alarm.SerializeToString(), as_root=True).add_done_callback(lambda done: done.cancelled() or done.exception())
        raise errors.error(errors.NO_SPACE)


def _check_range(request: pb.RangeRequest) -> None:
    if not request.key:
        raise errors.error(errors.EMPTY_KEY)
    if request.sort_order not in (0, 1, 2) or request.sort_target not in (0, 1, 2, 3, 4):
        raise errors.error(errors.INVALID_SORT_OPTION)


def _check_put(request: pb.PutRequest) -> None:
    if not request.key:
        raise errors.error(errors.EMPTY_KEY)
    if request.ignore_value and request.value:
        raise errors.error(errors.VALUE_PROVIDED)
    if request.ignore_lease and request.lease:
        raise errors.error(errors.LEASE_PROVIDED)


def _check_txn(request: pb.TxnRequest, max_ops: int, level: int) -> None:
    size = max(len(request.compare), len(request.success), len(request.failure))
    if size > max_ops or level > _MAX_TXN_LEVELS:
        raise errors.error(errors.TOO_MANY_OPS)
    for compare in request.compare:
        if not compare.key:
            raise errors.error(errors.EMPTY_KEY)
    for operation in (*request.success, *request.failure):
        kind = operation.WhichOneof("request")
        if kind == "request_range":
            _check_range(operation.request_range)
        elif kind == "request_put":
            _check_put(operation.request_put)
        elif kind == "request_delete_range":
            if not operation.request_delete_range.key:
                raise errors.error(errors.EMPTY_KEY)
        elif kind == "request_txn":
            _check_txn(operation.request_txn, max_ops - size, level + 1)
        else:
            raise errors.error(errors.KEY_NOT_FOUND)


def _check_overlaps(operations: Iterable[pb.RequestOp]) -> tuple[set[bytes], list[tuple[bytes, bytes]]]:
    """No key may be put twice, or put and deleted, on one way through a transaction. Answers the keys put and ranges deleted."""
    puts: set[bytes] = set()
    deletes: list[tuple[bytes, bytes]] = []
    nested: list[tuple[set[bytes], list[tuple[bytes, bytes]]]] = []
    for operation in operations:
        kind = operation.WhichOneof("request")
        if kind == "request_put":
            key = operation.request_put.key
            if key in puts:
                raise errors.error(errors.DUPLICATE_KEY)
            puts.add(key)
        elif kind == "request_delete_range":
            deletes.append((operation.request_delete_range.key, operation.request_delete_range.range_end))
        elif kind == "request_txn":
            then_puts, then_deletes = _check_overlaps(operation.request_txn.success)
            else_puts, else_deletes = _check_overlaps(operation.request_txn.failure)
            nested.append((then_puts | else_puts, then_deletes + else_deletes))
    for more_puts, more_deletes in nested:
        # Only one branch of a nested transaction runs: its branches may put the same key, but not what stands beside them.
        if puts & more_puts or any(_inside(key, each) for key in more_puts for each in deletes):
            raise errors.error(errors.DUPLICATE_KEY)
        if any(_inside(key, each) for key in puts for each in more_deletes):
            raise errors.error(errors.DUPLICATE_KEY)
        puts |= more_puts
        deletes += more_deletes
    own = [each for each in deletes if each not in [d for _, more in nested for d in more]]
    if any(_inside(key, each) for key in puts for each in own):
        raise errors.error(errors.DUPLICATE_KEY)
    return puts, deletes


def _inside(key: bytes, interval: tuple[bytes, bytes]) -> bool:
    start, end = interval
    if not end:
        return key == start
    return start <= key < end  # not so of a range to the end of all keys (b"\\0"): upstream lets it stand beside any put


def _operations(request: pb.TxnRequest) -> Iterable[pb.RequestOp]:
    """Every operation of every branch."""
    for operation in (*request.success, *request.failure):
        if operation.WhichOneof("request") == "request_txn":
            yield from _operations(operation.request_txn)
        else:
            yield operation
