"""A machine looks like a machine: its processes, its init, its files, its sockets; and the etcd in it answers etcd's own client."""

import re
from collections.abc import Callable

import pytest

from harness.cluster import Cluster
from harness.kubectl import Kubectl

CERTIFICATES = "--cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key"


@pytest.fixture
def etcdctl(cluster: Cluster, judge: Callable[[str], str]) -> Callable[..., str]:
    """The real etcdctl on the control plane, with the certificates that kubeadm made."""
    program = judge("etcdctl")
    return lambda *args: cluster.on(
        "controlplane", "sh", "-c", f"ETCDCTL_API=3 {program} --endpoints=https://127.0.0.1:2379 {CERTIFICATES} {' '.join(args)} 2>&1"
    )


def test_three_ready_nodes_of_the_release(kubectl: Kubectl) -> None:
    rows = [line.split() for line in kubectl("get", "nodes").splitlines()]
    assert rows[0] == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert [(r[0], r[1], r[2], r[4]) for r in rows[1:]] == [
        ("controlplane", "Ready", "control-plane", "v1.37.1"),
        ("node01", "Ready", "<none>", "v1.37.1"),
        ("node02", "Ready", "<none>", "v1.37.1"),
    ]


def test_ps_shows_init_and_upstreams_command_lines_and_no_other_machine(cluster: Cluster) -> None:
    lines = cluster.on("controlplane", "ps", "aux").splitlines()
    commands = [line.split(None, 10)[10] for line in lines[1:]]
    assert lines[1].split()[1] == "1"
    assert commands[0] == "/sbin/init"
    for program in (
        "/usr/bin/containerd",
        "/usr/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf",
        "etcd --advertise-client-urls=https://192.168.56.11:2379",
        "kube-apiserver --advertise-address=192.168.56.11",
        "kube-controller-manager --",
        "kube-scheduler --",
        "kube-proxy --config=/var/lib/kube-proxy/config.conf",
        "/pause",
    ):
        assert any(command.startswith(program) for command in commands), f"no {program} in:\n" + "\n".join(commands)
    assert not any("python" in command for command in commands)
    assert sum(command.startswith("/usr/bin/kubelet ") for command in commands) == 1
    assert len(lines) < 40
    worker = cluster.on("node01", "ps", "-eo", "args=")
    assert "etcd" not in worker
    assert "kube-apiserver" not in worker


def test_systemctl_and_journalctl(cluster: Cluster) -> None:
    status = cluster.on("controlplane", "systemctl", "status", "kubelet")
    assert status.startswith("● kubelet.service - kubelet: The Kubernetes Node Agent\n")
    assert "Active: active (running) since" in status
    assert re.search(r"Main PID: \d+ \(kubelet\)", status)
    assert cluster.on("node01", "systemctl", "is-active", "kubelet", "containerd").split() == ["active", "active"]
    assert "Started kubelet.service" in cluster.on("node01", "journalctl", "-u", "kubelet", "--no-pager")
    assert len(cluster.on("node01", "journalctl", "-u", "kubelet", "-n", "3", "--no-pager").splitlines()) == 3
    assert cluster.run("ssh", "node01", "--", "systemctl", "status", "nothing").returncode == 4


def test_a_stopped_unit_stays_stopped_and_comes_back(cluster: Cluster, kubectl: Kubectl) -> None:
    cluster.on("node02", "systemctl", "stop", "kubelet")
    try:
        assert cluster.run("ssh", "node02", "--", "systemctl", "is-active", "kubelet").stdout == "inactive\n"
    finally:
        cluster.on("node02", "systemctl", "start", "kubelet")
    kubectl.wait("condition=Ready", "node/node02")


def test_hostname_files_and_exit_codes_are_the_machines_own(cluster: Cluster) -> None:
    assert cluster.on("node01", "hostname") == "node01\n"
    assert cluster.on("node01", "cat", "/etc/hostname") == "node01\n"
    cluster.on("node01", "sh", "-c", "echo mine > /root/note; echo mine > /etc/note; echo mine > /tmp/note")
    for path in ("/root/note", "/etc/note", "/tmp/note"):
        assert cluster.on("node01", "cat", path) == "mine\n"
        assert cluster.run("ssh", "node02", "--", "test", "-e", path).returncode == 1
    assert cluster.run("ssh", "node01", "--", "sh", "-c", "exit 9").returncode == 9
    assert cluster("ssh", "node01", "--", "cat", stdin="through\n") == "through\n"
    assert 'machine "node09" not found' in cluster.run("ssh", "node09", "--", "true").stderr.replace("no machine", "machine")


def test_etcd_listens_where_kubeadm_says(cluster: Cluster) -> None:
    listening = cluster.on("controlplane", "ss", "-ltn")
    for address in ("127.0.0.1:2379", "192.168.56.11:2379", "192.168.56.11:2380", "127.0.0.1:2381"):
        assert address in listening
    assert ":2379" not in cluster.on("node01", "ss", "-ltn")


def test_the_real_etcdctl_finds_a_healthy_member_and_kubernetes_keys(etcdctl: Callable[..., str], kubectl: Kubectl) -> None:
    assert "https://127.0.0.1:2379 is healthy: successfully committed proposal" in etcdctl("endpoint", "health")
    members = etcdctl("member", "list").splitlines()
    assert [line.split(", ")[1:5] for line in members] == [["started", "controlplane", "https://192.168.56.11:2380", "https://192.168.56.11:2379"]]
    kubectl("create", "configmap", "seen-by-etcdctl", "--from-literal=a=b")
    keys = etcdctl("get", "/registry", "--prefix", "--keys-only").split()
    assert f"/registry/configmaps/{kubectl.namespace}/seen-by-etcdctl" in keys
    assert "/registry/minions/node01" in keys
    assert etcdctl("put", "/not-kubernetes", "value") == "OK\n"
    assert etcdctl("get", "/not-kubernetes", "--print-value-only") == "value\n"
    assert etcdctl("del", "/not-kubernetes") == "1\n"


def test_crictl_shows_the_containers_of_the_machine(cluster: Cluster) -> None:
    names = cluster.on("controlplane", "crictl", "ps")
    for container in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"):
        assert container in names


def test_status_and_list_of_the_cluster(cluster: Cluster) -> None:
    status = cluster.status()
    assert status["running"] is True
    assert [(m["name"], m["state"], m["address"]) for m in status["machines"]] == [
        ("controlplane", "running", "192.168.56.11"),
        ("node01", "running", "192.168.56.12"),
        ("node02", "running", "192.168.56.13"),
    ]
    assert f"https://127.0.0.1:{cluster.api_port}" in cluster("status")
