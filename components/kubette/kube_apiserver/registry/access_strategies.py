"""Pure: RBAC, certificates, leases, reviews and API registration."""

import re

from kubette.apimachinery import field_errors, meta, names
from kubette.apimachinery.field_errors import FieldError, child
from kubette.apimachinery.validation import copy
from kubette.kube_apiserver.registry.strategy import Context, Object, Strategy, immutable, restore

Errors = list[FieldError]
_RBAC = "rbac.authorization.k8s.io"


def _rules(rules: list[Object], path: str, *, cluster: bool) -> Errors:
    errors: Errors = []
    for index, rule in enumerate(rules):
        where = child(path, index)
        if not rule.get("verbs"):
            errors.append(field_errors.required(child(where, "verbs"), "verbs must contain at least one value"))
        if rule.get("nonResourceURLs"):
            if not cluster:
                text = "namespaced rules cannot apply to non-resource URLs"
                errors.append(field_errors.invalid(child(where, "nonResourceURLs"), rule["nonResourceURLs"], text))
            if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                text = "rules cannot apply to both regular resources and non-resource URLs"
                errors.append(field_errors.invalid(child(where, "nonResourceURLs"), rule["nonResourceURLs"], text))
            continue
        if not rule.get("apiGroups"):
            errors.append(field_errors.required(child(where, "apiGroups"), "resource rules must supply at least one api group"))
        if not rule.get("resources"):
            errors.append(field_errors.required(child(where, "resources"), "resource rules must supply at least one resource"))
    return errors


class RoleStrategy(Strategy):
    name_check = staticmethod(names.path_segment)
    allow_create_on_update = True

    def default(self, obj: Object) -> None:
        # A Go slice without omitempty: written even when empty.
        obj.setdefault("rules", None)

    def validate_spec(self, obj: Object) -> Errors:
        cluster = not self.kind.namespaced
        errors = _rules(obj.get("rules") or [], "rules", cluster=cluster)
        selectors = (obj.get("aggregationRule") or {}).get("clusterRoleSelectors")
        if cluster and obj.get("aggregationRule") is not None and not selectors:
            text = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            errors.append(field_errors.required("aggregationRule.clusterRoleSelectors", text))
        return errors


class RoleBindingStrategy(Strategy):
    name_check = staticmethod(names.path_segment)
    allow_create_on_update = True

    def default(self, obj: Object) -> None:
        role = obj.get("roleRef")
        if role is not None and not role.get("apiGroup"):
            role["apiGroup"] = _RBAC
        for subject in obj.get("subjects") or []:
            if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
                subject["apiGroup"] = _RBAC

    def validate_spec(self, obj: Object) -> Errors:
        role = obj.get("roleRef") or {}
        errors: Errors = []
        if role.get("apiGroup") != _RBAC:
            errors.append(field_errors.not_supported("roleRef.apiGroup", role.get("apiGroup") or "", [_RBAC]))
        kinds = ("Role", "ClusterRole") if self.kind.namespaced else ("ClusterRole",)
        if role.get("kind") not in kinds:
            errors.append(field_errors.not_supported("roleRef.kind", role.get("kind") or "", kinds))
        if not role.get("name"):
            errors.append(field_errors.required("roleRef.name"))
        else:
            errors += [field_errors.invalid("roleRef.name", role["name"], text) for text in names.path_segment(role["name"])]
        for index, subject in enumerate(obj.get("subjects") or []):
            errors += _subject(subject, child("subjects", index), namespaced=self.kind.namespaced)
        return errors

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        if obj.get("roleRef") == old.get("roleRef"):
            return []
        return [field_errors.invalid("roleRef", obj.get("roleRef"), "cannot change roleRef")]


def _subject(subject: Object, path: str, *, namespaced: bool) -> Errors:
    errors: Errors = []
    if not subject.get("name"):
        errors.append(field_errors.required(child(path, "name")))
    match subject.get("kind"):
        case "ServiceAccount":
            if subject.get("name"):
                errors += [field_errors.invalid(child(path, "name"), subject["name"], text) for text in names.dns1123_subdomain(subject["name"])]
            if subject.get("apiGroup"):
                errors.append(field_errors.not_supported(child(path, "apiGroup"), subject["apiGroup"], [""]))
            if not subject.get("namespace") and not namespaced:
                errors.append(field_errors.required(child(path, "namespace")))
        case "User" | "Group":
            if subject.get("apiGroup") != _RBAC:
                errors.append(field_errors.not_supported(child(path, "apiGroup"), subject.get("apiGroup") or "", [_RBAC]))
        case kind:
            errors.append(field_errors.not_supported(child(path, "kind"), kind or "", ("ServiceAccount", "User", "Group")))
    return errors


