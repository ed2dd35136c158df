"""Pure: why a pod does not run, read off its status, its events and what it names."""

import re
from collections.abc import Iterator

from kubette.cli.doctor import reading
from kubette.cli.doctor.facts import CONTROL_PLANE, Facts, Object
from kubette.cli.doctor.finding import ERROR, WARNING, Condition, Seen

UNSCHEDULED_S = 10.0
_STUCK_S = 60.0
_EXIT_CODES = {
    1: "the program ended with an error of its own",
    2: "the program was called wrongly",
    126: "the command cannot be executed",
    127: "the command was not found",
    128: "the container could not be started",
    137: "it was killed: out of memory, or its liveness probe failed and it did not stop in time",
    139: "the program crashed (segmentation fault)",
    143: "it was asked to stop (SIGTERM), by its liveness probe for instance",
}
# The images learners type; what the cluster's own pods use is added.
_IMAGES = (
    "nginx",
    "busybox",
    "alpine",
    "httpd",
    "redis",
    "mysql",
    "postgres",
    "python",
    "node",
    "ubuntu",
    "debian",
    "memcached",
    "mongo",
    "rabbitmq",
)
_PHRASES = (
    (
        r"Insufficient (\S+?)[,.]",
        "no node has as much {0} left as the pod requests",
        "lower resources.requests, or make room: kubectl describe nodes",
    ),
    (
        r"untolerated taint\(?s?\)? \{?([^}:,]+)",
        "nodes have the taint {0} and the pod does not tolerate it",
        "kubectl describe nodes; add a toleration, or take the taint away",
    ),
    (
        r"didn't match Pod's node affinity/selector",
        "no node has the labels that nodeSelector or nodeAffinity ask for",
        "kubectl get nodes --show-labels",
    ),
    (r"were unschedulable", "nodes are cordoned", "kubectl get nodes; kubectl uncordon NODE"),
    (r"didn't have free ports", "the hostPort is taken on every node", "kubectl get pods -A -o wide"),
    (r"didn't match pod (?:anti-)?affinity rules", "pod affinity or anti-affinity leaves no node", "look at spec.affinity"),
    (r'persistentvolumeclaim "(\S+?)" not found', "the claim {0} does not exist", "kubectl get pvc; create it"),
    (r"unbound immediate PersistentVolumeClaims", "a claim has no volume yet", "kubectl get pvc; kubectl describe pvc"),
    (r"no nodes available", "the cluster has no node that takes pods", "kubectl get nodes"),
    (r"Too many pods", "every node has as many pods as it may have", "kubectl describe nodes"),
)


def _statuses(pod: Object) -> Iterator[Object]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def _waiting(facts: Facts) -> Iterator[tuple[Object, Object, Object]]:
    """Pod, container status, `state.waiting`."""
    for pod in facts.listed("pods"):
        for status in _statuses(pod):
            waiting = (status.get("state") or {}).get("waiting")
            if waiting:
                yield pod, status, waiting


def _where(pod: Object) -> str:
    return f"pod/{pod['metadata']['name']}{reading.in_namespace(pod)}"


def _describe(pod: Object) -> str:
    return f"kubectl describe pod {pod['metadata']['name']}{reading.in_namespace(pod)}"


def unschedulable(facts: Facts) -> Iterator[Seen]:
    for pod in facts.listed("pods"):
        scheduled = reading.condition(pod, "PodScheduled")
        if (pod.get("status") or {}).get("phase") == "Pending" and scheduled.get("reason") == "Unschedulable":
            message = str(scheduled.get("message") or "")
            decoded = [(why.format(*found.groups()), remedy) for pattern, why, remedy in _PHRASES if (found := re.search(pattern, message))]
            why = "; ".join(why for why, _ in decoded) or "no node passes the scheduler's filters"
            yield Seen(_where(pod), f"Pending: {message}", why, decoded[0][1] if decoded else _describe(pod))


