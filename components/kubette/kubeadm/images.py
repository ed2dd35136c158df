"""Pure: which images a release of Kubernetes is made of (upstream: cmd/kubeadm/app/constants and images)."""

from kubette.api import releases

REPOSITORY = "registry.k8s.io"

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


def supported_minors() -> list[int]:
    """The minors that this kubeadm can set up."""
    return list(range(releases.OLDEST_MINOR, releases.NEWEST_MINOR + 1))


def minor_of(version: str) -> int:
    """37 for `v1.37.0`. Raises ValueError when it is not a release."""
    major, minor, _patch = version.removeprefix("v").split(".", 2)
    if major != "1" or int(minor) not in supported_minors():
        raise ValueError(version)
    return int(minor)


def component(name: str, version: str, repository: str = REPOSITORY) -> str:
    """The image of a component that carries the release's own version."""
    return f"{repository}/{name}:{version}"


def etcd(version: str, repository: str = REPOSITORY, own_repository: str = "", own_tag: str = "") -> str:
    """`own_…` are what the configuration says of etcd alone."""
    return f"{own_repository or repository}/etcd:{own_tag or releases.companions(minor_of(version)).etcd}"


def coredns(version: str, repository: str = REPOSITORY, own_repository: str = "", own_tag: str = "") -> str:
    return f"{own_repository or f'{repository}/coredns'}/coredns:{own_tag or releases.companions(minor_of(version)).coredns}"


def pause(version: str, repository: str = REPOSITORY) -> str:
    return f"{repository}/pause:{releases.companions(minor_of(version)).pause}"


def required(version: str, repository: str = REPOSITORY, with_etcd: bool = True) -> list[str]:
    """What `kubeadm config images list` prints, in its order; without etcd's where that is elsewhere."""
    return [
        *(component(name, version, repository) for name in (*CONTROL_PLANE, "kube-proxy")),
        coredns(version, repository),
        pause(version, repository),
        *([etcd(version, repository)] if with_etcd else []),
    ]
