"""GET of one object."""

from kubette.apimachinery import status
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.storage import keys
from kubette.kube_apiserver.storage.feed import TooLarge
from kubette.kube_apiserver.verbs import options, render


async def handle(call: Call) -> Answer:
    store, info = call.resource.store, call.info
    assert store is not None
    given = call.query.get("resourceVersion", "")
    if not given:
        return render.one(call, await store.get(info.namespace, info.name))
    # Any version at least this new will do: the cache may answer without asking etcd.
    revision = options.resource_version(given)
    await store.wait_ready()
    try:
        await call.core.feed.wait_for_seen(revision)
    except TooLarge as error:
        raise status.too_large_resource_version(revision, call.core.feed.revision) from error
    found = store.cacher.items.get(keys.relative_key(store.kind, info.namespace, info.name))
    if found is None:
        raise status.not_found(call.resource.kind.group_resource, info.name)
    return render.one(call, found)
