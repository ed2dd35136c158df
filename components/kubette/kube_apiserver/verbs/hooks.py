"""Where a write takes things that exist once in the cluster: Service addresses and node ports.

Allocation happens before the object is validated and stored; when either fails, what was taken is given back, and what an update no
longer uses is given back after it is stored.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from kubette.kube_apiserver.core import Call

Object = dict[str, Any]


@contextlib.asynccontextmanager
async def allocating(call: Call, obj: Object, old: Object | None, dry_run: bool) -> AsyncIterator[None]:
    """Around the preparation and storing of `obj`, which is changed in place."""
    stored, allocators = call.resource.stored, call.core.allocators
    if allocators is None or (stored.group, stored.resource) != ("", "services"):
        yield
        return
    call.resource.strategy.default(obj)  # the type of a Service decides what it needs
    async with allocators.allocating(obj, old, dry_run):
        yield


async def released(call: Call, obj: Object) -> None:
    """After an object was removed."""
    stored, allocators = call.resource.stored, call.core.allocators
    if allocators is not None and (stored.group, stored.resource) == ("", "services"):
        await allocators.release(obj)
