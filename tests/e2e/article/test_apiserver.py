"""Rows A01-A10: kube-apiserver, and the way of one pod through it. A11 (several of them) is in test_ha.py, A08 in test_units.py."""

import json
import re

import pytest

from harness import control_plane, real_etcdctl
from harness.cluster import Cluster
from harness.kubectl import Kubectl


def test_a01_a_read_is_asked_of_the_api_server_and_that_asks_etcd(style: str, cluster: Cluster) -> None:
    shown = cluster.kubectl.run("get", "nodes", "-v=8").stderr
    assert f"https://127.0.0.1:{cluster.api_port}/api/v1/nodes?limit=500" in shown
    assert re.search(r"200 OK|status=\"200", shown)
    with control_plane.stopped(cluster, style, "etcd"):
        said = cluster.kubectl.refused("get", "node", "node01", "--request-timeout=3s")
        assert "NAME" not in said
        assert "Ready" not in said
        assert cluster.kubectl.run("get", "--raw", "/livez/ping").stdout == "ok"  # it is not the API server that is gone
    assert cluster.kubectl("get", "node", "node01", "--no-headers").split()[0] == "node01"


# Typed on the control plane: the administrator's certificate is in the kubeconfig there.
CREDENTIALS = """
for part in client-certificate-data client-key-data; do grep "$part" ~/.kube/config | awk '{print $2}' | base64 -d > /tmp/$part; done
grep certificate-authority-data ~/.kube/config | awk '{print $2}' | base64 -d > /tmp/authority
"""
CURL = "curl -s -w ' %{http_code}' --cacert /tmp/authority --cert /tmp/client-certificate-data --key /tmp/client-key-data"
API = "https://127.0.0.1:6443/api/v1/namespaces"


def test_a02_pods_by_curl_alone(cluster: Cluster, kubectl: Kubectl) -> None:
    cluster.typed("controlplane", CREDENTIALS)
    pods = f"{API}/{kubectl.namespace}/pods"

    def curl(rest: str, program: str = CURL) -> tuple[int, dict[str, object]]:
        body, _, code = cluster.typed("controlplane", f"{program} {rest}").rpartition(" ")
        return int(code), json.loads(body)

    def post(body: str, rest: str = "") -> tuple[int, dict[str, object]]:
        return curl(f"-X POST -H 'Content-Type: application/json' -d '{body}' {rest} {pods}")

    pod = '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"nginx"},"spec":{"containers":[{"name":"nginx","image":"nginx"}]}}'
    code, answer = post(pod)
    assert (code, answer["kind"]) == (201, "Pod")
    code, answer = curl(f"{pods}/nginx")
    assert (code, answer["kind"]) == (200, "Pod")
    version = json.loads(cluster.typed("controlplane", f"{CURL.replace(' %{http_code}', '')} '{pods}?limit=1'"))["metadata"]["resourceVersion"]
    patch = '{"metadata":{"labels":{"seen":"yes"}}}'
    code, answer = curl(f"-X PATCH -H 'Content-Type: application/merge-patch+json' -d '{patch}' {pods}/nginx")
    assert (code, answer["metadata"]["labels"]) == (200, {"seen": "yes"})  # type: ignore[index]
    events = cluster.typed("controlplane", f"{CURL} --max-time 1 '{pods}?watch=1&resourceVersion={version}' || true").splitlines()
    assert "MODIFIED" in [json.loads(event)["type"] for event in events if event.startswith("{")]

    for expected, reason, (code, answer) in (
        (409, "AlreadyExists", post(pod)),
        (422, "Invalid", post(pod.replace('"nginx"}', '"Not_a_name"}', 1))),
        (404, "NotFound", curl(f"{pods}/nothing")),
        (403, "Forbidden", curl(pods, "curl -s -w ' %{http_code}' --cacert /tmp/authority")),
        (401, "Unauthorized", curl(f"-H 'Authorization: Bearer wrong' {pods}", "curl -s -w ' %{http_code}' --cacert /tmp/authority")),
    ):
        assert (code, answer["kind"], answer["status"], answer["reason"], answer["code"]) == (expected, "Status", "Failure", reason, expected)
    # A token is as good as a certificate.
    kubectl("create", "rolebinding", "reader", "--clusterrole=view", f"--serviceaccount={kubectl.namespace}:default")
    token = kubectl("create", "token", "default").strip()
    code, answer = curl(f"-H 'Authorization: Bearer {token}' {pods}/nginx", "curl -s -w ' %{http_code}' --cacert /tmp/authority")
    assert (code, answer["kind"]) == (200, "Pod")
    code, answer = curl(f"-X DELETE '{pods}/nginx?gracePeriodSeconds=0'")
    assert (code, answer["kind"]) == (200, "Pod")


