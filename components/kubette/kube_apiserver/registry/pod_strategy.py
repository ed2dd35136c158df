"""Pure: pods (upstream's `pkg/registry/core/pod`) and pod templates."""

from typing import Any

from kubette.apimachinery import field_errors, meta
from kubette.apimachinery.field_errors import FieldError
from kubette.apimachinery.validation import copy
from kubette.kube_apiserver.registry import pod_defaults, pod_validation
from kubette.kube_apiserver.registry.strategy import Context, Object, Strategy, restore

# Since this release `metadata.generation` of pods counts (PodObservedGenerationTracking, on by default).
_GENERATION_SINCE_MINOR = 34

# What an update of a pod may change (beside adding tolerations and lowering activeDeadlineSeconds).
_UPDATE_TEXT = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
    "(allow it to be set to 1 if it was previously negative)"
)


class PodStrategy(Strategy):
    """Pods: little may change once they exist."""

    initial_status = {"phase": "Pending"}
    selectable = (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    )

    def default(self, obj: Object) -> None:
        pod_defaults.default_pod(obj)

    def prepare_for_create(self, obj: Object, context: Context) -> None:
        super().prepare_for_create(obj, context)
        obj["status"]["qosClass"] = pod_defaults.qos_class(obj)
        if context.minor >= _GENERATION_SINCE_MINOR:
            meta.metadata(obj)["generation"] = 1
        gates = (obj.get("spec") or {}).get("schedulingGates")
        if gates:
            obj["status"]["conditions"] = [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates",
                }
            ]

    def prepare_for_update(self, obj: Object, old: Object, subresource: str = "", context: Context | None = None) -> None:
        super().prepare_for_update(obj, old, subresource, context)
        generation = meta.generation(old)
        if generation:
            changed = subresource != "status" and obj.get("spec") != old.get("spec")
            meta.metadata(obj)["generation"] = generation + changed
        if subresource == "ephemeralcontainers":
            # Only the list of ephemeral containers is taken from the request.
            added = (obj.get("spec") or {}).get("ephemeralContainers")
            obj["spec"] = copy(old.get("spec") or {})
            if added:
                obj["spec"]["ephemeralContainers"] = added
            for container in added or []:
                pod_defaults.default_container(container)
        elif subresource == "resize":
            self._prepare_for_resize(obj, old)
        if subresource in ("ephemeralcontainers", "resize"):
            restore(obj, old, "status")

    def _prepare_for_resize(self, obj: Object, old: Object) -> None:
        wanted = {one.get("name"): one for one in pod_defaults.each_container(obj.get("spec") or {})}
        spec = copy(old.get("spec") or {})
        for container in pod_defaults.each_container(spec):
            new = wanted.get(container.get("name")) or {}
            for name in ("resources", "resizePolicy"):
                if name in new:
                    container[name] = new[name]
        obj["spec"] = spec

    def prepare_for_status_update(self, obj: Object, old: Object) -> None:
        super().prepare_for_status_update(obj, old)
        quality = (old.get("status") or {}).get("qosClass")
        if quality:
            obj.setdefault("status", {})["qosClass"] = quality

    def validate_spec(self, obj: Object) -> list[FieldError]:
        spec = obj.get("spec") or {}
        errors = pod_validation.pod_spec(spec, "spec")
        if not spec.get("serviceAccountName"):
            errors += _tokens_without_account(spec)
        return errors

    def validate_update(self, obj: Object, old: Object, subresource: str = "") -> list[FieldError]:
        if subresource in ("ephemeralcontainers", "resize", "binding"):
            errors = super().validate_update(obj, old, "status")
            return errors + (pod_validation.ephemeral_containers(obj, old) if subresource == "ephemeralcontainers" else [])
        return super().validate_update(obj, old, subresource)

    def validate_transition(self, obj: Object, old: Object) -> list[FieldError]:
        new_spec, old_spec = obj.get("spec") or {}, old.get("spec") or {}
        if new_spec == old_spec:
            return []
        errors: list[FieldError] = []
        allowed = copy(new_spec)
        for name in ("containers", "initContainers"):
            new_list, old_list = allowed.get(name) or [], old_spec.get(name) or []
            if len(new_list) != len(old_list):
                text = "pod updates may not add or remove containers"
                return [field_errors.forbidden(f"spec.{name}", text)]
            for new_container, old_container in zip(new_list, old_list, strict=True):
                if not new_container.get("image"):
                    errors.append(field_errors.required(f"spec.{name}[{new_list.index(new_container)}].image"))
                new_container["image"] = old_container.get("image")
        errors += _deadline(new_spec, old_spec)
        restore(allowed, old_spec, "activeDeadlineSeconds")
        errors += _tolerations_only_grow(new_spec.get("tolerations") or [], old_spec.get("tolerations") or [])
        restore(allowed, old_spec, "tolerations")
        if (old_spec.get("terminationGracePeriodSeconds") or 0) < 0 and new_spec.get("terminationGracePeriodSeconds") == 1:
            restore(allowed, old_spec, "terminationGracePeriodSeconds")
        old_gates = [gate.get("name") for gate in old_spec.get("schedulingGates") or []]
        if old_gates:
            errors += _gates_only_shrink(new_spec.get("schedulingGates") or [], old_gates)
            restore(allowed, old_spec, "schedulingGates")
            # While it is gated a pod may be made more demanding about its node.
            restore(allowed, old_spec, "nodeSelector")
            restore(allowed, old_spec, "affinity")
        if allowed != old_spec:
            errors.append(field_errors.forbidden("spec", _UPDATE_TEXT))
        return errors

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        new_name = (obj.get("spec") or {}).get("nodeName")
        old_name = (old.get("spec") or {}).get("nodeName")
        return [] if new_name == old_name else [field_errors.forbidden("status.nodeName", "may not be changed directly")]

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        return pod_validation.template_warnings(obj.get("spec") or {}, "spec", meta.annotations(obj))

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        fields = super().selectable_fields(obj)
        fields["spec.hostNetwork"] = fields["spec.hostNetwork"] or "false"
        fields["status.podIP"] = str(((obj.get("status") or {}).get("podIPs") or [{}])[0].get("ip") or fields["status.podIP"])
        return fields


