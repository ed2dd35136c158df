"""`kubette up --style systemd`: the same cluster with no kubeadm and no static pods; rows of the article that show units.

One cluster for the file, of a control plane and a worker.
"""

import re
from collections.abc import Callable

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
NODE = ("kubelet", "kube-proxy", "containerd")
WITH_CERTIFICATES = ("--cacert=/etc/etcd/ca.crt", "--cert=/etc/etcd/etcd-server.crt", "--key=/etc/etcd/etcd-server.key")


@pytest.fixture(scope="module")
def hard_way(new_cluster: Callable[..., Cluster]) -> Cluster:
    cluster = new_cluster("hard")
    cluster.up("--style=systemd", "--workers=1")
    return cluster


def etcdctl(*words: str) -> list[str]:
    return ["env", "ETCDCTL_API=3", "etcdctl", "--endpoints=https://127.0.0.1:2379", *words]


def test_n03_every_process_is_a_unit_and_none_a_static_pod(hard_way: Cluster) -> None:
    assert hard_way.on("controlplane", "systemctl", "is-active", *CONTROL_PLANE, *NODE).split() == ["active"] * 7
    assert hard_way.on("node01", "systemctl", "is-active", *NODE).split() == ["active"] * 3
    assert hard_way.run("ssh", "node01", "--", "systemctl", "is-active", "etcd").stdout == "inactive\n"
    assert hard_way.on("controlplane", "ls", "/etc/kubernetes").split() == ["config"]
    pods = hard_way.kubectl("get", "pods", "--namespace=kube-system", "--no-headers")
    assert all(line.startswith("coredns-") for line in pods.splitlines())
    nodes = {line.split()[0]: line.split()[1:3] for line in hard_way.kubectl("get", "nodes", "--no-headers").splitlines()}
    assert nodes == {"controlplane": ["Ready", "control-plane"], "node01": ["Ready", "<none>"]}


def test_a10_options_of_the_api_server_in_unit_status_and_process_list(hard_way: Cluster) -> None:
    unit = hard_way.on("controlplane", "cat", "/etc/systemd/system/kube-apiserver.service")
    assert "\nExecStart=/usr/local/bin/kube-apiserver \\\n" in unit
    status = hard_way.on("controlplane", "systemctl", "status", "kube-apiserver")
    assert "Loaded: loaded (/etc/systemd/system/kube-apiserver.service; enabled" in status
    assert "Active: active (running)" in status
    processes = hard_way.on("controlplane", "sh", "-c", "ps -aux | grep kube-apiserver")
    (line,) = (line for line in processes.splitlines() if " /usr/local/bin/kube-apiserver " in line)
    assert "--advertise-address=192.168.56.11 " in line
    for flag in re.findall(r"^  (--[^$\n]*?)(?: \\)?$", unit, re.MULTILINE):
        assert f" {flag}" in line


@pytest.mark.needs("etcdctl")
def test_e11_etcd_wants_a_certificate_of_its_own_authority(hard_way: Cluster) -> None:
    question = ("--command-timeout=2s", "--dial-timeout=2s", "get", "/registry/minions/", "--prefix", "--keys-only")
    assert "/registry/minions/node01" in hard_way.on("controlplane", *etcdctl(*WITH_CERTIFICATES, *question)).split()
    kubelets = ("--cacert=/etc/etcd/ca.crt", "--cert=/var/lib/kubelet/kubelet.crt", "--key=/var/lib/kubelet/kubelet.key")
    for wrong in (("--cacert=/etc/etcd/ca.crt",), kubelets):
        done = hard_way.run("ssh", "controlplane", "--", *etcdctl(*wrong, *question))
        assert done.returncode != 0
        assert "/registry" not in done.stdout


def test_p03_kube_proxy_is_restarted_after_five_seconds(hard_way: Cluster) -> None:
    def show(name: str) -> str:
        return hard_way.on("node01", "systemctl", "show", f"--property={name}", "--value", "kube-proxy").strip()

    assert 'node="node01"' in hard_way("logs", "node01", "kube-proxy")
    before = show("MainPID")
    hard_way.on("node01", "kill", "-9", before)
    eventually(lambda: show("NRestarts"), lambda count: count == "1", timeout_s=15)
    assert show("MainPID") != before
    assert hard_way.on("node01", "systemctl", "is-active", "kube-proxy") == "active\n"


def test_a_deployment_with_a_service_answers_and_lives_through_a_reboot(hard_way: Cluster) -> None:
    kubectl = hard_way.kubectl
    kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
    kubectl("expose", "deployment", "web", "--port=80")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    address = kubectl.jsonpath("{.spec.clusterIP}", "service", "web")

    def page() -> str:
        return hard_way.on("node01", "curl", "-s", "--max-time", "3", f"http://{address}")

    assert "Welcome to nginx!" in eventually(page)
    # The API server's right to kubelets, and the cluster's DNS.
    kubectl("rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=60s")
    assert "Welcome to nginx!" in eventually(lambda: kubectl("exec", "deployment/web", "--", "curl", "-s", "--max-time", "3", "http://web"))
    assert "GET / HTTP/1.1" in kubectl("logs", "deployment/web", "--all-pods=true")
    assert "Traceback" not in hard_way("logs", "controlplane", "kube-apiserver")
    hard_way("down")
    hard_way.up()
    assert "Welcome to nginx!" in eventually(page, timeout_s=40)
    assert kubectl.jsonpath("{.spec.clusterIP}", "service", "web") == address
