"""Carrying out `revisions.py`: finding or making the revision of a template, and forgetting old ones."""

from collections.abc import Sequence
from typing import Any

from kubette.apimachinery import meta, status
from kubette.client import resources
from kubette.client.resources import Resource
from kubette.client.rest import Client
from kubette.kube_controller_manager import objects, revisions

Object = dict[str, Any]


async def current_revision(client: Client, resource: Resource, owner: Object, data: Object, known: Sequence[Object]) -> Object:
    """The revision of `data`: an equal one (made the newest if it is not), or a new one."""
    number = revisions.next_number(known)
    equal = revisions.find_equal(known, data)
    if equal:
        newest = equal[-1]
        if int(newest.get("revision") or 0) == number - 1:
            return newest
        body = {"apiVersion": "apps/v1", "kind": "ControllerRevision", **newest, "revision": number}
        return await client.update(resources.CONTROLLERREVISIONS, body)
    labels = ((objects.spec(owner).get("template") or {}).get("metadata") or {}).get("labels") or {}
    collision_count = objects.status(owner).get("collisionCount")
    made = revisions.new_revision(owner, resource.api_version, resource.kind, data, number, labels, collision_count)
    try:
        return await client.create(resources.CONTROLLERREVISIONS, meta.namespace(owner), made)
    except status.ApiError as error:
        if not status.is_already_exists(error):
            raise
        existing = await client.get(resources.CONTROLLERREVISIONS, meta.namespace(owner), meta.name(made))
        if existing.get("data") == data and meta.is_controlled_by(existing, owner):
            return existing  # our own earlier attempt, not in the cache yet
        count = int(collision_count or 0) + 1
        await client.update(resource, objects.with_status(owner, {**objects.status(owner), "collisionCount": count}), "status")
        raise


async def forget(client: Client, doomed: Sequence[Object]) -> None:
    for revision in doomed:
        try:
            await client.delete(resources.CONTROLLERREVISIONS, meta.namespace(revision), meta.name(revision), uid=meta.uid(revision))
        except status.ApiError as error:
            if not status.is_not_found(error):
                raise
