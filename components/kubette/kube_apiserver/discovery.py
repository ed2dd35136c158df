"""Pure: what a client asks first: /api, /apis, /apis/<group>/<version>, and all of it at once (aggregated discovery, KEP-3352).

Documents are built and encoded once and carry an ETag. A change of the served kinds (custom resources) makes a new `Discovery`.
"""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from kubette.api.kinds import Kind, KindTable, Subresource

Object = dict[str, Any]

JSON = "application/json"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class Document:
    """An encoded answer. `etag` is quoted, fit for the header; empty for the unaggregated documents, which upstream sends without."""

    body: bytes
    content_type: str
    etag: str = ""


class Discovery:
    """The documents of one set of kinds."""

    def __init__(self, kinds: KindTable, server_address: str = "") -> None:
        self._kinds = kinds
        self._server_address = server_address
        self._documents: dict[tuple[str, bool], Document] = {}

    def document(self, path: str, accept: str = "") -> Document | None:
        """The answer to a GET of `/api`, `/apis`, `/api/v1`, `/apis/<group>`, `/apis/<group>/<version>`; None if there is no such group or version."""
        path = path.rstrip("/")
        aggregated = path in ("/api", "/apis") and wants_aggregated(accept)
        found = self._documents.get((path, aggregated))
        if found is None:
            content = self._aggregated(path) if aggregated else self._plain(path)
            if content is None:
                return None
            body = orjson.dumps(content)
            etag = f'"{hashlib.sha512(body).hexdigest().upper()}"' if aggregated else ""
            found = self._documents[(path, aggregated)] = Document(body, AGGREGATED if aggregated else JSON, etag)
        return found

    def _plain(self, path: str) -> Object | None:
        if path == "/api":
            addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._server_address}]
            return {"kind": "APIVersions", "versions": list(self._kinds.versions("")), "serverAddressByClientCIDRs": addresses}
        if path == "/apis":
            groups = [api_group(self._kinds, group) for group in self._kinds.groups() if group]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        parts = path.split("/")[1:]
        if parts[0] == "api" and len(parts) == 2:
            return self._resources("", parts[1])
        if parts[0] == "apis" and len(parts) == 2 and parts[1] in self._kinds.groups():
            return {"kind": "APIGroup", "apiVersion": "v1", **api_group(self._kinds, parts[1])}
        if parts[0] == "apis" and len(parts) == 3:
            return self._resources(parts[1], parts[2])
        return None

    def _resources(self, group: str, version: str) -> Object | None:
        kinds = self._kinds.of_group_version(group, version)
        if not kinds:
            return None
        group_version = f"{group}/{version}" if group else version
        resources = [resource for kind in kinds for resource in api_resources(kind, self._kinds.subresources(kind))]
        head = {"kind": "APIResourceList", "groupVersion": group_version, "resources": resources}
        return head if group == "" else {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}

    def _aggregated(self, path: str) -> Object:
        groups = [""] if path == "/api" else [group for group in self._kinds.groups() if group]
        items = []
        for group in groups:
            versions = [
                {
                    "version": version,
                    "resources": [
                        _aggregated_resource(kind, self._kinds.subresources(kind)) for kind in self._kinds.of_group_version(group, version)
                    ],
                    "freshness": "Current",
                }
                for version in self._kinds.versions(group)
            ]
            metadata: Object = {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None}
            items.append({"metadata": metadata, "versions": versions})
        return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def wants_aggregated(accept: str) -> bool:
    """Whether the first acceptable media type is the aggregated one. Types are taken in the client's order, as upstream does."""
    for one in accept.split(","):
        media_type, *parameters = (part.strip() for part in one.split(";"))
        named = dict(part.partition("=")[::2] for part in parameters)
        if media_type not in (JSON, "application/*", "*/*"):
            continue
        if named.get("as"):
            if (named["as"], named.get("g"), named.get("v")) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2"):
                return True
            continue
        return False
    return False


def storage_version_hash(kind: Kind) -> str:
    """Tells clients when the stored version changes (the storage migrator's use)."""
    stored = kind.stored_gv
    digest = hashlib.sha256(f"{stored.group}/{stored.version}/{kind.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def api_group(kinds: KindTable, group: str) -> Object:
    """One entry of /apis."""
    versions = [{"groupVersion": f"{group}/{version}", "version": version} for version in kinds.versions(group)]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def api_resources(kind: Kind, subresources: Iterable[Subresource]) -> list[Object]:
    """`pods` and its subresources, as an APIResourceList has them."""
    main: Object = {
        "name": kind.resource,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        main["shortNames"] = list(kind.short_names)
    if kind.categories:
        main["categories"] = list(kind.categories)
    if kind.stored:
        main["storageVersionHash"] = storage_version_hash(kind)
    resources = [main]
    for subresource in subresources:
        entry: Object = {"name": f"{kind.resource}/{subresource.name}", "singularName": "", "namespaced": kind.namespaced}
        if subresource.version and (subresource.group, subresource.version) != (kind.group, kind.version):
            entry["group"] = subresource.group
            entry["version"] = subresource.version
        entry["kind"] = subresource.kind or kind.kind
        entry["verbs"] = list(subresource.verbs)
        resources.append(entry)
    return resources


def _aggregated_resource(kind: Kind, subresources: Iterable[Subresource]) -> Object:
    resource: Object = {
        "resource": kind.resource,
        "responseKind": {"group": "", "version": "", "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    # Upstream leaves group and version empty where they are those of the list they stand in.
    if kind.short_names:
        resource["shortNames"] = list(kind.short_names)
    if kind.categories:
        resource["categories"] = list(kind.categories)
    entries = [
        {
            "subresource": subresource.name,
            "responseKind": {"group": subresource.group, "version": subresource.version, "kind": subresource.kind or kind.kind},
            "verbs": list(subresource.verbs),
        }
        for subresource in subresources
    ]
    if entries:
        resource["subresources"] = entries
    return resource
