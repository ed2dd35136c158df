"""Pure: the workloads of apps/v1 and batch/v1, and replication controllers."""

import re
from typing import Any

from kubette.apimachinery import field_errors, meta, names
from kubette.apimachinery.field_errors import FieldError, child
from kubette.apimachinery.validation import copy
from kubette.kube_apiserver.registry import object_meta, pod_defaults, pod_validation
from kubette.kube_apiserver.registry.pod_validation import not_negative
from kubette.kube_apiserver.registry.strategy import Context, Object, Strategy, immutable

Errors = list[FieldError]
INT32_MAX = 2**31 - 1


def _spec(obj: Object) -> Object:
    found: Object = obj.setdefault("spec", {})
    return found


def _default_template(spec: Object) -> None:
    template = spec.get("template")
    if template is not None:
        pod_defaults.default_pod_spec(template.setdefault("spec", {}))


def _int_or_percent(value: Any, path: str) -> Errors:
    if isinstance(value, int):
        return not_negative(value, path)
    return [field_errors.invalid(path, value, text) for text in names.percent(str(value))]


def _percent_of(value: Any) -> int | None:
    return int(value[:-1]) if isinstance(value, str) and re.fullmatch("[0-9]+%", value) else None


def _is_zero(value: Any) -> bool:
    return value in (None, 0) or _percent_of(value) == 0


def _selector(spec: Object, kind: str) -> Errors:
    """Required and not empty."""
    selector = spec.get("selector")
    if selector is None:
        return [field_errors.required("spec.selector")]
    errors = object_meta.label_selector(selector, "spec.selector")
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        errors.append(field_errors.invalid("spec.selector", selector, f"empty selector is invalid for {kind}"))
    return errors


class WorkloadStrategy(Strategy):
    """What Deployment, ReplicaSet, DaemonSet and StatefulSet share."""

    has_generation = True
    status_keeps_labels = True

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        template = (obj.get("spec") or {}).get("template") or {}
        annotations = (template.get("metadata") or {}).get("annotations")
        return pod_validation.template_warnings(template.get("spec") or {}, "spec.template.spec", annotations)

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        return immutable((obj.get("spec") or {}).get("selector"), (old.get("spec") or {}).get("selector"), "spec.selector")


