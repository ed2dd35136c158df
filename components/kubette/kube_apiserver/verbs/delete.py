"""DELETE of one object: at once, or in two steps.

An object is marked (`deletionTimestamp`) instead of removed while it has finalizers, or, for pods, until its kubelet has stopped it and
deletes again with a grace period of 0. The propagation policy becomes a finalizer that the garbage collector works off (upstream's
rest.BeforeDelete and registry.Store.Delete).
"""

from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import codec, field_errors, meta, protobuf, status, timestamps
from kubette.kube_apiserver.admission.interfaces import Operation
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters import bodies
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.request_info import is_true
from kubette.kube_apiserver.storage.store import Remove
from kubette.kube_apiserver.verbs import body, hooks, options, persist, render, write

Object = dict[str, Any]

POLICIES = ("Background", "Foreground", "Orphan")
DEFAULT_POD_GRACE_S = 30
# Kinds whose delete answers the object instead of a Status (upstream's ReturnDeletedObject).
RETURNS_OBJECT = frozenset(
    {
        ("", "persistentvolumeclaims"),
        ("", "persistentvolumes"),
        ("", "pods"),
        ("", "podtemplates"),
        ("", "resourcequotas"),
        ("", "serviceaccounts"),
        ("", "services"),
        ("storage.k8s.io", "csidrivers"),
        ("storage.k8s.io", "csinodes"),
        ("storage.k8s.io", "storageclasses"),
    }
)


@dataclass(slots=True)
class DeleteOptions:
    """meta/v1's DeleteOptions, from the body or the query."""

    grace_s: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    policy: str = ""
    orphan_dependents: bool | None = None
    dry_run: bool = False
    raw: Object = field(default_factory=dict)


async def read_options(call: Call) -> DeleteOptions:
    """Raises BadRequest or Invalid."""
    raw = await bodies.read(call.request) if call.request.can_read_body else b""
    if raw:
        try:
            given = body.decode(call, raw, bodies.media_type(call.request), "v1", "DeleteOptions").obj
        except (codec.CodecError, protobuf.ProtobufError) as error:
            raise status.bad_request(str(error)) from None
        if given.get("kind", "DeleteOptions") != "DeleteOptions":
            raise status.bad_request("decoded object cannot be converted to DeleteOptions")
    else:
        query = call.query
        given = {name: query[name] for name in ("propagationPolicy",) if name in query}
        if query.get("gracePeriodSeconds"):
            given["gracePeriodSeconds"] = options.integer(query, "gracePeriodSeconds")
        if "orphanDependents" in query:
            given["orphanDependents"] = is_true(query["orphanDependents"])
        if query.get("dryRun"):
            given["dryRun"] = [query["dryRun"]]
    if call.trail is not None and raw:
        call.trail.sent(given)
    return parse_options(given)


def parse_options(given: Object) -> DeleteOptions:
    """Raises Invalid."""
    preconditions = given.get("preconditions") or {}
    dry_run = given.get("dryRun") or []
    policy, orphan = given.get("propagationPolicy"), given.get("orphanDependents")
    errors = []
    if any(value != "All" for value in dry_run):
        errors.append(field_errors.not_supported("dryRun", dry_run, ("All",)))
    if policy is not None and policy not in POLICIES:
        errors.append(field_errors.not_supported("propagationPolicy", policy, (*POLICIES, "nil")))
    if policy is not None and orphan is not None:
        errors.append(field_errors.invalid("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set"))
    if errors:
        raise status.invalid("DeleteOptions.meta.k8s.io", "", errors)
    grace = given.get("gracePeriodSeconds")
    return DeleteOptions(
        int(grace) if grace is not None else None,
        preconditions.get("uid"),
        preconditions.get("resourceVersion"),
        policy or "",
        orphan,
        bool(dry_run),
        given,
    )


async def handle(call: Call) -> Answer:
    opts = await read_options(call)
    obj, removed = await delete(call, opts)
    stored = call.resource.stored
    if removed and (stored.group, stored.resource) not in RETURNS_OBJECT:
        kind = call.resource.kind
        details: Object = {"name": meta.name(obj)}
        if kind.group:
            details["group"] = kind.group
        details |= {"kind": kind.resource, "uid": meta.uid(obj)}
        return render.plain(call, status.success(details))
    accepted = not removed and opts.orphan_dependents is False
    return render.plain(call, call.resource.to_served(obj), 202 if accepted else 200)


