"""Starts jobs on schedule, and keeps their number and history within the CronJob's limits."""

from typing import Any

from kubette.apimachinery import meta, status, timestamps
from kubette.client import events, resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.client.store import by_controller_uid
from kubette.kube_controller_manager import objects
from kubette.kube_controller_manager.context import Context
from kubette.kube_controller_manager.cronjob import plan

Object = dict[str, Any]

OWNER = "controller-uid"
LATE_S = 0.1  # wake a moment after the full minute, not a moment before


class CronJobController:
    def __init__(self, context: Context) -> None:
        self._client = context.client_of("cronjob-controller")
        self._recorder = context.recorder("cronjob-controller", self._client)
        self._clock = context.clock
        self._cron_jobs = context.informer(resources.CRONJOBS)
        self._jobs = context.informer(resources.JOBS, {OWNER: by_controller_uid})
        caches = (self._cron_jobs, self._jobs)
        self._controller = context.controller("cronjob", self.reconcile, caches, context.options.concurrent_cron_job_syncs)
        enqueue = self._controller.enqueue
        self._cron_jobs.add_handler(Handler(enqueue, lambda _, new: enqueue(new)))
        self._jobs.on_change(self._job_changed)

    def _job_changed(self, job: Object) -> None:
        ref = meta.controller_of(job)
        if ref is not None and ref.get("kind") == "CronJob":
            self._controller.enqueue_key(f"{meta.namespace(job)}/{ref['name']}")

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result:
        cron_job = self._cron_jobs.get(key)
        if cron_job is None:
            return DONE
        cron_job = {"apiVersion": "batch/v1", "kind": "CronJob", **cron_job}
        jobs = self._jobs.store.by_index(OWNER, meta.uid(cron_job))
        new_status = self._settle(cron_job, jobs)
        for job in plan.surplus(cron_job, jobs):
            await self._delete(cron_job, job)
        result = DONE
        try:
            if not meta.is_being_deleted(cron_job) and not objects.spec(cron_job).get("suspend"):
                result = await self._start_if_due(cron_job, jobs, new_status)
        finally:
            if new_status != objects.status(cron_job):
                await self._client.update(resources.CRONJOBS, objects.with_status(cron_job, new_status), "status")
        return result

    def _settle(self, cron_job: Object, jobs: list[Object]) -> Object:
        """Active jobs as they are now; those that finished are told and leave the list."""
        new = objects.copy(objects.status(cron_job))
        by_uid = {meta.uid(j): j for j in jobs}
        active = []
        for ref in new.get("active") or []:
            job = by_uid.get(ref.get("uid", ""))
            if job is None:
                # Either too new for the cache, or gone: the name tells which when it is looked up next time.
                if self._jobs.get(f"{meta.namespace(cron_job)}/{ref['name']}") is None and self._is_recent(ref, new):
                    active.append(ref)
                continue
            kind = plan.finished_kind(job)
            if not kind:
                active.append(ref)
                continue
            self._recorder.event(cron_job, events.NORMAL, "SawCompletedJob", f"Saw completed job: {meta.name(job)}, condition: {kind}")
            if kind == "Complete":
                stamps = [s for s in (new.get("lastSuccessfulTime"), objects.status(job).get("completionTime")) if s]
                if stamps:
                    new["lastSuccessfulTime"] = max(stamps, key=timestamps.parse_time)
        known = {r.get("uid") for r in active}
        active += [_reference(j) for j in jobs if not plan.finished_kind(j) and meta.uid(j) not in known]
        new.pop("active", None)
        if active:
            new["active"] = active
        return new  # type: ignore[no-any-return]

    def _is_recent(self, ref: Object, new: Object) -> bool:
        stamp = new.get("lastScheduleTime")
        return bool(stamp) and self._clock.wall() - timestamps.parse_time(str(stamp)) < 5.0

    async def _start_if_due(self, cron_job: Object, jobs: list[Object], new_status: Object) -> Result:
        now = self._clock.wall()
        try:
            due = plan.due(cron_job, now)
        except plan.ScheduleError as error:
            self._recorder.event(cron_job, events.WARNING, "UnparseableSchedule", str(error))
            return DONE  # until it is changed, it will not get better
        again = Result(due.next_at - now + LATE_S) if due.next_at is not None else DONE
        if due.at is None:
            return again
        if due.missed > plan.MISSED_STARTS_MAX:
            message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            self._recorder.event(cron_job, events.WARNING, "TooManyMissedTimes", message)
        if plan.is_too_late(cron_job, due.at, now):
            self._recorder.event(cron_job, events.WARNING, "MissSchedule", f"Missed scheduled time to start a job: {timestamps.format_time(due.at)}")
            return again
        policy = objects.spec(cron_job).get("concurrencyPolicy", "Allow")
        if policy == "Forbid" and new_status.get("active"):
            self._recorder.event(
                cron_job, events.NORMAL, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid"
            )
            return again
        if policy == "Replace":
            for ref in list(new_status.get("active") or []):
                running = next((j for j in jobs if meta.uid(j) == ref.get("uid")), None)
                if running is not None:
                    await self._delete(cron_job, running)
            new_status.pop("active", None)
        await self._start(cron_job, due.at, new_status)
        return again

    async def _start(self, cron_job: Object, at: float, new_status: Object) -> None:
        wanted = plan.new_job(cron_job, at)
        try:
            job = await self._client.create(resources.JOBS, meta.namespace(cron_job), wanted)
        except status.ApiError as error:
            if not status.is_already_exists(error):
                self._recorder.event(cron_job, events.WARNING, "FailedCreate", f"Error creating job: {error}")
                raise
            # Started before, and the status was not written any more.
            job = await self._client.get(resources.JOBS, meta.namespace(cron_job), meta.name(wanted))
            if not meta.is_controlled_by(job, cron_job):
                raise
        else:
            self._recorder.event(cron_job, events.NORMAL, "SuccessfulCreate", f"Created job {meta.name(job)}")
        if not plan.finished_kind(job) and not any(r.get("uid") == meta.uid(job) for r in new_status.get("active") or []):
            new_status["active"] = [*(new_status.get("active") or []), _reference(job)]
        new_status["lastScheduleTime"] = timestamps.format_time(at)

    async def _delete(self, cron_job: Object, job: Object) -> None:
        try:
            await self._client.delete(resources.JOBS, meta.namespace(job), meta.name(job), uid=meta.uid(job), propagation_policy="Background")
        except status.ApiError as error:
            if status.is_not_found(error):
                return
            self._recorder.event(cron_job, events.WARNING, "FailedDelete", f"Deleted job: {error}")
            raise
        self._recorder.event(cron_job, events.NORMAL, "SuccessfulDelete", f"Deleted job {meta.name(job)}")


def _reference(job: Object) -> Object:
    return {
        "kind": "Job",
        "namespace": meta.namespace(job),
        "name": meta.name(job),
        "uid": meta.uid(job),
        "apiVersion": "batch/v1",
        "resourceVersion": meta.resource_version(job),
    }
