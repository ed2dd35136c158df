"""Pure: what a valid pod spec is (upstream's `ValidatePodSpec` and below)."""

import ipaddress
from collections.abc import Iterable
from typing import Any

from kubette.apimachinery import field_errors, names, quantity, selectors
from kubette.apimachinery.field_errors import FieldError, child, key
from kubette.kube_apiserver.registry import object_meta, volume_validation

Object = dict[str, Any]
Errors = list[FieldError]

NOT_NEGATIVE = "must be greater than or equal to 0"
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_CONTAINER_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_DOWNWARD_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_DOWNWARD_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
DNS_NAMESERVERS_MAX = 3
DNS_SEARCHES_MAX = 32
DNS_SEARCHES_LENGTH_MAX = 2048
INT32_MAX = 2**31 - 1


def one_of(value: Any, path: str, supported: Iterable[str]) -> Errors:
    """Required, and one of the supported words."""
    if not value:
        return [field_errors.required(path)]
    return [] if value in supported else [field_errors.not_supported(path, value, supported)]


def not_negative(value: Any, path: str) -> Errors:
    return [field_errors.invalid(path, value, NOT_NEGATIVE)] if isinstance(value, int) and value < 0 else []


def pod_template(template: Object, path: str) -> Errors:
    """Metadata and spec of a template."""
    metadata = template.get("metadata") or {}
    errors = object_meta.labels(metadata.get("labels"), child(path, "labels"))
    errors += object_meta.annotations(metadata.get("annotations"), child(path, "annotations"))
    if (template.get("spec") or {}).get("ephemeralContainers"):
        errors.append(field_errors.forbidden(child(path, "spec.ephemeralContainers"), "ephemeral containers not allowed in pod template"))
    return errors + pod_spec(template.get("spec") or {}, child(path, "spec"))


