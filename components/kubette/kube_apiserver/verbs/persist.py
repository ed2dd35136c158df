"""The last step of a write: etcd, or for `dryRun=All` everything but etcd."""

from collections.abc import Awaitable
from typing import Any

import orjson

from kubette.apimachinery import meta, status
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.storage import keys
from kubette.kube_apiserver.storage.record import Record
from kubette.kube_apiserver.storage.store import Remove, Store, Update

Object = dict[str, Any]


def ttl_of(call: Call) -> int:
    """Events expire; nothing else does."""
    return int(call.core.config.options.event_ttl) if call.resource.stored.resource == "events" and not call.resource.stored.group else 0


def dry_record(store: Store, obj: Object) -> Record:
    """What would have been stored, for the answer."""
    revision = int(meta.resource_version(obj) or 0)
    return Record(keys.relative_key(store.kind, meta.namespace(obj), meta.name(obj)), revision, orjson.dumps(obj))


async def _measured(call: Call, work: Awaitable[Record]) -> Record:
    """For the audit: how long the storage took, less the time for which it asked what to write."""
    assert call.trail is not None
    clock, before = call.core.clock, call.trail.preparing_s
    began = clock.monotonic()
    record = await work
    call.trail.took("etcd", clock.monotonic() - began - (call.trail.preparing_s - before))
    return record


async def create(call: Call, obj: Object, dry_run: bool) -> Record:
    """Raises AlreadyExists."""
    store = call.resource.store
    assert store is not None
    namespace, name = meta.namespace(obj), meta.name(obj)
    if not dry_run:
        work = store.create(namespace, name, obj, ttl_of(call))
        return await (work if call.trail is None else _measured(call, work))
    if await store.find(namespace, name) is not None:
        raise status.already_exists(store.kind.group_resource, name)
    return dry_record(store, obj)


async def update(call: Call, change: Update, dry_run: bool, create: bool = False) -> Record:
    """Apply `change` to the object the path names."""
    store, info = call.resource.store, call.info
    assert store is not None
    if not dry_run:
        work = store.update(info.namespace, info.name, change, ttl_of(call), create)
        return await (work if call.trail is None else _measured(call, work))
    found = await store.find(info.namespace, info.name)
    if found is None and not create:
        raise status.not_found(store.kind.group_resource, info.name)
    changed = await change(found.object() if found is not None else {})
    return dry_record(store, changed.object if isinstance(changed, Remove) else changed)
