"""Pure: what to do next about one Job (job_controller.go).

Every finished pod is counted exactly once, whatever crashes in between (INV-C6): pods carry a finalizer; a finished pod's uid is first
noted in `status.uncountedTerminatedPods`, then its finalizer is removed, then the uid becomes one more in `succeeded` or `failed`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kubette.apimachinery import meta, timestamps
from kubette.kube_controller_manager import objects, pods
from kubette.kube_controller_manager.job import failure_policy, indexes
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]

FINALIZER = "batch.kubernetes.io/job-tracking"
PODS_PER_SYNC_MAX = 500
BACKOFF_BASE_S, BACKOFF_CAP_S = 10.0, 600.0


@dataclass(slots=True)
class Plan:
    """In this order: status (with what is noted as uncounted), finalizers, deletions, creations."""

    status: Object | None = None
    release: list[Object] = field(default_factory=list)  # remove the finalizer
    delete: list[Object] = field(default_factory=list)
    create: list[int | None] = field(default_factory=list)  # a completion index each, None for non-indexed jobs
    check_after_s: float | None = None
    events: list[tuple[str, str, str]] = field(default_factory=list)  # type, reason, message


@dataclass(slots=True)
class Counts:
    """The job's pods sorted, and the tallies with them."""

    active: list[Object]
    succeeded: int
    failed: int
    succeeded_indexes: set[int]
    uncounted_succeeded: list[str]
    uncounted_failed: list[str]
    release: list[Object]
    newly_failed: list[Object]


def is_indexed(job: Object) -> bool:
    return bool(spec(job).get("completionMode") == "Indexed")


def is_finished(job: Object) -> bool:
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in status(job).get("conditions") or ())


def has_finalizer(pod: Object) -> bool:
    return FINALIZER in meta.finalizers(pod)


def count_pods(job: Object, owned: Sequence[Object], now: float) -> Counts:
    """Tally: settle the uncounted whose pods are released, note newly finished ones."""
    old = status(job)
    uncounted = old.get("uncountedTerminatedPods") or {}
    noted_succeeded, noted_failed = list(uncounted.get("succeeded") or []), list(uncounted.get("failed") or [])
    held = {meta.uid(p): p for p in owned if has_finalizer(p)}
    completions = int(spec(job).get("completions") or 0)
    done = indexes.parse(old.get("completedIndexes") or "", completions) if is_indexed(job) else set()
    counts = Counts(
        active=[p for p in owned if pods.is_active(p)],
        succeeded=int(old.get("succeeded") or 0) + sum(1 for uid in noted_succeeded if uid not in held),
        failed=int(old.get("failed") or 0) + sum(1 for uid in noted_failed if uid not in held),
        succeeded_indexes=done,
        uncounted_succeeded=[uid for uid in noted_succeeded if uid in held],
        uncounted_failed=[uid for uid in noted_failed if uid in held],
        release=[],
        newly_failed=[],
    )
    for uid, pod in held.items():
        if uid in noted_succeeded or uid in noted_failed:
            counts.release.append(pod)
        elif pods.phase(pod) == "Succeeded":
            index = indexes.of(pod)
            if is_indexed(job):
                if index is not None and index < completions and index not in done:
                    done.add(index)
                    counts.uncounted_succeeded.append(uid)
                counts.release.append(pod)
            else:
                counts.uncounted_succeeded.append(uid)
                counts.release.append(pod)
        elif pods.phase(pod) == "Failed" or (meta.is_being_deleted(pod) and not is_finished(job) and _is_lost(pod)):
            if failure_policy.action(job, pod) != failure_policy.IGNORE:
                counts.uncounted_failed.append(uid)
                counts.newly_failed.append(pod)
            counts.release.append(pod)
        elif is_finished(job) or meta.is_being_deleted(job):
            counts.release.append(pod)
    return counts


def _is_lost(pod: Object) -> bool:
    """Being deleted without ever having been on a node: nobody will report how it ended."""
    return not spec(pod).get("nodeName")