def template_for_selector(template: Object | None, selector: Object | None, path: str, *, restart_policy: bool = True) -> Errors:
    """A template that a controller with this selector makes pods from."""
    if template is None:
        return [field_errors.required(path)]
    errors: Errors = []
    labels = (template.get("metadata") or {}).get("labels") or {}
    try:
        parsed = selectors.from_label_selector(selector)
        if not parsed.empty and not parsed.matches_nothing and not parsed.matches(labels):
            errors.append(field_errors.invalid(child(path, "metadata.labels"), labels, "`selector` does not match template `labels`"))
    except selectors.SelectorError:
        pass  # reported with the selector itself
    errors += pod_template(template, path)
    if restart_policy:
        policy = (template.get("spec") or {}).get("restartPolicy")
        if policy != "Always":
            errors.append(field_errors.not_supported(child(path, "spec.restartPolicy"), policy, ["Always"]))
        if (template.get("spec") or {}).get("activeDeadlineSeconds") is not None:
            errors.append(field_errors.forbidden(child(path, "spec.activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported"))
    return errors


def pod_spec(spec: Object, path: str) -> Errors:
    errors: Errors = []
    volumes, volume_errors = volume_validation.volumes(spec.get("volumes") or [], child(path, "volumes"))
    errors += volume_errors
    errors += containers(spec, volumes, path)
    errors += one_of(spec.get("restartPolicy"), child(path, "restartPolicy"), ("Always", "OnFailure", "Never"))
    errors += one_of(spec.get("dnsPolicy"), child(path, "dnsPolicy"), ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"))
    errors += _labels(spec.get("nodeSelector"), child(path, "nodeSelector"))
    errors += _security_context(spec, path)
    errors += _pull_secrets(spec.get("imagePullSecrets") or [], child(path, "imagePullSecrets"))
    errors += _affinity(spec.get("affinity") or {}, child(path, "affinity"))
    errors += _dns_config(spec, path)
    for index, gate in enumerate(spec.get("readinessGates") or []):
        where = child(child(child(path, "readinessGates"), index), "conditionType")
        errors += [field_errors.invalid(where, gate.get("conditionType"), text) for text in names.qualified_name(gate.get("conditionType") or "")]
    for index, gate in enumerate(spec.get("schedulingGates") or []):
        where = child(child(path, "schedulingGates"), index)
        errors += [field_errors.invalid(where, gate.get("name"), text) for text in names.qualified_name(gate.get("name") or "")]
    errors += _topology_spread(spec.get("topologySpreadConstraints") or [], child(path, "topologySpreadConstraints"))
    errors += _names(spec, path)
    errors += tolerations(spec.get("tolerations") or [], child(path, "tolerations"))
    for index, alias in enumerate(spec.get("hostAliases") or []):
        where = child(child(path, "hostAliases"), index)
        if not is_ip(alias.get("ip")):
            errors.append(field_errors.invalid(child(where, "ip"), alias.get("ip") or "", "must be valid IP address"))
        for hostname in alias.get("hostnames") or []:
            errors += [field_errors.invalid(child(where, "hostnames"), hostname, text) for text in names.dns1123_subdomain(hostname)]
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= INT32_MAX:
        errors.append(field_errors.invalid(child(path, "activeDeadlineSeconds"), deadline, names.between(1, INT32_MAX)))
    # A negative terminationGracePeriodSeconds is accepted for old clients' sake, with a warning.
    return errors


def _names(spec: Object, path: str) -> Errors:
    errors: Errors = []
    checks = (
        ("serviceAccountName", names.dns1123_subdomain),
        ("nodeName", names.dns1123_subdomain),
        ("priorityClassName", names.dns1123_subdomain),
        ("hostname", names.dns1123_label),
        ("subdomain", names.dns1123_label),
    )
    for name, check in checks:
        if spec.get(name):
            errors += [field_errors.invalid(child(path, name), spec[name], text) for text in check(spec[name])]
    if spec.get("runtimeClassName"):
        problems = names.dns1123_subdomain(spec["runtimeClassName"])
        errors += [field_errors.invalid(child(path, "runtimeClassName"), spec["runtimeClassName"], text) for text in problems]
    policy = spec.get("preemptionPolicy")
    if policy is not None:
        errors += one_of(policy, child(path, "preemptionPolicy"), ("Never", "PreemptLowerPriority"))
    return errors


def _labels(found: Object | None, path: str) -> Errors:
    return object_meta.labels(found, path)


# --- containers -------------------------------------------------------------------------------------------------------


def containers(spec: Object, volumes: dict[str, Object], path: str) -> Errors:
    """All three lists: their names share one namespace."""
    errors: Errors = []
    seen: set[str] = set()
    where = child(path, "containers")
    if not spec.get("containers"):
        errors.append(field_errors.required(where))
    host_network = bool(spec.get("hostNetwork"))
    for index, container in enumerate(spec.get("containers") or []):
        errors += _container(container, volumes, child(where, index), seen, host_network)
        errors += _success_threshold(container, child(where, index))
    errors += _host_ports(spec.get("containers") or [], where)
    where = child(path, "initContainers")
    for index, container in enumerate(spec.get("initContainers") or []):
        errors += _container(container, volumes, child(where, index), seen, host_network)
        errors += _init_container(container, child(where, index))
    where = child(path, "ephemeralContainers")
    for index, container in enumerate(spec.get("ephemeralContainers") or []):
        errors += _ephemeral_container(container, volumes, child(where, index), seen, spec)
    return errors


def _container(container: Object, volumes: dict[str, Object], path: str, seen: set[str], host_network: bool) -> Errors:
    errors: Errors = []
    name = container.get("name") or ""
    if not name:
        errors.append(field_errors.required(child(path, "name")))
    else:
        errors += [field_errors.invalid(child(path, "name"), name, text) for text in names.dns1123_label(name)]
    if name and name in seen:
        errors.append(field_errors.duplicate(child(path, "name"), name))
    seen.add(name)
    image = container.get("image") or ""
    if not image:
        errors.append(field_errors.required(child(path, "image")))
    elif image != image.strip():
        errors.append(field_errors.invalid(child(path, "image"), image, "must not have leading or trailing whitespace"))
    policy = container.get("terminationMessagePolicy")
    if policy not in ("File", "FallbackToLogsOnError"):
        errors.append(field_errors.invalid(child(path, "terminationMessagePolicy"), policy, "must be 'File' or 'FallbackToLogsOnError'"))
    errors += _probe(container.get("readinessProbe"), child(path, "readinessProbe"))
    errors += _probe(container.get("livenessProbe"), child(path, "livenessProbe"))
    errors += _probe(container.get("startupProbe"), child(path, "startupProbe"))
    for hook in ("postStart", "preStop"):
        handler = (container.get("lifecycle") or {}).get(hook)
        if handler is not None:
            errors += _handler(handler, child(path, f"lifecycle.{hook}"))
    errors += _ports(container.get("ports") or [], child(path, "ports"), host_network)
    errors += _env(container.get("env") or [], child(path, "env"))
    errors += _env_from(container.get("envFrom") or [], child(path, "envFrom"))
    errors += volume_validation.mounts(container, volumes, path)
    errors += one_of(container.get("imagePullPolicy"), child(path, "imagePullPolicy"), ("Always", "IfNotPresent", "Never"))
    errors += resource_requirements(container.get("resources") or {}, child(path, "resources"))
    return errors + _container_security(container.get("securityContext") or {}, child(path, "securityContext"))


def _init_container(container: Object, path: str) -> Errors:
    policy = container.get("restartPolicy")
    if policy == "Always":
        return _success_threshold(container, path)
    errors: Errors = []
    if policy is not None and policy not in ("Never", "OnFailure"):
        errors.append(field_errors.not_supported(child(path, "restartPolicy"), policy, ["Always"]))
    for name in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name) is not None:
            text = "may not be set for init containers without restartPolicy=Always"
            errors.append(field_errors.forbidden(child(path, name), text))
    return errors


_EPHEMERAL_FORBIDDEN = ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resizePolicy", "restartPolicy")


def _ephemeral_container(container: Object, volumes: dict[str, Object], path: str, seen: set[str], spec: Object) -> Errors:
    target = container.get("targetContainerName")
    errors: Errors = []
    known = {one.get("name") for one in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]}
    if target and target not in known:
        errors.append(field_errors.not_found(child(path, "targetContainerName"), target))
    if not container.get("name"):
        return [*errors, field_errors.required(path, "ephemeralContainer requires a name")]
    errors += _container(container, volumes, path, seen, host_network=False)
    used = [name for name in _EPHEMERAL_FORBIDDEN if container.get(name)]
    errors += [field_errors.forbidden(child(path, name), "cannot be set for an Ephemeral Container") for name in used]
    if container.get("resources"):
        errors.append(field_errors.forbidden(child(path, "resources"), "cannot be set for an Ephemeral Container"))
    return errors


