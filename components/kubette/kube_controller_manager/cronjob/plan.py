"""Pure: when a CronJob is due, and what its concurrency policy and history limits mean (cronjob_controllerv2.go).

cronsim reads the schedule; this module adds upstream's shorthands, time zones and missed starts.
"""

import datetime
import re
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cronsim

from kubette.apimachinery import meta, timestamps
from kubette.kube_controller_manager import objects
from kubette.kube_controller_manager.objects import spec, status

Object = dict[str, Any]

MISSED_STARTS_MAX = 100  # more than that is a wrong clock, or a controller that slept: said, and started once
SCHEDULED_TIMESTAMP = "batch.kubernetes.io/cronjob-scheduled-timestamp"

_SHORTHANDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class ScheduleError(ValueError):
    """The schedule or time zone cannot be read."""


@dataclass(frozen=True, slots=True)
class Due:
    """The latest time a job should have been started, if any; how many were missed; when the next is."""

    at: float | None
    missed: int
    next_at: float | None


def zone_of(cron_job: Object) -> datetime.tzinfo:
    name = spec(cron_job).get("timeZone") or ""
    try:
        return zoneinfo.ZoneInfo(name) if name else datetime.UTC
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ScheduleError(f"invalid timeZone: {name}: unknown time zone {name}") from error


def _times(schedule: str, after: datetime.datetime) -> "cronsim.CronSim":
    expression = _SHORTHANDS.get(schedule.strip(), schedule.strip())
    # robfig/cron, which upstream uses, writes "any" also as a question mark.
    expression = re.sub(r"(^|\s)\?(?=\s|$)", r"\1*", expression)
    try:
        return cronsim.CronSim(expression, after)
    except cronsim.CronSimError as error:
        raise ScheduleError(f"unparseable schedule: {schedule!r}: {error}") from error


def due(cron_job: Object, now: float) -> Due:
    """Raises ScheduleError."""
    zone = zone_of(cron_job)
    earliest = timestamps.parse_time(status(cron_job).get("lastScheduleTime") or meta.creation_timestamp(cron_job))
    deadline = spec(cron_job).get("startingDeadlineSeconds")
    if deadline is not None:
        earliest = max(earliest, now - float(deadline))
    every = re.fullmatch(r"@every\s+(\d+)([smh])", str(spec(cron_job)["schedule"]).strip())
    if every:
        return _due_every(int(every[1]) * {"s": 1, "m": 60, "h": 3600}[every[2]], earliest, now)
    at, missed = None, 0
    for moment in _times(spec(cron_job)["schedule"], datetime.datetime.fromtimestamp(earliest, zone)):
        stamp = moment.timestamp()
        if stamp > now:
            return Due(at, missed, stamp)
        at, missed = stamp, missed + 1
        if missed > MISSED_STARTS_MAX:
            return Due(_latest(cron_job, zone, now) or at, missed, _next(cron_job, zone, now))
    return Due(at, missed, None)


def _due_every(period_s: int, earliest: float, now: float) -> Due:
    missed = int((now - earliest) // period_s)
    at = earliest + missed * period_s if missed > 0 else None
    return Due(at, max(0, missed), earliest + (max(0, missed) + 1) * period_s)


def _latest(cron_job: Object, zone: datetime.tzinfo, now: float) -> float | None:
    """The last start before now, when walking there from the beginning takes too long."""
    for back_s in (3600, 86400, 31 * 86400, 366 * 86400):
        latest = None
        for count, moment in enumerate(_times(spec(cron_job)["schedule"], datetime.datetime.fromtimestamp(now - back_s, zone))):
            if moment.timestamp() > now or count > 4000:
                break
            latest = moment.timestamp()
        if latest is not None:
            return latest
    return None


def _next(cron_job: Object, zone: datetime.tzinfo, now: float) -> float | None:
    found = next(_times(spec(cron_job)["schedule"], datetime.datetime.fromtimestamp(now, zone)), None)
    return found.timestamp() if found is not None else None


def is_too_late(cron_job: Object, at: float, now: float) -> bool:
    deadline = spec(cron_job).get("startingDeadlineSeconds")
    return deadline is not None and at + float(deadline) < now


def new_job(cron_job: Object, at: float) -> Object:
    """Named by its minute: two controllers starting the same one collide instead of starting two."""
    template = objects.copy(spec(cron_job)["jobTemplate"])
    metadata = template.get("metadata") or {}
    annotations = {**(metadata.get("annotations") or {}), SCHEDULED_TIMESTAMP: _rfc3339(at, zone_of(cron_job))}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{meta.name(cron_job)}-{int(at) // 60}",
            "namespace": meta.namespace(cron_job),
            "labels": metadata.get("labels") or {},
            "annotations": annotations,
            "creationTimestamp": None,
            "ownerReferences": [meta.controller_reference(cron_job, "batch/v1", "CronJob")],
        },
        "spec": template.get("spec") or {},
    }


def _rfc3339(at: float, zone: datetime.tzinfo) -> str:
    text = datetime.datetime.fromtimestamp(int(at), zone).isoformat(timespec="seconds")
    return text.replace("+00:00", "Z")


def finished_kind(job: Object) -> str:
    """Complete, Failed, or empty."""
    return next((c["type"] for c in status(job).get("conditions") or () if c["type"] in ("Complete", "Failed") and c["status"] == "True"), "")


def surplus(cron_job: Object, jobs: Sequence[Object]) -> list[Object]:
    """Finished jobs beyond the history limits, the oldest."""
    found: list[Object] = []
    for kind, field, default in (("Complete", "successfulJobsHistoryLimit", 3), ("Failed", "failedJobsHistoryLimit", 1)):
        limit = spec(cron_job).get(field)
        finished = [j for j in jobs if finished_kind(j) == kind]
        finished.sort(key=lambda j: (status(j).get("startTime") or "", meta.name(j)))
        found += finished[: max(0, len(finished) - (default if limit is None else int(limit)))]
    return found
