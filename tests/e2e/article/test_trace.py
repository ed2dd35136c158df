"""Rows A07 and S01: the article's picture for one pod as it happened, by `kubette trace`; and what the scheduler writes, by the audit log."""

import json
import re
from typing import Any

import pytest

from harness import real_etcdctl
from harness.cluster import Cluster
from harness.eventually import eventually
from harness.kubectl import Kubectl

AUDIT_LOG = "/var/log/kubernetes/audit/audit.log"
PICTURE = ["asked for", "authenticated", "authorized", "admitted", "written", "noticed by the scheduler", "bound", "noticed by the kubelet"]
ON_THE_NODE = ["pulling", "pulled", "created", "started", "reported"]


def traced(cluster: Cluster, kubectl: Kubectl, target: str, last: str = "reported") -> dict[str, Any]:
    """The story, when it has got as far as `last`."""

    def tell() -> dict[str, Any]:
        return json.loads(cluster("trace", target, f"--namespace={kubectl.namespace}", "-o", "json"))  # type: ignore[no-any-return]

    return eventually(tell, lambda told: last in {step["step"] for step in told["steps"]}, 60, f"{target} is {last}")


@pytest.mark.needs("etcdctl")
def test_a07_one_pod_from_the_request_to_the_report(style: str, cluster: Cluster, kubectl: Kubectl) -> None:
    kubectl("run", "web", "--image=nginx")
    kubectl.wait("condition=Ready", "pod/web")
    told = traced(cluster, kubectl, "pod/web")
    names = [step["step"] for step in told["steps"]]
    assert [name for name in names if name in PICTURE] == PICTURE
    assert [name for name in names if name in ON_THE_NODE] in (ON_THE_NODE, ON_THE_NODE[1:])  # an image that is there is not pulled
    assert names.index("noticed by the kubelet") <= names.index("pulled")
    times = [step["time"] for step in told["steps"]]
    assert times == sorted(times)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time) for time in times)
    steps = {step["step"]: step for step in told["steps"]}
    assert f"POST /api/v1/namespaces/{kubectl.namespace}/pods by kubectl/" in steps["asked for"]["what"]
    assert steps["asked for"]["by"] == {"kubeadm": "kubernetes-admin", "systemd": "admin"}[style]
    assert "client certificate" in steps["authenticated"]["what"]
    assert steps["authorized"]["what"].startswith("allow: ")
    if style == "kubeadm":
        assert 'RBAC: allowed by ClusterRoleBinding "kubeadm:cluster-admins"' in steps["authorized"]["what"]
    assert "ServiceAccount: default, volume kube-api-access-" in steps["admitted"]["what"]
    assert steps["noticed by the scheduler"]["by"] == "system:kube-scheduler"
    assert re.search(r"by its watch of pods, open since \d", steps["noticed by the scheduler"]["what"])
    node = kubectl.jsonpath("{.spec.nodeName}", "pod", "web")
    assert steps["noticed by the kubelet"]["by"] == f"system:node:{node}"
    assert steps["bound"]["details"]["node"] == node
    assert f"address {kubectl.jsonpath('{.status.podIP}', 'pod', 'web')}" in steps["reported"]["what"]
    # etcd agrees: the pod came into being at that revision, and what was written later has a later index.
    real_etcdctl.install(cluster, "controlplane")
    key = f"/registry/pods/{kubectl.namespace}/web"
    (pair,) = json.loads(cluster.typed("controlplane", real_etcdctl.line(style, f"get {key} -w json")))["kvs"]
    written, bound = steps["written"]["details"], steps["bound"]["details"]
    assert (written["key"], written["revision"]) == (key, pair["create_revision"])
    assert written["revision"] < bound["revision"] < steps["reported"]["details"]["revision"] <= pair["mod_revision"]
    assert 0 < written["index"] < bound["index"] < steps["reported"]["details"]["index"]

    shown = cluster("trace", "pod/web", "-n", kubectl.namespace).splitlines()
    assert shown[2].split() == ["TIME", "MS", "STEP", "BY", "WHAT"]
    assert re.match(r"\d\d:\d\d:\d\d\.\d{6} +\+0\.0   asked for ", shown[3])
    refused = cluster.run("trace", "pod/nothing", "-n", kubectl.namespace)
    assert (refused.returncode, refused.stderr) == (1, 'error: pods "nothing" not found\n')


def test_a07_a_pod_of_a_deployment(style: str, cluster: Cluster, kubectl: Kubectl) -> None:
    del style
    kubectl("create", "deployment", "web", "--image=nginx")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    told = traced(cluster, kubectl, "deployment/web")
    names = [step["step"] for step in told["steps"]]
    assert names[:3] == ["deployment written", "replicaset written", "asked for"]
    steps = {step["step"]: step for step in told["steps"]}
    assert told["name"].startswith("web-")
    assert steps["replicaset written"]["by"] == "system:serviceaccount:kube-system:deployment-controller"
    assert steps["asked for"]["by"] == "system:serviceaccount:kube-system:replicaset-controller"
    assert 'RBAC: allowed by ClusterRoleBinding "system:controller:replicaset-controller"' in steps["authorized"]["what"]
    assert (
        steps["deployment written"]["details"]["revision"]
        < steps["replicaset written"]["details"]["revision"]
        < steps["written"]["details"]["revision"]
    )
    assert [name for name in names if name in PICTURE] == PICTURE
    # A pod whose story is not written down any more: the log was thrown away.
    pod = told["name"]
    cluster.typed("controlplane", f"cp {AUDIT_LOG} /root/audit.log && truncate -s 0 {AUDIT_LOG}")
    try:
        kubectl("create", "configmap", "later")
        refused = cluster.run("trace", pod, "-n", kubectl.namespace)
        assert refused.returncode == 1
        assert f"no audit record of the creation of pod/{pod} in namespace {kubectl.namespace}: it was created at " in refused.stderr
        assert ", and the audit log begins at " in refused.stderr
    finally:
        cluster.typed("controlplane", f"cat /root/audit.log >> {AUDIT_LOG} && rm /root/audit.log")


def test_s01_the_scheduler_writes_bindings_and_nothing_else_of_pods(style: str, cluster: Cluster, kubectl: Kubectl) -> None:
    del style
    kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    lines = cluster.typed("controlplane", f'grep \'"username":"system:kube-scheduler"\' {AUDIT_LOG}').splitlines()
    events = [event for event in map(json.loads, lines) if event["stage"] == "ResponseComplete" and event["verb"] not in ("get", "list", "watch")]
    did = {(event["verb"], "/".join(filter(None, (event["objectRef"]["resource"], event["objectRef"].get("subresource"))))) for event in events}
    assert ("create", "pods/binding") in did
    # Besides: that it could not place a pod yet is a condition of it; events; and who leads.
    assert did <= {("create", "pods/binding"), ("patch", "pods/status"), ("create", "events"), ("patch", "events")}
    bound = {
        event["objectRef"]["name"]
        for event in events
        if event["objectRef"].get("subresource") == "binding" and event["objectRef"]["namespace"] == kubectl.namespace
    }
    assert bound == {pod["metadata"]["name"] for pod in kubectl.json("get", "pods")["items"]}