def ephemeral_containers(pod: Object, old: Object) -> Errors:
    """An update of the ephemeralcontainers subresource: additions only."""
    spec = pod.get("spec") or {}
    path = "spec.ephemeralContainers"
    volumes, _ = volume_validation.volumes(spec.get("volumes") or [], "spec.volumes")
    errors = [error for error in containers(spec, volumes, "spec") if error.field.startswith(path)]
    new = {one.get("name"): one for one in spec.get("ephemeralContainers") or []}
    for container in (old.get("spec") or {}).get("ephemeralContainers") or []:
        found = new.get(container.get("name"))
        if found is None:
            text = f'existing ephemeral containers "{container.get("name")}" may not be removed\n'
            errors.append(field_errors.forbidden(path, text))
        elif found != container:
            text = f'existing ephemeral containers "{container.get("name")}" may not be changed\n'
            errors.append(field_errors.forbidden(path, text))
    return errors


def _success_threshold(container: Object, path: str) -> Errors:
    errors: Errors = []
    for name in ("livenessProbe", "startupProbe"):
        threshold = (container.get(name) or {}).get("successThreshold", 1)
        if threshold != 1:
            errors.append(field_errors.invalid(child(path, f"{name}.successThreshold"), threshold, "must be 1"))
    return errors


def _probe(probe: Object | None, path: str) -> Errors:
    if probe is None:
        return []
    errors = _handler(probe, path)
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        errors += not_negative(probe.get(name), child(path, name))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        errors.append(field_errors.invalid(child(path, "terminationGracePeriodSeconds"), grace, "must be greater than 0"))
    return errors


