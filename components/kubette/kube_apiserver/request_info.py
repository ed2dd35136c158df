"""Pure: what a request asks for, read from its method, path and query (apiserver's request.RequestInfo).

    /api/v1/namespaces/default/pods/web/log   →  verb get, resource pods, subresource log, namespace default, name web
    /apis/apps/v1/deployments?watch=1         →  verb watch, resource deployments, all namespaces
    /version                                  →  not a resource: verb get, path /version

`namespaces` is the one resource whose name is also its namespace. Parts that make no sense give a non-resource request,
which the handler answers with 404.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote

# Subresources of namespaces that look like a resource inside a namespace (request.namespaceSubresources).
NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
# The old `/api/v1/watch/…` and `/api/v1/proxy/…` prefixes.
SPECIAL_VERBS = frozenset({"proxy", "watch"})
_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """`path` is the decoded path. `tail` is what follows a proxy subresource, with its leading slash."""

    is_resource: bool
    path: str
    verb: str
    prefix: str = ""
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    tail: str = ""


def is_true(text: str | None) -> bool:
    """A boolean query parameter as upstream's conversion reads it: absent, "false" and "0" are false, all else is true."""
    return text is not None and text not in ("false", "0")


def resolve(method: str, raw_path: str, query: Mapping[str, str]) -> RequestInfo:
    """Read one request. `raw_path` is the path as sent (percent-encoded, no query)."""
    path = unquote(raw_path) if "%" in raw_path else raw_path
    non_resource = RequestInfo(False, path, method.lower())
    # Split before decoding, so that an encoded slash stays inside its segment.
    parts = [unquote(p) if "%" in p else p for p in raw_path.strip("/").split("/")]
    if len(parts) < 3 or parts[0] not in ("api", "apis"):
        return non_resource
    prefix, group = parts[0], ""
    rest = parts[1:]
    if prefix == "apis":
        if len(parts) < 4:
            return non_resource
        group, rest = rest[0], rest[1:]
    version, rest = rest[0], rest[1:]
    verb = _VERBS.get(method, "")
    if rest[0] in SPECIAL_VERBS:
        if len(rest) < 2:
            return non_resource
        verb, rest = rest[0], rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in NAMESPACE_SUBRESOURCES:
            rest = rest[2:]
    resource = rest[0]
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    tail = "/" + "/".join(rest[3:]) if len(rest) > 3 else ""
    if len(rest) > 3 and subresource != "proxy":
        return non_resource
    info = RequestInfo(True, path, verb, prefix, group, version, namespace, resource, subresource, name, tail)
    return replace(info, verb=_collection_verb(verb, name, query)) if verb in ("get", "delete") else info


def _collection_verb(verb: str, name: str, query: Mapping[str, str]) -> str:
    """get → list or watch, delete → deletecollection, when a collection is meant."""
    if verb == "delete":
        return verb if name else "deletecollection"
    if not name:
        return "watch" if is_true(query.get("watch")) else "list"
    # A get of one name with ?watch is a watch only with a field selector naming it; upstream treats ?watch on a name as get.
    return verb


def authorized_name(info: RequestInfo, query: Mapping[str, str]) -> str:
    """The name that authorization is asked about: a list or watch of one object by its name is about that object.

    So a kubelet may follow the one ConfigMap that its pod refers to, and no other.
    """
    if info.name or info.verb not in ("list", "watch", "deletecollection"):
        return info.name
    for term in query.get("fieldSelector", "").split(","):
        field, equals, value = term.partition("=")
        if equals and field == "metadata.name":
            return value.removeprefix("=")
    return ""
