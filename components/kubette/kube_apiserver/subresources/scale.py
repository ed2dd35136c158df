"""`…/scale`: replicas of a workload as an autoscaling/v1 Scale, whatever the workload."""

from typing import Any

from kubette.apimachinery import codec, field_errors, meta, patch, selectors, status, validation
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters import bodies
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.storage.store import Remove
from kubette.kube_apiserver.verbs import body, options, persist, render, write

Object = dict[str, Any]

API_VERSION = "autoscaling/v1"


def scale_of(obj: Object) -> Object:
    """The Scale of a workload."""
    metadata = obj["metadata"]
    selector = (obj.get("spec") or {}).get("selector")
    if isinstance(selector, dict) and obj.get("kind") == "ReplicationController":
        text = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    else:
        text = str(selectors.from_label_selector(selector)) if selector is not None else ""
    out: Object = {
        "kind": "Scale",
        "apiVersion": API_VERSION,
        "metadata": {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if key in metadata},
        "spec": {},
        "status": {"replicas": (obj.get("status") or {}).get("replicas", 0)},
    }
    if (obj.get("spec") or {}).get("replicas"):
        out["spec"]["replicas"] = obj["spec"]["replicas"]
    if text:
        out["status"]["selector"] = text
    return out


async def read(call: Call) -> Answer:
    store = call.resource.store
    assert store is not None
    found = await store.get(call.info.namespace, call.info.name)
    return render.plain(call, scale_of(found.object()))


async def replace(call: Call) -> Answer:
    opts = options.write_options(call.query, call.request.headers.get("User-Agent", ""))
    schema = call.core.resources.schemas.for_gvk("autoscaling", "v1", "Scale")
    wanted = await body.read_object(call, API_VERSION, "Scale", schema, opts.validation)

    def make(current: Object) -> Object:
        return wanted

    return await _write(call, make, opts)


async def change(call: Call) -> Answer:
    """PATCH; a Scale has nothing that strategic merge would treat differently."""
    opts = options.write_options(call.query, call.request.headers.get("User-Agent", ""))
    content_type = call.request.headers.get("Content-Type", "").partition(";")[0].strip()
    raw = await bodies.read(call.request)
    if call.trail is not None:
        call.trail.patched(raw, call.request.headers.get("Content-Type", ""))
    try:
        document = codec.decode(raw, "application/yaml" if content_type.endswith("yaml") else codec.JSON)
    except codec.CodecError as error:
        raise status.bad_request(f"error decoding patch: {error}") from None

    def make(current: Object) -> Object:
        try:
            if content_type == "application/json-patch+json":
                made: Object = patch.json_patch(current, document)
            else:
                made = patch.merge_patch(validation.copy(current), document)
        except patch.PatchError as error:
            raise status.ApiError(422, "Invalid", f"the server rejected our request due to an error in our request: {error}") from None
        return made

    return await _write(call, make, opts)


async def _write(call: Call, make: Any, opts: options.WriteOptions) -> Answer:
    async def set_replicas(old: Object) -> Object | Remove:
        wanted = make(scale_of(old))
        given = meta.name(wanted)
        if given and given != meta.name(old):
            raise status.bad_request(f"the name of the object ({given}) does not match the name on the URL ({meta.name(old)})")
        version, uid = meta.resource_version(wanted), meta.uid(wanted)
        if version and version != meta.resource_version(old):
            raise status.conflict(call.resource.kind.group_resource, meta.name(old))
        if uid and uid != meta.uid(old):
            raise write.precondition_failed(call, meta.name(old), "UID", uid, meta.uid(old))
        replicas = (wanted.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or isinstance(replicas, bool):
            raise status.bad_request("cannot unmarshal spec.replicas into Go struct field ScaleSpec.spec.replicas of type int32")
        if replicas < 0:
            error = field_errors.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
            raise status.invalid("Scale.autoscaling", meta.name(old), [error])
        new = validation.copy(old)
        new.setdefault("spec", {})["replicas"] = replicas
        return await write.prepare_update(call, new, old, opts, "scale")

    found = await persist.update(call, set_replicas, opts.dry_run)
    return render.plain(call, scale_of(found.object()))
