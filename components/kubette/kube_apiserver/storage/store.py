"""The write path, and reads that must not be old: one `Store` a stored kind.

Every write is a transaction that compares the key's mod_revision (DESIGN D7). `update` takes the function that makes the new object from
the current one and calls it again when somebody else was faster; the first guess at "current" comes from the watch cache, and
a refusal based on that guess is not believed before etcd has confirmed it (upstream's GuaranteedUpdate).
"""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from kubette.api.kinds import Kind
from kubette.apimachinery import status
from kubette.apimachinery.status import ApiError
from kubette.etcd_api.errors import Code
from kubette.etcd_client import Client, CompactedError, EtcdError
from kubette.kube_apiserver.storage import keys, record, retry
from kubette.kube_apiserver.storage.cacher import Cacher
from kubette.kube_apiserver.storage.feed import Feed, TooLarge
from kubette.kube_apiserver.storage.leases import Leases
from kubette.kube_apiserver.storage.record import Record
from kubette.stdx.clock import Clock

Object = dict[str, Any]
RETRIES = 100  # of a compare-and-swap that always comes second; upstream tries without end, a limit names the trouble
BEHIND = "the watch cache did not catch up with etcd"


class Remove:
    """What an update function answers to remove the object instead of writing it."""

    def __init__(self, obj: Object) -> None:
        self.object = obj


Update = Callable[[Object], "Awaitable[Object | Remove]"]


def translate(error: EtcdError) -> ApiError:
    """etcd's failures as the API shows them. What may have happened nevertheless is a 5xx (INV-A9)."""
    if isinstance(error, CompactedError):
        return status.expired("The resourceVersion for the provided list is too old.")
    if error.code is Code.DATA_LOSS:
        return status.service_unavailable(error.message)
    if error.code is Code.DEADLINE_EXCEEDED:
        return status.timeout("request did not complete within the allotted timeout", 1)
    text = f"rpc error: code = {error.code.name.title().replace('_', '')} desc = {error.message}"
    if error.code is Code.UNAVAILABLE:
        failure = ApiError(500, "", text)
        failure.definite = error.definite
        return failure
    return ApiError(500, "", f"etcdserver: {error.message}".replace("etcdserver: etcdserver: ", "etcdserver: "))


