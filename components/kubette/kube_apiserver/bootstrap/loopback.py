"""Writes of the server itself: through admission and validation like everybody's, without a socket (upstream's loopback client)."""

from typing import Any, cast

from kubette.apimachinery import meta, status
from kubette.apimachinery.validation import copy
from kubette.kube_apiserver.auth.interfaces import PRIVILEGED_GROUP, UserInfo
from kubette.kube_apiserver.core import Call, Core
from kubette.kube_apiserver.request_info import RequestInfo
from kubette.kube_apiserver.storage.store import Remove
from kubette.kube_apiserver.verbs import create, delete, options, persist, write

Object = dict[str, Any]

USER = UserInfo("system:apiserver", "", (PRIVILEGED_GROUP, "system:authenticated"))
OPTIONS = options.WriteOptions(dry_run=False, manager="kube-apiserver", validation="Ignore", force=False)


class Loopback:
    """Typed by group and resource, in the stored version."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def _call(self, verb: str, group: str, resource: str, namespace: str, name: str) -> Call:
        found = self._core.resources.by_group(group, resource)
        if found is None:
            raise status.path_not_found()
        kind = found.kind
        info = RequestInfo(True, "", verb, "apis" if group else "api", group, kind.version, namespace, resource, "", name)
        # No request: nothing behind the decoding of a body looks at it.
        return Call(self._core, cast(Any, None), info, USER, found, "", {})

    async def get(self, group: str, resource: str, namespace: str, name: str) -> Object | None:
        call = self._call("get", group, resource, namespace, name)
        assert call.resource.store is not None
        found = await call.resource.store.find(namespace, name)
        return found.object() if found is not None else None

    async def create(self, group: str, resource: str, obj: Object) -> Object:
        call = self._call("create", group, resource, meta.namespace(obj), "")
        return (await create.create(call, copy(obj), OPTIONS)).object()

    async def ensure(self, group: str, resource: str, obj: Object) -> bool:
        """Create it if it is not there; answers whether it was made."""
        if await self.get(group, resource, meta.namespace(obj), meta.name(obj)) is not None:
            return False
        try:
            await self.create(group, resource, obj)
        except status.ApiError as error:
            if status.is_already_exists(error):
                return False
            raise
        return True

    async def update(self, group: str, resource: str, obj: Object, subresource: str = "") -> Object:
        """Replace it; a resourceVersion in `obj` must be the current one."""
        call = self._call("update", group, resource, meta.namespace(obj), meta.name(obj))

        async def change(old: Object) -> Object | Remove:
            return await write.prepare_update(call, copy(obj), old, OPTIONS, subresource)

        return (await persist.update(call, change, False)).object()

    async def delete(self, group: str, resource: str, namespace: str, name: str) -> None:
        """What is not there is no error."""
        try:
            await delete.delete(self._call("delete", group, resource, namespace, name), delete.DeleteOptions())
        except status.ApiError as error:
            if not status.is_not_found(error):
                raise
