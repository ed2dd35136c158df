"""Pure: nodes as the API server knows them, and the addons every node relies on."""

from collections.abc import Iterator

from kubette.cli.doctor import reading
from kubette.cli.doctor.facts import Facts, Object
from kubette.cli.doctor.finding import ERROR, WARNING, Condition, Seen

_PRESSURES = {
    "MemoryPressure": "the kubelet evicts pods, those over their memory requests first",
    "DiskPressure": "the kubelet deletes images and evicts pods until there is room",
    "PIDPressure": "too many processes: new pods are refused",
    "NetworkUnavailable": "no route leads to its pods",
}
STARTING_S = 20.0  # a pod, a DaemonSet's or a namespace's first moments


def _machine(facts: Facts, name: str) -> bool:
    """Whether that machine has power."""
    return any(machine.name == name for machine in facts.powered)


def not_ready(facts: Facts) -> Iterator[Seen]:
    for node in facts.listed("nodes"):
        name, ready = reading.name(node), reading.condition(node, "Ready")
        if ready.get("status") == "True":
            continue
        what = f"NotReady: {ready.get('reason', 'no condition')}: {ready.get('message', 'the kubelet has not reported yet')}"
        if ready.get("status") == "Unknown":
            why = "its kubelet has stopped renewing its lease: after 5 minutes its pods are replaced elsewhere"
            remedy = f"kubette ssh {name} -- systemctl status kubelet" if _machine(facts, name) else f"kubette machine start {name}"
        else:
            why = "its kubelet is alive and says why it cannot take pods"
            remedy = f"kubectl describe node {name}; kubette logs {name} kubelet"
        yield Seen(f"node/{name}", what, why, remedy)


def missing(facts: Facts) -> Iterator[Seen]:
    """A machine with an identity whose Node is not there."""
    known = {reading.name(node) for node in facts.listed("nodes")}
    for machine in facts.powered if facts.objects is not None else ():
        joined = "/etc/kubernetes/kubelet.conf" in machine.files or "/var/lib/kubelet/kubeconfig" in machine.files
        if joined and machine.name not in known:
            why = "the Node was deleted, or its kubelet cannot reach the API server; a kubelet registers its node when it starts"
            yield Seen(machine.name, f'nodes "{machine.name}" not found', why, "systemctl restart kubelet; journalctl -u kubelet -n 20")


def cordoned(facts: Facts) -> Iterator[Seen]:
    for node in facts.listed("nodes"):
        if (node.get("spec") or {}).get("unschedulable"):
            name = reading.name(node)
            why = "it was cordoned or drained: what runs on it goes on, nothing new is put there"
            yield Seen(
                f"node/{name}",
                "Ready,SchedulingDisabled" if reading.condition(node, "Ready").get("status") == "True" else "SchedulingDisabled",
                why,
                f"kubectl uncordon {name}",
            )


def pressure(facts: Facts) -> Iterator[Seen]:
    for node in facts.listed("nodes"):
        for kind, why in _PRESSURES.items():
            condition = reading.condition(node, kind)
            if condition.get("status") == "True":
                name = reading.name(node)
                yield Seen(f"node/{name}", f"{kind}: {condition.get('reason')}: {condition.get('message')}", why, f"kubectl describe node {name}")


def pod_cidr(facts: Facts) -> Iterator[Seen]:
    for node in facts.listed("nodes"):
        if not (node.get("spec") or {}).get("podCIDR") and reading.age_s(node, facts.now) > STARTING_S:
            name = reading.name(node)
            why = "kube-controller-manager gives each node its range of pod addresses: it is down, or --allocate-node-cidrs and --cluster-cidr are not set"
            yield Seen(f"node/{name}", "spec.podCIDR is not set", why, "ps -aux | grep kube-controller-manager")


def dns_down(facts: Facts) -> Iterator[Seen]:
    if facts.objects is None:
        return
    what, why = "", ""
    deployment = next((d for d in facts.listed("deployments") if reading.name(d) == "kube-system/coredns"), None)
    service = next((s for s in facts.listed("services") if reading.name(s) == "kube-system/kube-dns"), None)
    remedy = "kubectl -n kube-system describe deployment coredns"
    if service is None:
        what, why, remedy = 'services "kube-dns" not found', "pods ask an address that nobody has", "kubeadm init phase addon coredns"
    elif deployment is None:
        what, why, remedy = 'deployments.apps "coredns" not found', "the addon is not installed", "kubeadm init phase addon coredns"
    elif (deployment.get("spec") or {}).get("replicas", 1) == 0:
        what, why, remedy = "coredns 0/0", "it was scaled to 0", "kubectl -n kube-system scale deployment coredns --replicas=2"
    elif not (deployment.get("status") or {}).get("availableReplicas") and reading.age_s(deployment, facts.now) > STARTING_S:
        what, why = f"coredns 0/{deployment['spec'].get('replicas', 1)} available", "its pods do not become Ready"
    if what:
        yield Seen("kube-system/coredns", what, f"{why}: no name of a Service is resolved in any pod", remedy)


def proxy_missing(facts: Facts) -> Iterator[Seen]:
    if facts.objects is None or facts.style != "kubeadm":
        return
    if not any(reading.name(d) == "kube-system/kube-proxy" for d in facts.listed("daemonsets")):
        why = "Services have no rules: their addresses lead nowhere (unless something else does kube-proxy's work)"
        yield Seen("kube-system/kube-proxy", 'daemonsets.apps "kube-proxy" not found', why, "kubeadm init phase addon kube-proxy")
        return
    running = {
        (p.get("spec") or {}).get("nodeName") for p in facts.listed("pods") if _is_proxy(p) and (p.get("status") or {}).get("phase") == "Running"
    }
    for node in facts.listed("nodes"):
        name = reading.name(node)
        is_old = reading.age_s(node, facts.now) > STARTING_S
        if name not in running and is_old and reading.condition(node, "Ready").get("status") == "True" and _machine(facts, name):
            why = "no kube-proxy runs there: from this node no Service can be reached; the DaemonSet's node selector or its pod's state says why"
            yield Seen(
                f"node/{name}",
                "kube-proxy: no running pod",
                why,
                "kubectl -n kube-system get daemonset kube-proxy; kubectl -n kube-system describe daemonset kube-proxy",
            )


def _is_proxy(pod: Object) -> bool:
    return bool((pod["metadata"].get("labels") or {}).get("k8s-app") == "kube-proxy" and pod["metadata"].get("namespace") == "kube-system")


CONDITIONS = (
    Condition("node-missing", ERROR, "a machine that has joined is no node", missing),
    Condition("node-not-ready", ERROR, "a node is NotReady", not_ready),
    Condition("node-pressure", ERROR, "a node is short of memory, disk, processes or network", pressure),
    Condition("node-without-pod-cidr", ERROR, "a node has no range of pod addresses", pod_cidr),
    Condition("node-cordoned", WARNING, "a node is cordoned", cordoned),
    Condition("dns-down", ERROR, "the cluster's DNS is missing, scaled to 0 or not available", dns_down),
    Condition("kube-proxy-missing", ERROR, "no kube-proxy runs on a node", proxy_missing),
)
