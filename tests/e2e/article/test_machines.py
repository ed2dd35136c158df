"""Rows N01-N04: the shells that every later row assumes. N05 is in test_ha.py."""

import pytest

from harness.cluster import Cluster

MACHINES = ("controlplane", "node01", "node02")


def test_n01_each_machine_has_its_own_name_and_files(cluster: Cluster) -> None:
    assert cluster.typed("node01", "hostname") == "node01\n"
    assert cluster.typed("node02", "hostname") == "node02\n"
    cluster.typed("node01", "touch /opt/only-here")
    try:
        assert cluster.typed("node02", "ls /opt/only-here || true") == "ls: cannot access '/opt/only-here': No such file or directory\n"
    finally:
        cluster.typed("node01", "rm /opt/only-here")


def test_n01_ssh_leads_from_one_machine_to_another(cluster: Cluster) -> None:
    assert cluster.typed("controlplane", "ssh node01 hostname") == "node01\n"
    assert cluster.typed("node01", "ssh root@192.168.56.13 'hostname; pwd; echo $USER'") == "node02\n/root\nroot\n"
    # A login shell reads what is typed, as in the lab: `ssh node01`, commands, `exit`.
    assert (
        cluster.typed("controlplane", "printf 'hostname\\nssh -o StrictHostKeyChecking=no node02 hostname\\nexit 3\\n' | ssh node01 || echo $?")
        == "node01\nnode02\n3\n"
    )
    assert (
        cluster.typed("controlplane", "echo to node01 | ssh node01 tee /opt/sent; ssh node01 cat /opt/sent; ssh node01 rm /opt/sent")
        == "to node01\n" * 2
    )
    assert cluster.refused("controlplane", "ssh node09") == "ssh: Could not resolve hostname node09: Name or service not known\n"
    # On a terminal: one of the other machine's own, with the size of this one.
    code, shown = cluster.on_terminal("controlplane", "ssh node02", "tty; hostname; exit 4\n")
    assert code == 4, shown
    assert "/dev/pts/0" in shown
    assert "node02" in shown
    # It is no way to rights that machines do not have.
    limits = "grep -h CapBnd /proc/self/status"
    assert cluster.typed("controlplane", f"ssh node01 {limits}") == cluster.typed("node01", "grep -h CapBnd /proc/1/status")
    # A machine without power is not reached.
    cluster("machine", "stop", "node02")
    try:
        assert cluster.refused("controlplane", "ssh node02 true") == "ssh: connect to host node02 port 22: No route to host\n"
    finally:
        cluster("machine", "start", "node02")
        cluster.kubectl.wait("condition=Ready", "node/node02", timeout_s=60)


# What is typed, and a part of what is shown.
TYPED = {
    "systemctl status kubelet": "Active: active (running)",
    "systemctl cat kubelet": "[Service]\n",
    "systemctl is-enabled kubelet": "enabled\n",
    "systemctl list-unit-files": "UNIT FILE",
    "sudo systemctl daemon-reload": "",
    "systemctl stop kubelet; systemctl start kubelet; systemctl restart kubelet; systemctl enable kubelet; systemctl is-active kubelet": "active\n",
    "service kubelet status": "Active: active (running)",
    "service kubelet restart": "",
    "journalctl -u kubelet -n 5": " kubelet[",
    "apt update": "Reading package lists...",
    "apt list --installed": "kubeadm",
    "apt-cache policy kubelet": "kubelet:\n  Installed: ",
    "apt-cache madison kubeadm": "   kubeadm | ",
    "apt-mark showhold": "",
    "ps aux": "/sbin/init",
    "sudo crictl ps": "CONTAINER ",
}


@pytest.mark.parametrize("line", TYPED)
def test_n02_what_one_types_on_a_machine_is_there(line: str, cluster: Cluster) -> None:
    assert TYPED[line] in cluster.typed("node01", line)


def test_n03_the_same_cluster_in_both_styles(style: str, cluster: Cluster) -> None:
    nodes = {line.split()[0]: line.split()[1:3] for line in cluster.kubectl("get", "nodes", "--no-headers").splitlines()}
    assert nodes == {"controlplane": ["Ready", "control-plane"], "node01": ["Ready", "<none>"], "node02": ["Ready", "<none>"]}
    control_plane = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    pods = {line.split()[0] for line in cluster.kubectl("get", "pods", "--namespace=kube-system", "--no-headers").splitlines()}
    if style == "kubeadm":
        assert {f"{name}-controlplane" for name in control_plane} <= pods
        assert cluster.typed("controlplane", "ls /etc/kubernetes/manifests").split() == [f"{name}.yaml" for name in control_plane]
        assert cluster.typed("controlplane", "systemctl is-active kubelet containerd").split() == ["active"] * 2
    else:
        assert {name.split("-")[0] for name in pods} == {"coredns"}
        assert cluster.typed("controlplane", f"systemctl is-active {' '.join(control_plane)} kubelet kube-proxy").split() == ["active"] * 6
        assert cluster.typed("node01", "systemctl is-active kubelet kube-proxy containerd").split() == ["active"] * 3
        assert cluster.refused("node01", "systemctl is-active etcd") == "inactive\n"
        assert cluster.typed("controlplane", "ls /etc/kubernetes").split() == ["audit-policy.yaml", "config"]


def test_n04_every_machine_has_the_standard_ports_for_itself(cluster: Cluster) -> None:
    def listening(machine: str) -> set[str]:
        return {line.split()[3] for line in cluster.typed(machine, "ss -ltn").splitlines()[1:]}

    assert {"127.0.0.1:2379", "192.168.56.11:2379", "192.168.56.11:2380", "0.0.0.0:6443", "0.0.0.0:10250"} <= listening("controlplane")
    for machine in MACHINES[1:]:
        assert "0.0.0.0:10250" in listening(machine)
        assert not any(address.endswith((":2379", ":6443")) for address in listening(machine))
    # An etcd of its own on each of the other machines, at the same time, on the same port of 127.0.0.1.
    begin = "mkdir /tmp/n04 && cd /tmp/n04 && (etcd >log 2>&1 </dev/null &) && timeout 20 sh -c 'until etcdctl endpoint health; do :; done'"
    try:
        for machine in MACHINES[1:]:
            cluster.typed(machine, begin)
        for machine in MACHINES[1:]:
            assert "127.0.0.1:2379" in listening(machine)
            cluster.typed(machine, f"etcdctl put where {machine}")
        assert [cluster.typed(machine, "etcdctl get where --print-value-only") for machine in MACHINES[1:]] == ["node01\n", "node02\n"]
    finally:
        for machine in MACHINES[1:]:
            cluster.typed(machine, "pkill etcd; rm -rf /tmp/n04")