def unnoticed(facts: Facts) -> Iterator[Seen]:
    """Nobody has tried to schedule it."""
    for pod in facts.listed("pods"):
        spec, status = pod.get("spec") or {}, pod.get("status") or {}
        is_tried = bool(reading.condition(pod, "PodScheduled"))
        if status.get("phase") == "Pending" and not spec.get("nodeName") and not is_tried and reading.age_s(pod, facts.now) > UNSCHEDULED_S:
            scheduler = spec.get("schedulerName", "default-scheduler")
            if spec.get("schedulingGates"):
                why, remedy = "it has scheduling gates: somebody must take them away", "look at spec.schedulingGates"
            elif scheduler != "default-scheduler":
                why, remedy = (
                    f'its schedulerName is "{scheduler}", and no scheduler of that name is at work',
                    "leave schedulerName out, or start that scheduler",
                )
            else:
                why, remedy = "no scheduler is at work, or none has come to it yet", "kubectl get pods -n kube-system | grep scheduler"
            yield Seen(_where(pod), "Pending, and no Scheduled or FailedScheduling event", why, remedy)


def image(facts: Facts) -> Iterator[Seen]:
    used = {str(s.get("image", "")).partition(":")[0] for p in facts.listed("pods") for s in _statuses(p) if (s.get("imageID") or "")}
    for pod, status, waiting in _waiting(facts):
        if waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"):
            wanted = str(status.get("image") or "")
            near = reading.near(wanted.partition(":")[0], {*_IMAGES, *used} - {wanted.partition(":")[0]})
            told = re.sub(r"^Back-off pulling image \S+: ", "", str(waiting.get("message") or ""))
            tag = ", or it has no such tag" if ":" in wanted else ""
            remedy = f"kubectl set image {_where(pod).partition(' ')[0]} {status['name']}=IMAGE{reading.in_namespace(pod)}, or in the object that made the pod"
            yield Seen(_where(pod), f"{waiting['reason']}: {told}", f'no image "{wanted}" can be pulled{tag}{near}', remedy)


def crash_loop(facts: Facts) -> Iterator[Seen]:
    for pod, status, waiting in _waiting(facts):
        name = pod["metadata"]["name"]
        if waiting.get("reason") not in ("CrashLoopBackOff", "RunContainerError", "StartError") or _is_control_plane(facts, pod):
            continue
        ended = (status.get("lastState") or {}).get("terminated") or {}
        code = int(ended.get("exitCode") or 0)
        message = " ".join(str(ended.get("message") or "").split())
        why = (
            _EXIT_CODES.get(code, "the program ends")
            if code
            else "the program ends by itself, and a pod's container is to run for ever (restartPolicy Always)"
        )
        if ended.get("reason") == "OOMKilled":
            why = "it used more memory than its limit"
        what = f"{waiting['reason']}: {status['name']} ended with exit code {code} ({ended.get('reason', 'unknown')})" + (
            f": {message}" if message else ""
        )
        remedy = f"kubectl logs {name} -c {status['name']} --previous{reading.in_namespace(pod)}"
        yield Seen(_where(pod), what, f"{why}; it was started {status.get('restartCount', 0) + 1} times", remedy)


def _is_control_plane(facts: Facts, pod: Object) -> bool:
    """Judged by its machine's files, which know more."""
    return facts.style == "kubeadm" and (pod["metadata"].get("labels") or {}).get("component") in CONTROL_PLANE


def config_error(facts: Facts) -> Iterator[Seen]:
    for pod, status, waiting in _waiting(facts):
        if waiting.get("reason") in ("CreateContainerConfigError", "CreateContainerError"):
            message = str(waiting.get("message") or "")
            found = re.search(r'(configmap|secret) "(\S+?)" not found', message)
            names = [reading.name(o) for o in facts.listed(f"{found[1]}s")] if found else []
            inside = [n.partition("/")[2] for n in names if n.startswith(f"{pod['metadata'].get('namespace')}/")]
            why = (
                f"container {status['name']} needs {found[1]} {found[2]}, which does not exist in its namespace{reading.near(found[2], inside)}"
                if found
                else message
            )
            yield Seen(_where(pod), f"{waiting['reason']}: {message}", why, _describe(pod))


def mount(facts: Facts) -> Iterator[Seen]:
    pending = {reading.name(pod): pod for pod, _, waiting in _waiting(facts) if waiting.get("reason") in ("ContainerCreating", "PodInitializing")}
    for event in facts.listed("events"):
        about = event.get("involvedObject") or {}
        pod = pending.get(f"{about.get('namespace')}/{about.get('name')}")
        if (
            pod
            and event.get("reason") in ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
            and about.get("uid") == pod["metadata"].get("uid")
        ):
            yield Seen(
                _where(pod),
                f"{event['reason']}: {event.get('message')}",
                "its containers wait for this, and it is tried again and again",
                _describe(pod),
            )


