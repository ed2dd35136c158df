"""PUT of a whole object."""

from typing import Any

from kubette.apimachinery import meta, status
from kubette.apimachinery.validation import copy
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.storage.store import Remove
from kubette.kube_apiserver.verbs import body, hooks, options, persist, render, write

Object = dict[str, Any]


async def handle(call: Call, subresource: str = "") -> Answer:
    """Also PUT of `status` and other subresources that are the object itself."""
    kind, info = call.resource.kind, call.info
    opts = options.write_options(call.query, call.request.headers.get("User-Agent", ""))
    obj = await body.read_object(call, kind.api_version, kind.kind, call.resource.schema, opts.validation)
    if not info.name:
        raise status.method_not_supported("update", kind.group_resource)
    check_name(call, obj)
    write.ensure_namespace(call, obj)
    wanted = call.resource.to_stored(obj)
    creates = call.resource.strategy.allow_create_on_update and not subresource
    created = False

    async def change(old: Object) -> Object | Remove:
        nonlocal created
        created = not old
        new = copy(wanted)
        if not old:
            return await write.prepare_create(call, new, opts)
        async with hooks.allocating(call, new, old, opts.dry_run):
            return await write.prepare_update(call, new, old, opts, subresource)

    found = await persist.update(call, change, opts.dry_run, create=creates)
    return render.one(call, found, 201 if created else 200)


def check_name(call: Call, obj: Object) -> None:
    """The name in the object is the name in the path. Raises BadRequest."""
    given = meta.name(obj)
    if not given:
        meta.metadata(obj)["name"] = call.info.name
    elif given != call.info.name:
        raise status.bad_request(f"the name of the object ({given}) does not match the name on the URL ({call.info.name})")