def _tokens_without_account(spec: Object) -> list[FieldError]:
    """Projected tokens need an account; admission has set one by now if there is any."""
    return [
        field_errors.forbidden(
            f"spec.volumes[{index}].projected.sources[{number}].serviceAccountToken", "must not be specified when serviceAccountName is not set"
        )
        for index, volume in enumerate(spec.get("volumes") or [])
        for number, source in enumerate((volume.get("projected") or {}).get("sources") or [])
        if source.get("serviceAccountToken") is not None
    ]


def _deadline(new: Object, old: Object) -> list[FieldError]:
    wanted, current = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if wanted is None:
        return (
            []
            if current is None
            else [field_errors.invalid("spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value")]
        )
    if wanted < 0:
        return [field_errors.invalid("spec.activeDeadlineSeconds", wanted, "must be greater than or equal to 0")]
    if current is not None and current < wanted:
        return [field_errors.invalid("spec.activeDeadlineSeconds", wanted, "must be less than or equal to previous value")]
    return []


def _tolerations_only_grow(new: list[Any], old: list[Any]) -> list[FieldError]:
    for toleration in old:
        same_but_for_seconds = [
            one for one in new if {**one, "tolerationSeconds": None} == {**toleration, "tolerationSeconds": None}
        ]  # fmt: skip
        if not same_but_for_seconds:
            return [field_errors.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")]
    return []


def _gates_only_shrink(new: list[Any], old_names: list[Any]) -> list[FieldError]:
    added = [gate.get("name") for gate in new if gate.get("name") not in old_names]
    if not added:
        return []
    return [field_errors.forbidden("spec.schedulingGates", f"only deletion is allowed, but found new scheduling gate '{added[0]}'")]


class PodTemplateStrategy(Strategy):
    """The core group's PodTemplate objects."""

    def default(self, obj: Object) -> None:
        pod_defaults.default_pod_spec(obj.setdefault("template", {}).setdefault("spec", {}))

    def validate_spec(self, obj: Object) -> list[FieldError]:
        return pod_validation.pod_template(obj.get("template") or {}, "template")
