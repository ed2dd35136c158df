"""DELETE of a collection: list, then delete each object; what has gone meanwhile is no error."""

from dataclasses import replace

from kubette.apimachinery import status
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.verbs import delete, options, render
from kubette.kube_apiserver.verbs import list as list_verb


async def handle(call: Call) -> Answer:
    """Answers the list of what was deleted, as upstream does."""
    opts = await delete.read_options(call)
    page = await list_verb.select(call, options.list_options(call.query, watching=False))
    for found in page.records:
        one = replace(call, info=replace(call.info, name=found.name, namespace=found.namespace))
        try:
            await delete.delete(one, opts)
        except status.ApiError as error:
            if not status.is_not_found(error):
                raise
    return render.many(call, page.records, {"resourceVersion": str(page.revision)})
