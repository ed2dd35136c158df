"""The kubelet's heart: what a pod's stream does step by step, and how pods get in and out (kubelet.go's SyncPod family).

Levels, not events: every step asks the runtime afresh, decides with pure functions and acts. Nothing remembered here is needed after a
crash; containers, their labels and the API server hold everything.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from kubette.apimachinery import timestamps
from kubette.component_base import logs
from kubette.kubelet import admission, container_config, pod_actions, pod_spec, pod_status
from kubette.kubelet.container_inputs import ContainerInputs
from kubette.kubelet.cri_client import CriClient
from kubette.kubelet.object_cache import ObjectCache
from kubette.kubelet.pod_manager import PodManager
from kubette.kubelet.pod_runner import PodRunner
from kubette.kubelet.pod_spec import Pod
from kubette.kubelet.pod_workers import PodWorkers, SyncOutcome, Termination
from kubette.kubelet.prober import Prober
from kubette.kubelet.recorder import NORMAL, WARNING, EventRecorder
from kubette.kubelet.runtime_state import PodRuntime
from kubette.kubelet.start_error import StartError
from kubette.kubelet.status_manager import StatusManager
from kubette.kubelet.volumes.manager import VolumeManager
from kubette.stdx.backoff import Backoff
from kubette.stdx.clock import Clock

log = logs.logger(__name__)

MOUNT_BACKOFF = Backoff(base_s=0.5, cap_s=122.0)  # nestedpendingoperations' exponential back-off
NETWORK_RETRY_S = 5.0  # the network's becoming ready wakes all pods; this is for a lost wake-up
SANDBOX_RETRY_S = 2.0
HOUSEKEEPING_S = 10.0


class Agent:
    """Built by app.py, which sets `workers`, `prober` and `statuses` before anything runs."""

    workers: PodWorkers
    prober: Prober
    statuses: StatusManager

    def __init__(
        self,
        cri: CriClient,
        pods: PodManager,
        runner: PodRunner,
        volumes: VolumeManager,
        objects: ObjectCache,
        inputs: ContainerInputs,
        recorder: EventRecorder,
        clock: Clock,
        release: tuple[int, int],
        host_ips: Callable[[], tuple[str, ...]],
        network_error: Callable[[], str],
        admit: Callable[[Pod, list[Pod]], admission.Rejection | None],
        mirrors_changed: Callable[[], None],
    ) -> None:
        self._cri, self._pods, self._runner, self._volumes, self._objects, self._inputs = cri, pods, runner, volumes, objects, inputs
        self._recorder, self._clock, self._release = recorder, clock, release
        self._host_ips, self._network_error, self._admit, self._mirrors_changed = host_ips, network_error, admit, mirrors_changed
        self._runtime: dict[str, PodRuntime] = {}
        self._rejected: set[str] = set()
        self._mount_failures: dict[str, int] = {}
        self.housekeeping_wake = asyncio.Event()

    # In and out

    def put_pod(self, pod: Pod) -> None:
        """A source has this pod, new or changed."""
        uid = pod_spec.uid(pod)
        if pod_spec.is_mirror(pod):
            self._pods.put(pod)
            self._mirrors_changed()
            static = self._pods.static_of(pod)
            if static is not None:
                self.statuses.observed(pod, pod_spec.uid(static))
                self.statuses.mark(pod_spec.uid(static))
            return
        old = self._pods.get(uid)
        self._pods.put(pod)
        if pod_spec.is_static(pod):
            self._mirrors_changed()
        if old is not None:
            self.statuses.observed(pod, uid)
            if not meaningful_change(old, pod):
                return
        if uid in self._rejected and not pod_spec.is_deleted(pod):
            return
        if old is None and not pod_spec.is_deleted(pod) and not pod_spec.is_finished(pod.get("status") or {}) and self._reject(pod):
            return
        self.workers.update(pod)
        if old is None and pod_spec.is_finished(pod.get("status") or {}):
            # It ended before this kubelet began.
            self.workers.terminate(uid, Termination())

    def remove_pod(self, pod: Pod) -> None:
        """A source no longer has this pod."""
        self._pods.remove(pod)
        if pod_spec.is_mirror(pod):
            self._mirrors_changed()
            return
        uid = pod_spec.uid(pod)
        self._rejected.discard(uid)
        if pod_spec.is_static(pod):
            self._mirrors_changed()
        if not self.workers.knows(uid):
            self.statuses.forget(uid)
        self.workers.remove(pod)
        self.housekeeping_wake.set()

    def _reject(self, pod: Pod) -> bool:
        active = [
            p
            for p in self._pods.pods()
            if pod_spec.uid(p) not in self._rejected and not self.workers.is_finished(pod_spec.uid(p)) and not self._has_finished(p)
        ]
        rejection = self._admit(pod, active)
        if rejection is None:
            return False
        uid = pod_spec.uid(pod)
        self._rejected.add(uid)
        self._recorder.pod(pod, WARNING, rejection.reason, rejection.message)
        status = {
            **(pod.get("status") or {}),
            "phase": "Failed",
            "reason": rejection.reason,
            "message": f"Pod was rejected: {rejection.message}",
            "startTime": timestamps.format_time(self._clock.wall()),
        }
        self.statuses.set(pod, status)
        return True

    def evict(self, pod: Pod, termination: Termination) -> None:
        """End the pod for the node's sake; its status says why."""
        if termination.reason is not None:
            self._recorder.pod(pod, WARNING, *termination.reason)
        self.workers.terminate(pod_spec.uid(pod), termination)

    def _has_finished(self, pod: Pod) -> bool:
        return pod_spec.is_finished(self.statuses.get(pod_spec.uid(pod)) or pod.get("status") or {})

    def changed(self, uid: str) -> None:
        """The runtime, a probe or a volume's source reports a change."""
        self.workers.wake(uid)
        if not self.workers.knows(uid):
            self.housekeeping_wake.set()

    def runtime_of(self, uid: str) -> PodRuntime | None:
        """As the last step saw it."""
        return self._runtime.get(uid)

    def running(self) -> tuple[int, int]:
        """How many sandboxes and containers run, as last seen."""
        seen = self._runtime.values()
        return sum(r.ready_sandbox is not None for r in seen), sum(len(r.running()) for r in seen)

    def wake_all(self) -> None:
        for uid in self.workers.uids():
            self.workers.wake(uid)

    # Status

    def shown(self, pod: Pod) -> Pod:
        """The pod with the newest status known, and others' conditions as the API server has them."""
        known = self.statuses.get(pod_spec.uid(pod))
        if known is None:
            return pod
        conditions = list(known.get("conditions") or [])
        own = {c["type"] for c in conditions}
        api = self._pods.api_pod(pod) or pod
        own_types = {"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"}
        others = {c["type"]: c for c in (api.get("status") or {}).get("conditions") or [] if c["type"] not in own_types}
        conditions = [others.get(c["type"], c) for c in conditions] + [c for t, c in others.items() if t not in own]
        return {**pod, "status": {**known, "conditions": conditions}}

    def _inputs_of(self, pod: Pod, runtime: PodRuntime, *, is_terminal: bool, reason: tuple[str, str] | None) -> pod_status.Inputs:
        uid = pod_spec.uid(pod)
        ready, started = self.prober.readiness(uid)
        # After a restart of the kubelet a container stays as ready as it was until its first probe says otherwise.
        status = pod.get("status") or {}
        for entry in [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]:
            container_id = str(entry.get("containerID", "")).removeprefix(pod_status.RUNTIME_PREFIX)
            spec = pod_spec.find_container(pod, entry["name"]) or {}
            if container_id and spec.get("readinessProbe"):
                ready.setdefault(container_id, bool(entry.get("ready")))
            if container_id and spec.get("startupProbe"):
                started.setdefault(container_id, bool(entry.get("started")))
        for container_id in self._runner.starting:
            started[container_id] = False
        return pod_status.Inputs(
            now=self._clock.wall(),
            release=self._release,
            host_ips=self._host_ips(),
            waiting=self._runner.waiting.get(uid, {}),
            ready=ready,
            started=started,
            is_terminal=is_terminal,
            terminated_reason=reason,
        )

    def _set_status(self, pod: Pod, runtime: PodRuntime, *, is_terminal: bool = False, reason: tuple[str, str] | None = None) -> dict[str, Any]:
        pod = self.shown(pod)
        old = pod.get("status") or {}
        if pod_spec.is_finished(old) and not runtime.containers:
            # It ended before (or was rejected and never began) and left no trace here: what is known of it stays.
            self.statuses.set(pod, old)
            return dict(old)
        status = pod_status.compute_status(pod, runtime, self._inputs_of(pod, runtime, is_terminal=is_terminal, reason=reason))
        self.statuses.set(pod, status)
        return status

    async def _look(self, uid: str) -> PodRuntime:
        runtime = await self._cri.pod(uid)
        self._runtime[uid] = runtime
        self.prober.poke(uid)
        return runtime

    # The steps of a stream

    async def sync_pod(self, pod: Pod) -> SyncOutcome:
        """Bring the pod nearer to its spec."""
        uid = pod_spec.uid(pod)
        runtime = await self._look(uid)
        status = self._set_status(pod, runtime)
        if pod_spec.is_finished(status):
            return SyncOutcome(is_terminal=True)
        deadline_s = self._past_deadline(pod, status)
        if deadline_s is not None and deadline_s <= 0:
            message = "Pod was active on the node longer than the specified deadline"
            self._recorder.pod(pod, NORMAL, "DeadlineExceeded", message)
            self.workers.terminate(uid, Termination(reason=("DeadlineExceeded", message)))
            return SyncOutcome()
        if not pod_spec.host_network(pod) and (network_error := self._network_error()):
            self._recorder.pod(pod, WARNING, "NetworkNotReady", f"network is not ready: {network_error}")
            return SyncOutcome(after_s=NETWORK_RETRY_S)
        if (retry_s := await self._mount(pod)) is not None:
            return SyncOutcome(after_s=retry_s)
        self.prober.add_pod(pod)
        actions = pod_actions.compute_pod_actions(pod, runtime, self.prober.results(uid))
        acts = actions.kill_pod or actions.create_sandbox or actions.kill or actions.start or actions.start_init or actions.start_ephemeral
        retry_after_s: float | None = None
        try:
            retry_after_s = await self._runner.sync(self.shown(pod), runtime, actions)
        except StartError as error:
            log.error("Pod sandbox could not be created", err=error.message, pod=pod_spec.key(pod))
            retry_after_s = SANDBOX_RETRY_S
        if acts:
            # Shown at once, not only when the runtime's events come back.
            runtime = await self._look(uid)
            status = self._set_status(pod, runtime)
            if pod_spec.is_finished(status):
                return SyncOutcome(is_terminal=True)
            if actions.start_init and retry_after_s is None and not any(c.name in actions.start_init for c in runtime.running()):
                # A short init container is over already.
                retry_after_s = 0.0
        delays = [d for d in (retry_after_s, deadline_s) if d is not None]
        return SyncOutcome(after_s=min(delays) if delays else None)

    def _past_deadline(self, pod: Pod, status: dict[str, Any]) -> float | None:
        deadline = pod["spec"].get("activeDeadlineSeconds")
        if deadline is None or not status.get("startTime"):
            return None
        return float(timestamps.parse_time(status["startTime"]) + int(deadline) - self._clock.wall())

    async def _mount(self, pod: Pod) -> float | None:
        """Set the volumes up; answers when to try again what failed."""
        uid = pod_spec.uid(pod)
        paths, failures = await self._volumes.set_up(self.shown(pod))
        self._inputs.volume_paths[uid] = paths
        if not failures:
            self._mount_failures.pop(uid, None)
            return None
        for name, error in failures:
            self._recorder.pod(pod, WARNING, "FailedMount", f'MountVolume.SetUp failed for volume "{name}" : {error}')
        count = self._mount_failures.get(uid, 0)
        self._mount_failures[uid] = count + 1
        return MOUNT_BACKOFF.delay(count)

    async def sync_terminating_pod(self, pod: Pod, termination: Termination) -> None:
        """Stop everything the pod runs."""
        uid = pod_spec.uid(pod)
        self.prober.stop_liveness(uid)
        runtime = await self._look(uid)
        self._set_status(pod, runtime, reason=termination.reason)
        await self._runner.kill(self.shown(pod), runtime, termination.grace_s)
        runtime = await self._look(uid)
        if runtime.running():
            raise RuntimeError(f"detected running containers after a successful KillPod, CRI violation: {[c.name for c in runtime.running()]}")
        self.prober.remove_pod(uid)
        self._set_status(pod, runtime, is_terminal=True, reason=termination.reason)

    async def sync_terminated_pod(self, pod: Pod, termination: Termination) -> None:
        """Give back what the pod held."""
        uid = pod_spec.uid(pod)
        if not self.statuses.get(uid):
            self._set_status(pod, await self._look(uid), is_terminal=True, reason=termination.reason)
        await self._volumes.tear_down(uid)
        self._objects.release(uid)
        self._runner.forget(uid)
        for table in (self._inputs.volume_paths, self._mount_failures):
            table.pop(uid, None)

    def pod_finished(self, pod: Pod) -> None:
        """The stream has ended: the API object may go."""
        uid = pod_spec.uid(pod)
        self.statuses.mark(uid)
        if self._pods.get(uid) is None:
            self.statuses.forget(uid)
            self._runtime.pop(uid, None)
            self.housekeeping_wake.set()

    # Housekeeping

    async def housekeep(self, sources_ready: Callable[[], bool]) -> None:
        """Remove what belongs to no pod, for ever. Never before every source was read: a kubelet that cannot reach the API server kills nothing."""
        while True:
            try:
                async with asyncio.timeout(HOUSEKEEPING_S):
                    await self.housekeeping_wake.wait()
            except TimeoutError:
                pass
            self.housekeeping_wake.clear()
            if sources_ready():
                try:
                    await self._remove_orphans()
                except Exception as error:
                    log.error("Housekeeping failed", err=error)

    async def _remove_orphans(self) -> None:
        sandboxes, containers = await asyncio.gather(self._cri.list_sandboxes(), self._cri.list_containers())
        owners = {s.metadata.uid: (s.metadata.namespace, s.metadata.name) for s in sandboxes}
        for container in containers:
            labels = container.labels
            uid = labels.get("io.kubernetes.pod.uid", "")
            owners.setdefault(uid, (labels.get("io.kubernetes.pod.namespace", ""), labels.get("io.kubernetes.pod.name", "")))
        orphans = [uid for uid in owners if uid and self._pods.get(uid) is None and not self.workers.knows(uid)]
        await asyncio.gather(*(self._remove_orphan(uid, *owners[uid]) for uid in orphans))
        for uid in self._volumes.known_uids():
            if uid not in owners and self._pods.get(uid) is None and not self.workers.knows(uid):
                log.v(2, "Cleaned up orphaned pod volumes dir", podUID=uid)
                await self._volumes.tear_down(uid)

    async def _remove_orphan(self, uid: str, namespace: str, name: str) -> None:
        runtime = await self._cri.pod(uid)
        if runtime.running():
            log.info("Killing unwanted pod", pod=f"{namespace}/{name}", podUID=uid)
            await self._runner.kill(None, runtime, None)
            runtime = await self._cri.pod(uid)
        if self._pods.get(uid) is not None or self.workers.knows(uid):
            return
        pod = {"metadata": {"name": name, "namespace": namespace, "uid": uid}, "spec": {}}
        await self._runner.remove_pod(runtime, container_config.pod_log_directory(pod, self._runner.node.pod_logs_dir))
        self._runtime.pop(uid, None)


def meaningful_change(old: Pod, new: Pod) -> bool:
    """Whether more changed than the status and the bookkeeping of the API server."""
    if old.get("spec") != new.get("spec"):
        return True
    ignored = ("resourceVersion", "managedFields", "generation")
    before = {k: v for k, v in old["metadata"].items() if k not in ignored}
    after = {k: v for k, v in new["metadata"].items() if k not in ignored}
    return before != after or _gates(old) != _gates(new)


def _gates(pod: Pod) -> list[tuple[str, str]]:
    """Conditions of others that readiness depends on."""
    wanted = {g["conditionType"] for g in pod["spec"].get("readinessGates") or []}
    return [(c["type"], c.get("status", "")) for c in (pod.get("status") or {}).get("conditions") or [] if c["type"] in wanted]