# --- certificates -----------------------------------------------------------------------------------------------------

_USAGES = frozenset(
    [
        "signing",
        "digital signature",
        "content commitment",
        "key encipherment",
        "key agreement",
        "data encipherment",
        "cert sign",
        "crl sign",
        "encipher only",
        "decipher only",
        "any",
        "server auth",
        "client auth",
        "code signing",
        "email protection",
        "s/mime",
        "ipsec end system",
        "ipsec tunnel",
        "ipsec user",
        "timestamping",
        "ocsp signing",
        "microsoft sgc",
        "netscape sgc",
    ]
)
_MINIMUM_EXPIRATION_S = 600


class CertificateSigningRequestStrategy(Strategy):
    """The requester's identity is recorded by the server; approval and issuing have a subresource each."""

    initial_status = {}
    selectable = ("spec.signerName",)

    def prepare_for_create(self, obj: Object, context: Context) -> None:
        super().prepare_for_create(obj, context)
        spec = obj.setdefault("spec", {})
        for name in ("username", "uid", "groups", "extra"):
            spec.pop(name, None)
        spec["username"] = context.username
        if context.uid:
            spec["uid"] = context.uid
        if context.groups:
            spec["groups"] = list(context.groups)
        if context.extra:
            spec["extra"] = copy(dict(context.extra))

    def prepare_for_update(self, obj: Object, old: Object, subresource: str = "", context: Context | None = None) -> None:
        super().prepare_for_update(obj, old, subresource, context)
        restore(obj, old, "spec")
        if subresource not in ("approval", "status"):
            return
        status, old_status = obj.setdefault("status", {}), old.get("status") or {}
        if subresource == "approval":
            restore(status, old_status, "certificate")
        else:
            # The signer may not approve: these conditions belong to the approver.
            kept = [one for one in old_status.get("conditions") or [] if one.get("type") in ("Approved", "Denied")]
            others = [one for one in status.get("conditions") or [] if one.get("type") not in ("Approved", "Denied")]
            if kept or others:
                status["conditions"] = [*kept, *others]
        for condition in status.get("conditions") or []:
            if context is not None and context.now:
                condition.setdefault("lastUpdateTime", context.now)
                condition.setdefault("lastTransitionTime", context.now)

    def validate_update(self, obj: Object, old: Object, subresource: str = "") -> Errors:
        errors = super().validate_update(obj, old, subresource)
        return errors + _conditions((obj.get("status") or {}).get("conditions") or [])

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        if not spec.get("request"):
            errors.append(field_errors.invalid("spec.request", spec.get("request") or "", "PEM block type must be CERTIFICATE REQUEST"))
        signer = spec.get("signerName") or ""
        if not signer:
            errors.append(field_errors.required("spec.signerName"))
        elif "/" not in signer:
            text = 'must be a fully qualified domain and path of the form "example.com/signer-name"'
            errors.append(field_errors.invalid("spec.signerName", signer, text))
        usages = spec.get("usages") or []
        if not usages:
            errors.append(field_errors.required("spec.usages", "usages must be provided"))
        for index, usage in enumerate(usages):
            if usage not in _USAGES:
                errors.append(field_errors.not_supported(child("spec.usages", index), usage, sorted(_USAGES)))
            if usage in usages[:index]:
                errors.append(field_errors.duplicate(child("spec.usages", index), usage))
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < _MINIMUM_EXPIRATION_S:
            text = "may not specify a duration less than 600 seconds (10 minutes)"
            errors.append(field_errors.invalid("spec.expirationSeconds", seconds, text))
        return errors


