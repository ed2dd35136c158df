"""Each condition named in a cluster that is broken so, and none in one that is whole."""

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kubette.cli.doctor import conditions, finding, report
from kubette.cli.doctor.facts import Certificate, Container, Etcd, Facts, File, Machine, Manifest

from . import healthy
from .healthy import NOW, PKI, certificate, obj, pod, stamp, waiting

Break = Callable[[Facts], Facts]


def on(index: int, **changes: Any) -> Break:
    """A machine with other attributes: 0 is the control plane, 1 the worker."""

    def broken(facts: Facts) -> Facts:
        machines = list(facts.machines)
        machines[index] = replace(machines[index], **{k: v(machines[index]) if callable(v) else v for k, v in changes.items()})
        return replace(facts, machines=tuple(machines))

    return broken


def flag(component: str, name: str, value: str) -> Break:
    """Another value of a flag, in the manifest's command line."""

    def commands(machine: Machine) -> dict[str, tuple[str, ...]]:
        kept = [word for word in machine.commands[component] if not word.startswith(f"--{name}=")]
        return {**machine.commands, component: (*kept, f"--{name}={value}")}

    return on(0, commands=commands)


def unit(index: int, name: str, **properties: str) -> Break:
    return on(index, units=lambda m: {**m.units, name: {**healthy.running(name), **properties}})


def file(index: int, path: str, text: str = "x", mode: int = 0o600) -> Break:
    return on(index, files=lambda m: {**m.files, path: File(text, mode)})


def without(index: int, path: str) -> Break:
    return on(index, files=lambda m: {p: f for p, f in m.files.items() if p != path})


def certified(path: str, **changes: Any) -> Break:
    """Another certificate at that path (a new one where there was none)."""

    def certificates(machine: Machine) -> tuple[Certificate, ...]:
        old = next((c for c in machine.certificates if c.path == path), certificate(path, f"{PKI}/ca.crt", "a key"))
        return (*(c for c in machine.certificates if c.path != path), replace(old, **changes))

    return on(0, certificates=certificates)


def listed(resource: str, *added: dict[str, Any], keep: bool = True) -> Break:
    return lambda facts: replace(facts, objects={**(facts.objects or {}), resource: [*(facts.listed(resource) if keep else []), *added]})


def changed(resource: str, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Break:
    return lambda facts: listed(resource, *(change(o) if o["metadata"]["name"] == name else o for o in facts.listed(resource)), keep=False)(facts)


def status(resource: str, name: str, **values: Any) -> Break:
    return changed(resource, name, lambda o: {**o, "status": {**o.get("status", {}), **values}})


def spec(resource: str, name: str, **values: Any) -> Break:
    return changed(resource, name, lambda o: {**o, "spec": {**o.get("spec", {}), **values}})


def container(name: str, state: str, attempt: int, *log: str) -> Break:
    changed_one = Container(name, f"{name}-controlplane", "kube-system", state, attempt, log)
    return on(0, containers=lambda m: (*(c for c in m.containers if c.name != name), changed_one))


def both(*breaks: Break) -> Break:
    def broken(facts: Facts) -> Facts:
        for one in breaks:
            facts = one(facts)
        return facts

    return broken


def etcd(count: int, answering: int, **rest: Any) -> Break:
    named = tuple({"ID": n, "name": f"m{n}", "clientURLs": [f"https://m{n}:2379"]} for n in range(count))
    statuses = tuple({"Endpoint": "", "Status": {"header": {"member_id": n}, "dbSize": 1}} for n in range(answering))
    return on(0, etcd=replace(Etcd(named, statuses), **rest))


def manifest(component: str, **changes: Any) -> Break:
    def manifests(machine: Machine) -> tuple[Manifest, ...]:
        return tuple(replace(m, **changes) if m.path.endswith(f"/{component}.yaml") else m for m in machine.manifests)

    return on(0, manifests=manifests)


def image_of(component: str, image: str) -> Break:
    made = healthy.manifest(component, healthy.FLAGS[component])
    assert made.document is not None
    document = {**made.document, "spec": {"containers": [{**made.container, "image": image}]}}
    return manifest(component, document=document)


def image_tag(component: str, tag: str) -> Break:
    return spec("pods", f"{component}-controlplane", containers=[{"name": component, "image": f"registry.k8s.io/{component}:{tag}"}])


def quick_event(reason: str, message: str, about: dict[str, Any]) -> Break:
    metadata = about["metadata"]
    involved = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
    return listed("events", obj("e", metadata["namespace"], reason=reason, message=message, involvedObject=involved, lastTimestamp=stamp(3)))


def deleted(one: dict[str, Any], ago_s: float, **metadata: Any) -> dict[str, Any]:
    return {**one, "metadata": {**one["metadata"], "deletionTimestamp": stamp(ago_s), **metadata}}


def pending(message: str = "", **rest: Any) -> dict[str, Any]:
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}] if message else []
    return obj("p", "default", spec={"containers": [], **rest}, status={"phase": "Pending", "conditions": conditions})


