"""Pure: which etcd release this process reports. It runs as a version, as an image's tag says upstream."""

DEFAULT_VERSION = "3.6.5"


def server_version(environment: dict[str, str]) -> str:
    """For instance `3.6.5`."""
    return environment.get("KUBETTE_ETCD_VERSION", "").lstrip("v").split("-")[0] or DEFAULT_VERSION


def cluster_version(server: str) -> str:
    """For instance `3.6.0`: members of one minor release speak the same protocol."""
    major, minor = server.split(".")[:2]
    return f"{major}.{minor}.0"


def is_before(version: str, minor: str) -> bool:
    """Whether a version such as `3.4.0` is of an earlier minor release than `3.5`."""
    return [int(each) for each in version.split(".")[:2]] < [int(each) for each in minor.split(".")]
