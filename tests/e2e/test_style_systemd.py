"""`kubette up --style systemd`: the same cluster with no kubeadm and no static pods.

One cluster for the file, of a control plane and a worker.
"""

from collections.abc import Callable

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually


@pytest.fixture(scope="module")
def hard_way(new_cluster: Callable[..., Cluster]) -> Cluster:
    cluster = new_cluster("hard")
    cluster.up("--style=systemd", "--workers=1")
    return cluster


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