def webhook(service: str) -> dict[str, Any]:
    config = {"service": {"namespace": "default", "name": service}}
    return obj("policy", webhooks=[{"name": "policy.example.com", "clientConfig": config, "failurePolicy": "Fail"}])


def token(expires_ago_s: float) -> dict[str, Any]:
    data = {"token-id": "abcdef", "expiration": stamp(expires_ago_s)}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return obj("bootstrap-token-abcdef", "kube-system", type="bootstrap.kubernetes.io/token", data=encoded)


FAILED = {"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code", "ExecMainStatus": "1"}
WEB = pod("broken", labels={"app": "broken"})
NO_API: Break = lambda facts: replace(facts, objects=None, api_error="dial tcp 127.0.0.1:6443: connect: connection refused")  # noqa: E731

# Condition, what was done to the cluster, and words that its finding must have.
STORIES: list[tuple[str, Break, str]] = [
    ("cluster-stopped", lambda facts: replace(facts, is_running=False, objects=None), "kubette up"),
    ("machine-off", on(1, state="off", reason="killed"), "kubette machine start node01"),
    ("machine-off", on(1, state="paused"), "kubette machine resume node01"),
    ("node-not-joined", without(1, "/etc/kubernetes/kubelet.conf"), "kubeadm token create --print-join-command"),
    (
        "kubelet-config-invalid",
        both(
            unit(1, "kubelet", **FAILED),
            on(
                1,
                journals={"kubelet": ('E1123 02:53:46.1 3 run.py] "command failed" err="failed to load kubelet config file, path: /x, error: bad"',)},
            ),
        ),
        "failed to load kubelet config file, path: /x, error: bad",
    ),
    (
        "kubelet-flag-unknown",
        both(unit(1, "kubelet", **FAILED), on(1, journals={"kubelet": ("Error: unknown flag: --kontainer-runtime",)})),
        "unknown flag: --kontainer-runtime",
    ),
    ("kubelet-not-running", unit(1, "kubelet", ActiveState="inactive", SubState="dead"), "systemctl start kubelet"),
    ("container-runtime-not-running", unit(1, "containerd", ActiveState="inactive", SubState="dead"), "systemctl start containerd"),
    (
        "unit-not-running",
        both(unit(0, "etcd", **FAILED), on(0, journals={"etcd": ('E1 x] "no" err="listen tcp 0.0.0.0:2379: bind: address already in use"',)})),
        "etcd.service: Active: activating",
    ),
    ("unit-file-changed", unit(1, "kubelet", NeedDaemonReload="yes"), "systemctl daemon-reload && systemctl restart kubelet"),
    ("unit-disabled", unit(1, "kubelet", UnitFileState="disabled"), "systemctl enable kubelet"),
    (
        "static-pod-path-wrong",
        file(0, "/var/lib/kubelet/config.yaml", "clusterDNS:\n- 10.96.0.10\nstaticPodPath: /etc/just\n"),
        'staticPodPath: "/etc/just"',
    ),
    ("kubelet-cluster-dns-wrong", file(1, "/var/lib/kubelet/config.yaml", "clusterDNS:\n- 10.96.0.100\n"), "10.96.0.100"),
    ("manifest-unparsable", manifest("etcd", error="did not find expected key, line 5"), "line 5"),
    ("manifest-unknown-field", manifest("etcd", unknown=("spec.hostNetwrk",)), 'unknown field "spec.hostNetwrk"'),
    (
        "manifest-missing",
        on(0, manifests=lambda m: tuple(x for x in m.manifests if "scheduler" not in x.path)),
        "kubeadm init phase control-plane scheduler",
    ),
    (
        "static-pod-image-not-found",
        both(
            image_of("kube-scheduler", "registry.k8s.io/kube-sheduler:v1.37.0"),
            on(0, journals={"kubelet": ('E1] "PullImage from image service failed" err="not found" image="registry.k8s.io/kube-sheduler:v1.37.0"',)}),
            on(0, containers=lambda m: tuple(c for c in m.containers if c.name != "kube-scheduler")),
        ),
        'did you mean "kube-scheduler"?',
    ),
    (
        "component-flag-invalid",
        both(
            flag("kube-scheduler", "leader-elekt", "true"),
            container("kube-scheduler", "CONTAINER_EXITED", 3, "Error: unknown flag: --leader-elekt", "See 'kube-scheduler --help' for usage."),
            on(0, programs={"kube-scheduler": ("leader-elect", "kubeconfig")}),
        ),
        'did you mean "leader-elect"?',
    ),
    ("component-file-missing", flag("kube-apiserver", "etcd-certfile", f"{PKI}/apiserver-etcd-klient.crt"), "apiserver-etcd-client.crt"),
    (
        "component-volume-missing",
        both(file(0, "/etc/encryption/config.yaml"), flag("kube-apiserver", "encryption-provider-config", "/etc/encryption/config.yaml")),
        "no hostPath volume",
    ),
    (
        "static-pod-crash-loop",
        container(
            "kube-apiserver", "CONTAINER_EXITED", 4, 'E1123 02:53:46.136731       3 run.py] "command failed" err="bind: address already in use"'
        ),
        "bind: address already in use",
    ),
    ("apiserver-etcd-endpoint-wrong", flag("kube-apiserver", "etcd-servers", "https://127.0.0.1:2389"), "https://127.0.0.1:2389"),
    ("apiserver-etcd-endpoint-wrong", flag("kube-apiserver", "etcd-servers", "http://127.0.0.1:2379"), "must begin with https://"),
    ("admission-plugin-disabled", flag("kube-apiserver", "disable-admission-plugins", "ServiceAccount"), "no token"),
    ("authorization-mode-wrong", flag("kube-apiserver", "authorization-mode", "AlwaysAllow"), "everybody"),
    ("authorization-mode-wrong", flag("kube-apiserver", "authorization-mode", "Node"), "Forbidden"),
    ("controllers-disabled", flag("kube-controller-manager", "controllers", "*,-replicaset-controller"), "replicaset-controller"),
    ("certificate-expired", certified(f"{PKI}/apiserver.crt", not_after=NOW - 5), "certificate has expired or is not yet valid"),
    ("certificate-expired", certified(f"{PKI}/apiserver.crt", not_before=NOW + 500), "is before"),
    ("certificate-expiring", certified(f"{PKI}/apiserver.crt", not_before=NOW - 300 * 86400, not_after=NOW + 3 * 86400), "in 3 days"),
    ("certificate-signer-wrong", certified(f"{PKI}/apiserver-etcd-client.crt", signer=f"{PKI}/ca.crt"), f"not by {PKI}/etcd/ca.crt"),
    (
        "certificate-not-trusted",
        flag("kube-apiserver", "etcd-cafile", f"{PKI}/ca.crt"),
        "does not know the CA that signed etcd's serving certificate",
    ),
    ("certificate-not-trusted", flag("kube-apiserver", "etcd-certfile", f"{PKI}/apiserver.crt"), "etcd does not know the CA"),
    ("certificate-key-mismatch", on(0, keys=lambda m: {**m.keys, f"{PKI}/apiserver.key": "another"}), "private key does not match public key"),
    ("service-account-key-mismatch", on(0, keys=lambda m: {**m.keys, f"{PKI}/sa.pub": "another"}), "Unauthorized"),
    ("apiserver-certificate-names", certified(f"{PKI}/apiserver.crt", names=("kubernetes.default.svc",)), "not 192.168.56.11"),
    ("key-permissions", file(0, f"{PKI}/ca.key", "key", 0o644), "chmod 600"),
    ("kubeconfig-server-wrong", file(1, "/etc/kubernetes/kubelet.conf", healthy.KUBECONFIG.replace("6443", "6444")), "https://192.168.56.11:6444"),
    ("kubeconfig-ca-mismatch", certified("/etc/kubernetes/kubelet.conf (certificate authority)", key="another"), "signed by unknown authority"),
    ("kubeconfig-client-unknown", certified("/etc/kubernetes/admin.conf (client certificate)", signer=""), "Unauthorized"),
    ("etcd-unavailable", on(0, etcd=Etcd(error="context deadline exceeded")), "context deadline exceeded"),
    (
        "etcd-unavailable",
        both(
            on(0, etcd=Etcd(error="context deadline exceeded")),
            flag("etcd", "initial-cluster", "a=https://1:2380,b=https://2:2380,c=https://3:2380"),
        ),
        "1 of 3 members run, and a majority is 2",
    ),
    ("etcd-data-dir-wrong", on(0, folders={}), "no such directory"),
    ("etcd-data-dir-wrong", both(on(0, folders={"/var/lib/etcd": File("", 0o700)}, etcd=Etcd(error="x"))), "it is empty"),
    ("etcd-data-dir-wrong", on(0, folders={"/var/lib/etcd": File("member", 0o755)}), "Mode is 0755"),
    ("etcd-data-dir-wrong", unit(0, "etcd", User="etcd"), "chown -R etcd:etcd /var/lib/etcd"),
    ("etcd-alarm", etcd(1, 1, alarms=("memberID:1 alarm:NOSPACE ",)), "etcdctl alarm disarm"),
    ("etcd-member-unreachable", etcd(3, 2), "2 of 3 voting members answer, 2 must: 0 more may be lost"),
    (
        "etcd-member-unstarted",
        etcd(1, 1, members=({"ID": 0, "name": "m0"}, {"ID": 255, "name": "", "peerURLs": ["https://x:2380"]})),
        "etcdctl member remove ff",
    ),
    (
        "etcd-learner-not-promoted",
        etcd(1, 1, members=({"ID": 0, "name": "m0"}, {"ID": 10, "name": "b", "isLearner": True})),
        "etcdctl member promote a",
    ),
    ("etcd-members-even", etcd(2, 2), "survive the loss of 0"),
    ("etcd-near-quota", flag("etcd", "quota-backend-bytes", "1100000"), "1100000"),
    ("apiserver-unreachable", NO_API, "connection refused"),
    (
        "join-refused",
        on(1, journals={"x": ("error: cluster CA found in cluster-info ConfigMap is invalid: none of the public keys are pinned",)}),
        "none of the public",
    ),
    ("leader-lost", spec("leases", "kube-scheduler", renewTime=stamp(90)), "not renewed for 90 s"),
    ("leader-lost", listed("leases", keep=False), "no lost node is noticed"),
    ("component-version-skew", image_tag("kube-scheduler", "v1.35.0"), "at most one minor version older"),
    ("component-version-skew", both(lambda f: replace(f, version="v1.36.0"), image_tag("kube-scheduler", "v1.37.0")), "must not be newer"),
    (
        "apiserver-version-skew",
        listed("pods", pod("kube-apiserver-b", "kube-system", image="r/kube-apiserver:v1.35.0", labels={"component": "kube-apiserver"})),
        "within one minor",
    ),
    ("kubelet-version-skew", status("nodes", "node01", nodeInfo={"kubeletVersion": "v1.38.0"}), "must not be newer"),
    ("kubelet-version-skew", status("nodes", "node01", nodeInfo={"kubeletVersion": "v1.33.1"}), "at most 3 minor versions older"),
    (
        "kube-proxy-version-skew",
        spec("pods", "kube-proxy-node01", containers=[{"image": "registry.k8s.io/kube-proxy:v1.33.0"}]),
        "kube-proxy v1.33.0",
    ),
    (
        "apiservice-unavailable",
        listed(
            "apiservices",
            obj("v1.x", status={"conditions": [{"type": "Available", "status": "False", "reason": "MissingEndpoints", "message": "no"}]}),
        ),
        "MissingEndpoints",
    ),
    ("webhook-unavailable", listed("validatingwebhookconfigurations", webhook("policy")), 'service "policy" not found'),
    ("webhook-unavailable", listed("mutatingwebhookconfigurations", webhook("web")), "no endpoints available"),
    (
        "csr-pending",
        listed("certificatesigningrequests", obj("jane", spec={"username": "admin", "signerName": "kubernetes.io/kube-apiserver-client"})),
        "kubectl certificate approve jane",
    ),
    ("bootstrap-token-expired", listed("secrets", token(60)), 'token ID "abcdef"'),
    ("node-missing", listed("nodes", healthy.node("controlplane"), keep=False), 'nodes "node01" not found'),
    (
        "node-not-ready",
        status("nodes", "node01", conditions=[{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]),
        "NodeStatusUnknown",
    ),
    (
        "node-pressure",
        status(
            "nodes",
            "node01",
            conditions=[{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True", "reason": "KubeletHasDiskPressure"}],
        ),
        "KubeletHasDiskPressure",
    ),
    ("node-without-pod-cidr", spec("nodes", "node01", podCIDR=""), "podCIDR"),
    ("node-cordoned", spec("nodes", "node01", unschedulable=True), "kubectl uncordon node01"),
    ("dns-down", spec("deployments", "coredns", replicas=0), "scaled to 0"),
    ("dns-down", listed("deployments", keep=False), 'deployments.apps "coredns" not found'),
    ("dns-down", status("deployments", "coredns", availableReplicas=0), "do not become Ready"),
    ("kube-proxy-missing", listed("daemonsets", keep=False), 'daemonsets.apps "kube-proxy" not found'),
    ("kube-proxy-missing", changed("pods", "kube-proxy-node01", lambda o: {**o, "metadata": {**o["metadata"], "labels": {}}}), "node/node01"),
    ("service-selects-nothing", spec("services", "web", selector={"app": "wbe"}), 'did you mean "app=web"?'),
    ("service-target-port-wrong", spec("services", "web", ports=[{"port": 80, "targetPort": 8080}]), "listen on 80"),
    ("service-target-port-wrong", spec("services", "web", ports=[{"port": 80, "targetPort": "htp"}]), 'did you mean "http"?'),
    ("service-without-endpoints", status("pods", "web-1", conditions=[{"type": "Ready", "status": "False"}]), "none of them is Ready"),
    (
        "pods-refused",
        listed(
            "replicasets",
            obj(
                "r",
                "default",
                spec={"replicas": 2},
                status={"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: q"}]},
            ),
        ),
        "ResourceQuota is used up",
    ),
    (
        "rollout-stuck",
        status(
            "deployments",
            "coredns",
            conditions=[{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}],
        ),
        "kubectl rollout undo",
    ),
    ("service-account-missing", listed("serviceaccounts", obj("default", "kube-system"), keep=False), "default/default"),
    (
        "namespace-stuck",
        listed(
            "namespaces",
            deleted(
                obj(
                    "old",
                    status={"phase": "Terminating", "conditions": [{"type": "NamespaceFinalizersRemaining", "status": "True", "message": "x in 1"}]},
                ),
                90,
            ),
        ),
        "x in 1",
    ),
    (
        "budget-blocks-drain",
        listed(
            "poddisruptionbudgets",
            obj("web", "default", spec={"minAvailable": 2}, status={"expectedPods": 2, "currentHealthy": 2, "desiredHealthy": 2}),
        ),
        "minAvailable 2 of 2 pods",
    ),
    ("quota-used-up", listed("resourcequotas", obj("q", "default", status={"hard": {"pods": "2"}, "used": {"pods": "2"}})), "pods: used 2 of 2"),
    ("pod-unschedulable", listed("pods", pending("0/2 nodes are available: 2 Insufficient cpu.")), "no node has as much cpu"),
    ("pod-unschedulable", listed("pods", pending("0/2 nodes are available: 2 node(s) had untolerated taint {team: blue}.")), "the taint team"),
    ("pod-not-noticed", listed("pods", pending()), "no scheduler is at work"),
    ("pod-not-noticed", listed("pods", pending(schedulerName="mine")), '"mine"'),
    ("pod-image-not-found", listed("pods", waiting(pod("x", image="ngnix"), "ImagePullBackOff", "not found")), 'did you mean "nginx"?'),
    (
        "pod-crash-loop",
        listed("pods", waiting(WEB, "CrashLoopBackOff", lastState={"terminated": {"exitCode": 127, "reason": "Error"}}, restartCount=4)),
        "the command was not found; it was started 5 times",
    ),
    (
        "pod-crash-loop",
        listed("pods", waiting(WEB, "CrashLoopBackOff", lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})),
        "more memory than its limit",
    ),
    (
        "pod-config-missing",
        both(
            listed("configmaps", obj("settings", "default")),
            listed("pods", waiting(WEB, "CreateContainerConfigError", 'configmap "setings" not found')),
        ),
        'did you mean "settings"?',
    ),
    (
        "pod-volume-missing",
        both(listed("pods", waiting(WEB, "ContainerCreating")), quick_event("FailedMount", 'secret "tls" not found', WEB)),
        'FailedMount: secret "tls" not found',
    ),
    (
        "pod-not-ready",
        both(
            listed("pods", {**WEB, "status": {**WEB["status"], "conditions": [{"type": "Ready", "status": "False"}]}}),
            quick_event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404", WEB),
        ),
        "statuscode: 404",
    ),
    ("pod-liveness-failing", both(listed("pods", WEB), quick_event("Unhealthy", "Liveness probe failed: refused", WEB)), "Liveness probe failed"),
    ("pod-stuck-terminating", listed("pods", deleted(pod("x"), 100, finalizers=["example.com/hold"])), "example.com/hold"),
    ("claim-pending", listed("persistentvolumeclaims", obj("data", "default", spec={}, status={"phase": "Pending"})), "no storage class"),
]


