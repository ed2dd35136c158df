"""Pure: where objects lie in etcd. The keys are upstream's (`api.kinds` has the table), below --etcd-prefix."""

from kubette.api.kinds import Kind

DEFAULT_PREFIX = "/registry"


def resource_prefix(etcd_prefix: str, kind: Kind) -> str:
    """`/registry/pods/`: what all keys of a resource begin with. The slash keeps `pods` apart from `podtemplates`."""
    return etcd_prefix.rstrip("/") + kind.storage_prefix.removeprefix(DEFAULT_PREFIX) + "/"


def relative_key(kind: Kind, namespace: str, name: str) -> str:
    """An object's key below its resource's prefix: `default/web`, or `web` for cluster-scoped kinds."""
    return f"{namespace}/{name}" if kind.namespaced else name


def namespace_range(namespace: str) -> tuple[str, str]:
    """The half-open range of relative keys of one namespace; `("", "")` is everything."""
    return (f"{namespace}/", f"{namespace}0") if namespace else ("", "")


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all keys with this prefix (etcd's range_end)."""
    for at in reversed(range(len(prefix))):
        if prefix[at] < 0xFF:
            return prefix[:at] + bytes([prefix[at] + 1])
    return b"\0"
