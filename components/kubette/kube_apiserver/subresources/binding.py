"""`pods/binding` (and the old `bindings`): the scheduler's answer, written once."""

from dataclasses import replace
from typing import Any

from kubette.apimachinery import field_errors, meta, status
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.storage.store import Remove
from kubette.kube_apiserver.verbs import body, options, persist, render

Object = dict[str, Any]


async def create(call: Call) -> Answer:
    """POST pods/<name>/binding."""
    schema = call.core.resources.schemas.for_gvk("", "v1", "Binding")
    opts = options.write_options(call.query, call.request.headers.get("User-Agent", ""))
    binding = await body.read_object(call, "v1", "Binding", schema, opts.validation)
    given = meta.name(binding)
    if given and given != call.info.name:
        raise status.bad_request("name in URL does not match name in Binding object")
    await bind(call, binding, opts.dry_run)
    return render.plain(call, status.success(), 201)


async def create_named_inside(call: Call) -> Answer:
    """POST bindings: the old form, where the pod is named by the Binding alone."""
    opts = options.write_options(call.query, call.request.headers.get("User-Agent", ""))
    binding = await body.read_object(call, "v1", "Binding", call.resource.schema, opts.validation)
    pods = call.core.resources.by_group("", "pods")
    assert pods is not None
    await bind(replace(call, resource=pods, info=replace(call.info, name=meta.name(binding))), binding, opts.dry_run)
    return render.plain(call, status.success(), 201)


async def bind(call: Call, binding: Object, dry_run: bool) -> None:
    """Raises Conflict when the pod has a node already or is being deleted."""
    target = binding.get("target") or {}
    errors = []
    if target.get("kind", "Node") not in ("", "Node"):
        errors.append(field_errors.not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        errors.append(field_errors.required("target.name"))
    if errors:
        raise status.invalid("Binding", call.info.name, errors)
    uid, version = meta.uid(binding), meta.resource_version(binding)

    async def change(pod: Object) -> Object | Remove:
        name = meta.name(pod)
        if uid and uid != meta.uid(pod):
            raise status.conflict("pods", name, f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta.uid(pod)}")
        if version and version != meta.resource_version(pod):
            raise status.conflict("pods", name)
        if meta.is_being_deleted(pod):
            raise status.conflict("pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host")
        spec = pod["spec"]
        if spec.get("nodeName"):
            raise status.conflict("pods/binding", name, f"pod {name} is already assigned to node {_quoted(spec['nodeName'])}")
        if spec.get("schedulingGates"):
            raise status.conflict("pods/binding", name, f"pod {name} has non-empty .spec.schedulingGates")
        spec["nodeName"] = target["name"]
        for key, values in (("annotations", meta.annotations(binding)), ("labels", meta.labels(binding))):
            if values:
                meta.metadata(pod)[key] = {**(meta.metadata(pod).get(key) or {}), **values}
        _set_scheduled(pod, call.core.now())
        return pod

    await persist.update(call, change, dry_run)


def _quoted(text: str) -> str:
    return f'"{text}"'


def _set_scheduled(pod: Object, now: str) -> None:
    """The condition PodScheduled=True; its time changes only with its status."""
    conditions = pod.setdefault("status", {}).setdefault("conditions", [])
    for one in conditions:
        if one.get("type") == "PodScheduled":
            if one.get("status") != "True":
                one["lastTransitionTime"] = now
            one["status"] = "True"
            for field in ("reason", "message"):
                one.pop(field, None)
            return
    conditions.append({"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now})
