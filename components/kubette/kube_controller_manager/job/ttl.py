"""Deletes finished jobs when their `ttlSecondsAfterFinished` is over (upstream's ttl-after-finished controller)."""

from typing import Any

from kubette.apimachinery import meta, status, timestamps
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.kube_controller_manager import objects
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.job import plan

Object = dict[str, Any]


def expires_at(job: Object) -> float | None:
    """Pure: when the job is to be deleted; None if it is not."""
    ttl = objects.spec(job).get("ttlSecondsAfterFinished")
    if ttl is None or not plan.is_finished(job) or meta.is_being_deleted(job):
        return None
    finished = [c for c in objects.status(job)["conditions"] if c["type"] in ("Complete", "Failed") and c["status"] == "True"]
    stamp = finished[0].get("lastTransitionTime")
    return timestamps.parse_time(stamp) + float(ttl) if stamp else None


class TTLAfterFinishedController:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("ttl-after-finished-controller")
        self._clock = context.clock
        self._jobs = context.informer(resources.JOBS)
        self._controller = context.controller(
            "ttl_jobs_to_delete", self.reconcile, (self._jobs,), context.options.concurrent_ttl_after_finished_syncs
        )
        self._jobs.add_handler(Handler(self._changed, lambda _, new: self._changed(new)))

    def _changed(self, job: Object) -> None:
        if expires_at(job) is not None:
            self._controller.enqueue(job)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result:
        job = self._jobs.get(key)
        at = expires_at(job) if job is not None else None
        if job is None or at is None:
            return DONE
        left_s = at - self._clock.wall()
        if left_s > 0:
            return Result(left_s)
        # The ttl may have been raised since: judge what the server has now.
        fresh = await self._client.get(resources.JOBS, meta.namespace(job), meta.name(job))
        again = expires_at(fresh)
        if meta.uid(fresh) != meta.uid(job) or again is None:
            return DONE
        if again > self._clock.wall():
            return Result(again - self._clock.wall())
        try:
            await self._client.delete(
                resources.JOBS,
                meta.namespace(job),
                meta.name(job),
                uid=meta.uid(fresh),
                resource_version=meta.resource_version(fresh),
                propagation_policy="Foreground",
            )
        except status.ApiError as error:
            if not status.is_not_found(error):
                raise
        return DONE
