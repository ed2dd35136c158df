"""One ordered stream of work a pod (kubelet's pod_workers): it is synced, then terminating, then terminated, never back.

    SYNC ──(deleted, removed, evicted, all containers done)──► TERMINATING ──(no container runs)──► TERMINATED ──(cleaned up)──► FINISHED

Work for one pod never overlaps; pods are independent of each other. A request to terminate interrupts a sync in the middle (an image
pull may take an hour), a shorter grace period interrupts a termination. A finished stream stays known until its pod is gone from the
sources, so that a pod once ended does not begin again; only a static pod that was removed and put back does.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from kubette.component_base import logs
from kubette.kubelet import pod_spec
from kubette.kubelet.pod_spec import Pod
from kubette.stdx.tasks import Scope

log = logs.logger(__name__)

RETRY_S = 10.0  # upstream's backOffPeriod
TRANSIENT_RETRY_S = 1.0  # upstream's backOffOnTransientErrorPeriod


class Phase(StrEnum):
    SYNC = "sync"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    FINISHED = "finished"


@dataclass(slots=True)
class Termination:
    """Why and how a pod ends. `grace_s` None is the pod's own period."""

    grace_s: int | None = None
    reason: tuple[str, str] | None = None  # of the status: Evicted, DeadlineExceeded, …
    removed: bool = False  # its object is gone from the sources: nobody is left to tell


@dataclass(frozen=True, slots=True)
class SyncOutcome:
    """`is_terminal`: all containers ended for good. `after_s`: sync again at the latest then."""

    is_terminal: bool = False
    after_s: float | None = None


class Syncer(Protocol):
    """What a stream does, step by step. Each may raise; it is then tried again."""

    async def sync_pod(self, pod: Pod) -> SyncOutcome: ...

    async def sync_terminating_pod(self, pod: Pod, termination: Termination) -> None: ...

    async def sync_terminated_pod(self, pod: Pod, termination: Termination) -> None: ...


@dataclass(slots=True)
class _Worker:
    pod: Pod
    phase: Phase = Phase.SYNC
    termination: Termination | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    step: "asyncio.Task[object] | None" = None
    restart_with: Pod | None = None
    started: bool = False


