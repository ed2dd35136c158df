"""Pure: printers of workloads, autoscaling, policy, networking and discovery."""

from typing import Any

from kubette.apimachinery import meta, timestamps
from kubette.kube_apiserver.registry.cells import Object, Printer, age, boolean, columns, containers, labels, limited, name, since, spec, status
from kubette.kube_apiserver.registry.printers_core import load_balancer, selector


def _template(obj: Object) -> dict[str, Any]:
    return spec(obj).get("template") or {}


def _deployment(obj: Object, now: float) -> list[Any]:
    ready = f"{status(obj).get('readyReplicas') or 0}/{spec(obj).get('replicas', 1)}"
    counts = [status(obj).get("updatedReplicas") or 0, status(obj).get("availableReplicas") or 0]
    return [name(obj), ready, *counts, age(obj, now), *containers(_template(obj)), selector(spec(obj).get("selector"))]


def _replica_set(obj: Object, now: float) -> list[Any]:
    counts = [spec(obj).get("replicas", 1), status(obj).get("replicas") or 0, status(obj).get("readyReplicas") or 0]
    return [name(obj), *counts, age(obj, now), *containers(_template(obj)), selector(spec(obj).get("selector"))]


def _stateful_set(obj: Object, now: float) -> list[Any]:
    ready = f"{status(obj).get('readyReplicas') or 0}/{spec(obj).get('replicas', 1)}"
    return [name(obj), ready, age(obj, now), *containers(_template(obj))]


def _daemon_set(obj: Object, now: float) -> list[Any]:
    fields = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable")
    node_selector = labels((_template(obj).get("spec") or {}).get("nodeSelector"))
    counts = [status(obj).get(field) or 0 for field in fields]
    return [name(obj), *counts, node_selector, age(obj, now), *containers(_template(obj)), selector(spec(obj).get("selector"))]


def _controller_revision(obj: Object, now: float) -> list[Any]:
    owner = meta.controller_of(obj)
    shown = "<none>"
    if owner is not None:
        group = str(owner.get("apiVersion") or "").rpartition("/")[0]
        kind = f"{owner.get('kind')}.{group}" if group else str(owner.get("kind"))
        shown = f"{kind.lower()}/{owner.get('name')}"
    return [name(obj), shown, obj.get("revision") or 0, age(obj, now)]


def _job_status(obj: Object) -> str:
    for condition in ("Complete", "Failed"):
        if meta.is_condition_true(obj, condition):
            return condition
    if meta.is_being_deleted(obj):
        return "Terminating"
    for condition in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if meta.is_condition_true(obj, condition):
            return condition
    return "Running"


def _job(obj: Object, now: float) -> list[Any]:
    succeeded = status(obj).get("succeeded") or 0
    wanted, parallelism = spec(obj).get("completions"), spec(obj).get("parallelism")
    if wanted is not None:
        completions = f"{succeeded}/{wanted}"
    else:
        completions = f"{succeeded}/1 of {parallelism}" if parallelism is not None and parallelism > 1 else f"{succeeded}/1"
    started, finished = status(obj).get("startTime"), status(obj).get("completionTime")
    duration = ""
    if started:
        end = timestamps.parse_time(finished) if finished else now
        duration = timestamps.human_duration(end - timestamps.parse_time(started))
    cells = [name(obj), _job_status(obj), completions, duration, age(obj, now)]
    return [*cells, *containers(_template(obj)), selector(spec(obj).get("selector"))]


def _cron_job(obj: Object, now: float) -> list[Any]:
    last = status(obj).get("lastScheduleTime")
    job_spec = (spec(obj).get("jobTemplate") or {}).get("spec") or {}
    return [
        name(obj),
        spec(obj).get("schedule") or "",
        spec(obj).get("timeZone") or "<none>",
        boolean(spec(obj).get("suspend")),
        len(status(obj).get("active") or []),
        since(last, now) if last else "<none>",
        age(obj, now),
        *containers(job_spec.get("template") or {}),
        selector(job_spec.get("selector")) if job_spec.get("selector") else "<none>",
    ]


def _pair(current: Any, target: Any) -> str:
    return f"{'<unknown>' if current is None else current}/{target}"


def _metric(metric: dict[str, Any], current: dict[str, Any]) -> str:
    field = str(metric.get("type") or "")
    field = field[:1].lower() + field[1:]
    source, seen = metric.get(field) or {}, (current.get(field) or {}).get("current") or {}
    target = source.get("target") or {}
    match field:
        case "resource" | "containerResource":
            if target.get("averageValue") is not None:
                text = _pair(seen.get("averageValue"), target["averageValue"])
            else:
                used, wanted = seen.get("averageUtilization"), target.get("averageUtilization")
                text = _pair(None if used is None else f"{used}%", "<auto>" if wanted is None else f"{wanted}%")
            return f"{source.get('name')}: {text}"
        case "pods":
            return _pair(seen.get("averageValue"), target.get("averageValue"))
        case "external" | "object":
            if target.get("averageValue") is not None:
                return _pair(seen.get("averageValue"), target["averageValue"]) + " (avg)"
            return _pair(seen.get("value"), target.get("value"))
    return "<unknown type>"


