"""Creating, deleting, adopting pods in the name of a controller, with upstream's events (RealPodControl)."""

import asyncio
from collections.abc import Iterable
from typing import Any

from kubette.apimachinery import meta, status
from kubette.apimachinery.selectors import Selector
from kubette.client import events, resources
from kubette.client.resources import Resource
from kubette.client.rest import FAILURES, Client, PatchType
from kubette.kube_controller_manager import ownership

Object = dict[str, Any]


class PodControl:
    """`owner`s passed in must name their kind (`apiVersion`, `kind`)."""

    def __init__(self, client: Client, recorder: events.Recorder) -> None:
        self._client, self._recorder = client, recorder

    async def create(self, owner: Object, namespace: str, pod: Object) -> Object:
        """Raises what the API server answers, after telling it as an event."""
        try:
            created = await self._client.create(resources.PODS, namespace, pod)
        except FAILURES as error:
            # In a namespace that is going away, failing is what must happen.
            if not _is_namespace_terminating(error):
                self._recorder.event(owner, events.WARNING, "FailedCreate", f"Error creating: {error}")
            raise
        self._recorder.event(owner, events.NORMAL, "SuccessfulCreate", f"Created pod: {meta.name(created)}")
        return created

    async def delete(self, owner: Object, pod: Object) -> None:
        """A pod that is gone already counts as deleted."""
        try:
            await self._client.delete(resources.PODS, meta.namespace(pod), meta.name(pod), uid=meta.uid(pod))
        except FAILURES as error:
            if status.is_not_found(error):
                return
            self._recorder.event(owner, events.WARNING, "FailedDelete", f"Error deleting: {error}")
            raise
        self._recorder.event(owner, events.NORMAL, "SuccessfulDelete", f"Deleted pod: {meta.name(pod)}")


def _is_namespace_terminating(error: BaseException) -> bool:
    if not isinstance(error, status.ApiError):
        return False
    return any(cause.get("reason") == "NamespaceTerminating" for cause in error.details.get("causes") or ())


async def claim(
    client: Client, resource: Resource, owner_resource: Resource, owner: Object, selector: Selector, candidates: Iterable[Object]
) -> list[Object]:
    """The owner's children among the candidates, after adopting orphans and releasing what no longer matches.

    Before the first adoption the owner is read from the server: a cached owner may have been deleted (and recreated) meanwhile.
    """
    claims = ownership.claim(owner, selector, candidates)
    owned = list(claims.owned)
    for child in claims.release:
        try:
            await client.patch(resource, meta.namespace(child), meta.name(child), ownership.release_patch(owner, child), PatchType.STRATEGIC)
        except status.ApiError as error:
            if error.code not in (404, 422):  # gone, or another object of that name
                raise
    if claims.adopt:
        fresh = await client.get(owner_resource, meta.namespace(owner), meta.name(owner))
        if meta.uid(fresh) != meta.uid(owner) or meta.is_being_deleted(fresh):
            return owned
        for child in claims.adopt:
            patch = ownership.adoption_patch(owner, owner_resource.api_version, owner_resource.kind, child)
            try:
                owned.append(await client.patch(resource, meta.namespace(child), meta.name(child), patch, PatchType.STRATEGIC))
            except status.ApiError as error:
                if error.code not in (404, 422):
                    raise
    return owned


async def gather(work: Iterable[Any]) -> list[BaseException | Any]:
    """Run all; the outcomes, exceptions among them, in order."""
    return await asyncio.gather(*work, return_exceptions=True)
