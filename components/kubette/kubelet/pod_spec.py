"""Pure: small questions about a pod's spec that many modules ask, and what the kubelet calls things."""

import hashlib
from collections.abc import Iterator
from typing import Any

Pod = dict[str, Any]
Container = dict[str, Any]

CONFIG_SOURCE = "kubernetes.io/config.source"
CONFIG_HASH = "kubernetes.io/config.hash"
CONFIG_SEEN = "kubernetes.io/config.seen"
CONFIG_MIRROR = "kubernetes.io/config.mirror"
DEFAULT_GRACE_PERIOD_S = 30


def uid(pod: Pod) -> str:
    return str(pod["metadata"].get("uid", ""))


def name(pod: Pod) -> str:
    return str(pod["metadata"]["name"])


def namespace(pod: Pod) -> str:
    return str(pod["metadata"].get("namespace") or "default")


def key(pod: Pod) -> str:
    """`namespace/name`, as logs and workqueues have it."""
    return f"{namespace(pod)}/{name(pod)}"


def full_name(pod: Pod) -> str:
    """`name_namespace`: what a static pod and its mirror share."""
    return f"{name(pod)}_{namespace(pod)}"


def described(pod: Pod) -> str:
    """upstream's format.Pod, as messages show a pod."""
    return f"{name(pod)}_{namespace(pod)}({uid(pod)})"


def annotations(pod: Pod) -> dict[str, str]:
    return pod["metadata"].get("annotations") or {}


def is_static(pod: Pod) -> bool:
    """From a file of this machine, not from the API server."""
    source = annotations(pod).get(CONFIG_SOURCE)
    return source is not None and source != "api"


def is_mirror(pod: Pod) -> bool:
    """The API server's picture of a static pod."""
    return CONFIG_MIRROR in annotations(pod)


def containers(pod: Pod) -> list[Container]:
    return pod["spec"].get("containers") or []


def init_containers(pod: Pod) -> list[Container]:
    return pod["spec"].get("initContainers") or []


def ephemeral_containers(pod: Pod) -> list[Container]:
    return pod["spec"].get("ephemeralContainers") or []


def all_containers(pod: Pod) -> Iterator[Container]:
    yield from init_containers(pod)
    yield from containers(pod)
    yield from ephemeral_containers(pod)


def find_container(pod: Pod, container_name: str) -> Container | None:
    return next((c for c in all_containers(pod) if c["name"] == container_name), None)


def is_sidecar(container: Container) -> bool:
    """A restartable init container (KEP-753)."""
    return container.get("restartPolicy") == "Always"


def restart_policy(pod: Pod) -> str:
    return str(pod["spec"].get("restartPolicy") or "Always")


def host_network(pod: Pod) -> bool:
    return bool(pod["spec"].get("hostNetwork"))


def is_deleted(pod: Pod) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_finished(status: dict[str, Any]) -> bool:
    return status.get("phase") in ("Succeeded", "Failed")


def grace_period_s(pod: Pod) -> int:
    """The deletion's grace period if it is being deleted, else the spec's."""
    for value in (pod["metadata"].get("deletionGracePeriodSeconds"), pod["spec"].get("terminationGracePeriodSeconds")):
        if value is not None:
            return int(value)
    return DEFAULT_GRACE_PERIOD_S


def container_hash(container: Container) -> str:
    """What makes a running container a different one: its name and image (upstream's pickFieldsToHash)."""
    return hashlib.sha256(f"{container['name']}\0{container.get('image', '')}".encode()).hexdigest()[:8]


def field_path(pod: Pod, container_name: str) -> str:
    """The fieldPath of an event about a container."""
    for field, group in (
        ("containers", containers(pod)),
        ("initContainers", init_containers(pod)),
        ("ephemeralContainers", ephemeral_containers(pod)),
    ):
        if any(c["name"] == container_name for c in group):
            return f"spec.{field}{{{container_name}}}"
    return ""


def is_critical(pod: Pod) -> bool:
    """Never rejected for lack of room (upstream's IsCriticalPod)."""
    return is_static(pod) or is_mirror(pod) or int(pod["spec"].get("priority") or 0) >= 2_000_000_000


def container_wants_restart(pod: Pod, container: Container, exit_code: int) -> bool:
    """Whether a container that exited so shall run again."""
    policy = restart_policy(pod)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)
