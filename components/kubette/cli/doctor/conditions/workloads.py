"""Pure: Services that lead nowhere, controllers that are refused, budgets and quotas that block, namespaces in a half-state."""

from collections.abc import Iterator

from kubette.cli.doctor import reading
from kubette.cli.doctor.facts import Facts, Object
from kubette.cli.doctor.finding import ERROR, WARNING, Condition, Seen

_YOUNG_S = 5.0  # what a controller may need for its first answer


def _pods_of(facts: Facts, service: Object) -> list[Object]:
    selector = (service.get("spec") or {}).get("selector") or {}
    namespace = service["metadata"].get("namespace")
    inside = (pod for pod in facts.listed("pods") if pod["metadata"].get("namespace") == namespace)
    return [pod for pod in inside if reading.matches(pod["metadata"].get("labels"), selector)]


def _selecting(facts: Facts) -> Iterator[tuple[Object, list[Object]]]:
    for service in facts.listed("services"):
        if (service.get("spec") or {}).get("selector") and reading.age_s(service, facts.now) > _YOUNG_S:
            yield service, _pods_of(facts, service)


def _where(service: Object) -> str:
    return f"service/{service['metadata']['name']}{reading.in_namespace(service)}"


def selects_nothing(facts: Facts) -> Iterator[Seen]:
    for service, pods in _selecting(facts):
        # The cluster's own DNS has a condition of its own.
        if pods or reading.name(service) == "kube-system/kube-dns":
            continue
        selector = service["spec"]["selector"]
        namespace = service["metadata"].get("namespace")
        typed = ",".join(f"{key}={value}" for key, value in selector.items())
        labels = {
            f"{k}={v}"
            for p in facts.listed("pods")
            if p["metadata"].get("namespace") == namespace
            for k, v in (p["metadata"].get("labels") or {}).items()
        }
        why = f"no pod in namespace {namespace} has the labels {typed}{reading.near(typed, labels)}"
        yield Seen(
            _where(service),
            "Endpoints: <none>",
            why,
            f"kubectl get pods --show-labels{reading.in_namespace(service)}; kubectl edit {_where(service)}",
        )


def no_ready_endpoints(facts: Facts) -> Iterator[Seen]:
    for service, pods in _selecting(facts):
        alive = [p for p in pods if not p["metadata"].get("deletionTimestamp")]
        if (
            alive
            and reading.name(service) != "kube-system/kube-dns"
            and not any(reading.condition(p, "Ready").get("status") == "True" for p in alive)
        ):
            if all(reading.age_s(p, facts.now) > 20 for p in alive):
                why = f"{len(alive)} pods have its labels, none of them is Ready"
                yield Seen(_where(service), "no endpoint is ready", why, f"kubectl get pods{reading.in_namespace(service)}")


def target_port(facts: Facts) -> Iterator[Seen]:
    for service, pods in _selecting(facts):
        declared = [(port, c) for p in pods[:1] for c in (p.get("spec") or {}).get("containers") or [] for port in c.get("ports") or []]
        numbers, names = {port.get("containerPort") for port, _ in declared}, {port.get("name") for port, _ in declared} - {None}
        for port in service["spec"].get("ports") or []:
            target = port.get("targetPort", port.get("port"))
            if isinstance(target, str) and not target.isdigit() and pods and target not in names:
                why = f"no container port of its pods is named {target}{reading.near(target, names)}"
                yield Seen(_where(service), f"targetPort: {target}", why, f"kubectl edit {_where(service)}")
            elif isinstance(target, int) and numbers and target not in numbers:
                listed = ", ".join(str(number) for number in sorted(n for n in numbers if n))
                why = f"its pods say that they listen on {listed}: connections are refused"
                yield Seen(_where(service), f"targetPort: {target}", why, f"kubectl edit {_where(service)}")


def create_refused(facts: Facts) -> Iterator[Seen]:
    """ReplicaSets that may not make their pods."""
    for owner in facts.listed("replicasets"):
        failure = reading.condition(owner, "ReplicaFailure")
        if failure.get("status") == "True" and (owner.get("spec") or {}).get("replicas"):
            message = str(failure.get("message") or "")
            why, remedy = "admission refuses its pods", f"kubectl describe replicaset {owner['metadata']['name']}{reading.in_namespace(owner)}"
            if "exceeded quota" in message:
                why, remedy = "the namespace's ResourceQuota is used up", f"kubectl describe resourcequota{reading.in_namespace(owner)}"
            elif "must specify" in message:
                why, remedy = (
                    "the ResourceQuota demands requests and limits that the pod does not state",
                    "state them, or give the namespace a LimitRange",
                )
            elif "serviceaccount" in message.lower():
                why, remedy = "the service account that its pods name does not exist", f"kubectl get serviceaccounts{reading.in_namespace(owner)}"
            yield Seen(f"replicaset/{owner['metadata']['name']}{reading.in_namespace(owner)}", f"{failure.get('reason')}: {message}", why, remedy)


