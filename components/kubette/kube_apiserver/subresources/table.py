"""Which handler serves which subresource; a resource of "" stands for every resource that has it."""

from kubette.kube_apiserver.server import Handler
from kubette.kube_apiserver.subresources import object_views

Table = dict[tuple[str, str, str], Handler]


def build() -> Table:
    table: Table = {}
    for name in ("status", "approval", "ephemeralcontainers", "resize"):
        table["", name, "get"] = object_views.read
        table["", name, "update"] = object_views.replace
        table["", name, "patch"] = object_views.change
    return table