def _conditions(conditions: list[Object]) -> Errors:
    errors: Errors = []
    types = [one.get("type") for one in conditions]
    for index, condition in enumerate(conditions):
        where = child("status.conditions", index)
        kind = condition.get("type")
        if not kind:
            errors.append(field_errors.required(child(where, "type")))
        if kind in types[:index]:
            errors.append(field_errors.duplicate(child(where, "type"), kind))
        if condition.get("status") not in ("True", "False", "Unknown"):
            errors.append(field_errors.required(child(where, "status")))
        elif kind in ("Approved", "Denied", "Failed") and condition["status"] != "True":
            errors.append(field_errors.not_supported(child(where, "status"), condition["status"], ["True"]))
        if kind in ("Approved", "Denied") and {"Approved", "Denied"} <= set(types[: index + 1]):
            text = "Approved and Denied conditions are mutually exclusive"
            errors.append(field_errors.invalid(child(where, "type"), kind, text))
    return errors


# --- coordination, scheduling, registration ---------------------------------------------------------------------------


class LeaseStrategy(Strategy):
    allow_create_on_update = True
    allow_unconditional_update = False

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        duration = spec.get("leaseDurationSeconds")
        if duration is not None and duration <= 0:
            errors.append(field_errors.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
        transitions = spec.get("leaseTransitions")
        if transitions is not None and transitions < 0:
            errors.append(field_errors.invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
        return errors


_HIGHEST_USER_PRIORITY = 1_000_000_000
SYSTEM_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


class PriorityClassStrategy(Strategy):
    def default(self, obj: Object) -> None:
        obj.setdefault("preemptionPolicy", "PreemptLowerPriority")

    def prepare_for_create(self, obj: Object, context: Context) -> None:
        meta.metadata(obj)["generation"] = 1

    def validate_spec(self, obj: Object) -> Errors:
        name, value = meta.name(obj), obj.get("value") or 0
        if name.startswith("system-"):
            if SYSTEM_PRIORITIES.get(name) != value:
                text = (
                    "priority class names with 'system-' prefix are reserved for system use only. error: "
                    + name
                    + " is not a known system priority class"
                )
                return [field_errors.forbidden("metadata.name", text)]
        elif value > _HIGHEST_USER_PRIORITY:
            text = f"maximum allowed value of a user defined priority is {_HIGHEST_USER_PRIORITY}"
            return [field_errors.forbidden("value", text)]
        policy = obj.get("preemptionPolicy")
        if policy not in ("Never", "PreemptLowerPriority"):
            return [field_errors.not_supported("preemptionPolicy", policy, ("Never", "PreemptLowerPriority"))]
        return []

    def validate_transition(self, obj: Object, old: Object) -> Errors:
        errors: Errors = []
        if obj.get("value") != old.get("value"):
            errors.append(field_errors.forbidden("value", "may not be changed in an update."))
        return errors + immutable(obj.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy")


class APIServiceStrategy(Strategy):
    name_check = staticmethod(names.path_segment)  # the core group's is `v1.`
    initial_status = {}

    def default(self, obj: Object) -> None:
        service = (obj.get("spec") or {}).get("service")
        if service is not None:
            service.setdefault("port", 443)

    def validate_spec(self, obj: Object) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        required = f"{spec.get('version') or ''}.{spec.get('group') or ''}"
        if meta.name(obj) != required:
            text = f'must be `spec.version+"."+spec.group`: {required!r}'.replace("'", '"')
            errors.append(field_errors.invalid("metadata.name", meta.name(obj), text))
        if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", str(spec.get("version") or "")):
            errors += [
                field_errors.invalid("spec.version", spec.get("version") or "", text) for text in names.dns1035_label(spec.get("version") or "")
            ]
        for name, high in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
            value = spec.get(name) or 0
            if not 0 < value <= high:
                text = f"must be positive and less than {high // 1000}k" if high >= 20000 else f"must be positive and less than {high}"
                errors.append(field_errors.invalid(child("spec", name), value, text))
        service = spec.get("service")
        if service is None:
            if spec.get("caBundle"):
                errors.append(field_errors.invalid("spec.caBundle", f"{len(spec['caBundle'])} bytes", "local APIServices may not have a caBundle"))
            if spec.get("insecureSkipTLSVerify"):
                text = "local APIServices may not have insecureSkipTLSVerify"
                errors.append(field_errors.invalid("spec.insecureSkipTLSVerify", True, text))
            return errors
        errors += [field_errors.required(child("spec.service", name)) for name in ("namespace", "name") if not service.get(name)]
        if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
            text = "may not be true if caBundle is present"
            errors.append(field_errors.invalid("spec.insecureSkipTLSVerify", True, text))
        return errors