def not_ready(facts: Facts) -> Iterator[Seen]:
    probes = {}
    for event in facts.listed("events"):
        if event.get("reason") == "Unhealthy":
            probes[(event.get("involvedObject") or {}).get("uid")] = str(event.get("message") or "")
    for pod in facts.listed("pods"):
        ready = reading.condition(pod, "Ready")
        told = probes.get(pod["metadata"].get("uid"), "")
        is_running = (pod.get("status") or {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
        waits = any((status.get("state") or {}).get("waiting") for status in _statuses(pod))
        if is_running and ready.get("status") == "False" and told.startswith("Readiness probe") and not waits:
            yield Seen(_where(pod), f"Running, not Ready: {told}", "its readiness probe fails: no Service sends it requests", _describe(pod))


def restarting(facts: Facts) -> Iterator[Seen]:
    """Killed again and again by its liveness probe, and running meanwhile."""
    for event in facts.listed("events"):
        about = event.get("involvedObject") or {}
        recent = facts.now - reading.moment(event.get("lastTimestamp") or event.get("eventTime")) < _STUCK_S
        if (
            event.get("reason") == "Unhealthy"
            and recent
            and str(event.get("message")).startswith("Liveness probe failed")
            and about.get("namespace") != "kube-system"
        ):
            pod = next((p for p in facts.listed("pods") if p["metadata"].get("uid") == about.get("uid")), None)
            if pod:
                yield Seen(
                    _where(pod),
                    str(event["message"]),
                    "its liveness probe fails: the kubelet kills the container and starts it again",
                    _describe(pod),
                )


def stuck_terminating(facts: Facts) -> Iterator[Seen]:
    for pod in facts.listed("pods"):
        metadata = pod["metadata"]
        due = reading.moment(metadata.get("deletionTimestamp"))
        if due and facts.now - due > _STUCK_S / 2:
            node = (pod.get("spec") or {}).get("nodeName")
            ready = next((reading.condition(n, "Ready") for n in facts.listed("nodes") if reading.name(n) == node), {})
            if metadata.get("finalizers"):
                why, remedy = f"finalizers hold it: {', '.join(metadata['finalizers'])}", "whoever set them must take them away"
            elif ready.get("status") != "True":
                why = f"its node {node} is not Ready: only its kubelet can say that the containers have ended"
                remedy = f"start {node} again, or: kubectl delete pod {metadata['name']} --force{reading.in_namespace(pod)}"
            else:
                why, remedy = "its kubelet has not reported the end of its containers", f"kubette logs {node} kubelet"
            yield Seen(_where(pod), "Terminating", why, remedy)


def claim_pending(facts: Facts) -> Iterator[Seen]:
    for claim in facts.listed("persistentvolumeclaims"):
        if (claim.get("status") or {}).get("phase") == "Pending" and reading.age_s(claim, facts.now) > UNSCHEDULED_S:
            storage_class = (claim.get("spec") or {}).get("storageClassName")
            why = (
                f'no volume fits, and nobody provisions class "{storage_class}"'
                if storage_class
                else "it names no storage class, none is the default, and no volume fits"
            )
            name = f"{claim['metadata']['name']}{reading.in_namespace(claim)}"
            yield Seen(f"persistentvolumeclaim/{name}", "Pending", why, f"kubectl describe pvc {name}; kubectl get pv,storageclass")


CONDITIONS = (
    Condition("pod-unschedulable", ERROR, "a pod fits on no node", unschedulable),
    Condition("pod-not-noticed", ERROR, "no scheduler looks at a pod", unnoticed),
    Condition("pod-image-not-found", ERROR, "a pod's image cannot be pulled", image),
    Condition("pod-crash-loop", ERROR, "a container ends after each start", crash_loop),
    Condition("pod-config-missing", ERROR, "a container needs a ConfigMap or Secret that is not there", config_error),
    Condition("pod-volume-missing", ERROR, "a pod's volume or sandbox cannot be set up", mount),
    Condition("pod-not-ready", WARNING, "a pod's readiness probe fails", not_ready),
    Condition("pod-liveness-failing", WARNING, "a pod is killed by its liveness probe", restarting),
    Condition("pod-stuck-terminating", WARNING, "a pod does not go away", stuck_terminating),
    Condition("claim-pending", ERROR, "a claim finds no volume", claim_pending),
)
