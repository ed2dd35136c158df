"""The contract of admission plugins (apiserver's admission package).

A plugin is asked twice: `admit` may change `attrs.object`, `validate` may only refuse. Both raise an `ApiError` to refuse;
`forbidden(attrs, …)` words it as upstream does. A plugin overrides `handles` when it does not care for every operation.
Reading other objects goes through the `Lister` the plugin got when it was built, never through HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from kubette.apimachinery import status
from kubette.apimachinery.status import ApiError
from kubette.kube_apiserver.auth.interfaces import UserInfo


class Operation(StrEnum):
    create = "CREATE"
    update = "UPDATE"
    delete = "DELETE"
    connect = "CONNECT"


@dataclass(slots=True)
class AdmissionAttributes:
    """One write that is about to happen. `object` is None for DELETE; `old_object` is None for CREATE and CONNECT."""

    operation: Operation
    group: str
    version: str
    kind: str
    resource: str
    subresource: str
    namespace: str
    name: str
    user: UserInfo
    object: dict[str, Any] | None = None
    old_object: dict[str, Any] | None = None
    dry_run: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)  # become Warning headers of the answer


class Lister(Protocol):
    """Read access to what is stored, from the watch cache (a moment old at most). The objects are shared: copy before change.

    `version` changes whenever any object of the resource does: what is derived from a list can be kept until then.
    """

    async def get(self, group: str, resource: str, namespace: str, name: str) -> dict[str, Any] | None: ...

    async def list(self, group: str, resource: str, namespace: str = "") -> list[dict[str, Any]]: ...

    async def version(self, group: str, resource: str) -> int: ...


class Plugin:
    """A plugin that admits everything; subclasses override what they decide."""

    name = ""

    def handles(self, attrs: AdmissionAttributes) -> bool:
        return True

    async def admit(self, attrs: AdmissionAttributes) -> None:
        return

    async def validate(self, attrs: AdmissionAttributes) -> None:
        return


class Chain:
    """The enabled plugins, in upstream's recommended order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        # Most plugins override one of the two; asking only those keeps a write short.
        self._mutating = tuple(p for p in self.plugins if type(p).admit is not Plugin.admit)
        self._validating = tuple(p for p in self.plugins if type(p).validate is not Plugin.validate)

    async def admit(self, attrs: AdmissionAttributes) -> None:
        for plugin in self._mutating:
            if plugin.handles(attrs):
                await plugin.admit(attrs)

    async def validate(self, attrs: AdmissionAttributes) -> None:
        for plugin in self._validating:
            if plugin.handles(attrs):
                await plugin.validate(attrs)


def forbidden(attrs: AdmissionAttributes, reason: str) -> ApiError:
    """`pods "web" is forbidden: <reason>`, 403."""
    return status.forbidden(f"{attrs.resource}.{attrs.group}" if attrs.group else attrs.resource, attrs.name, reason)
