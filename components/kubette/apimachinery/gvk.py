"""Pure: group, version, kind and resource, and their spellings."""

import re
from typing import Any, NamedTuple


class GroupVersion(NamedTuple):
    """`apps`, `v1`; the core group is the empty string."""

    group: str
    version: str

    def __str__(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


class GroupVersionKind(NamedTuple):
    """Names a schema."""

    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.api_version}, Kind={self.kind}"


class GroupVersionResource(NamedTuple):
    """Names a path."""

    group: str
    version: str
    resource: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """`deployments.apps`, `pods`."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


def parse_api_version(api_version: str) -> GroupVersion:
    """`apps/v1` or `v1`; raises ValueError with upstream's text for anything else."""
    if api_version.count("/") > 1:
        raise ValueError(f"unexpected GroupVersion string: {api_version}")
    group, slash, version = api_version.rpartition("/")
    return GroupVersion(group, version) if slash else GroupVersion("", api_version)


def of(obj: dict[str, Any]) -> GroupVersionKind:
    """The kind an object says it is; missing parts are empty."""
    group, version = parse_api_version(str(obj.get("apiVersion") or ""))
    return GroupVersionKind(group, version, str(obj.get("kind") or ""))


def version_priority(version: str) -> tuple[int, int, int]:
    """Sort key by which discovery orders versions: v2, v1, v1beta2, v1beta1, v1alpha1; greater is preferred."""
    matched = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if matched is None:
        return (-1, 0, 0)
    stage = {None: 2, "beta": 1, "alpha": 0}[matched[2]]
    return (stage, int(matched[1]), int(matched[3] or 0))
