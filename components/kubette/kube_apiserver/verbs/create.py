"""POST of a new object; its name may be left to the server (`generateName`)."""

from typing import Any

from kubette.apimachinery import meta, names, status
from kubette.apimachinery.validation import copy
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.storage.record import Record
from kubette.kube_apiserver.verbs import body, hooks, options, persist, render, write

GENERATE_ATTEMPTS = 8  # upstream's maxNameGenerationCreateAttempts


async def handle(call: Call) -> Answer:
    kind = call.resource.kind
    opts = options.write_options(call.query, call.request.headers.get("User-Agent", ""))
    obj = await body.read_object(call, kind.api_version, kind.kind, call.resource.schema, opts.validation)
    if call.info.name:
        raise status.method_not_supported("create", kind.group_resource)
    return render.one(call, await create(call, obj, opts), 201)


async def create(call: Call, obj: dict[str, Any], opts: options.WriteOptions) -> Record:
    """Admit, validate and store a decoded object of the served version."""
    write.ensure_namespace(call, obj)
    obj = call.resource.to_stored(obj)
    prefix = meta.metadata(obj).get("generateName") if not meta.name(obj) else ""
    attempts = GENERATE_ATTEMPTS if prefix else 1
    for attempt in range(attempts):
        candidate = copy(obj) if attempts > 1 else obj
        if prefix:
            meta.metadata(candidate)["name"] = names.generate(prefix, call.core.rng)
        try:
            return await create_named(call, candidate, opts)
        except status.ApiError as error:
            if not (prefix and status.is_already_exists(error)):
                raise
            if attempt == attempts - 1:
                raise status.generate_name_conflict(call.resource.kind.group_resource, meta.name(candidate)) from error
    raise AssertionError("unreachable")


async def create_named(call: Call, obj: dict[str, Any], opts: options.WriteOptions, tracked: bool = False) -> Record:
    async with hooks.allocating(call, obj, None, opts.dry_run):
        prepared = await write.prepare_create(call, obj, opts, tracked)
        record = await persist.create(call, prepared, opts.dry_run)
    if call.trail is not None:
        call.trail.named(record.name)
    return record