def plan_job(job: Object, owned: Sequence[Object], trusted: bool, now: float) -> Plan:
    """`trusted`: the cache shows all that was created and deleted before."""
    plan = Plan()
    counts = count_pods(job, owned, now)
    plan.release = counts.release[:PODS_PER_SYNC_MAX]
    if meta.is_being_deleted(job):
        plan.release = [p for p in owned if has_finalizer(p)]
        return plan
    if is_finished(job):
        plan.release = [p for p in owned if has_finalizer(p)]
        new = _status(job, counts, counts.active, objects.copy(status(job).get("conditions") or []))
        plan.status = new if not _same(job, new) else None
        return plan
    conditions = list(status(job).get("conditions") or [])
    suspended = bool(spec(job).get("suspend"))
    verdict = _verdict(job, owned, counts, suspended, now)
    active = list(counts.active)
    if verdict is not None:
        kind, reason, message = verdict
        plan.delete = active
        active = []
        interim = "SuccessCriteriaMet" if kind == "Complete" else "FailureTarget"
        conditions = _with(conditions, _condition(interim, "True", reason, message, now))
        # The last word is spoken when every pod has ended and been counted.
        if not counts.active and not counts.uncounted_succeeded and not counts.uncounted_failed and not _terminating(owned):
            conditions = _with(conditions, _condition(kind, "True", reason, message, now))
            if kind == "Complete":
                plan.events.append(("Normal", "Completed", "Job completed"))
            else:
                plan.events.append(("Warning", reason, message))
    else:
        conditions = _suspension(plan, job, conditions, suspended, now)
        if trusted:
            active = _manage(plan, job, owned, counts, suspended, now)
    new = _status(job, counts, active if verdict is None else counts.active, conditions)
    _timestamps(job, new, suspended, now)
    new["active"] = len([p for p in counts.active if p not in plan.delete]) + len(plan.create)
    new["ready"] = sum(1 for p in counts.active if pods.is_ready(p))
    new["terminating"] = _terminating(owned)
    if not _same(job, new):
        plan.status = new
    deadline = spec(job).get("activeDeadlineSeconds")
    if deadline is not None and status(job).get("startTime") and not suspended:
        left = timestamps.parse_time(status(job)["startTime"]) + float(deadline) - now
        plan.check_after_s = min(plan.check_after_s or left, left) if left > 0 else plan.check_after_s
    return plan


def _terminating(owned: Sequence[Object]) -> int:
    return sum(1 for p in owned if meta.is_being_deleted(p) and not pods.is_terminal(p))


def _verdict(job: Object, owned: Sequence[Object], counts: Counts, suspended: bool, now: float) -> tuple[str, str, str] | None:
    """(Complete or Failed, reason, message) when the job is decided."""
    known = status(job).get("conditions") or []
    for interim, kind in (("SuccessCriteriaMet", "Complete"), ("FailureTarget", "Failed")):
        found = objects.find_condition(known, interim)
        if found is not None and found["status"] == "True":
            return kind, found.get("reason", ""), found.get("message", "")
    for pod in counts.newly_failed:
        message = failure_policy.failure_message(job, pod)
        if message:
            return "Failed", "PodFailurePolicy", message
    failed = counts.failed + len(counts.uncounted_failed)
    if failed > int(spec(job).get("backoffLimit", 6)) or _too_many_restarts(job, counts.active):
        return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline, start = spec(job).get("activeDeadlineSeconds"), status(job).get("startTime")
    if deadline is not None and start and not suspended and now - timestamps.parse_time(start) >= float(deadline):
        return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    completions = spec(job).get("completions")
    if is_indexed(job):
        reached = len(counts.succeeded_indexes) >= int(completions or 0)
    else:
        succeeded = counts.succeeded + len(counts.uncounted_succeeded)
        # Without completions any success means that the work is done; the others are let to finish.
        reached = (succeeded > 0 and not counts.active) if completions is None else succeeded >= int(completions)
    return ("Complete", "CompletionsReached", "Reached expected number of succeeded pods") if reached else None


def _too_many_restarts(job: Object, active: Sequence[Object]) -> bool:
    """With restartPolicy OnFailure the kubelet restarts; its restarts count against the limit."""
    if ((spec(job).get("template") or {}).get("spec") or {}).get("restartPolicy") != "OnFailure":
        return False
    total = sum(
        int(c.get("restartCount") or 0) for p in active for f in ("initContainerStatuses", "containerStatuses") for c in status(p).get(f) or ()
    )
    limit = int(spec(job).get("backoffLimit", 6))
    return total > 0 if limit == 0 else total >= limit


def _suspension(plan: Plan, job: Object, conditions: list[Object], suspended: bool, now: float) -> list[Object]:
    was = objects.find_condition(conditions, "Suspended")
    if suspended and (was is None or was["status"] != "True"):
        plan.events.append(("Normal", "Suspended", "Job suspended"))
        return _with(conditions, _condition("Suspended", "True", "JobSuspended", "Job suspended", now))
    if not suspended and was is not None and was["status"] == "True":
        plan.events.append(("Normal", "Resumed", "Job resumed"))
        return _with(conditions, _condition("Suspended", "False", "JobResumed", "Job resumed", now))
    return conditions


def _manage(plan: Plan, job: Object, owned: Sequence[Object], counts: Counts, suspended: bool, now: float) -> list[Object]:
    """Too many pods: delete some; too few: create, after the back-off of the last failure."""
    active = sorted(counts.active, key=lambda p: pods.deletion_rank(p, 0, now))
    wanted = 0 if suspended else wanted_active(job, counts)
    duplicates = _duplicates(job, active)
    if len(active) - len(duplicates) > wanted or duplicates:
        rest = [p for p in active if p not in duplicates]
        plan.delete = [*duplicates, *rest[: max(0, len(rest) - wanted)]][:PODS_PER_SYNC_MAX]
        return active
    missing = wanted - len(active)
    if suspended or missing <= 0:
        return active
    if spec(job).get("podReplacementPolicy") == "Failed" or spec(job).get("podFailurePolicy"):
        missing -= _terminating(owned)  # a replacement waits until the old one has really ended
    wait_s = backoff_left_s(job, owned, now)
    if wait_s > 0:
        plan.check_after_s = wait_s
        return active
    count = min(max(0, missing), PODS_PER_SYNC_MAX)
    if is_indexed(job):
        plan.create = list(indexes.missing(int(spec(job).get("completions") or 0), counts.succeeded_indexes, map(indexes.of, active), count))
    else:
        plan.create = [None] * count
    return active