def found(facts: Facts) -> list[finding.Finding]:
    return finding.examine(facts, conditions.TABLE)


def test_a_healthy_cluster_yields_nothing() -> None:
    assert found(healthy.facts()) == []
    assert (
        report.text("kubette", [], len(conditions.TABLE)) == f'Cluster "kubette": nothing is wrong ({len(conditions.TABLE)} conditions looked for).'
    )


@pytest.mark.parametrize(("condition", "broken", "words"), STORIES, ids=[f"{index}-{story[0]}" for index, story in enumerate(STORIES)])
def test_what_is_broken_is_named(condition: str, broken: Break, words: str) -> None:
    findings = [one for one in found(broken(healthy.facts())) if one.id == condition]
    assert findings
    assert any(words in f"{one.what}\n{one.why}\n{one.remedy}\n{one.where}" for one in findings), findings
    assert all(one.where and one.what and one.why and one.remedy for one in findings)


def test_every_condition_has_a_story_and_a_name_of_its_own() -> None:
    known = [condition.id for condition in conditions.TABLE]
    assert len(known) == len(set(known))
    assert {story[0] for story in STORIES} == set(known)


def test_causes_stand_before_effects_and_errors_before_warnings() -> None:
    broken = both(unit(1, "kubelet", UnitFileState="disabled"), NO_API, flag("kube-apiserver", "etcd-servers", "https://127.0.0.1:2389"))
    assert [one.id for one in found(broken(healthy.facts()))] == ["apiserver-etcd-endpoint-wrong", "apiserver-unreachable", "unit-disabled"]


def test_without_an_api_server_nothing_is_said_about_objects() -> None:
    assert {one.id for one in found(NO_API(healthy.facts()))} == {"apiserver-unreachable"}
