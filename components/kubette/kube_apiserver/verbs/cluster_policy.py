"""Pure: what the administrator forbids to every pod, by flags of this server (upstream's capabilities)."""

from typing import Any

from kubette.apimachinery import field_errors
from kubette.apimachinery.field_errors import FieldError

Object = dict[str, Any]

DISALLOWED = "disallowed by cluster policy"
_SPEC_PATHS = {
    "Pod": ("spec",),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    "PodTemplate": ("template", "spec"),
}
_TEMPLATED = frozenset({"DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet"})


def privileged_errors(obj: Object) -> list[FieldError]:
    """--allow-privileged=false: no container, in a pod or a template of pods, may be privileged."""
    kind = str(obj.get("kind"))
    path = _SPEC_PATHS.get(kind) or (("spec", "template", "spec") if kind in _TEMPLATED else ())
    spec: Any = obj if path else None
    for name in path:
        spec = spec.get(name) if isinstance(spec, dict) else None
    if not isinstance(spec, dict):
        return []
    errors = []
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or []):
            if (container.get("securityContext") or {}).get("privileged"):
                where = f"{'.'.join(path)}.{field}[{index}].securityContext.privileged"
                errors.append(field_errors.forbidden(where, DISALLOWED))
    return errors