def progress(facts: Facts) -> Iterator[Seen]:
    for deployment in facts.listed("deployments"):
        condition = reading.condition(deployment, "Progressing")
        if condition.get("reason") == "ProgressDeadlineExceeded":
            name = f"deployment/{deployment['metadata']['name']}{reading.in_namespace(deployment)}"
            why = "the new pods did not become available in time (progressDeadlineSeconds); the old ones still serve"
            yield Seen(name, str(condition.get("message")), why, f"kubectl rollout undo {name}")


def budget_blocks(facts: Facts) -> Iterator[Seen]:
    """A budget that no drain can ever satisfy; one that is only tight at this moment is no fault."""
    for budget in facts.listed("poddisruptionbudgets"):
        status, spec = budget.get("status") or {}, budget.get("spec") or {}
        expected, healthy, desired = (int(status.get(key) or 0) for key in ("expectedPods", "currentHealthy", "desiredHealthy"))
        if expected and not status.get("disruptionsAllowed") and desired >= expected:
            rule = f"minAvailable {spec['minAvailable']}" if "minAvailable" in spec else f"maxUnavailable {spec.get('maxUnavailable')}"
            name = f"poddisruptionbudget/{budget['metadata']['name']}{reading.in_namespace(budget)}"
            what = "Cannot evict pod as it would violate the pod's disruption budget."
            why = (
                f"{rule} of {expected} pods ({healthy} healthy) allows no disruption at all: kubectl drain tries for ever on the nodes of these pods"
            )
            yield Seen(name, what, why, "more replicas, or a smaller minAvailable")


def quota_full(facts: Facts) -> Iterator[Seen]:
    for quota in facts.listed("resourcequotas"):
        status = quota.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        full = [key for key, limit in hard.items() if str(limit) not in ("0", "0m") and str(used.get(key)) == str(limit)]
        if full:
            name = f"resourcequota/{quota['metadata']['name']}{reading.in_namespace(quota)}"
            what = ", ".join(f"{key}: used {used[key]} of {hard[key]}" for key in full)
            yield Seen(name, what, "the next object of this kind is refused: exceeded quota", f"kubectl describe {name}")


def default_account(facts: Facts) -> Iterator[Seen]:
    accounts = {reading.name(account) for account in facts.listed("serviceaccounts")}
    for namespace in facts.listed("namespaces") if facts.objects is not None else ():
        name = reading.name(namespace)
        active = (namespace.get("status") or {}).get("phase") == "Active"
        if active and f"{name}/default" not in accounts and reading.age_s(namespace, facts.now) > _YOUNG_S:
            what = f'error looking up service account {name}/default: serviceaccount "default" not found'
            why = "every pod needs one; kube-controller-manager makes it: it is down, or its serviceaccount controller is switched off"
            yield Seen(f"namespace/{name}", what, why, "kubectl get pods -n kube-system; ps -aux | grep kube-controller-manager")


def namespace_stuck(facts: Facts) -> Iterator[Seen]:
    for namespace in facts.listed("namespaces"):
        status = namespace.get("status") or {}
        since = facts.now - reading.moment(namespace["metadata"].get("deletionTimestamp") or "")
        told = [
            c
            for c in status.get("conditions") or []
            if c.get("status") == "True"
            and c.get("type")
            in ("NamespaceContentRemaining", "NamespaceFinalizersRemaining", "NamespaceDeletionDiscoveryFailure", "NamespaceDeletionContentFailure")
        ]
        if status.get("phase") == "Terminating" and told and since > 60:
            name = reading.name(namespace)
            yield Seen(
                f"namespace/{name}",
                f"Terminating: {told[-1].get('message')}",
                "objects in it have finalizers, or an API cannot be asked",
                f"kubectl get namespace {name} -o yaml",
            )


CONDITIONS = (
    Condition("service-selects-nothing", ERROR, "a Service's selector matches no pod", selects_nothing),
    Condition("service-target-port-wrong", ERROR, "a Service's targetPort is not a port of its pods", target_port),
    Condition("service-without-endpoints", WARNING, "none of a Service's pods is Ready", no_ready_endpoints),
    Condition("pods-refused", ERROR, "a ReplicaSet may not make its pods (quota, service account, admission)", create_refused),
    Condition("rollout-stuck", ERROR, "a rollout exceeded its deadline", progress),
    Condition("service-account-missing", ERROR, "a namespace has no default service account", default_account),
    Condition("namespace-stuck", WARNING, "a namespace does not go away", namespace_stuck),
    Condition("budget-blocks-drain", WARNING, "a PodDisruptionBudget allows no disruption at all", budget_blocks),
    Condition("quota-used-up", WARNING, "a ResourceQuota is used up", quota_full),
)