async def delete(call: Call, opts: DeleteOptions) -> tuple[Object, bool]:
    """(the object as it is or was last, whether it is gone)."""
    removed = False

    async def change(old: Object) -> Object | Remove:
        nonlocal removed
        check_preconditions(call, old, opts)
        attrs = write.attributes(call, Operation.delete, None, old, opts.dry_run, opts.raw, meta.name(old))
        await call.core.chain.admit(attrs)
        await call.core.chain.validate(attrs)
        outcome = plan_delete(call, old, opts)
        removed = isinstance(outcome, Remove)
        return outcome

    found = await persist.update(call, change, opts.dry_run)
    obj = found.object()
    if removed and not opts.dry_run:
        await hooks.released(call, obj)
    return obj, removed


def check_preconditions(call: Call, old: Object, opts: DeleteOptions) -> None:
    """Raises Conflict."""
    if opts.uid is not None and opts.uid != meta.uid(old):
        raise write.precondition_failed(call, meta.name(old), "UID", opts.uid, meta.uid(old))
    if opts.resource_version is not None and opts.resource_version != meta.resource_version(old):
        raise write.precondition_failed(call, meta.name(old), "ResourceVersion", opts.resource_version, meta.resource_version(old))


def plan_delete(call: Call, old: Object, opts: DeleteOptions) -> Object | Remove:
    """What a delete makes of the object: the object marked, or its removal. `old` is changed."""
    metadata = meta.metadata(old)
    finalizers = planned_finalizers(call, old, opts)
    grace = graceful_period(call, old, opts)
    is_namespace = (call.resource.stored.group, call.resource.stored.kind) == ("", "Namespace")
    kept_by_spec = is_namespace and bool((old.get("spec") or {}).get("finalizers"))
    if grace == 0 and not finalizers and not kept_by_spec:
        return Remove(old)
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    now = call.core.clock.wall()
    if not meta.is_being_deleted(old):
        metadata["deletionTimestamp"] = timestamps.format_time(now + grace)
        if not is_namespace or finalizers:
            metadata["deletionGracePeriodSeconds"] = grace
        if meta.generation(old):
            metadata["generation"] = meta.generation(old) + 1
    elif grace < (metadata.get("deletionGracePeriodSeconds") or 0):
        # A second delete may only shorten the wait.
        began = timestamps.parse_time(metadata["deletionTimestamp"]) - metadata["deletionGracePeriodSeconds"]
        metadata["deletionTimestamp"] = timestamps.format_time(began + grace)
        metadata["deletionGracePeriodSeconds"] = grace
    if is_namespace:
        old.setdefault("status", {})["phase"] = "Terminating"
    return old


def graceful_period(call: Call, old: Object, opts: DeleteOptions) -> int:
    """Seconds until the object may go; 0 for everything but pods that run somewhere."""
    if not call.resource.stored.graceful:
        return 0
    spec, current = old.get("spec") or {}, old["metadata"].get("deletionGracePeriodSeconds")
    if meta.is_being_deleted(old) and opts.grace_s is None:
        return int(current or 0)
    grace = opts.grace_s if opts.grace_s is not None else int(spec.get("terminationGracePeriodSeconds", DEFAULT_POD_GRACE_S))
    if grace < 0:
        grace = 1
    if not spec.get("nodeName") or (old.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return 0
    if meta.is_being_deleted(old):
        return min(grace, int(current or 0))
    return grace


def planned_finalizers(call: Call, old: Object, opts: DeleteOptions) -> list[str]:
    """The finalizers with the propagation policy put among them (upstream's deletionFinalizersForGarbageCollection)."""
    found = meta.finalizers(old)
    orphan = meta.ORPHAN_DEPENDENTS in found
    foreground = meta.DELETE_DEPENDENTS in found
    if opts.orphan_dependents is not None:
        orphan, foreground = opts.orphan_dependents, False
    elif opts.policy:
        orphan, foreground = opts.policy == "Orphan", opts.policy == "Foreground"
    elif not (orphan or foreground) and (call.resource.stored.group, call.resource.stored.kind) == ("", "ReplicationController"):
        orphan = True  # the one kind whose default is from before garbage collection
    kept = [one for one in found if one not in (meta.ORPHAN_DEPENDENTS, meta.DELETE_DEPENDENTS)]
    if orphan:
        kept.append(meta.ORPHAN_DEPENDENTS)
    if foreground:
        kept.append(meta.DELETE_DEPENDENTS)
    return kept