@pytest.mark.needs("etcdctl")
def test_a03_a04_a05_a06_a_pod_is_created_first_and_scheduled_and_run_afterwards(style: str, cluster: Cluster, kubectl: Kubectl) -> None:
    real_etcdctl.install(cluster, "controlplane")

    def mod_revision() -> int:
        key = f"/registry/pods/{kubectl.namespace}/web"
        (pair,) = json.loads(cluster.typed("controlplane", real_etcdctl.line(style, f"get {key} -w json")))["kvs"]
        return int(pair["mod_revision"])

    with control_plane.stopped(cluster, style, "kube-scheduler"):
        assert kubectl("run", "web", "--image=nginx") == "pod/web created\n"
        created = mod_revision()
        assert kubectl.jsonpath("{.spec.nodeName}", "pod", "web") == ""
        assert kubectl("get", "pods").splitlines()[1].split()[:3] == ["web", "0/1", "Pending"]
    kubectl.wait("condition=Ready", "pod/web")
    assert mod_revision() > created
    node = kubectl.jsonpath("{.spec.nodeName}", "pod", "web")
    events = {e["reason"]: e for e in kubectl.json("get", "events", "--field-selector=involvedObject.name=web")["items"]}
    by_whom = {reason: event.get("reportingComponent") or event["source"]["component"] for reason, event in events.items()}
    assert by_whom.pop("FailedScheduling", "default-scheduler") == "default-scheduler"
    assert by_whom == {"Scheduled": "default-scheduler", "Pulling": "kubelet", "Pulled": "kubelet", "Created": "kubelet", "Started": "kubelet"}
    assert f"Successfully assigned {kubectl.namespace}/web to {node}" in events["Scheduled"]["message"]
    status = kubectl.json("get", "pod", "web")
    conditions = {c["type"]: c["lastTransitionTime"] for c in status["status"]["conditions"]}
    assert status["metadata"]["creationTimestamp"] <= conditions["PodScheduled"] <= conditions["Ready"]


def test_a09_a_dead_etcd_may_stand_first(style: str, cluster: Cluster) -> None:
    assert "--etcd-servers=https://127.0.0.1:2379" in control_plane.process(cluster, "kube-apiserver")
    flag = {"kubeadm": "https://127.0.0.1:2379", "systemd": "${ETCD_SERVERS}"}[style]
    with control_plane.edited(
        cluster, style, "kube-apiserver", f"s#--etcd-servers={flag}#--etcd-servers=https://127.0.0.1:23,https://127.0.0.1:2379#"
    ):
        assert "--etcd-servers=https://127.0.0.1:23,https://127.0.0.1:2379" in control_plane.process(cluster, "kube-apiserver")
        cluster.kubectl("create", "configmap", "by-failover", "--from-literal=a=b")
    assert cluster.kubectl("delete", "configmap", "by-failover") == 'configmap "by-failover" deleted from default namespace\n'


def test_a10_options_in_file_status_and_process_list(style: str, cluster: Cluster) -> None:
    text = cluster.typed("controlplane", f"cat {control_plane.file_of(style, 'kube-apiserver')}")
    line = control_plane.process(cluster, "kube-apiserver")
    options = re.findall(r"^ +(?:- )?(--[a-z-]+=[^$\n]*?)(?: \\)?$", text, re.MULTILINE)
    assert len(options) > 20
    for option in options:
        assert f" {option}" in line
    if style == "systemd":
        status = cluster.typed("controlplane", "systemctl status kube-apiserver")
        assert "Loaded: loaded (/etc/systemd/system/kube-apiserver.service; enabled" in status
        assert "Active: active (running)" in status