def _horizontal_pod_autoscaler(obj: Object, now: float) -> list[Any]:
    reference = spec(obj).get("scaleTargetRef") or {}
    metrics, current = spec(obj).get("metrics") or [], status(obj).get("currentMetrics") or []
    texts = [_metric(metric, current[index] if index < len(current) else {}) for index, metric in enumerate(metrics)]
    targets = ", ".join(texts[:2]) + (f" + {len(texts) - 2} more..." if len(texts) > 2 else "") if texts else "<none>"
    minimum = spec(obj).get("minReplicas")
    return [
        name(obj),
        f"{reference.get('kind')}/{reference.get('name')}",
        targets,
        "<unset>" if minimum is None else str(minimum),
        spec(obj).get("maxReplicas") or 0,
        status(obj).get("currentReplicas") or 0,
        age(obj, now),
    ]


def _pod_disruption_budget(obj: Object, now: float) -> list[Any]:
    bounds = [str(spec(obj)[field]) if spec(obj).get(field) is not None else "N/A" for field in ("minAvailable", "maxUnavailable")]
    return [name(obj), *bounds, status(obj).get("disruptionsAllowed") or 0, age(obj, now)]


def _ingress(obj: Object, now: float) -> list[Any]:
    rules = spec(obj).get("rules") or []
    hosts = [str(rule["host"]) for rule in rules[:3] if rule.get("host")]
    shown = ",".join(hosts) or "*"
    if hosts and len(rules) > 3:
        shown += f" + {len(rules) - 3} more..."
    ports = "80, 443" if spec(obj).get("tls") else "80"
    return [name(obj), spec(obj).get("ingressClassName") or "<none>", shown, load_balancer(obj), ports, age(obj, now)]


def _ingress_class(obj: Object, now: float) -> list[Any]:
    reference = spec(obj).get("parameters")
    shown = "<none>"
    if reference:
        group = f".{reference['apiGroup']}" if reference.get("apiGroup") else ""
        shown = f"{reference.get('kind')}{group}/{reference.get('name')}"
    return [name(obj), spec(obj).get("controller") or "", shown, age(obj, now)]


def _network_policy(obj: Object, now: float) -> list[Any]:
    return [name(obj), selector(spec(obj).get("podSelector") or {}), age(obj, now)]


def _endpoint_slice(obj: Object, now: float) -> list[Any]:
    ports = [
        "*" if port.get("port") is None and not port.get("name") else str(port.get("port") or port.get("name")) for port in obj.get("ports") or []
    ]
    addresses = [address for endpoint in obj.get("endpoints") or [] for address in endpoint.get("addresses") or []]
    return [name(obj), obj.get("addressType") or "", limited(ports, 3) or "<unset>", limited(addresses, 3) or "<unset>", age(obj, now)]


def _ip_address(obj: Object, now: float) -> list[Any]:
    parent = spec(obj).get("parentRef") or {}
    path = "/".join(str(parent[field]) for field in ("group", "resource", "namespace", "name") if parent.get(field))
    return [name(obj), path, age(obj, now)]


def _service_cidr(obj: Object, now: float) -> list[Any]:
    return [name(obj), ",".join(spec(obj).get("cidrs") or []), age(obj, now)]


_WIDE = ("Containers*", "Images*", "Selector*")

PRINTERS: dict[tuple[str, str], Printer] = {
    ("apps", "deployments"): (columns("Name", "Ready", "Up-to-date", "Available", "Age", *_WIDE), _deployment),
    ("apps", "replicasets"): (columns("Name", "Desired#", "Current#", "Ready#", "Age", *_WIDE), _replica_set),
    ("apps", "statefulsets"): (columns("Name", "Ready", "Age", "Containers*", "Images*"), _stateful_set),
    ("apps", "daemonsets"): (
        columns("Name", "Desired#", "Current#", "Ready#", "Up-to-date#", "Available#", "Node Selector", "Age", *_WIDE),
        _daemon_set,
    ),
    ("apps", "controllerrevisions"): (columns("Name", "Controller", "Revision", "Age"), _controller_revision),
    ("batch", "jobs"): (columns("Name", "Status", "Completions", "Duration", "Age", *_WIDE), _job),
    ("batch", "cronjobs"): (columns("Name", "Schedule", "Timezone", "Suspend", "Active#", "Last Schedule", "Age", *_WIDE), _cron_job),
    ("autoscaling", "horizontalpodautoscalers"): (
        columns("Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"),
        _horizontal_pod_autoscaler,
    ),
    ("policy", "poddisruptionbudgets"): (columns("Name", "Min Available", "Max Unavailable", "Allowed Disruptions#", "Age"), _pod_disruption_budget),
    ("networking.k8s.io", "ingresses"): (columns("Name", "Class", "Hosts", "Address", "Ports", "Age"), _ingress),
    ("networking.k8s.io", "ingressclasses"): (columns("Name", "Controller", "Parameters", "Age"), _ingress_class),
    ("networking.k8s.io", "networkpolicies"): (columns("Name", "Pod-Selector", "Age"), _network_policy),
    ("networking.k8s.io", "ipaddresses"): (columns("Name", "ParentRef", "Age"), _ip_address),
    ("networking.k8s.io", "servicecidrs"): (columns("Name", "CIDRs", "Age"), _service_cidr),
    ("discovery.k8s.io", "endpointslices"): (columns("Name", "AddressType", "Ports", "Endpoints", "Age"), _endpoint_slice),
}
