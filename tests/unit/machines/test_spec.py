"""What a cluster consists of, and where its machines are."""

import json

import pytest

from kubette.machines import node_ports, power, spec
from kubette.machines.node_ports import NodePort


def test_machines_are_named_and_numbered_in_order_of_creation() -> None:
    cluster = spec.plan("kubette", 3, 2, "v1.37.0")
    assert [(m.name, m.address) for m in cluster.machines] == [
        ("controlplane", "192.168.56.11"),
        ("controlplane02", "192.168.56.12"),
        ("controlplane03", "192.168.56.13"),
        ("node01", "192.168.56.14"),
        ("node02", "192.168.56.15"),
    ]
    assert cluster.endpoint == "192.168.56.10:6443"
    assert spec.plan("kubette", 1, 2, "v1.37.0").endpoint == "192.168.56.11:6443"


def test_an_external_etcd_is_a_machine_that_is_no_node() -> None:
    cluster = spec.plan("dev", 1, 1, "v1.37.0", etcd="external")
    assert [(m.name, m.role, m.address) for m in cluster.machines][-1] == ("etcd-server", "etcd", "192.168.56.13")
    assert [m.name for m in cluster.nodes] == ["controlplane", "node01"]
    assert [m.name for m in cluster.etcd_members] == ["etcd-server"]
    assert spec.from_json(json.loads(json.dumps(cluster.to_json()))) == cluster
    stacked = spec.plan("dev", 3, 1, "v1.37.0")
    assert stacked.external_etcd is None
    assert stacked.etcd_members == ()  # nobody has joined yet
    for style, etcd in (("systemd", "external"), ("kubeadm", "elsewhere")):
        with pytest.raises(spec.SpecError, match='--etcd|"elsewhere"'):
            spec.plan("dev", 1, 1, "v1.37.0", style, etcd=etcd)


def test_cluster_json_gives_the_same_cluster_back() -> None:
    cluster = spec.plan("dev", 2, 1, "v1.36.0", api_port=7000)
    assert spec.from_json(json.loads(json.dumps(cluster.to_json()))) == cluster


@pytest.mark.parametrize(
    ("name", "control_planes", "workers", "version", "style"),
    [
        ("Bad", 1, 1, "v1.37.0", "kubeadm"),
        ("a/b", 1, 1, "v1.37.0", "kubeadm"),
        ("..", 1, 1, "v1.37.0", "kubeadm"),
        ("x" * 41, 1, 1, "v1.37.0", "kubeadm"),
        ("ok", 0, 1, "v1.37.0", "kubeadm"),
        ("ok", 1, -1, "v1.37.0", "kubeadm"),
        ("ok", 1, 200, "v1.37.0", "kubeadm"),
        ("ok", 1, 1, "latest", "kubeadm"),
        ("ok", 1, 1, "v1.29.0", "kubeadm"),
        ("ok", 1, 1, "v1.99.0", "kubeadm"),
        ("ok", 1, 1, "v1.37.0", "magic"),
    ],
)
def test_what_cannot_be_a_cluster_is_refused(name: str, control_planes: int, workers: int, version: str, style: str) -> None:
    with pytest.raises(spec.SpecError):
        spec.plan(name, control_planes, workers, version, style)


def test_the_end_of_pid_1_says_whether_to_boot_again() -> None:
    assert power.ending(-1, False, False) == power.Ending(True, "rebooted")  # SIGHUP: reboot(2), restart
    assert power.ending(133, False, False).reboots
    assert power.ending(-2, False, False) == power.Ending(False, "powered off")  # SIGINT: reboot(2), power off
    assert power.ending(0, False, False).reason == "powered off"
    assert power.ending(-9, True, False).reboots  # a reboot that had to pull the plug is still a reboot
    assert power.ending(-9, True, True) == power.Ending(False, "killed")
    assert power.ending(1, False, False) == power.Ending(False, "PID 1 exited with status 1")


def test_a_machine_that_is_off_cannot_be_stopped_and_a_paused_one_can_be_killed() -> None:
    with pytest.raises(power.PowerError, match='cannot stop machine "node01": it is off'):
        power.check("stop", "node01", power.State.OFF)
    power.check("kill", "node01", power.State.PAUSED)


def test_routes_and_ports_are_what_nodes_and_services_say() -> None:
    nodes = [
        {
            "metadata": {"name": "a"},
            "spec": {"podCIDRs": ["10.244.1.0/24", "fd00::/64"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.168.56.12"}]},
        },
        {"metadata": {"name": "no-address"}, "spec": {"podCIDR": "10.244.2.0/24"}},
        {"metadata": {"name": "no-network"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.168.56.13"}]}},
    ]
    assert node_ports.wanted_routes(nodes) == {"10.244.1.0/24": "192.168.56.12"}
    services = [
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"type": "NodePort", "ports": [{"nodePort": 30080}, {"nodePort": 30080, "protocol": "UDP"}]},
        },
        {"metadata": {"name": "inner", "namespace": "default"}, "spec": {"type": "ClusterIP", "ports": [{"port": 80}]}},
        {
            "metadata": {"name": "lb", "namespace": "x"},
            "spec": {"type": "LoadBalancer", "healthCheckNodePort": 31000, "ports": [{"nodePort": 31001}]},
        },
    ]
    assert node_ports.wanted_ports(services) == {
        NodePort(30080, "TCP"): "default/web",
        NodePort(30080, "UDP"): "default/web",
        NodePort(31000, "TCP"): "x/lb",
        NodePort(31001, "TCP"): "x/lb",
    }
