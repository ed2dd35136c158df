"""Which Kubernetes release this process runs as.

A program's code is the same for all releases; which one it is comes from where upstream's code comes from. In a container it is the image's tag (the
environment variable KUBETTE_KUBERNETES_VERSION). On a machine it is the installed package: kubelet's puts a file `kubelet` with the release in
RELEASES_DIRECTORY, as upstream's puts a binary in /usr/bin; programs of no package are of the release the machine was made with (`default`).
"""

import functools
import os
import platform
import sys

DEFAULT_VERSION = "v1.37.1"
VARIABLE = "KUBETTE_KUBERNETES_VERSION"
RELEASES_DIRECTORY = "/var/lib/kubette/releases"


def git_version() -> str:
    """For instance `v1.37.0`."""
    return os.environ.get(VARIABLE) or installed(os.path.basename(sys.argv[0]))


@functools.cache  # A running process stays what it was started as, whatever is installed meanwhile.
def installed(program: str, directory: str = RELEASES_DIRECTORY) -> str:
    """Which release a program of this machine would be if it were started now."""
    for name in (program, "default"):
        try:
            with open(f"{directory}/{name}") as file:
                return file.read().strip()
        except OSError:
            continue
    return DEFAULT_VERSION


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