class PodWorkers:
    """All streams. `scope` owns their tasks."""

    def __init__(self, scope: Scope, syncer: Syncer, resync_s: float = 60.0, finished: Callable[[Pod], None] | None = None) -> None:
        self._scope, self._syncer, self._resync_s, self._finished = scope, syncer, resync_s, finished
        self._workers: dict[str, _Worker] = {}
        self._changed = asyncio.Event()

    # Requests

    def update(self, pod: Pod) -> None:
        """The pod is new or changed."""
        uid = pod_spec.uid(pod)
        worker = self._workers.get(uid)
        if worker is None:
            worker = self._workers[uid] = _Worker(pod)
            self._scope.start(self._run(uid, worker), name=f"pod {pod_spec.key(pod)}")
        elif worker.termination is not None and worker.termination.removed and pod_spec.is_static(pod):
            # Its file was taken away and put back: the same pod again, once this one has ended.
            worker.restart_with = pod
            self._maybe_restart(uid, worker)
            return
        else:
            worker.pod = pod
            worker.wake.set()
        if pod_spec.is_deleted(pod):
            self.terminate(uid, Termination())

    def remove(self, pod: Pod) -> None:
        """The pod is gone from its source."""
        worker = self._workers.get(pod_spec.uid(pod))
        if worker is None:
            return
        worker.restart_with = None
        self.terminate(pod_spec.uid(pod), Termination(removed=True))
        if worker.phase is Phase.FINISHED:
            self._forget(pod_spec.uid(pod))

    def wake(self, uid: str) -> None:
        """Something happened to its containers, probes or volumes."""
        if worker := self._workers.get(uid):
            worker.wake.set()

    def terminate(self, uid: str, termination: Termination) -> None:
        """End the pod; a second request can only make it faster."""
        worker = self._workers.get(uid)
        if worker is None:
            return
        known = worker.termination
        if known is None:
            worker.termination = termination
            if worker.phase is Phase.SYNC and worker.step is not None:
                worker.step.cancel()
        else:
            before = known.grace_s if known.grace_s is not None else _grace(worker.pod, known)
            known.removed = known.removed or termination.removed
            after = termination.grace_s if termination.grace_s is not None else pod_spec.grace_period_s(worker.pod)
            if after < before:
                known.grace_s = after
                if worker.phase is Phase.TERMINATING and worker.step is not None:
                    worker.step.cancel()
        worker.wake.set()

    # Questions

    def phase(self, uid: str) -> Phase | None:
        worker = self._workers.get(uid)
        return worker.phase if worker else None

    def is_terminating(self, uid: str) -> bool:
        """Whether the end has been decided."""
        worker = self._workers.get(uid)
        return worker is not None and worker.termination is not None

    def is_finished(self, uid: str) -> bool:
        """Nothing of it runs and everything is cleaned up (or it was never known)."""
        worker = self._workers.get(uid)
        return worker is None or worker.phase is Phase.FINISHED

    def knows(self, uid: str) -> bool:
        return uid in self._workers

    def uids(self) -> list[str]:
        return list(self._workers)

    def statistics(self) -> dict[str, int]:
        counts = dict.fromkeys((p.value for p in Phase), 0)
        for worker in self._workers.values():
            counts[worker.phase.value] += 1
        return counts

    # The stream

    async def _run(self, uid: str, worker: _Worker) -> None:
        await self._wait_turn(uid, worker)
        worker.started = True
        while worker.termination is None:
            worker.wake.clear()
            outcome = await self._step(worker, lambda: self._syncer.sync_pod(worker.pod), SyncOutcome(after_s=TRANSIENT_RETRY_S))
            if worker.termination is not None:
                break
            if isinstance(outcome, SyncOutcome) and outcome.is_terminal:
                worker.termination = Termination()
                break
            after_s = outcome.after_s if isinstance(outcome, SyncOutcome) and outcome.after_s is not None else self._resync_s
            await _wait(worker.wake, min(after_s, self._resync_s))
        termination = worker.termination
        worker.phase = Phase.TERMINATING
        await self._until_done(worker, lambda: self._syncer.sync_terminating_pod(worker.pod, termination))
        worker.phase = Phase.TERMINATED
        await self._until_done(worker, lambda: self._syncer.sync_terminated_pod(worker.pod, termination))
        worker.phase = Phase.FINISHED
        self._changed.set()
        log.v(3, "Pod worker finished", pod=pod_spec.key(worker.pod))
        if self._finished is not None:
            self._finished(worker.pod)
        if not self._maybe_restart(uid, worker) and termination.removed:
            self._forget(uid)

    def _maybe_restart(self, uid: str, worker: _Worker) -> bool:
        if worker.restart_with is None or worker.phase is not Phase.FINISHED:
            return False
        pod = worker.restart_with
        self._workers.pop(uid, None)
        self.update(pod)
        return True

    def _forget(self, uid: str) -> None:
        self._workers.pop(uid, None)
        self._changed.set()

    async def _wait_turn(self, uid: str, worker: _Worker) -> None:
        """A static pod waits until an older one of the same name has ended: they would fight for ports and files."""
        if not pod_spec.is_static(worker.pod):
            return
        name = pod_spec.full_name(worker.pod)
        while worker.termination is None:
            older = [
                w for u, w in self._workers.items() if u != uid and w.started and w.phase is not Phase.FINISHED and pod_spec.full_name(w.pod) == name
            ]
            if not older:
                return
            self._changed.clear()
            await self._changed.wait()

    async def _step(self, worker: _Worker, work: Callable[[], object], on_error: object) -> object:
        """Run one step so that `terminate` can cancel it without ending the stream; answers `on_error` when it failed."""
        worker.step = self._scope.start(_guarded(work, on_error, worker.pod), name=f"step {pod_spec.key(worker.pod)}")
        try:
            await asyncio.wait({worker.step})
            return on_error if worker.step.cancelled() else worker.step.result()
        finally:
            if not worker.step.done():
                worker.step.cancel()
            worker.step = None

    async def _until_done(self, worker: _Worker, work: Callable[[], object]) -> None:
        while True:
            worker.wake.clear()
            failed = object()
            if await self._step(worker, work, failed) is not failed:
                return
            await _wait(worker.wake, TRANSIENT_RETRY_S)


async def _guarded(work: Callable[[], object], on_error: object, pod: Pod) -> object:
    """The outermost level of a step: what it raises is logged, and tried again later."""
    try:
        return await work()  # type: ignore[misc]
    except Exception as error:
        log.error("Error syncing pod, skipping", err=error, pod=pod_spec.key(pod), podUID=pod_spec.uid(pod))
        return on_error


def _grace(pod: Pod, termination: Termination) -> int:
    return termination.grace_s if termination.grace_s is not None else pod_spec.grace_period_s(pod)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
