"""Pure: a RangeRequest answered: filters, order, limit, and what of each record is shown."""

from collections.abc import Callable
from functools import lru_cache

from kubette.etcd.mvcc.store import RangeResult
from kubette.etcd.wire import int_field, varint
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcd_api.kv_pb2 import KeyValue

_KVS_TAG = b"\x12"  # field 2, length-delimited
_SORT_KEYS: dict[int, Callable[[KeyValue], int | bytes]] = {
    pb.RangeRequest.KEY: lambda pair: pair.key,
    pb.RangeRequest.VERSION: lambda pair: pair.version,
    pb.RangeRequest.CREATE: lambda pair: pair.create_revision,
    pb.RangeRequest.MOD: lambda pair: pair.mod_revision,
    pb.RangeRequest.VALUE: lambda pair: pair.value,
}


def encode_range(read: Callable[..., RangeResult], request: pb.RangeRequest) -> bytes:
    """The fields of a RangeResponse after its header. `read` is a store's or a transaction's `range`."""
    filtered = bool(request.min_mod_revision or request.max_mod_revision or request.min_create_revision or request.max_create_revision)
    # An ascending order by key is how records come; another target without an order means ascending (upstream, since 2016).
    ordered = request.sort_order != pb.RangeRequest.NONE or request.sort_target != pb.RangeRequest.KEY
    sorted_away = ordered and not (request.sort_target == pb.RangeRequest.KEY and request.sort_order != pb.RangeRequest.DESCEND)
    limit = 0 if filtered or sorted_away else request.limit
    result = read(request.key, request.range_end, request.revision, limit, request.count_only)
    records = result.records
    count = result.count
    more = bool(limit) and count > limit and not request.count_only
    if filtered or sorted_away or request.keys_only:
        pairs = [KeyValue.FromString(record) for record in records]
        if filtered:
            pairs = [pair for pair in pairs if _passes(pair, request)]
        if sorted_away:
            pairs.sort(key=_SORT_KEYS[request.sort_target], reverse=request.sort_order == pb.RangeRequest.DESCEND)
        if request.limit and len(pairs) > request.limit:
            del pairs[request.limit :]
            more = True
        if request.keys_only:
            for pair in pairs:
                pair.ClearField("value")
        records = [pair.SerializeToString() for pair in pairs]
    parts: list[bytes] = []
    for record in records:
        parts += (_kvs_prefix(len(record)), record)
    parts.append(int_field(3, more) + int_field(4, count))
    return b"".join(parts)


@lru_cache(4096)
def _kvs_prefix(size: int) -> bytes:
    """What stands before a record in `kvs`; the records of a range have few different sizes."""
    return _KVS_TAG + varint(size)


def _passes(pair: KeyValue, request: pb.RangeRequest) -> bool:
    return (
        (not request.min_mod_revision or pair.mod_revision >= request.min_mod_revision)
        and (not request.max_mod_revision or pair.mod_revision <= request.max_mod_revision)
        and (not request.min_create_revision or pair.create_revision >= request.min_create_revision)
        and (not request.max_create_revision or pair.create_revision <= request.max_create_revision)
    )
