"""`namespaces/finalize`: the namespace controller takes its finalizer out of the spec; with the last one the namespace goes."""

from typing import Any

from kubette.apimachinery import meta
from kubette.apimachinery.validation import copy
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.storage.store import Remove
from kubette.kube_apiserver.verbs import body, options, persist, render, update, write

Object = dict[str, Any]


async def replace(call: Call) -> Answer:
    opts = options.write_options(call.query, call.request.headers.get("User-Agent", ""))
    wanted = await body.read_object(call, "v1", "Namespace", call.resource.schema, opts.validation)
    update.check_name(call, wanted)

    async def change(old: Object) -> Object | Remove:
        write.check_update(call, copy(wanted), old)
        new = copy(old)
        finalizers = (wanted.get("spec") or {}).get("finalizers")
        if finalizers:
            new.setdefault("spec", {})["finalizers"] = finalizers
        else:
            new.get("spec", {}).pop("finalizers", None)
        gone = meta.is_being_deleted(new) and not finalizers and not meta.finalizers(new)
        return Remove(new) if gone else new

    return render.one(call, await persist.update(call, change, opts.dry_run))
