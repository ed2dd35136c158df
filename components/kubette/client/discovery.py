"""Which resources a server has: every group in its preferred version (client-go's discovery client, restmapper)."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery.status import ApiError
from kubette.client.resources import Discovered, Resource
from kubette.client.rest import Client
from kubette.client.transport import TransportError


@dataclass(slots=True)
class Discovery:
    """The answer: resources, and the group-versions that could not be asked (a dead aggregated API)."""

    resources: list[Discovered] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """The resource an owner reference means. Another version of its group will do: storage is the same."""
        group = api_version.partition("/")[0] if "/" in api_version else ""
        candidates = [d.resource for d in self.resources if d.resource.group == group and d.resource.kind == kind]
        return next((r for r in candidates if r.api_version == api_version), candidates[0] if candidates else None)


async def discover(client: Client) -> Discovery:
    """Ask the server. Raises when not even the list of groups can be had."""
    groups = await client.request("GET", "/apis")
    versions = ["v1", *(g["preferredVersion"]["groupVersion"] for g in groups.get("groups") or [])]
    found = Discovery()
    answers = await asyncio.gather(*(_ask(client, v) for v in versions))
    for group_version, answer in zip(versions, answers, strict=True):
        if isinstance(answer, Exception):
            found.failed[group_version] = str(answer)
        else:
            found.resources += _read(group_version, answer)
    return found


async def _ask(client: Client, group_version: str) -> dict[str, Any] | Exception:
    try:
        return await client.request("GET", f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}")
    except (ApiError, TransportError) as error:
        return error


def _read(group_version: str, answer: dict[str, Any]) -> list[Discovered]:
    default_group, _, default_version = group_version.rpartition("/")
    found = []
    for one in answer.get("resources") or []:
        if "/" in one["name"]:
            continue  # a subresource
        resource = Resource(
            one.get("group") or default_group, one.get("version") or default_version, one["name"], one["kind"], bool(one["namespaced"])
        )
        found.append(Discovered(resource, frozenset(one.get("verbs") or ())))
    return found
