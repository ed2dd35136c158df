"""Pure: the API server's answer, who leads, and which versions stand side by side."""

import re
from collections.abc import Iterator

from kubette.api import releases
from kubette.cli.doctor import reading
from kubette.cli.doctor.facts import Facts, Object
from kubette.cli.doctor.finding import ERROR, WARNING, Condition, Seen

LEADERS = ("kube-controller-manager", "kube-scheduler")
_EFFECTS = {
    "kube-controller-manager": "no replica is made or replaced, no lost node is noticed, no endpoint is listed",
    "kube-scheduler": "new pods stay Pending without a node and without an event",
}


def apiserver_down(facts: Facts) -> Iterator[Seen]:
    if facts.is_running and facts.objects is None:
        states = []
        for machine in facts.control_planes:
            container = machine.container("kube-apiserver")
            unit = machine.units.get("kube-apiserver") or {}
            if container:
                states.append(f"{machine.name}: its container is {container.state.removeprefix('CONTAINER_').lower()} (attempt {container.attempt})")
            elif unit.get("LoadState") == "loaded":
                states.append(f"{machine.name}: its unit is {unit.get('ActiveState')}")
        why = "; ".join(states) or "no kube-apiserver was started: the kubelet or its manifest is the cause"
        remedy = (
            "look at the findings beside this one first; kubette ssh CONTROLPLANE -- crictl ps -a"
            if facts.style == "kubeadm"
            else "journalctl -u kube-apiserver -n 20"
        )
        yield Seen("kube-apiserver", facts.api_error, why, remedy)


def leader_lost(facts: Facts) -> Iterator[Seen]:
    leases = {reading.name(lease): lease.get("spec") or {} for lease in facts.listed("leases")}
    for name in LEADERS if facts.objects is not None else ():
        spec = leases.get(f"kube-system/{name}")
        limit = 2 * float((spec or {}).get("leaseDurationSeconds") or 15)
        renewed = reading.moment((spec or {}).get("renewTime"))
        if spec is not None and spec.get("holderIdentity") and facts.now - renewed <= limit:
            continue
        if spec is None:
            what = f'leases.coordination.k8s.io "{name}" not found'
        elif not spec.get("holderIdentity"):
            what = f"lease kube-system/{name}: holderIdentity is empty"
        else:
            what = f"lease kube-system/{name}: held by {spec['holderIdentity']}, not renewed for {int(facts.now - renewed)} s"
        where = f"crictl ps -a --name {name}; ls /etc/kubernetes/manifests" if facts.style == "kubeadm" else f"systemctl status {name}"
        yield Seen(name, what, f"no {name} is at work: {_EFFECTS[name]}", where)


def _version(text: str) -> releases.Release | None:
    try:
        return releases.parse(text)
    except ValueError:
        return None


def _image_tag(pod: Object) -> str:
    containers = (pod.get("spec") or {}).get("containers") or [{}]
    return str(containers[0].get("image", "")).rpartition(":")[2]


def component_skew(facts: Facts) -> Iterator[Seen]:
    apiserver = _version(facts.version)
    for pod in facts.listed("pods") if apiserver else ():
        component = (pod["metadata"].get("labels") or {}).get("component", "")
        version = _version(_image_tag(pod)) if component in LEADERS and pod["metadata"].get("namespace") == "kube-system" else None
        against = releases.component_skew(version, apiserver) if version and apiserver else ""
        if version and against:
            node = (pod.get("spec") or {}).get("nodeName") or "?"
            yield Seen(node, f"{component} {version} beside kube-apiserver {apiserver}", f"{component} {against}", "kubeadm upgrade plan")


