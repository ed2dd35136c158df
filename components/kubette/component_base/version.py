"""Which Kubernetes release this process runs as.

A component runs *as a version*: the catalogue and the machine's packages say which by the environment variable
KUBETTE_KUBERNETES_VERSION, as an image's tag does upstream.
"""

import os
import platform

DEFAULT_VERSION = "v1.37.0"


def git_version() -> str:
    """For instance `v1.37.0`."""
    return os.environ.get("KUBETTE_KUBERNETES_VERSION") or DEFAULT_VERSION


def major_minor() -> tuple[int, int]:
    """For instance `(1, 37)`."""
    major, minor = git_version().lstrip("v").split(".")[:2]
    return int(major), int(minor)


def version_info() -> dict[str, str]:
    """The body of `/version` (apimachinery's version.Info)."""
    major, minor = major_minor()
    return {
        "major": str(major),
        "minor": str(minor),
        "gitVersion": git_version(),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation().lower(),
        "platform": "linux/" + {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
    }
