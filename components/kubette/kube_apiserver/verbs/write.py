"""What create, update, patch and the writing subresources share: admission, strategy, managed fields, metadata rules.

The order is upstream's: defaults, mutating admission, preparation, managed fields, validation, validating admission, storage. A function given
to `Store.update` runs again when somebody else was faster, so everything here starts from the object it is given and keeps nothing.
"""

from collections.abc import Awaitable
from typing import Any, TypeVar

from kubette.apimachinery import apply, field_errors, meta, status
from kubette.apimachinery.field_errors import FieldError
from kubette.apimachinery.schema import ANY, Schema
from kubette.kube_apiserver.admission.interfaces import AdmissionAttributes, Operation
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.storage.store import Remove
from kubette.kube_apiserver.verbs import cluster_policy
from kubette.kube_apiserver.verbs.options import WriteOptions

Object = dict[str, Any]
T = TypeVar("T")


def attributes(
    call: Call, operation: Operation, obj: Object | None, old: Object | None, dry_run: bool, options: Object | None = None, name: str = ""
) -> AdmissionAttributes:
    """What admission is told; the object is in the stored version."""
    stored, info = call.resource.stored, call.info
    return AdmissionAttributes(
        operation,
        stored.group,
        stored.version,
        stored.kind,
        stored.resource,
        info.subresource,
        info.namespace,
        name or info.name or (meta.name(obj) if obj is not None else ""),
        call.user,
        obj,
        old,
        dry_run,
        options or {},
        call.warnings,
    )


def stored_schema(call: Call) -> Schema:
    stored = call.resource.stored
    return call.core.resources.schemas.for_gvk(stored.group, stored.version, stored.kind) or ANY


def ensure_namespace(call: Call, obj: Object) -> None:
    """The namespace of the path is the object's. Raises BadRequest when the object says another."""
    if not call.resource.kind.namespaced:
        return
    metadata = meta.metadata(obj)
    given = metadata.get("namespace")
    if given and given != call.info.namespace:
        raise status.bad_request("the namespace of the provided object does not match the namespace sent on the request")
    metadata["namespace"] = call.info.namespace


async def _measured(call: Call, work: Awaitable[T]) -> T:
    """For the audit: how long it took from the decoded object to the one that may be stored."""
    assert call.trail is not None
    began = call.core.clock.monotonic()
    prepared = await work
    call.trail.prepared(call.core.clock.monotonic() - began)
    return prepared


def prepare_create(call: Call, obj: Object, options: WriteOptions, tracked: bool = False) -> Awaitable[Object]:
    """A new object ready for storage. `tracked`: its managed fields are already right (apply)."""
    work = _prepare_create(call, obj, options, tracked)
    return work if call.trail is None else _measured(call, work)


async def _prepare_create(call: Call, obj: Object, options: WriteOptions, tracked: bool) -> Object:
    resource, core = call.resource, call.core
    strategy = resource.strategy
    metadata = meta.metadata(obj)
    if metadata.get("resourceVersion"):
        raise status.bad_request("resourceVersion should not be set on objects to be created")
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "uid", "creationTimestamp", "generation"):
        metadata.pop(name, None)
    strategy.default(obj)
    attrs = attributes(call, Operation.create, obj, None, options.dry_run)
    await core.chain.admit(attrs)
    obj = attrs.object if attrs.object is not None else obj
    metadata = meta.metadata(obj)
    metadata["uid"], metadata["creationTimestamp"] = core.new_uid(), core.now()
    if strategy.initial_status is not None and resource.kind.has_status():
        obj.pop("status", None)  # not the client's to give, so not the client's to own
    if not tracked:
        apply.track_update(None, obj, options.manager, resource.stored.api_version, core.now(), stored_schema(call))
    strategy.prepare_for_create(obj, call.context())
    errors = strategy.validate(obj) + _policy_errors(call, obj)
    if errors:
        raise status.invalid(resource.kind.group_kind, meta.name(obj) or metadata.get("generateName", ""), errors)
    for text in strategy.warnings(obj):
        call.warn(text)
    attrs.object = obj
    await core.chain.validate(attrs)
    return obj


def check_update(call: Call, obj: Object, old: Object) -> None:
    """Preconditions an update carries in itself: name, uid, resourceVersion. Fills in what only the server knows."""
    resource = call.resource
    group_resource = resource.kind.group_resource
    metadata, old_metadata = meta.metadata(obj), meta.metadata(old)
    name = old_metadata["name"]
    version = metadata.get("resourceVersion")
    if not version:
        if not resource.strategy.allow_unconditional_update:
            error = field_errors.invalid("metadata.resourceVersion", "", "must be specified for an update")
            raise status.invalid(resource.kind.group_kind, name, [error])
        metadata["resourceVersion"] = old_metadata["resourceVersion"]
    elif version != old_metadata["resourceVersion"]:
        raise status.conflict(group_resource, name)
    uid = metadata.get("uid")
    if uid and uid != old_metadata.get("uid"):
        raise precondition_failed(call, name, "UID", uid, old_metadata.get("uid", ""))
    for field in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
        if field in old_metadata:
            # An absent field is not a removal: what the server wrote stays; a different value is refused by validation.
            if field == "generation" or field not in metadata:
                metadata[field] = old_metadata[field]
        elif field != "uid":
            metadata.pop(field, None)
    metadata.pop("selfLink", None)


def precondition_failed(call: Call, name: str, what: str, wanted: str, found: str) -> status.ApiError:
    return status.conflict(
        call.resource.kind.group_resource, name, f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
    )


def prepare_update(
    call: Call, obj: Object, old: Object, options: WriteOptions, subresource: str = "", tracked: bool = False
) -> Awaitable[Object | Remove]:
    """A changed object ready for storage, or its removal when the last finalizer of a deleted object goes."""
    work = _prepare_update(call, obj, old, options, subresource, tracked)
    return work if call.trail is None else _measured(call, work)


async def _prepare_update(call: Call, obj: Object, old: Object, options: WriteOptions, subresource: str, tracked: bool) -> Object | Remove:
    resource, core = call.resource, call.core
    strategy = resource.strategy
    check_update(call, obj, old)
    strategy.default(obj)
    attrs = attributes(call, Operation.update, obj, old, options.dry_run)
    await core.chain.admit(attrs)
    obj = attrs.object if attrs.object is not None else obj
    strategy.prepare_for_update(obj, old, subresource, call.context())
    if not tracked:
        apply.track_update(old, obj, options.manager, resource.stored.api_version, core.now(), stored_schema(call), subresource)
    errors = strategy.validate_update(obj, old, subresource) + ([] if subresource == "status" else _policy_errors(call, obj))
    if errors:
        raise status.invalid(resource.kind.group_kind, meta.name(old), errors)
    for text in strategy.warnings(obj, old):
        call.warn(text)
    attrs.object = obj
    await core.chain.validate(attrs)
    return Remove(obj) if is_finished(call, obj, old) else obj


def _policy_errors(call: Call, obj: Object) -> list[FieldError]:
    return [] if call.core.config.options.allow_privileged else cluster_policy.privileged_errors(obj)


def is_finished(call: Call, obj: Object, old: Object) -> bool:
    """Whether an update takes away the last thing that kept a deleted object (upstream's ShouldDeleteDuringUpdate)."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if call.resource.stored.kind == "Namespace" and not call.resource.stored.group:
        return not (obj.get("spec") or {}).get("finalizers")
    return bool(meta.finalizers(old)) and not old["metadata"].get("deletionGracePeriodSeconds")
