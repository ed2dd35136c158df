"""Pure: which images a release of Kubernetes is made of (upstream: cmd/kubeadm/app/constants and images)."""

REPOSITORY = "registry.k8s.io"

# minor -> (etcd, coredns, pause); upstream pins these three with each minor.
_COMPANIONS: dict[int, tuple[str, str, str]] = {
    30: ("3.5.12-0", "v1.11.1", "3.9"),
    31: ("3.5.15-0", "v1.11.1", "3.10"),
    32: ("3.5.16-0", "v1.11.3", "3.10"),
    33: ("3.5.21-0", "v1.12.0", "3.10"),
    34: ("3.6.4-0", "v1.12.1", "3.10.1"),
    35: ("3.6.6-0", "v1.13.1", "3.10.1"),
    36: ("3.6.6-0", "v1.13.1", "3.10.1"),
    37: ("3.6.6-0", "v1.13.1", "3.10.1"),
}

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


def supported_minors() -> list[int]:
    """The minors that this kubeadm can set up."""
    return sorted(_COMPANIONS)


def minor_of(version: str) -> int:
    """37 for `v1.37.0`. Raises ValueError when it is not a release."""
    major, minor, _patch = version.removeprefix("v").split(".", 2)
    if major != "1" or int(minor) not in _COMPANIONS:
        raise ValueError(version)
    return int(minor)


def component(name: str, version: str, repository: str = REPOSITORY) -> str:
    """The image of a component that carries the release's own version."""
    return f"{repository}/{name}:{version}"


def etcd(version: str, repository: str = REPOSITORY) -> str:
    return f"{repository}/etcd:{_COMPANIONS[minor_of(version)][0]}"


def coredns(version: str, repository: str = REPOSITORY) -> str:
    return f"{repository}/coredns/coredns:{_COMPANIONS[minor_of(version)][1]}"


def pause(version: str, repository: str = REPOSITORY) -> str:
    return f"{repository}/pause:{_COMPANIONS[minor_of(version)][2]}"


def required(version: str, repository: str = REPOSITORY) -> list[str]:
    """What `kubeadm config images list` prints, in its order."""
    return [
        *(component(name, version, repository) for name in (*CONTROL_PLANE, "kube-proxy")),
        coredns(version, repository),
        pause(version, repository),
        etcd(version, repository),
    ]