def wanted_active(job: Object, counts: Counts) -> int:
    parallelism = int(spec(job).get("parallelism", 1))
    completions = spec(job).get("completions")
    succeeded = len(counts.succeeded_indexes) if is_indexed(job) else counts.succeeded + len(counts.uncounted_succeeded)
    if completions is None:
        # A work queue: after the first success no new workers are started.
        return len(counts.active) if succeeded else parallelism
    return max(0, min(parallelism, int(completions) - succeeded))


def _duplicates(job: Object, active: Sequence[Object]) -> list[Object]:
    """Pods of an Indexed job with an index that another has, or none that it should have."""
    if not is_indexed(job):
        return []
    seen: set[int] = set()
    doomed = []
    for pod in reversed(active):  # the ranking puts the most expendable first
        index = indexes.of(pod)
        if index is None or index >= int(spec(job).get("completions") or 0) or index in seen:
            doomed.append(pod)
        else:
            seen.add(index)
    return doomed


def backoff_left_s(job: Object, owned: Sequence[Object], now: float) -> float:
    """Failures in a row since the last success delay the next pod: 10 s, 20 s, … up to ten minutes."""
    ends = sorted(((_ended_at(p), pods.phase(p)) for p in owned if pods.is_terminal(p)), reverse=True)
    failures, last = 0, 0.0
    for moment, phase in ends:
        if phase == "Succeeded":
            break
        failures += 1
        last = max(last, moment)
    if failures == 0:
        return 0.0
    delay: float = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(failures - 1, 10))
    return max(0.0, last + delay - now)


def _ended_at(pod: Object) -> float:
    moments = [
        timestamps.parse_time(t["finishedAt"])
        for c in status(pod).get("containerStatuses") or ()
        if (t := (c.get("state") or {}).get("terminated")) and t.get("finishedAt")
    ]
    if moments:
        return max(moments)
    ready = pods.ready_condition(pod)
    stamp = (ready or {}).get("lastTransitionTime") or meta.deletion_timestamp(pod) or meta.creation_timestamp(pod)
    return timestamps.parse_time(stamp) if stamp else 0.0


def _condition(kind: str, value: str, reason: str, message: str, now: float) -> Object:
    stamp = timestamps.format_time(now)
    return {"type": kind, "status": value, "reason": reason, "message": message, "lastProbeTime": stamp, "lastTransitionTime": stamp}


def _with(conditions: list[Object], new: Object) -> list[Object]:
    old = objects.find_condition(conditions, new["type"])
    if old is not None and old["status"] == new["status"] and old.get("reason") == new.get("reason"):
        return conditions
    return [*objects.without_condition(conditions, new["type"]), new]


def _status(job: Object, counts: Counts, active: Sequence[Object], conditions: list[Object]) -> Object:
    old = status(job)
    new: Object = {k: old[k] for k in ("startTime", "completionTime") if old.get(k)}
    if conditions:
        new["conditions"] = conditions
    if is_indexed(job):
        new["succeeded"] = len(counts.succeeded_indexes)
        new["completedIndexes"] = indexes.show(counts.succeeded_indexes)
    else:
        new["succeeded"] = counts.succeeded
    new["failed"] = counts.failed
    new["active"] = len(active)
    new["ready"] = sum(1 for p in active if pods.is_ready(p))
    new["uncountedTerminatedPods"] = {k: v for k, v in (("succeeded", counts.uncounted_succeeded), ("failed", counts.uncounted_failed)) if v}
    return new


def _timestamps(job: Object, new: Object, suspended: bool, now: float) -> None:
    if suspended:
        new.pop("startTime", None)  # the deadline counts anew when it is resumed
    elif "startTime" not in new:
        new["startTime"] = timestamps.format_time(now)
    complete = objects.find_condition(new.get("conditions") or [], "Complete")
    if complete is not None and complete["status"] == "True" and "completionTime" not in new:
        new["completionTime"] = timestamps.format_time(now)


def _same(job: Object, new: Object) -> bool:
    old = status(job)
    numbers = ("active", "ready", "succeeded", "failed", "terminating")
    others = ("conditions", "startTime", "completionTime", "completedIndexes", "uncountedTerminatedPods")
    return all(int(old.get(k) or 0) == int(new.get(k) or 0) for k in numbers) and all((old.get(k) or None) == (new.get(k) or None) for k in others)
