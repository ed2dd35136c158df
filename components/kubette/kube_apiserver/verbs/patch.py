"""PATCH: JSON patch, merge patch, strategic merge patch and server-side apply.

A patch is applied to the object as it is; when somebody else was faster it is applied again to what they left. Only a patch
that names a resourceVersion can conflict.
"""

from typing import Any

from kubette.apimachinery import apply, codec, field_errors, meta, patch, status, validation
from kubette.apimachinery.schema import ANY
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters import bodies
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.storage.store import Remove
from kubette.kube_apiserver.verbs import body, hooks, options, persist, render, update, write

Object = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC, APPLY)


async def handle(call: Call, subresource: str = "") -> Answer:
    """Also PATCH of subresources that are the object itself."""
    if not call.info.name:
        raise status.method_not_supported("patch", call.resource.kind.group_resource)
    patch_type = call.request.headers.get("Content-Type", "").partition(";")[0].strip()
    if patch_type not in TYPES:
        raise status.unsupported_media_type(TYPES)
    opts = options.write_options(call.query, call.request.headers.get("User-Agent", ""))
    _check_options(call, patch_type)
    raw = await bodies.read(call.request)
    if call.trail is not None:
        call.trail.patched(raw, patch_type)
    if patch_type == APPLY:
        return await _apply(call, raw, opts, subresource)
    try:
        change = codec.decode(raw)
    except codec.CodecError as error:
        raise status.bad_request(f"error decoding patch: {error}") from None
    if patch_type != JSON_PATCH and not isinstance(change, dict):
        raise status.bad_request("error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}")
    schema = call.resource.schema

    async def apply_patch(old: Object) -> Object | Remove:
        current = call.resource.to_served(old)
        try:
            if patch_type == JSON_PATCH:
                patched = patch.json_patch(current, change)
            elif patch_type == MERGE_PATCH:
                patched = patch.merge_patch(validation.copy(current), change)
            else:
                patched = patch.strategic_merge_patch(validation.copy(current), change, schema)
        except patch.PatchError as error:
            raise status.ApiError(422, "Invalid", f"the server rejected our request due to an error in our request: {error}") from None
        if not isinstance(patched, dict):
            raise status.bad_request("the patch did not produce an object")
        return await _finish(call, patched, old, opts, subresource, tracked=False)

    return render.one(call, await persist.update(call, apply_patch, opts.dry_run))


def _check_options(call: Call, patch_type: str) -> None:
    errors = []
    if patch_type == APPLY:
        if not call.query.get("fieldManager"):
            errors.append(field_errors.required("fieldManager", "is required for apply patch"))
    elif "force" in call.query:
        errors.append(field_errors.forbidden("force", "may not be specified for non-apply patch"))
    if errors:
        raise status.invalid("PatchOptions.meta.k8s.io", "", errors)


async def _finish(call: Call, patched: Object, old: Object, opts: options.WriteOptions, subresource: str, tracked: bool) -> Object | Remove:
    kind = call.resource.kind
    body.check_kind(patched, kind.api_version, kind.kind)
    body.conform(call, patched, call.resource.schema, opts.validation)
    update.check_name(call, patched)
    write.ensure_namespace(call, patched)
    new = call.resource.to_stored(patched)
    async with hooks.allocating(call, new, old, opts.dry_run):
        return await write.prepare_update(call, new, old, opts, subresource, tracked)


async def _apply(call: Call, raw: bytes, opts: options.WriteOptions, subresource: str) -> Answer:
    """Server-side apply: the object is created if it does not exist."""
    kind, schema = call.resource.kind, call.resource.schema or ANY
    try:
        config = codec.decode_object(raw, codec.YAML).obj
    except codec.CodecError as error:
        raise status.bad_request(f"error decoding YAML: {error}") from None
    if config.get("kind", kind.kind) != kind.kind:
        raise status.bad_request(f"failed to create typed patch object: unexpected kind {config.get('kind')!r}, expected {kind.kind!r}")
    unknown = validation.unknown_fields(config, schema)
    if unknown:
        # Apply is strict: a field nobody knows cannot be owned.
        first = f"failed to create typed patch object ({call.info.namespace}/{call.info.name}; {kind.api_version}, Kind={kind.kind})"
        if opts.validation == validation.STRICT or call.query.get("fieldValidation") is None:
            raise status.ApiError(500, "", f"{first}: .{unknown[0]}: field not declared in schema")
    body.conform(call, config, schema, validation.IGNORE)
    update.check_name(call, config)
    write.ensure_namespace(call, config)
    created = False

    async def change(old: Object) -> Object | Remove:
        nonlocal created
        created = not old
        live = call.resource.to_served(old) if old else None
        manager = call.query["fieldManager"]
        merged = apply.apply(live, config, manager, opts.force, kind.api_version, call.core.now(), schema, subresource)
        merged = validation.copy(merged)
        if old:
            return await _finish(call, merged, old, opts, subresource, tracked=True)
        meta.metadata(merged).pop("resourceVersion", None)
        body.conform(call, merged, schema, validation.IGNORE)
        new = call.resource.to_stored(merged)
        async with hooks.allocating(call, new, None, opts.dry_run):
            return await write.prepare_create(call, new, opts, tracked=True)

    found = await persist.update(call, change, opts.dry_run, create=not subresource)
    return render.one(call, found, 201 if created else 200)
