"""Pure: what to do about one pod, given its spec and what the runtime has (kuberuntime's computePodActions).

The order of a pod's life: a sandbox, then its init containers one after the other (restartable ones, the sidecars, are only waited
for until they have started), then all containers. A sandbox that died takes everything with it: init containers run again.
Only containers of the present sandbox count as initialisation done.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubette.kubelet import pod_spec
from kubette.kubelet.pod_spec import Pod
from kubette.kubelet.probe_state import Result
from kubette.kubelet.runtime_state import Container, ContainerState, PodRuntime


@dataclass(frozen=True, slots=True)
class Kill:
    """A running container that has to go, and why as the event says it."""

    container: Container
    message: str
    reason: str = ""


@dataclass(slots=True)
class PodActions:
    """What to do, in this order: kill, make the sandbox, start ephemeral, init and ordinary containers (names)."""

    kill_pod: bool = False
    create_sandbox: bool = False
    sandbox_id: str = ""
    attempt: int = 0
    kill: list[Kill] = field(default_factory=list)
    start_ephemeral: list[str] = field(default_factory=list)
    start_init: list[str] = field(default_factory=list)
    start: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ProbeResults:
    """The present results of the probes, by container id; a container without an entry has no failed probe."""

    liveness: Mapping[str, Result] = field(default_factory=dict)
    startup: Mapping[str, Result] = field(default_factory=dict)


def sandbox_changed(pod: Pod, runtime: PodRuntime) -> tuple[bool, int, str]:
    """Whether a new sandbox is needed, its attempt number, and the id of the present one."""
    if not runtime.sandboxes:
        return True, 0, ""
    latest = runtime.sandboxes[0]
    if sum(s.ready for s in runtime.sandboxes) > 1 or not latest.ready:
        return True, latest.attempt + 1, latest.id
    if latest.host_network != pod_spec.host_network(pod):
        return True, latest.attempt + 1, ""
    if not pod_spec.host_network(pod) and not latest.ips:
        return True, latest.attempt + 1, latest.id
    return False, latest.attempt, latest.id


def should_be_restarted(pod: Pod, container: pod_spec.Container, runtime: PodRuntime) -> bool:
    """Whether the container, as it is now, shall be started (upstream's ShouldContainerBeRestarted)."""
    if pod_spec.is_deleted(pod):
        return False
    latest = runtime.latest(container["name"])
    if latest is None or latest.state in (ContainerState.UNKNOWN, ContainerState.CREATED):
        return True
    if latest.state is ContainerState.RUNNING:
        return False
    return pod_spec.is_sidecar(container) or pod_spec.container_wants_restart(pod, container, latest.exit_code)


def compute_pod_actions(pod: Pod, runtime: PodRuntime, probes: ProbeResults) -> PodActions:
    """The whole decision for one sync."""
    changed, attempt, sandbox_id = sandbox_changed(pod, runtime)
    actions = PodActions(kill_pod=changed, create_sandbox=changed, sandbox_id=sandbox_id, attempt=attempt)
    if changed:
        _plan_new_sandbox(pod, runtime, actions)
        return actions
    for container in pod_spec.ephemeral_containers(pod):
        if runtime.latest(container["name"]) is None:
            actions.start_ephemeral.append(container["name"])
    if not _plan_init(pod, runtime, probes, actions) or actions.kill_pod:
        return actions
    _plan_containers(pod, runtime, probes, actions)
    return actions


def _plan_new_sandbox(pod: Pod, runtime: PodRuntime, actions: PodActions) -> None:
    policy = pod_spec.restart_policy(pod)
    if policy == "Never" and actions.attempt != 0 and runtime.containers:
        # The pod ran once and may not run again: a lost sandbox is its end.
        actions.create_sandbox = False
        return
    to_start = []
    for container in pod_spec.containers(pod):
        latest = runtime.latest(container["name"])
        if policy == "OnFailure" and latest is not None and latest.state is ContainerState.EXITED and latest.exit_code == 0:
            continue
        to_start.append(container["name"])
    if not to_start:
        actions.create_sandbox = False
        return
    if init := pod_spec.init_containers(pod):
        actions.start_init = [init[0]["name"]]
    else:
        actions.start = to_start


def _plan_init(pod: Pod, runtime: PodRuntime, probes: ProbeResults, actions: PodActions) -> bool:
    """Plan init containers; answers whether initialisation is over (sidecars are looked after even then)."""
    in_sandbox = {c.id for c in runtime.containers if not actions.sandbox_id or c.sandbox_id in ("", actions.sandbox_id)}
    regular = {c["name"] for c in pod_spec.containers(pod)}
    initialized = any(c.name in regular and c.id in in_sandbox for c in runtime.containers)
    for container in pod_spec.init_containers(pod):
        name = container["name"]
        latest = next((c for c in runtime.attempts(name) if c.id in in_sandbox), None)
        if pod_spec.is_sidecar(container):
            if not _plan_sidecar(container, latest, probes, actions) and not initialized:
                return False
            continue
        if initialized:
            continue
        if latest is None or latest.state in (ContainerState.CREATED, ContainerState.UNKNOWN):
            if latest is not None and latest.state is ContainerState.UNKNOWN:
                actions.kill.append(Kill(latest, f"Init container is in {latest.state!r} state, try killing it before restart"))
            actions.start_init.append(name)
            return False
        if latest.state is ContainerState.RUNNING:
            return False
        if latest.exit_code != 0:
            if pod_spec.restart_policy(pod) == "Never":
                actions.kill_pod = True
            else:
                actions.start_init.append(name)
            return False
    return True


def _plan_sidecar(container: pod_spec.Container, latest: Container | None, probes: ProbeResults, actions: PodActions) -> bool:
    """Plan one sidecar; answers whether it has started, so that what follows it may go on."""
    name = container["name"]
    if latest is None or latest.state is not ContainerState.RUNNING:
        if latest is not None and latest.state is ContainerState.UNKNOWN:
            actions.kill.append(Kill(latest, f"Init container {name} is in unknown state, try killing it before restart"))
        actions.start_init.append(name)
        return False
    if kill := _reason_to_kill("Init container", container, latest, probes):
        actions.kill.append(Kill(latest, f"{kill[0]}, will be restarted", kill[1]))
        actions.start_init.append(name)
        return False
    return not container.get("startupProbe") or probes.startup.get(latest.id) is Result.SUCCESS


def _reason_to_kill(title: str, container: pod_spec.Container, latest: Container, probes: ProbeResults) -> tuple[str, str] | None:
    name = container["name"]
    if latest.spec_hash and latest.spec_hash != pod_spec.container_hash(container):
        return f"{title} {name} definition changed", ""
    if probes.liveness.get(latest.id) is Result.FAILURE:
        return f"{title} {name} failed liveness probe", "LivenessProbe"
    if probes.startup.get(latest.id) is Result.FAILURE:
        return f"{title} {name} failed startup probe", "StartupProbe"
    return None


def _plan_containers(pod: Pod, runtime: PodRuntime, probes: ProbeResults, actions: PodActions) -> None:
    kept = 0
    restarts = pod_spec.restart_policy(pod) != "Never"
    for container in pod_spec.containers(pod):
        name = container["name"]
        latest = runtime.latest(name)
        if latest is None or latest.state is not ContainerState.RUNNING:
            if should_be_restarted(pod, container, runtime):
                actions.start.append(name)
                if latest is not None and latest.state is ContainerState.UNKNOWN:
                    actions.kill.append(Kill(latest, f"Container is in {latest.state.value!r} state, try killing it before restart"))
            continue
        why = _reason_to_kill("Container", container, latest, probes)
        if why is None:
            kept += 1
            continue
        changed = why[1] == ""
        if restarts or changed:
            actions.start.append(name)
            actions.kill.append(Kill(latest, f"{why[0]}, will be restarted", why[1]))
        else:
            actions.kill.append(Kill(latest, why[0], why[1]))
    if kept == 0 and not actions.start:
        # Nothing left to run: sidecars and the sandbox go too.
        actions.kill_pod = True
        actions.start_init.clear()
