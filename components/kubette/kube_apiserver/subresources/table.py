"""Which handler serves which subresource; a resource of "" stands for every resource that has it."""

from collections.abc import Awaitable, Callable
from typing import Any

from kubette.kube_apiserver.subresources import binding, component_statuses, eviction, namespace_finalize, object_views, pod_streams, reviews, scale

Table = dict[tuple[str, str, str], Callable[[Any], Awaitable[Any]]]

REVIEWS = (
    "localsubjectaccessreviews",
    "selfsubjectaccessreviews",
    "selfsubjectreviews",
    "selfsubjectrulesreviews",
    "subjectaccessreviews",
    "tokenreviews",
)


def build() -> Table:
    table: Table = {
        ("", "scale", "get"): scale.read,
        ("", "scale", "update"): scale.replace,
        ("", "scale", "patch"): scale.change,
        ("bindings", "", "create"): binding.create_named_inside,
        ("componentstatuses", "", "get"): component_statuses.get_one,
        ("componentstatuses", "", "list"): component_statuses.list_all,
        ("namespaces", "finalize", "update"): namespace_finalize.replace,
        ("pods", "binding", "create"): binding.create,
        ("pods", "eviction", "create"): eviction.create,
        ("pods", "log", "get"): pod_streams.log,
        ("serviceaccounts", "token", "create"): reviews.create_token,
    }
    for name in ("status", "approval", "ephemeralcontainers", "resize"):
        table["", name, "get"] = object_views.read
        table["", name, "update"] = object_views.replace
        table["", name, "patch"] = object_views.change
    for name in ("attach", "exec", "portforward"):
        table["pods", name, "get"] = table["pods", name, "create"] = pod_streams.connect
    for verb in ("create", "delete", "get", "patch", "update"):
        table["nodes", "proxy", verb] = pod_streams.proxy_node
        table["pods", "proxy", verb] = pod_streams.proxy_pod
        table["services", "proxy", verb] = pod_streams.proxy_service
    for resource in REVIEWS:
        table[resource, "", "create"] = reviews.create
    return table
