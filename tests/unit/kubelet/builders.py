"""Small pods and runtime states for the stories of the kubelet's pure half."""

from typing import Any

from kubette.kubelet import pod_spec
from kubette.kubelet.runtime_state import Container, ContainerState, PodRuntime, Sandbox

RUNNING, EXITED, CREATED, UNKNOWN = ContainerState.RUNNING, ContainerState.EXITED, ContainerState.CREATED, ContainerState.UNKNOWN


def pod(*containers: dict[str, Any], init: list[dict[str, Any]] | None = None, policy: str = "Always", **spec: Any) -> dict[str, Any]:
    """A pod named default/web with uid 1234; containers default to one named web."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "uid": "1234"},
        "spec": {"containers": list(containers) or [container("web")], "restartPolicy": policy, **({"initContainers": init} if init else {}), **spec},
    }


def container(name: str, image: str = "nginx", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": image, **fields}


def sidecar(name: str, **fields: Any) -> dict[str, Any]:
    return container(name, restartPolicy="Always", **fields)


def ran(name: str, state: ContainerState = RUNNING, code: int = 0, attempt: int = 0, sandbox: str = "s0", image: str = "nginx") -> Container:
    """A container the runtime knows; its id is `name-attempt`."""
    spec_hash = pod_spec.container_hash({"name": name, "image": image})
    reason = "" if state is not EXITED else "Completed" if code == 0 else "Error"
    return Container(
        f"{name}-{attempt}", name, state, sandbox, 100.0 + attempt, 101.0, 102.0 if state is EXITED else 0.0, code, image, reason=reason,
        restart_count=attempt, spec_hash=spec_hash,
    )  # fmt: skip


def runtime(*containers: Container, ready: bool = True, attempt: int = 0) -> PodRuntime:
    """A pod with one sandbox `s<attempt>`; containers newest first."""
    sandbox = Sandbox(f"s{attempt}", attempt, ready, 50.0, ("10.244.1.2",))
    return PodRuntime("1234", "web", "default", (sandbox,), tuple(sorted(containers, key=lambda c: -c.created_at)))


NOTHING = PodRuntime("1234", "web", "default")