class DeploymentStrategy(WorkloadStrategy):
    initial_status = {}

    def default(self, obj: Object) -> None:
        spec = _spec(obj)
        _default_template(spec)
        spec.setdefault("replicas", 1)
        strategy = spec.setdefault("strategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", "25%")
            rolling.setdefault("maxSurge", "25%")
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("progressDeadlineSeconds", 600)

    def generation_changes(self, obj: Object, old: Object) -> bool:
        # Annotations of a deployment count too: rollbacks and pauses of old were written there.
        return super().generation_changes(obj, old) or meta.annotations(obj) != meta.annotations(old)

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors = not_negative(spec.get("replicas"), "spec.replicas")
        errors += _selector(spec, "deployment")
        errors += pod_validation.template_for_selector(spec.get("template"), spec.get("selector"), "spec.template")
        errors += _deployment_strategy(spec.get("strategy") or {}, "spec.strategy")
        for name in ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
            errors += not_negative(spec.get(name), f"spec.{name}")
        deadline = spec.get("progressDeadlineSeconds")
        if deadline is not None and deadline <= (spec.get("minReadySeconds") or 0):
            errors.append(field_errors.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
        return errors


def _deployment_strategy(strategy: Object, path: str) -> Errors:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            text = "may not be specified when strategy `type` is 'Recreate'"
            return [field_errors.forbidden(child(path, "rollingUpdate"), text)]
        return []
    if kind != "RollingUpdate":
        return [field_errors.not_supported(path, strategy, ("Recreate", "RollingUpdate"))]
    if rolling is None:
        return [field_errors.required(child(path, "rollingUpdate"), "this should be defaulted and never be nil")]
    return _rolling_update(rolling, child(path, "rollingUpdate"))


def _rolling_update(rolling: Object, path: str) -> Errors:
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    errors = _int_or_percent(unavailable, child(path, "maxUnavailable")) + _int_or_percent(surge, child(path, "maxSurge"))
    if not errors and _is_zero(unavailable) and _is_zero(surge):
        text = "may not be 0 when `maxSurge` is 0"
        errors.append(field_errors.invalid(child(path, "maxUnavailable"), unavailable, text))
    if (_percent_of(unavailable) or 0) > 100:
        errors.append(field_errors.invalid(child(path, "maxUnavailable"), unavailable, "must not be greater than 100%"))
    return errors


class ReplicaSetStrategy(WorkloadStrategy):
    initial_status = {"replicas": 0}
    selectable = ("status.replicas",)

    def default(self, obj: Object) -> None:
        spec = _spec(obj)
        _default_template(spec)
        spec.setdefault("replicas", 1)

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return super().selectable_fields(obj) | {"status.replicas": str((obj.get("status") or {}).get("replicas") or 0)}

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors = not_negative(spec.get("replicas"), "spec.replicas") + not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
        errors += _selector(spec, "deployment")  # upstream says deployment here too
        return errors + pod_validation.template_for_selector(spec.get("template"), spec.get("selector"), "spec.template")


class ReplicationControllerStrategy(WorkloadStrategy):
    initial_status = {"replicas": 0}
    status_keeps_labels = False
    selectable = ("status.replicas",)

    def default(self, obj: Object) -> None:
        spec = _spec(obj)
        _default_template(spec)
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
        if labels:
            if not spec.get("selector"):
                spec["selector"] = dict(labels)
            if not meta.labels(obj):
                meta.metadata(obj)["labels"] = dict(labels)
        spec.setdefault("replicas", 1)

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return super().selectable_fields(obj) | {"status.replicas": str((obj.get("status") or {}).get("replicas") or 0)}

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors = not_negative(spec.get("replicas"), "spec.replicas") + not_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
        if not spec.get("selector"):
            errors.append(field_errors.required("spec.selector"))
        return errors + pod_validation.template_for_selector(spec.get("template"), {"matchLabels": spec.get("selector") or {}}, "spec.template")

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        return []


class DaemonSetStrategy(WorkloadStrategy):
    initial_status = {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}

    def default(self, obj: Object) -> None:
        spec = _spec(obj)
        _default_template(spec)
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 0)
        spec.setdefault("revisionHistoryLimit", 10)

    def prepare_for_create(self, obj: Object, context: Context) -> None:
        super().prepare_for_create(obj, context)
        meta.metadata(obj).setdefault("annotations", {}).setdefault("deprecated.daemonset.template.generation", "1")

    def prepare_for_update(self, obj: Object, old: Object, subresource: str = "", context: Context | None = None) -> None:
        super().prepare_for_update(obj, old, subresource, context)
        if subresource == "status":
            return
        # The template's own generation, from before ControllerRevisions; kubectl still shows it.
        name = "deprecated.daemonset.template.generation"
        generation = int(meta.annotations(old).get(name) or 0)
        if (obj.get("spec") or {}).get("template") != (old.get("spec") or {}).get("template"):
            generation += 1
        if generation:
            meta.metadata(obj).setdefault("annotations", {})[name] = str(generation)

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors = _selector(spec, "daemonset")
        errors += pod_validation.template_for_selector(spec.get("template"), spec.get("selector"), "spec.template")
        for name in ("minReadySeconds", "revisionHistoryLimit"):
            errors += not_negative(spec.get(name), f"spec.{name}")
        strategy = spec.get("updateStrategy") or {}
        kind = strategy.get("type")
        if kind == "RollingUpdate":
            errors += _daemon_rolling_update(strategy.get("rollingUpdate") or {}, "spec.updateStrategy.rollingUpdate")
        elif kind != "OnDelete":
            errors.append(field_errors.not_supported("spec.updateStrategy.type", kind, ("OnDelete", "RollingUpdate")))
        return errors


def _daemon_rolling_update(rolling: Object, path: str) -> Errors:
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    errors = _int_or_percent(unavailable, child(path, "maxUnavailable")) + _int_or_percent(surge, child(path, "maxSurge"))
    if errors:
        return errors
    if _is_zero(unavailable) and _is_zero(surge):
        errors.append(field_errors.required(child(path, "maxUnavailable"), "cannot be 0 when maxSurge is 0"))
    elif not _is_zero(unavailable) and not _is_zero(surge):
        errors.append(field_errors.invalid(child(path, "maxSurge"), surge, "may not be set when maxUnavailable is non-zero"))
    return errors


_STATEFUL_SET_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_STATEFUL_SET_TEXT = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', "
    "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