def _handler(handler: Object, path: str) -> Errors:
    errors: Errors = []
    kinds = [name for name in ("exec", "httpGet", "tcpSocket", "grpc", "sleep") if handler.get(name) is not None]
    errors += [field_errors.forbidden(child(path, name), "may not specify more than 1 handler type") for name in kinds[1:]]
    if not kinds:
        return [field_errors.required(path, "must specify a handler type")]
    action, where = handler[kinds[0]], child(path, kinds[0])
    match kinds[0]:
        case "exec":
            if not action.get("command"):
                errors.append(field_errors.required(child(where, "command")))
        case "httpGet":
            if not action.get("path"):
                errors.append(field_errors.required(child(where, "path")))
            errors += port_or_name(action.get("port"), child(where, "port"))
            if action.get("scheme") not in ("HTTP", "HTTPS"):
                errors.append(field_errors.not_supported(child(where, "scheme"), action.get("scheme"), ("HTTP", "HTTPS")))
            for header in action.get("httpHeaders") or []:
                problems = names.http_header_name(header.get("name") or "")
                errors += [field_errors.invalid(child(where, "httpHeaders"), header.get("name"), text) for text in problems]
        case "tcpSocket":
            errors += port_or_name(action.get("port"), child(where, "port"))
        case "grpc":
            problems = names.port_number(action.get("port") or 0)
            errors += [field_errors.invalid(child(where, "port"), action.get("port") or 0, text) for text in problems]
    return errors


def port_or_name(port: Any, path: str) -> Errors:
    """A number or the name of a port."""
    if isinstance(port, str):
        return [field_errors.invalid(path, port, text) for text in names.port_name(port)]
    return [field_errors.invalid(path, port or 0, text) for text in names.port_number(port or 0)]


def _ports(ports: list[Object], path: str, host_network: bool) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        where = child(path, index)
        name = port.get("name")
        if name:
            problems = names.port_name(name)
            errors += [field_errors.invalid(child(where, "name"), name, text) for text in problems]
            if not problems and name in seen:
                errors.append(field_errors.duplicate(child(where, "name"), name))
            seen.add(name)
        number = port.get("containerPort") or 0
        if not number:
            errors.append(field_errors.required(child(where, "containerPort")))
        else:
            errors += [field_errors.invalid(child(where, "containerPort"), number, text) for text in names.port_number(number)]
        host_port = port.get("hostPort") or 0
        if host_port:
            errors += [field_errors.invalid(child(where, "hostPort"), host_port, text) for text in names.port_number(host_port)]
        if host_network and host_port != number:
            errors.append(field_errors.invalid(child(where, "containerPort"), number, "must match `hostPort` when `hostNetwork` is true"))
        if port.get("protocol") not in _PROTOCOLS:
            errors.append(field_errors.not_supported(child(where, "protocol"), port.get("protocol"), _PROTOCOLS))
    return errors