class Store:
    """One stored kind. All objects are in the stored version."""

    def __init__(self, kind: Kind, etcd_prefix: str, client: Client, feed: Feed, leases: Leases, clock: Clock, capacity: int) -> None:
        self.kind = kind
        self.cacher = Cacher(kind, etcd_prefix, client, feed, clock, capacity)
        self._client, self._feed, self._leases = client, feed, leases
        self._head = self.cacher.head
        self._prefix = self.cacher.prefix

    def _key(self, namespace: str, name: str) -> bytes:
        return (self._prefix + keys.relative_key(self.kind, namespace, name)).encode()

    def _record(self, kv: Any) -> Record:
        revision = int(kv.mod_revision)
        return Record(kv.key.decode()[len(self._prefix) :], revision, record.with_revision(self._head, kv.value, revision))

    async def find(self, namespace: str, name: str) -> Record | None:
        """The object as of now, or None."""
        cacher = self.cacher
        try:
            if cacher.ready:
                await cacher.consistent()
                return cacher.items.get(keys.relative_key(self.kind, namespace, name))
            answer = await retry.read(lambda: self._client.range(self._key(namespace, name)))
        except EtcdError as error:
            raise translate(error) from error
        except TooLarge as error:
            raise status.timeout(BEHIND, 1) from error
        return self._record(answer.kvs[0]) if answer.kvs else None

    async def wait_ready(self) -> None:
        """Have the watch cache."""
        if not self.cacher.ready:
            try:
                await self.cacher.wait_ready()
            except EtcdError as error:
                raise translate(error) from error
            except TooLarge as error:
                raise status.timeout(BEHIND, 1) from error

    async def consistent(self) -> None:
        """Make the watch cache as new as everything acknowledged before this call."""
        try:
            await self.cacher.consistent()
        except EtcdError as error:
            raise translate(error) from error
        except TooLarge as error:
            raise status.timeout(BEHIND, 1) from error

    async def get(self, namespace: str, name: str) -> Record:
        found = await self.find(namespace, name)
        if found is None:
            raise status.not_found(self.kind.group_resource, name)
        return found

    def _guess(self, namespace: str, name: str) -> Record | None:
        return self.cacher.items.get(keys.relative_key(self.kind, namespace, name)) if self.cacher.ready else None

    async def create(self, namespace: str, name: str, obj: Object, ttl_s: int = 0) -> Record:
        """Write a new object. Raises AlreadyExists."""
        key, value = self._key(namespace, name), record.encode(obj)
        try:
            lease = await self._leases.lease_for(ttl_s) if ttl_s else 0
            answer = await retry.write(lambda: self._client.put_if(key, value, 0, lease=lease))
        except EtcdError as error:
            raise translate(error) from error
        if not answer.succeeded:
            raise status.already_exists(self.kind.group_resource, name)
        return self._written(namespace, name, value, int(answer.header.revision))

    def _written(self, namespace: str, name: str, value: bytes, revision: int) -> Record:
        return Record(keys.relative_key(self.kind, namespace, name), revision, record.with_revision(self._head, value, revision))

    async def update(self, namespace: str, name: str, change: Update, ttl_s: int = 0, create: bool = False) -> Record:
        """Replace the object by what `change` makes of it. A change that changes nothing is not written.

        With `create`, an object that does not exist is given to `change` as an empty dict.
        `change` may be called several times, and only the last call counts.
        """
        guess = self._guess(namespace, name)
        certain = guess is None
        current = guess or await self._current(namespace, name, create)
        for _ in range(RETRIES):
            old = current.object() if current is not None else {}
            try:
                new = await change(old)
            except ApiError:
                if certain:
                    raise
                latest = await self._current(namespace, name, create)
                certain = True
                if latest is not None and current is not None and latest.revision == current.revision:
                    raise
                current = latest
                continue
            outcome = await self._swap(namespace, name, current, new, ttl_s)
            if isinstance(outcome, Record):
                return outcome
            certain = True
            if outcome is None and not create:
                raise status.not_found(self.kind.group_resource, name)
            current = outcome[0] if outcome is not None else None
        raise status.conflict(self.kind.group_resource, name)

    async def _current(self, namespace: str, name: str, create: bool) -> Record | None:
        """Straight from etcd."""
        try:
            answer = await retry.read(lambda: self._client.range(self._key(namespace, name)))
        except EtcdError as error:
            raise translate(error) from error
        if answer.kvs:
            return self._record(answer.kvs[0])
        if create:
            return None
        raise status.not_found(self.kind.group_resource, name)

    async def _swap(self, namespace: str, name: str, current: Record | None, new: Object | Remove, ttl_s: int) -> Record | tuple[Record] | None:
        """Write if nobody else has: the record written; else the one that is there (in a tuple), or None if it is gone."""
        key = self._key(namespace, name)
        revision = current.revision if current is not None else 0
        try:
            if isinstance(new, Remove):
                answer = await retry.write(lambda: self._client.delete_if(key, revision))
                if answer.succeeded:
                    return self._written(namespace, name, record.encode(new.object), int(answer.header.revision))
            else:
                value = record.encode(new)
                if current is not None and _same(current.data, record.with_revision(self._head, value, revision)):
                    return current
                lease = await self._leases.lease_for(ttl_s) if ttl_s else 0
                answer = await retry.write(lambda: self._client.put_if(key, value, revision, lease=lease))
                if answer.succeeded:
                    return self._written(namespace, name, value, int(answer.header.revision))
        except EtcdError as error:
            raise translate(error) from error
        found = answer.responses[0].response_range.kvs
        return (self._record(found[0]),) if found else None

    async def list_at(self, namespace: str, revision: int, start: str, limit: int) -> tuple[list[Record], bool, int]:
        """A page of the objects as they were at a revision, from etcd: (records, whether there are more, how many there are from `start` on)."""
        low, high = keys.namespace_range(namespace)
        begin = (self._prefix + (start or low)).encode()
        end = (self._prefix + high).encode() if high else keys.prefix_end(self._prefix.encode())
        try:
            answer = await retry.read(lambda: self._client.range(begin, end, limit=limit, revision=revision))
        except EtcdError as error:
            raise translate(error) from error
        return [self._record(kv) for kv in answer.kvs], bool(answer.more), int(answer.count)


def _same(left: bytes, right: bytes) -> bool:
    """Whether two encodings are the same object, whatever the order of their keys (which cannot change the length)."""
    return left == right or (len(left) == len(right) and orjson.loads(left) == orjson.loads(right))