class StatefulSetStrategy(WorkloadStrategy):
    initial_status = {"replicas": 0, "availableReplicas": 0}

    def default(self, obj: Object) -> None:
        spec = _spec(obj)
        _default_template(spec)
        spec.setdefault("podManagementPolicy", "OrderedReady")
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
            strategy.setdefault("rollingUpdate", {})
        if strategy["type"] == "RollingUpdate" and strategy.get("rollingUpdate") is not None:
            strategy["rollingUpdate"].setdefault("partition", 0)
        retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
        retention.setdefault("whenDeleted", "Retain")
        retention.setdefault("whenScaled", "Retain")
        spec.setdefault("replicas", 1)
        spec.setdefault("revisionHistoryLimit", 10)
        for claim in spec.get("volumeClaimTemplates") or []:
            claim["apiVersion"], claim["kind"] = "v1", "PersistentVolumeClaim"
            claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
            claim.setdefault("status", {}).setdefault("phase", "Pending")

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        policy = spec.get("podManagementPolicy")
        if policy not in ("OrderedReady", "Parallel"):
            errors.append(field_errors.invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
        strategy = spec.get("updateStrategy") or {}
        kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
        if kind == "OnDelete":
            if rolling is not None:
                text = "only allowed for updateStrategy 'RollingUpdate'"
                errors.append(field_errors.invalid("spec.updateStrategy.rollingUpdate", rolling, text))
        elif kind == "RollingUpdate":
            errors += not_negative((rolling or {}).get("partition"), "spec.updateStrategy.rollingUpdate.partition")
        else:
            errors.append(field_errors.invalid("spec.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'"))
        for name in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
            errors += not_negative(spec.get(name), f"spec.{name}")
        errors += _selector(spec, "statefulset")
        return errors + pod_validation.template_for_selector(spec.get("template"), spec.get("selector"), "spec.template")

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        fixed = [{name: value for name, value in (one.get("spec") or {}).items() if name not in _STATEFUL_SET_MUTABLE} for one in (obj, old)]
        return [] if fixed[0] == fixed[1] else [field_errors.forbidden("spec", _STATEFUL_SET_TEXT)]


class ControllerRevisionStrategy(Strategy):
    def validate_spec(self, obj: Object) -> Errors:
        errors = not_negative(obj.get("revision") or 0, "revision")
        if obj.get("data") is None:
            errors.append(field_errors.required("data", "data is mandatory"))
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        return immutable(obj.get("data"), old.get("data"), "data")


# --- batch ------------------------------------------------------------------------------------------------------------

_CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
_JOB_NAME = "batch.kubernetes.io/job-name"
_LEGACY_CONTROLLER_UID = "controller-uid"
_LEGACY_JOB_NAME = "job-name"
_MUTABLE_JOB_FIELDS = frozenset({"parallelism", "ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit", "suspend", "template"})


class JobStrategy(Strategy):
    """Jobs select their pods by the job's own uid, unless `manualSelector`."""

    has_generation = True
    initial_status = {}
    selectable = ("status.successful",)

    def default(self, obj: Object) -> None:
        spec = _spec(obj)
        _default_template(spec)
        if spec.get("completions") is None and spec.get("parallelism") is None:
            spec["completions"] = 1
            spec["parallelism"] = 1
        spec.setdefault("parallelism", 1)
        spec.setdefault("backoffLimit", INT32_MAX if spec.get("backoffLimitPerIndex") is not None else 6)
        spec.setdefault("completionMode", "NonIndexed")
        spec.setdefault("suspend", False)
        spec.setdefault("manualSelector", False)
        spec.setdefault("podReplacementPolicy", "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed")
        for rule in (spec.get("podFailurePolicy") or {}).get("rules") or []:
            for condition in rule.get("onPodConditions") or []:
                condition.setdefault("status", "True")
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
        if labels and not meta.labels(obj):
            meta.metadata(obj)["labels"] = dict(labels)

    def prepare_for_create(self, obj: Object, context: Context) -> None:
        super().prepare_for_create(obj, context)
        spec = _spec(obj)
        if not spec.get("manualSelector"):
            labels = spec.setdefault("template", {}).setdefault("metadata", {}).setdefault("labels", {})
            for name, value in (
                (_CONTROLLER_UID, meta.uid(obj)),
                (_LEGACY_CONTROLLER_UID, meta.uid(obj)),
                (_JOB_NAME, meta.name(obj)),
                (_LEGACY_JOB_NAME, meta.name(obj)),
            ):
                labels.setdefault(name, value)
            selector = spec.setdefault("selector", {})
            selector.setdefault("matchLabels", {})[_CONTROLLER_UID] = meta.uid(obj)
            if not meta.labels(obj):
                # Upstream's defaulting runs again when the object is read, so a job shows the labels of its template.
                meta.metadata(obj)["labels"] = dict(labels)

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        template = (obj.get("spec") or {}).get("template") or {}
        texts = pod_validation.template_warnings(template.get("spec") or {}, "spec.template.spec")
        if old is None and names.dns1123_label(meta.name(obj)):
            texts.append(
                f"metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: {names.dns1123_label(meta.name(obj))}"
            )
        return texts

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors = job_spec(spec, "spec")
        if spec.get("selector") is None:
            errors.append(field_errors.required("spec.selector"))
            return errors
        errors += object_meta.label_selector(spec["selector"], "spec.selector")
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        wanted = (spec["selector"].get("matchLabels") or {}).items()
        if any(labels.get(name) != value for name, value in wanted):
            errors.append(field_errors.invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`"))
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        new_spec, old_spec = obj.get("spec") or {}, old.get("spec") or {}
        errors: Errors = []
        indexed = new_spec.get("completionMode") == "Indexed"
        if not (indexed and new_spec.get("completions") == new_spec.get("parallelism")):
            errors += immutable(new_spec.get("completions"), old_spec.get("completions"), "spec.completions")
        errors += immutable(new_spec.get("selector"), old_spec.get("selector"), "spec.selector")
        errors += _job_template_transition(new_spec, old_spec, old)
        errors += immutable(new_spec.get("completionMode"), old_spec.get("completionMode"), "spec.completionMode")
        for name in ("podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"):
            errors += immutable(new_spec.get(name), old_spec.get(name), f"spec.{name}")
        return errors

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return super().selectable_fields(obj) | {"status.successful": str((obj.get("status") or {}).get("succeeded") or 0)}


def _job_template_transition(new_spec: Object, old_spec: Object, old: Object) -> Errors:
    """A job's template is fixed, but for scheduling directives while it is suspended and has not started."""
    new_template, old_template = copy(new_spec.get("template") or {}), old_spec.get("template") or {}
    if old_spec.get("suspend") and not (old.get("status") or {}).get("startTime"):
        for name in ("nodeSelector", "tolerations", "affinity", "schedulingGates"):
            _same(new_template.setdefault("spec", {}), old_template.get("spec") or {}, name)
        _same(new_template.setdefault("metadata", {}), old_template.get("metadata") or {}, "labels")
        _same(new_template["metadata"], old_template.get("metadata") or {}, "annotations")
    if new_template == old_template:
        return []
    return [field_errors.invalid("spec.template", new_spec.get("template"), field_errors.IMMUTABLE)]


def _same(new: Object, old: Object, name: str) -> None:
    if name in old:
        new[name] = old[name]
    else:
        new.pop(name, None)


def job_spec(spec: Object, path: str) -> Errors:
    errors: Errors = []
    for name in ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished", "backoffLimitPerIndex"):
        errors += not_negative(spec.get(name), child(path, name))
    mode = spec.get("completionMode")
    if mode is not None:
        if mode not in ("Indexed", "NonIndexed"):
            errors.append(field_errors.not_supported(child(path, "completionMode"), mode, ("Indexed", "NonIndexed")))
        if mode == "Indexed" and spec.get("completions") is None:
            errors.append(field_errors.required(child(path, "completions"), f"when completion mode is {mode}"))
    template = spec.get("template") or {}
    where = child(path, "template")
    errors += pod_validation.pod_template(template, where)
    policy = (template.get("spec") or {}).get("restartPolicy")
    # The defaulted Always means that nothing was said: jobs have no default, and upstream says so.
    if policy in ("", "Always", None):
        errors.append(field_errors.required(child(where, "spec.restartPolicy"), 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        errors.append(field_errors.not_supported(child(where, "spec.restartPolicy"), policy, ("Never", "OnFailure")))
    elif spec.get("podFailurePolicy") and policy != "Never":
        text = 'only "Never" is supported when podFailurePolicy is specified'
        errors.append(field_errors.invalid(child(where, "spec.restartPolicy"), policy, text))
    return errors


class CronJobStrategy(Strategy):
    has_generation = True
    initial_status = {}

    def default(self, obj: Object) -> None:
        spec = _spec(obj)
        _default_template(spec.setdefault("jobTemplate", {}).setdefault("spec", {}))
        if not spec.get("concurrencyPolicy"):
            spec["concurrencyPolicy"] = "Allow"
        spec.setdefault("suspend", False)
        spec.setdefault("successfulJobsHistoryLimit", 3)
        spec.setdefault("failedJobsHistoryLimit", 1)

    def validate(self, obj: Object) -> Errors:
        errors = super().validate(obj)
        # Eleven characters are appended to the name for each job.
        if len(meta.name(obj)) > names.LABEL_LENGTH_MAX - 11:
            errors.append(field_errors.invalid("metadata.name", meta.name(obj), "must be no more than 52 characters"))
        return errors

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        schedule = spec.get("schedule") or ""
        if not schedule:
            errors.append(field_errors.required("spec.schedule"))
        else:
            errors += [field_errors.invalid("spec.schedule", schedule, text) for text in schedule_problems(schedule)]
        zone = spec.get("timeZone")
        if zone is not None and (not zone or zone.lower() == "local"):
            errors.append(
                field_errors.invalid(
                    "spec.timeZone",
                    zone,
                    "timeZone must be nil or non-empty string"
                    if not zone
                    else "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
                )
            )
        errors += not_negative(spec.get("startingDeadlineSeconds"), "spec.startingDeadlineSeconds")
        policy = spec.get("concurrencyPolicy")
        if policy not in ("Allow", "Forbid", "Replace"):
            errors.append(field_errors.not_supported("spec.concurrencyPolicy", policy, ("Allow", "Forbid", "Replace")))
        job = (spec.get("jobTemplate") or {}).get("spec") or {}
        errors += job_spec(job, "spec.jobTemplate.spec")
        if job.get("manualSelector"):
            errors.append(field_errors.not_supported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false")))
        for name in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
            errors += not_negative(spec.get(name), f"spec.{name}")
        return errors


_SCHEDULE_BOUNDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_NAMED = {name: str(number) for number, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)}
_NAMED |= {name: str(number) for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_MACROS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


def schedule_problems(schedule: str) -> list[str]:
    """What is wrong with a cron schedule, in the words of robfig/cron."""
    if schedule.startswith(("TZ=", "CRON_TZ=")):
        return ["cannot use TZ or CRON_TZ in schedule, use timeZone field instead"]
    if schedule.startswith("@"):
        if schedule in _MACROS or re.fullmatch(r"@every ([0-9.]+(ns|us|ms|s|m|h))+", schedule):
            return []
        return [f"unrecognized descriptor: {schedule}"]
    fields = schedule.split()
    if len(fields) != 5:
        return [f"expected exactly 5 fields, found {len(fields)}: {fields}".replace("'", "").replace(",", "")]
    for field, (_, low, high) in zip(fields, _SCHEDULE_BOUNDS, strict=True):
        for part in field.split(","):
            problem = _schedule_part(part, low, high)
            if problem:
                return [problem]
    return []


def _schedule_part(part: str, low: int, high: int) -> str:
    span, slash, step = part.partition("/")
    if slash and (not step.isdigit() or int(step) == 0):
        return (
            f"step of range should be a positive number: {part}"
            if step.isdigit()
            else f'failed to parse int from {step}: strconv.Atoi: parsing "{step}": invalid syntax'
        )
    if span in ("*", "?"):
        return ""
    numbers = []
    for end in span.split("-"):
        text = _NAMED.get(end.lower(), end)
        if not text.isdigit():
            return f'failed to parse int from {end}: strconv.Atoi: parsing "{end}": invalid syntax'
        numbers.append(int(text))
    if len(numbers) > 2:
        return f"too many hyphens: {part}"
    if numbers[0] < low:
        return f"beginning of range ({numbers[0]}) below minimum ({low}): {part}"
    if numbers[-1] > high:
        return f"end of range ({numbers[-1]}) above maximum ({high}): {part}"
    if numbers[0] > numbers[-1]:
        return f"beginning of range ({numbers[0]}) beyond end of range ({numbers[-1]}): {part}"
    return ""