def _host_ports(found: list[Object], path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, container in enumerate(found):
        for number, port in enumerate(container.get("ports") or []):
            if not port.get("hostPort"):
                continue
            text = f"{port.get('protocol')}/{port.get('hostIP') or ''}/{port['hostPort']}"
            if text in seen:
                errors.append(field_errors.duplicate(f"{path}[{index}].ports[{number}].hostPort", text))
            seen.add(text)
    return errors


def _env(variables: list[Object], path: str) -> Errors:
    errors: Errors = []
    for index, variable in enumerate(variables):
        where = child(path, index)
        name = variable.get("name") or ""
        if not name:
            errors.append(field_errors.required(child(where, "name")))
        else:
            errors += [field_errors.invalid(child(where, "name"), name, text) for text in names.env_name(name)]
        source = variable.get("valueFrom")
        if source is not None:
            errors += _env_source(variable, source, child(where, "valueFrom"))
    return errors


def _env_source(variable: Object, source: Object, path: str) -> Errors:
    errors: Errors = []
    kinds = [name for name in ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef") if source.get(name) is not None]
    if not kinds:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        return [field_errors.invalid(path, "", text)]
    if variable.get("value"):
        errors.append(field_errors.invalid(path, "", "may not be specified when `value` is not empty"))
    if len(kinds) > 1:
        errors.append(field_errors.invalid(path, "", "may not have more than one field specified at a time"))
    for kind in kinds:
        reference, where = source[kind], child(path, kind)
        if kind == "fieldRef":
            errors += field_reference(reference, where)
        elif kind == "resourceFieldRef":
            resource = reference.get("resource") or ""
            if not resource:
                errors.append(field_errors.required(child(where, "resource")))
            elif resource not in _DOWNWARD_RESOURCES and "hugepages-" not in resource:
                errors.append(field_errors.not_supported(child(where, "resource"), resource, _DOWNWARD_RESOURCES))
        elif kind in ("configMapKeyRef", "secretKeyRef"):
            errors += [
                field_errors.invalid(child(where, "name"), reference.get("name") or "", text)
                for text in names.dns1123_subdomain(reference.get("name") or "")
            ]
            if not reference.get("key"):
                errors.append(field_errors.required(child(where, "key")))
            else:
                errors += [field_errors.invalid(child(where, "key"), reference["key"], text) for text in names.config_key(reference["key"])]
    return errors


def field_reference(reference: Object, path: str, fields: tuple[str, ...] = _DOWNWARD_FIELDS) -> Errors:
    """`fieldRef` of environment variables and downward API volumes."""
    field = str(reference.get("fieldPath") or "")
    where = child(path, "fieldPath")
    if not reference.get("apiVersion"):
        return [field_errors.required(child(path, "apiVersion"))]
    if not field:
        return [field_errors.required(where)]
    for name in ("metadata.annotations", "metadata.labels"):
        if field.startswith(name + "['") and field.endswith("']"):
            return [field_errors.invalid(where, field, text) for text in names.qualified_name(field[len(name) + 2 : -2].lower())]
    if field in fields:
        return []
    return [field_errors.not_supported(where, field, (*fields, "metadata.annotations", "metadata.labels"))]


def _env_from(sources: list[Object], path: str) -> Errors:
    errors: Errors = []
    for index, source in enumerate(sources):
        where = child(path, index)
        if source.get("prefix"):
            errors += [field_errors.invalid(child(where, "prefix"), source["prefix"], text) for text in names.env_name(source["prefix"])]
        kinds = [name for name in ("configMapRef", "secretRef") if source.get(name) is not None]
        if not kinds:
            errors.append(field_errors.invalid(where, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(kinds) > 1:
            errors.append(field_errors.invalid(where, "", "may not have more than one field specified at a time"))
        for kind in kinds:
            name = source[kind].get("name") or ""
            if not name:
                errors.append(field_errors.required(child(where, f"{kind}.name")))
            else:
                errors += [field_errors.invalid(child(where, f"{kind}.name"), name, text) for text in names.dns1123_subdomain(name)]
    return errors


# --- resources --------------------------------------------------------------------------------------------------------


def resource_requirements(resources: Object, path: str) -> Errors:
    """Requests and limits: known names, not negative, requests within limits."""
    errors: Errors = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, found in (("limits", limits), ("requests", requests)):
        for name, amount in found.items():
            where = key(child(path, kind), name)
            errors += _container_resource(name, where)
            errors += resource_amount(name, amount, where)
    for name, amount in requests.items():
        where = key(child(path, "requests"), name)
        limit = limits.get(name)
        overcommit = "/" not in name and not name.startswith("hugepages-")
        if limit is not None:
            requested, allowed = quantity.parse(amount), quantity.parse(limit)
            if not overcommit and requested != allowed:
                errors.append(field_errors.invalid(where, amount, f"must be equal to {name} limit of {limit}"))
            elif requested > allowed:
                errors.append(field_errors.invalid(where, amount, f"must be less than or equal to {name} limit of {limit}"))
        elif not overcommit:
            errors.append(field_errors.required(child(path, "limits"), "Limit must be set for non overcommitable resources"))
    return errors


def _container_resource(name: str, path: str) -> Errors:
    problems = names.qualified_name(name)
    if problems:
        return [field_errors.invalid(path, name, text) for text in problems]
    if "/" not in name:
        if name not in _CONTAINER_RESOURCES and not name.startswith("hugepages-"):
            return [field_errors.invalid(path, name, "must be a standard resource for containers")]
    elif name.startswith("requests.") or (name.partition("/")[0].endswith("kubernetes.io") and not name.startswith("attachable-volumes-")):
        return [field_errors.invalid(path, name, "doesn't follow extended resource name standard")]
    return []


def resource_amount(name: str, amount: Any, path: str) -> Errors:
    parsed = quantity.parse(amount)
    if parsed.nanos < 0:
        return [field_errors.invalid(path, amount, NOT_NEGATIVE)]
    if ("/" in name or name.startswith("hugepages-") or name in ("pods", "services")) and parsed.milli_value % 1000:
        return [field_errors.invalid(path, amount, "must be an integer")]
    return []


# --- the rest of the spec ---------------------------------------------------------------------------------------------


def _security_context(spec: Object, path: str) -> Errors:
    context = spec.get("securityContext") or {}
    where = child(path, "securityContext")
    errors: Errors = []
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        if context.get(name) is not None:
            errors += _identifier(context[name], child(where, name))
    for index, group in enumerate(context.get("supplementalGroups") or []):
        errors += _identifier(group, child(child(where, "supplementalGroups"), index))
    policy = context.get("fsGroupChangePolicy")
    if policy is not None and policy not in ("Always", "OnRootMismatch"):
        errors.append(field_errors.not_supported(child(where, "fsGroupChangePolicy"), policy, ("Always", "OnRootMismatch")))
    errors += _seccomp(context.get("seccompProfile"), child(where, "seccompProfile"))
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        errors.append(field_errors.invalid(child(where, "shareProcessNamespace"), True, "ShareProcessNamespace and HostPID cannot both be enabled"))
    return errors


def _identifier(value: int, path: str) -> Errors:
    return [] if 0 <= value <= INT32_MAX else [field_errors.invalid(path, value, names.between(0, INT32_MAX))]


def _seccomp(profile: Object | None, path: str) -> Errors:
    if profile is None:
        return []
    kind, local = profile.get("type"), profile.get("localhostProfile")
    if kind == "Localhost":
        return [] if local else [field_errors.required(child(path, "localhostProfile"), "must be set when seccomp type is Localhost")]
    if local is not None:
        return [field_errors.invalid(child(path, "localhostProfile"), local, "can only be set when seccomp type is Localhost")]
    return one_of(kind, child(path, "type"), ("Localhost", "RuntimeDefault", "Unconfined"))


def _container_security(context: Object, path: str) -> Errors:
    errors: Errors = []
    for name in ("runAsUser", "runAsGroup"):
        if context.get(name) is not None:
            errors += _identifier(context[name], child(path, name))
    if context.get("procMount") is not None:
        errors += one_of(context["procMount"], child(path, "procMount"), ("Default", "Unmasked"))
    errors += _seccomp(context.get("seccompProfile"), child(path, "seccompProfile"))
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            errors.append(field_errors.invalid(path, context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
        added = (context.get("capabilities") or {}).get("add") or []
        if "CAP_SYS_ADMIN" in added:
            text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(field_errors.invalid(path, context, text))
    return errors


def _pull_secrets(found: list[Object], path: str) -> Errors:
    return [
        field_errors.invalid(child(path, index), secret, "only name may be set")
        for index, secret in enumerate(found)
        if set(secret) - {"name"}
    ]  # fmt: skip


def is_ip(value: Any) -> bool:
    try:
        ipaddress.ip_address(str(value or ""))
    except ValueError:
        return False
    return True


def _dns_config(spec: Object, path: str) -> Errors:
    config, where = spec.get("dnsConfig"), child(path, "dnsConfig")
    errors: Errors = []
    if spec.get("dnsPolicy") == "None":
        if config is None:
            return [field_errors.required(where, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.get("nameservers"):
            return [field_errors.required(child(where, "nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None")]
    if not config:
        return errors
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > DNS_NAMESERVERS_MAX:
        text = f"must not have more than {DNS_NAMESERVERS_MAX} nameservers"
        errors.append(field_errors.invalid(child(where, "nameservers"), servers, text))
    for index, server in enumerate(servers):
        if not is_ip(server):
            errors.append(field_errors.invalid(child(child(where, "nameservers"), index), server, "must be valid IP address"))
    if len(searches) > DNS_SEARCHES_MAX:
        text = f"must not have more than {DNS_SEARCHES_MAX} search paths"
        errors.append(field_errors.invalid(child(where, "searches"), searches, text))
    if len(" ".join(searches)) > DNS_SEARCHES_LENGTH_MAX:
        text = f"must not have more than {DNS_SEARCHES_LENGTH_MAX} characters (including spaces) in the search list"
        errors.append(field_errors.invalid(child(where, "searches"), searches, text))
    for index, option in enumerate(config.get("options") or []):
        if not option.get("name"):
            errors.append(field_errors.required(child(child(where, "options"), index), "must not be empty"))
    return errors


_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def tolerations(found: list[Object], path: str) -> Errors:
    errors: Errors = []
    for index, toleration in enumerate(found):
        where = child(path, index)
        name, operator, effect = toleration.get("key"), toleration.get("operator"), toleration.get("effect")
        if name:
            errors += [field_errors.invalid(child(where, "key"), name, text) for text in names.qualified_name(name)]
        elif operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(field_errors.invalid(child(where, "operator"), operator or "", text))
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(field_errors.invalid(child(where, "effect"), effect or "", text))
        match operator:
            case None | "" | "Equal":
                problems = names.label_value(toleration.get("value") or "")
                if problems:
                    errors.append(field_errors.invalid(child(where, "operator"), toleration.get("value"), ";".join(problems)))
            case "Exists":
                if toleration.get("value"):
                    text = "value must be empty when `operator` is 'Exists'"
                    errors.append(field_errors.invalid(child(where, "operator"), toleration, text))
            case _:
                errors.append(field_errors.not_supported(child(where, "operator"), operator, ("Equal", "Exists")))
        if effect and effect not in _TAINT_EFFECTS:
            errors.append(field_errors.not_supported(child(where, "effect"), effect, _TAINT_EFFECTS))
    return errors


def _affinity(affinity: Object, path: str) -> Errors:
    errors: Errors = []
    node = affinity.get("nodeAffinity") or {}
    where = child(path, "nodeAffinity")
    required, preferred = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
    if node.get(required) is not None:
        errors += node_selector(node[required], child(where, required))
    for index, term in enumerate(node.get(preferred) or []):
        at = child(child(where, preferred), index)
        errors += _weight(term.get("weight"), child(at, "weight"))
        errors += _node_selector_term(term.get("preference") or {}, child(at, "preference"))
    for kind in ("podAffinity", "podAntiAffinity"):
        found, where = affinity.get(kind) or {}, child(path, kind)
        for index, term in enumerate(found.get(required) or []):
            errors += _pod_affinity_term(term, child(child(where, required), index))
        for index, weighted in enumerate(found.get(preferred) or []):
            at = child(child(where, preferred), index)
            errors += _weight(weighted.get("weight"), child(at, "weight"))
            errors += _pod_affinity_term(weighted.get("podAffinityTerm") or {}, child(at, "podAffinityTerm"))
    return errors


def _weight(weight: Any, path: str) -> Errors:
    return [] if isinstance(weight, int) and 1 <= weight <= 100 else [field_errors.invalid(path, weight or 0, "must be in the range 1-100")]


def node_selector(selector: Object, path: str) -> Errors:
    terms = selector.get("nodeSelectorTerms") or []
    where = child(path, "nodeSelectorTerms")
    if not terms:
        return [field_errors.required(where, "must have at least one node selector term")]
    return [error for index, term in enumerate(terms) for error in _node_selector_term(term, child(where, index))]


def _node_selector_term(term: Object, path: str) -> Errors:
    errors: Errors = []
    for index, requirement in enumerate(term.get("matchExpressions") or []):
        where = child(child(path, "matchExpressions"), index)
        operator, values = requirement.get("operator"), requirement.get("values") or []
        match operator:
            case "In" | "NotIn":
                if not values:
                    errors.append(field_errors.required(child(where, "values"), "must be specified when `operator` is 'In' or 'NotIn'"))
            case "Exists" | "DoesNotExist":
                if values:
                    text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                    errors.append(field_errors.forbidden(child(where, "values"), text))
            case "Gt" | "Lt":
                if len(values) != 1:
                    text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                    errors.append(field_errors.required(child(where, "values"), text))
            case _:
                errors.append(field_errors.invalid(child(where, "operator"), operator or "", "not a valid selector operator"))
        problems = names.qualified_name(requirement.get("key") or "")
        errors += [field_errors.invalid(child(where, "key"), requirement.get("key"), text) for text in problems]
    for index, requirement in enumerate(term.get("matchFields") or []):
        where = child(child(path, "matchFields"), index)
        if requirement.get("operator") not in ("In", "NotIn"):
            errors.append(field_errors.invalid(child(where, "operator"), requirement.get("operator") or "", "not a valid selector operator"))
        elif len(requirement.get("values") or []) != 1:
            text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            errors.append(field_errors.required(child(where, "values"), text))
        if requirement.get("key") != "metadata.name":
            errors.append(field_errors.invalid(child(where, "key"), requirement.get("key") or "", "not a valid field selector key"))
    return errors


def _pod_affinity_term(term: Object, path: str) -> Errors:
    errors = object_meta.label_selector(term.get("labelSelector"), child(path, "labelSelector"))
    errors += object_meta.label_selector(term.get("namespaceSelector"), child(path, "namespaceSelector"))
    for namespace in term.get("namespaces") or []:
        errors += [field_errors.invalid(child(path, "namespace"), namespace, text) for text in names.dns1123_label(namespace)]
    topology = term.get("topologyKey") or ""
    if not topology:
        errors.append(field_errors.required(child(path, "topologyKey"), "can not be empty"))
    return errors + [field_errors.invalid(child(path, "topologyKey"), topology, text) for text in names.qualified_name(topology) if topology]


def _topology_spread(constraints: list[Object], path: str) -> Errors:
    errors: Errors = []
    seen: set[tuple[Any, Any]] = set()
    for index, constraint in enumerate(constraints):
        where = child(path, index)
        skew = constraint.get("maxSkew") or 0
        if skew <= 0:
            errors.append(field_errors.invalid(child(where, "maxSkew"), skew, "must be greater than zero"))
        if not constraint.get("topologyKey"):
            errors.append(field_errors.required(child(where, "topologyKey"), "can not be empty"))
        policy = constraint.get("whenUnsatisfiable")
        if policy not in ("DoNotSchedule", "ScheduleAnyway"):
            errors.append(field_errors.not_supported(child(where, "whenUnsatisfiable"), policy, ("DoNotSchedule", "ScheduleAnyway")))
        pair = (constraint.get("topologyKey"), policy)
        if pair in seen:
            errors.append(field_errors.duplicate(child(where, "{topologyKey, whenUnsatisfiable}"), f"{{{pair[0]}, {pair[1]}}}"))
        seen.add(pair)
        minimum = constraint.get("minDomains")
        if minimum is not None:
            if minimum <= 0:
                errors.append(field_errors.invalid(child(where, "minDomains"), minimum, "must be greater than 0"))
            elif policy != "DoNotSchedule":
                text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {policy}"
                errors.append(field_errors.invalid(child(where, "minDomains"), minimum, text))
        errors += object_meta.label_selector(constraint.get("labelSelector"), child(where, "labelSelector"))
    return errors


# --- warnings ---------------------------------------------------------------------------------------------------------

_CRITICAL_POD = "scheduler.alpha.kubernetes.io/critical-pod"
_DEPRECATED_NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}


def template_warnings(spec: Object, path: str, annotations: dict[str, str] | None = None) -> list[str]:
    """What upstream warns of in pods and templates (`pkg/api/pod/warnings.go`)."""
    texts: list[str] = []
    selected = [label for label in spec.get("nodeSelector") or {} if label in _DEPRECATED_NODE_LABELS]
    texts += [f"{key(child(path, 'nodeSelector'), label)}: {_DEPRECATED_NODE_LABELS[label]}" for label in selected]
    if _CRITICAL_POD in (annotations or {}):
        texts.append(f'metadata.annotations[{_CRITICAL_POD}]: non-functional in v1.16+; use the "priorityClassName" field instead')
    texts += _duplicate_warnings(spec, path)
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        texts.append(f"{child(path, 'terminationGracePeriodSeconds')}: must be >= 0; negative values are invalid and will be treated as 1")
    return texts


def _duplicate_warnings(spec: Object, path: str) -> list[str]:
    texts: list[str] = []
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or []):
            where = child(child(path, field), index)
            seen: set[Any] = set()
            for number, variable in enumerate(container.get("env") or []):
                if variable.get("name") in seen:
                    text = f'hides previous definition of "{variable.get("name")}", which may be dropped when using apply'
                    texts.append(f"{child(child(where, 'env'), number)}: {text}")
                seen.add(variable.get("name"))
            ports: dict[Any, int] = {}
            for number, port in enumerate(container.get("ports") or []):
                pair = (port.get("containerPort"), port.get("protocol"))
                if pair in ports:
                    first = child(child(where, "ports"), ports[pair])
                    texts.append(f"{child(child(where, 'ports'), number)}: duplicate port definition with {first}")
                ports.setdefault(pair, number)
    return texts