def kubelet_skew(facts: Facts) -> Iterator[Seen]:
    apiserver = _version(facts.version)
    for node in facts.listed("nodes") if apiserver else ():
        version = _version(str(((node.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion") or ""))
        if version is None or apiserver is None:
            continue
        name, what = reading.name(node), f"kubelet {version} beside kube-apiserver {apiserver}"
        if releases.is_newer_line(version, apiserver):
            remedy = f"upgrade the control plane first (kubeadm upgrade apply {version}), or: apt-get install kubelet={str(apiserver)[1:]}-1.1"
            yield Seen(name, what, "kubelet must not be newer than kube-apiserver", remedy)
        elif releases.is_newer_line(releases.oldest_kubelet(apiserver), version):
            why = f"kubelet may be at most {releases.KUBELET_LINES_BEHIND} minor versions older than kube-apiserver"
            yield Seen(
                name,
                what,
                why,
                f"kubectl drain {name} --ignore-daemonsets; apt-get install kubelet; systemctl restart kubelet; kubectl uncordon {name}",
            )


def proxy_skew(facts: Facts) -> Iterator[Seen]:
    apiserver = _version(facts.version)
    for pod in facts.listed("pods") if apiserver else ():
        if (pod["metadata"].get("labels") or {}).get("k8s-app") != "kube-proxy":
            continue
        version = _version(_image_tag(pod))
        if (
            version
            and apiserver
            and (releases.is_newer_line(version, apiserver) or releases.is_newer_line(releases.oldest_kubelet(apiserver), version))
        ):
            what = f"kube-proxy {version} beside kube-apiserver {apiserver}"
            why = f"kube-proxy must not be newer than kube-apiserver and may be at most {releases.KUBELET_LINES_BEHIND} minor versions older"
            yield Seen(
                (pod.get("spec") or {}).get("nodeName") or "?",
                what,
                why,
                "kubectl -n kube-system set image daemonset/kube-proxy kube-proxy=registry.k8s.io/kube-proxy:" + str(apiserver),
            )


def apiservers_skew(facts: Facts) -> Iterator[Seen]:
    versions = {}
    for pod in facts.listed("pods"):
        if (pod["metadata"].get("labels") or {}).get("component") == "kube-apiserver" and (version := _version(_image_tag(pod))):
            versions[version] = (pod.get("spec") or {}).get("nodeName") or "?"
    if versions and max(versions).minor - min(versions).minor > 1:
        oldest, newest = min(versions), max(versions)
        what = f"kube-apiserver {oldest} on {versions[oldest]}, {newest} on {versions[newest]}"
        yield Seen(
            versions[oldest],
            what,
            "the newest and the oldest kube-apiserver must be within one minor version",
            f"kubeadm upgrade node on {versions[oldest]}",
        )


def apiservice_unavailable(facts: Facts) -> Iterator[Seen]:
    for service in facts.listed("apiservices"):
        condition = reading.condition(service, "Available")
        if condition.get("status") == "False":
            name = reading.name(service)
            why = "an API served by somebody else cannot be reached: kubectl warns, and namespaces cannot be deleted meanwhile"
            yield Seen(
                f"apiservice/{name}",
                f"{condition.get('reason')}: {condition.get('message')}",
                why,
                f"kubectl describe apiservice {name}; bring its Service up, or: kubectl delete apiservice {name}",
            )


def webhook_down(facts: Facts) -> Iterator[Seen]:
    services = {reading.name(s) for s in facts.listed("services")}
    backed = {
        f"{s['metadata'].get('namespace')}/{(s['metadata'].get('labels') or {}).get('kubernetes.io/service-name')}"
        for s in facts.listed("endpointslices")
        if any((e.get("conditions") or {}).get("ready") is not False for e in s.get("endpoints") or [])
    }
    for resource in ("validatingwebhookconfigurations", "mutatingwebhookconfigurations"):
        for configuration in facts.listed(resource):
            for webhook in configuration.get("webhooks") or []:
                service = (webhook.get("clientConfig") or {}).get("service")
                if service is None or webhook.get("failurePolicy", "Fail") != "Fail":
                    continue
                key = f"{service.get('namespace')}/{service.get('name')}"
                if key in services and key in backed:
                    continue
                told = (
                    f'service "{service.get("name")}" not found'
                    if key not in services
                    else f'no endpoints available for service "{service.get("name")}"'
                )
                what = f'Internal error occurred: failed calling webhook "{webhook.get("name")}": {told}'
                why = "its failurePolicy is Fail: every request its rules match is refused while nobody answers"
                remedy = f"bring the webhook's pods up, or: kubectl delete {resource} {reading.name(configuration)}"
                yield Seen(f"{resource}/{reading.name(configuration)}", what, why, remedy)


def csr_pending(facts: Facts) -> Iterator[Seen]:
    for csr in facts.listed("certificatesigningrequests"):
        conditions = (csr.get("status") or {}).get("conditions") or []
        # Approved at once when anybody approves it at all.
        if not conditions and reading.age_s(csr, facts.now) > 30:
            name, spec = reading.name(csr), csr.get("spec") or {}
            why = f"{spec.get('username')} asks {spec.get('signerName')} for a certificate, and nobody has approved or denied it"
            yield Seen(f"csr/{name}", "Pending", why, f"kubectl describe csr {name}; kubectl certificate approve {name}")


def token_expired(facts: Facts) -> Iterator[Seen]:
    import base64

    for secret in facts.listed("secrets"):
        data = secret.get("data") or {}
        if secret.get("type") != "bootstrap.kubernetes.io/token" or not data.get("expiration"):
            continue
        expiration = base64.b64decode(data["expiration"]).decode(errors="replace")
        if reading.moment(expiration) <= facts.now:
            identity = base64.b64decode(data.get("token-id", "")).decode(errors="replace")
            what = f"bootstrap token {identity} expired at {expiration}"
            why = f'kubeadm join with it fails: could not find a JWS signature in the cluster-info ConfigMap for token ID "{identity}"'
            yield Seen(f"secret/{secret['metadata']['name']}", what, why, "kubeadm token create --print-join-command")


def join_refused(facts: Facts) -> Iterator[Seen]:
    """What `kubeadm join` said on a machine, as far as its bring-up log or journal has it."""
    for machine in facts.powered:
        for line in (line for lines in machine.journals.values() for line in lines):
            if found := re.search(r"cluster CA found in cluster-info ConfigMap is invalid.*|could not find a JWS signature.*", line):
                why = "the join line's --discovery-token-ca-cert-hash or --token is not this cluster's"
                yield Seen(machine.name, found[0], why, "on a control plane: kubeadm token create --print-join-command")
                break


CONDITIONS = (
    Condition("apiserver-unreachable", ERROR, "the API server does not answer", apiserver_down),
    Condition("join-refused", ERROR, "kubeadm join was given a wrong hash or token", join_refused),
    Condition("leader-lost", ERROR, "no scheduler or no controller manager is at work", leader_lost),
    Condition(
        "component-version-skew", ERROR, "a controller manager or scheduler is of a version that does not go with the API server", component_skew
    ),
    Condition("apiserver-version-skew", ERROR, "API servers are more than one minor version apart", apiservers_skew),
    Condition("kubelet-version-skew", ERROR, "a kubelet is newer, or much older, than the API server", kubelet_skew),
    Condition("kube-proxy-version-skew", ERROR, "a kube-proxy is newer, or much older, than the API server", proxy_skew),
    Condition("apiservice-unavailable", ERROR, "an aggregated API cannot be reached", apiservice_unavailable),
    Condition("webhook-unavailable", ERROR, "requests are refused since a webhook does not answer", webhook_down),
    Condition("csr-pending", WARNING, "a certificate signing request waits for approval", csr_pending),
    Condition("bootstrap-token-expired", WARNING, "a bootstrap token has expired", token_expired),
)
