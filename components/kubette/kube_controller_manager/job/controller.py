"""Carries out the plans for Jobs."""

import asyncio
from typing import Any

from kubette.apimachinery import meta, selectors, status
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.client.rest import PatchType
from kubette.client.store import by_namespace, key_of
from kubette.kube_controller_manager import expectations, objects, pod_control, pods
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.job import indexes, plan

Object = dict[str, Any]

NAMESPACE = "namespace"
# Several pods of a job often end at once: one look a second is enough (upstream's syncJobBatchPeriod).
BATCH_S = 0.2


class JobController:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("job-controller")
        self._recorder = context.recorder("job-controller", self._client)
        self._control = pod_control.PodControl(self._client, self._recorder)
        self._clock = context.clock
        self._expectations = expectations.Expectations()
        self._jobs = context.informer(resources.JOBS, {NAMESPACE: by_namespace})
        self._pods = context.informer(resources.PODS, {NAMESPACE: by_namespace})
        self._controller = context.controller("job", self.reconcile, (self._jobs, self._pods), context.options.concurrent_job_syncs)
        self._jobs.on_change(self._controller.enqueue)
        self._pods.add_handler(Handler(self._pod_added, self._pod_updated, self._pod_deleted))

    async def run(self) -> None:
        await self._controller.run()

    def _owner_key(self, pod: Object) -> str | None:
        ref = meta.controller_of(pod)
        if ref is None or ref.get("kind") != "Job":
            return None
        return f"{meta.namespace(pod)}/{ref['name']}"

    def _pod_added(self, pod: Object) -> None:
        key = self._owner_key(pod)
        if key is not None:
            self._expectations.creation_observed(key)
            self._controller.enqueue_key(key)

    def _pod_updated(self, _: Object, new: Object) -> None:
        key = self._owner_key(new)
        if key is not None:
            if meta.is_being_deleted(new):
                self._expectations.deletion_observed(key, key_of(new))
            self._controller.enqueue_after(key, BATCH_S)

    def _pod_deleted(self, pod: Object) -> None:
        key = self._owner_key(pod)
        if key is not None:
            self._expectations.deletion_observed(key, key_of(pod))
            self._controller.enqueue_key(key)

    async def reconcile(self, key: str) -> Result:
        job = self._jobs.get(key)
        if job is None:
            self._expectations.forget(key)
            await self._free_orphans(key)
            return DONE
        if objects.spec(job).get("managedBy", "kubernetes.io/job-controller") != "kubernetes.io/job-controller":
            return DONE
        job = {"apiVersion": "batch/v1", "kind": "Job", **job}
        owned = await self._claim(job)
        decided = plan.plan_job(job, owned, self._expectations.satisfied(key, self._clock.monotonic()), self._clock.wall())
        await self._carry_out(key, job, decided)
        return Result(decided.check_after_s)

    async def _claim(self, job: Object) -> list[Object]:
        selector = selectors.from_label_selector(objects.spec(job).get("selector"))
        candidates = self._pods.store.by_index(NAMESPACE, meta.namespace(job))
        if meta.is_being_deleted(job):
            return [p for p in candidates if meta.is_controlled_by(p, job)]
        return await pod_control.claim(self._client, resources.PODS, resources.JOBS, job, selector, candidates)

    async def _free_orphans(self, key: str) -> None:
        """The job is gone: its pods must not be held by our finalizer."""
        for pod in self._pods.store.by_index(NAMESPACE, key.partition("/")[0]):
            if self._owner_key(pod) == key and plan.has_finalizer(pod):
                await self._release(pod)

    async def _carry_out(self, key: str, job: Object, decided: plan.Plan) -> None:
        # The status first: a pod may only lose its finalizer when its end is noted.
        if decided.status is not None:
            shown = objects.without_zeros(decided.status, "active", "succeeded", "failed", "completedIndexes")
            await self._client.update(resources.JOBS, objects.with_status(job, shown), "status")
        for kind, reason, message in decided.events:
            self._recorder.event(job, kind, reason, message)
        await _all(self._release(p) for p in decided.release)
        if decided.delete:
            self._expectations.expect_deletions(key, [key_of(p) for p in decided.delete], self._clock.monotonic())
            await _all(self._delete(key, job, p) for p in decided.delete)
        if decided.create:
            await self._create(key, job, decided.create)

    async def _release(self, pod: Object) -> None:
        patch = {"metadata": {"uid": meta.uid(pod), "$deleteFromPrimitiveList/finalizers": [plan.FINALIZER]}}
        try:
            await self._client.patch(resources.PODS, meta.namespace(pod), meta.name(pod), patch, PatchType.STRATEGIC)
        except status.ApiError as error:
            if not status.is_not_found(error):
                raise

    async def _delete(self, key: str, job: Object, pod: Object) -> None:
        try:
            await self._control.delete(job, pod)
        except Exception:
            self._expectations.deletion_observed(key, key_of(pod))
            raise

    async def _create(self, key: str, job: Object, wanted: list[int | None]) -> None:
        self._expectations.expect_creations(key, len(wanted), self._clock.monotonic())
        remaining = list(wanted)
        for size in expectations.slow_start_batches(len(wanted)):
            batch, remaining = remaining[:size], remaining[size:]
            outcomes = await asyncio.gather(
                *(self._control.create(job, meta.namespace(job), new_pod(job, index)) for index in batch), return_exceptions=True
            )
            errors = [o for o in outcomes if isinstance(o, BaseException)]
            for _ in range(len(errors) + (len(remaining) if errors else 0)):
                self._expectations.creation_observed(key)
            if errors:
                raise errors[0]


def new_pod(job: Object, index: int | None) -> Object:
    """Pure: the pod for one completion."""
    reference = meta.controller_reference(job, "batch/v1", "Job")
    prefix = meta.name(job) + "-" if index is None else f"{meta.name(job)}-{index}-"
    pod = objects.copy(pods.from_template(objects.spec(job)["template"], reference, prefix))
    metadata = pod["metadata"]
    metadata["finalizers"] = [*metadata.get("finalizers", []), plan.FINALIZER]
    if index is not None:
        metadata.setdefault("annotations", {})[indexes.ANNOTATION] = str(index)
        metadata.setdefault("labels", {})[indexes.ANNOTATION] = str(index)
        pod["spec"]["hostname"] = f"{meta.name(job)}-{index}"
        source = {"fieldRef": {"fieldPath": f"metadata.labels['{indexes.ANNOTATION}']"}}
        for field in ("initContainers", "containers"):
            for container in pod["spec"].get(field) or []:
                if not any(e["name"] == "JOB_COMPLETION_INDEX" for e in container.get("env") or []):
                    container["env"] = [*(container.get("env") or []), {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}]
    return pod  # type: ignore[no-any-return]


async def _all(work: Any) -> None:
    """Run all; then raise the first failure, if any."""
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
