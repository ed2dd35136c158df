"""The scheduling loop: events feed queue and cache, a pod is popped, decided, assumed, and bound in the background.

Counterpart upstream: pkg/scheduler (eventhandlers.go, schedule_one.go). All state belongs to the one task of the loop and to informer
handlers, which run between its awaits; the decision itself never waits.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

from kubette.apimachinery import selectors
from kubette.apimachinery.meta import key as key_of
from kubette.apimachinery.status import ApiError
from kubette.client import resources
from kubette.client.events import NORMAL, WARNING, NewRecorder
from kubette.client.informer import Handler, InformerFactory
from kubette.client.rest import FAILURES, Client, PatchType
from kubette.component_base import logs
from kubette.kube_scheduler import preemption
from kubette.kube_scheduler.cache import Cache
from kubette.kube_scheduler.framework import FitError, Profile, Snapshot
from kubette.kube_scheduler.metrics import Metrics
from kubette.kube_scheduler.node_info import Object, is_terminal
from kubette.kube_scheduler.plugins import volume_binding
from kubette.kube_scheduler.plugins.volume_binding import Choice
from kubette.kube_scheduler.queue import SchedulingQueue, Waiting
from kubette.kube_scheduler.volume_binder import BindError, VolumeBinder
from kubette.stdx.clock import Clock
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)

# What can make an unschedulable pod fit: any change of these. Upstream asks each plugin; with few pods, asking all is as good.
_OWNERS = (resources.SERVICES, resources.REPLICASETS, resources.STATEFULSETS, resources.REPLICATIONCONTROLLERS)
_BINDINGS_MAX = 64  # bindings in the air at once


class Scheduler:
    """One scheduler name's loop."""

    def __init__(
        self, client: Client, factory: InformerFactory, recorder: NewRecorder, profile: Profile, name: str, clock: Clock, metrics: Metrics
    ) -> None:
        self._client, self._recorder, self._profile, self._name = client, recorder, profile, name
        self._clock, self._metrics = clock, metrics
        self._queue, self._cache = SchedulingQueue(), Cache()
        self._wake = asyncio.Event()
        self._binding_slots = asyncio.Semaphore(_BINDINGS_MAX)
        self._rng = random.Random()
        self._namespaces = factory.informer(resources.NAMESPACES)
        self._budgets = factory.informer(resources.PODDISRUPTIONBUDGETS)
        self._owners = {r.kind: factory.informer(r) for r in _OWNERS}
        self._volumes = VolumeBinder(client, factory)
        for informer in self._volumes.caches:
            informer.on_change(lambda _: self._move_all())
        factory.informer(resources.NODES).add_handler(Handler(self._node_changed, self._node_updated, self._node_deleted))
        factory.informer(resources.PODS).add_handler(Handler(self._pod_added, self._pod_updated, self._pod_deleted))

    # Events

    def _node_changed(self, node: Object) -> None:
        self._cache.set_node(node)
        self._move_all()

    def _node_updated(self, old: Object, new: Object) -> None:
        self._cache.set_node(new)
        # A heartbeat changes no decision; a hundred waiting pods need not be tried again for it.
        if any(_deciding(old, part) != _deciding(new, part) for part in ("labels", "spec", "allocatable", "images")):
            self._move_all()

    def _node_deleted(self, node: Object) -> None:
        self._cache.remove_node(node["metadata"]["name"])

    def _pod_added(self, pod: Object) -> None:
        self._pod(None, pod)

    def _pod_updated(self, old: Object, new: Object) -> None:
        self._pod(old, new)

    def _pod(self, old: Object | None, pod: Object) -> None:
        key = key_of(pod)
        if pod["spec"].get("nodeName"):
            self._queue.done(key)
            self._cache.set_pod(pod)
            if old is None or is_terminal(pod) or old["metadata"].get("labels") != pod["metadata"].get("labels"):
                self._move_all()
        elif self._ours(pod):
            if self._cache.is_assumed(key):
                return
            if is_terminal(pod) or pod["metadata"].get("deletionTimestamp") or pod["spec"].get("schedulingGates"):
                self._queue.delete(key)
            elif old is None:
                self._queue.add(pod, self._clock.monotonic())
            else:
                self._queue.update(pod, self._clock.monotonic())
            self._wake.set()

    def _ours(self, pod: Object) -> bool:
        return (pod["spec"].get("schedulerName") or "default-scheduler") == self._name

    def _pod_deleted(self, pod: Object) -> None:
        key = key_of(pod)
        self._queue.delete(key)
        self._cache.remove_pod(key)
        self._move_all()

    def _move_all(self) -> None:
        self._queue.move_all(self._clock.monotonic())
        self._wake.set()

    # The loop

    async def run(self) -> None:
        """Schedule until cancelled; the informers must have synced."""
        async with Scope() as scope:
            while True:
                self._queue.advance(self._clock.monotonic())
                waiting = self._queue.pop_nowait()
                if waiting is None:
                    await self._wait()
                    continue
                self._schedule_one(waiting, scope)
                # Handlers must run between two decisions, or a burst of pods would be decided on an old picture.
                await asyncio.sleep(0)

    async def _wait(self) -> None:
        self._wake.clear()
        due = self._queue.next_due()
        timeout = None if due is None else max(0.0, due - self._clock.monotonic())
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return

    def _snapshot(self) -> Snapshot:
        labels = {n["metadata"]["name"]: n["metadata"].get("labels") or {} for n in self._namespaces.list()}
        return Snapshot(self._cache.nodes(), labels, self._default_selector, self._volumes.storage())

    def _default_selector(self, pod: Object) -> Callable[[dict[str, str]], bool] | None:
        """Matches the pods that belong together with this one: by its services and its controller."""
        namespace, labels = pod["metadata"].get("namespace", ""), pod["metadata"].get("labels") or {}
        found: list[Any] = []
        for service in self._owners["Service"].list():
            selector = (service.get("spec") or {}).get("selector")
            if selector and service["metadata"]["namespace"] == namespace and all(labels.get(k) == v for k, v in selector.items()):
                found.append(selectors.from_label_selector({"matchLabels": selector}))
        for owner in pod["metadata"].get("ownerReferences") or ():
            informer = self._owners.get(owner["kind"]) if owner.get("controller") else None
            controller = informer.get(f"{namespace}/{owner['name']}") if informer is not None else None
            if controller is not None:
                selector = controller["spec"].get("selector") or {}
                found.append(selectors.from_label_selector(selector if owner["kind"] != "ReplicationController" else {"matchLabels": selector}))
        return (lambda candidate: all(s.matches(candidate) for s in found)) if found else None

    def _schedule_one(self, waiting: Waiting, scope: Scope) -> None:
        pod, started = waiting.pod, self._clock.monotonic()
        snapshot = self._snapshot()
        try:
            if not snapshot.nodes:
                raise FitError(0, {})
            node = self._choose(pod, snapshot)
        except FitError as failure:
            self._metrics.attempts.inc("unschedulable", self._name)
            scope.start(self._unschedulable(waiting, snapshot, failure), "unschedulable pod")
            return
        self._cache.assume_pod(pod, node)
        self._metrics.algorithm_duration.observe(self._clock.monotonic() - started)
        scope.start(self._bind(waiting, node, volume_binding.chosen(pod, node, snapshot), started), "bind pod")

    def _choose(self, pod: Object, snapshot: Snapshot) -> str:
        fitting = self._profile.feasible(pod, snapshot)
        if len(fitting) == 1:
            return fitting[0].name
        scores = self._profile.ranked(pod, snapshot, fitting)
        best = max(scores.values())
        return self._rng.choice([name for name, score in scores.items() if score == best])

    async def _bind(self, waiting: Waiting, node: str, volumes: Choice | None, started: float) -> None:
        pod, key = waiting.pod, key_of(waiting.pod)
        metadata = pod["metadata"]
        binding = {
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            if volumes is not None:
                await self._volumes.bind(volumes, node)
            async with self._binding_slots:
                await self._client.create(resources.PODS, metadata["namespace"], binding, name=metadata["name"], subresource="binding")
        except (*FAILURES, BindError) as error:
            self._cache.forget_pod(key)
            if isinstance(error, ApiError) and error.code == 404:
                self._queue.delete(key)
                return
            self._metrics.attempts.inc("error", self._name)
            log.error("Failed to bind pod", err=error, pod=key, node=node)
            await self._report(pod, f"binding rejected: {error}", "SchedulerError")
            self._queue.failed(key, self._clock.monotonic(), error=True)
            self._wake.set()
            return
        self._queue.done(key)
        self._metrics.attempts.inc("scheduled", self._name)
        self._metrics.attempt_duration.observe(self._clock.monotonic() - started, "scheduled", self._name)
        log.v(2, "Successfully bound pod to node", pod=key, node=node)
        self._recorder.event(_with_kind(pod), NORMAL, "Scheduled", "Binding", f"Successfully assigned {key} to {node}")

    # When nothing fits

    async def _unschedulable(self, waiting: Waiting, snapshot: Snapshot, failure: FitError) -> None:
        pod, key = waiting.pod, key_of(waiting.pod)
        nominated = ""
        if snapshot.nodes:
            verdict = preemption.preempt(self._profile, pod, snapshot, failure, self._budgets.list())
            failure.post_filter = verdict.message
            if verdict.candidate is not None:
                nominated = verdict.candidate.node
                await self._evict(pod, verdict.candidate)
        await self._report(pod, str(failure), "Unschedulable", nominated)
        self._queue.failed(key, self._clock.monotonic())
        self._wake.set()

    async def _evict(self, pod: Object, candidate: preemption.Candidate) -> None:
        self._metrics.preemption_victims.observe(len(candidate.victims))
        for victim in candidate.victims:
            metadata = victim["metadata"]
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": f"{self._name}: preempting to accommodate a higher priority pod",
            }
            try:
                patch = {"status": {"conditions": [condition]}}
                await self._client.patch(resources.PODS, metadata["namespace"], metadata["name"], patch, PatchType.STRATEGIC, "status")
                await self._client.delete(resources.PODS, metadata["namespace"], metadata["name"], uid=metadata["uid"])
            except FAILURES as error:
                log.error("Failed to preempt pod", err=error, pod=key_of(victim), preemptor=key_of(pod))
                continue
            note = f"Preempted by pod {pod['metadata']['uid']} on node {candidate.node}"
            self._recorder.event(_with_kind(victim), NORMAL, "Preempted", "Preempting", note, _with_kind(pod))

    async def _report(self, pod: Object, message: str, reason: str, nominated: str = "") -> None:
        """The event, and the pod's PodScheduled condition."""
        self._recorder.event(_with_kind(pod), WARNING, "FailedScheduling", "Scheduling", message)
        condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
        current: Object = next((c for c in (pod.get("status") or {}).get("conditions") or () if c["type"] == "PodScheduled"), {})
        status: dict[str, Any] = {}
        if any(current.get(k) != v for k, v in condition.items()):
            from kubette.apimachinery import timestamps

            since = timestamps.format_time(self._clock.wall()) if current.get("status") != "False" else current.get("lastTransitionTime")
            status["conditions"] = [condition | {"lastTransitionTime": since, "lastProbeTime": None}]
        if nominated:
            status["nominatedNodeName"] = nominated
        if not status:
            return
        metadata = pod["metadata"]
        try:
            await self._client.patch(resources.PODS, metadata["namespace"], metadata["name"], {"status": status}, PatchType.STRATEGIC, "status")
        except FAILURES as error:
            log.error("Failed to update pod condition", err=error, pod=key_of(pod))

    def pending(self) -> dict[str, int]:
        return self._queue.pending()


def _with_kind(pod: Object) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", **pod}


def _deciding(node: Object, part: str) -> Any:
    if part == "labels":
        return node["metadata"].get("labels")
    return node.get("spec") if part == "spec" else (node.get("status") or {}).get(part)
