"""Rows U16, U21, R04 and R07: three control planes are upgraded one by one, killed half way and taken back, while somebody writes without pause. One story."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually
from harness.writer import Writer

CONTROL_PLANES = ("controlplane", "controlplane02", "controlplane03")
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
LIST = "/etc/apt/sources.list.d/kubernetes.list"
LOG = "/tmp/apply.log"
PKI = "/etc/kubernetes/pki/etcd"
ETCDCTL = f"etcdctl --endpoints https://127.0.0.1:2379 --cacert {PKI}/ca.crt --cert {PKI}/server.crt --key {PKI}/server.key"


@dataclass
class Lab:
    cluster: Cluster
    writer: Writer

    def new_kubeadm(self, machine: str, number: str) -> None:
        line = number.rpartition(".")[0]
        self.cluster.typed(machine, f"sed -i 's#v1.[0-9]*/deb#v{line}/deb#' {LIST} && apt-get update && apt-get install -y kubeadm={number}-1.1")

    def images(self) -> dict[str, set[str]]:
        """Component to the releases it runs as."""
        found: dict[str, set[str]] = {}
        for pod in self.cluster.kubectl.in_namespace("kube-system").json("get", "pods", "-l", "tier=control-plane")["items"]:
            found.setdefault(pod["metadata"]["labels"]["component"], set()).add(pod["spec"]["containers"][0]["image"].rpartition(":")[2])
        return found

    def manifests(self, machine: str) -> str:
        return self.cluster.typed(machine, "cd /etc/kubernetes/manifests && md5sum *.yaml")

    def ready(self) -> list[str]:
        rows = self.cluster.kubectl("get", "nodes", "--no-headers").splitlines()
        return [row.split()[0] for row in rows if row.split()[1] == "Ready"]


@pytest.fixture(scope="module")
def lab(new_cluster: Callable[..., Cluster]) -> Iterator[Lab]:
    """Three control planes of v1.35.0, and a writer through their balancer."""
    cluster = new_cluster("upgrade-ha")
    cluster.up("--control-planes=3", "--workers=0", "--kubernetes-version=v1.35.0")
    writer = Writer(cluster.kubeconfig, "upgrade")
    with writer:
        yield Lab(cluster, writer)
    cluster.remove()


def test_r04_a_controller_manager_may_be_one_minor_older_and_not_two(lab: Lab) -> None:
    kubectl = lab.cluster.kubectl.in_namespace("kube-system")
    manifest, pod = "/etc/kubernetes/manifests/kube-controller-manager.yaml", "kube-controller-manager-controlplane03"
    complaint = "may be at most one minor version older than kube-apiserver"

    def run_as(old: str, new: str) -> None:
        lab.cluster.typed("controlplane03", f"sed -i s/kube-controller-manager:{old}/kube-controller-manager:{new}/ {manifest}")
        image = f"registry.k8s.io/kube-controller-manager:{new}"
        eventually(lambda: kubectl.jsonpath("{.spec.containers[0].image}", "pod", pod), lambda now: now == image, timeout_s=60)
        kubectl.wait("condition=Ready", f"pod/{pod}", timeout_s=60)

    run_as("v1.35.0", "v1.34.0")
    assert complaint not in kubectl("logs", pod)
    assert "WARNING" not in lab.cluster.typed("controlplane", "kubeadm upgrade plan v1.35.0")
    run_as("v1.34.0", "v1.33.0")
    eventually(lambda: complaint in kubectl("logs", pod))
    plan = lab.cluster.typed("controlplane", "kubeadm upgrade plan v1.35.0")
    assert f"[upgrade/versions] WARNING: kube-controller-manager v1.33.0 on controlplane03 {complaint}\n" in plan
    run_as("v1.33.0", "v1.35.0")


def test_u21_a_failing_component_takes_the_manifests_back_and_leaves_etcds_data(lab: Lab) -> None:
    lab.new_kubeadm("controlplane", "1.36.0")
    before = lab.manifests("controlplane")
    # The scheduler of the new release is given a flag that no scheduler has.
    kubectl = lab.cluster.kubectl.in_namespace("kube-system")
    stored = kubectl.json("get", "configmap", "kubeadm-config")
    good = stored["data"]["ClusterConfiguration"]
    assert "scheduler: {}\n" in good
    bad = good.replace("scheduler: {}\n", "scheduler:\n  extraArgs:\n  - name: no-such-flag\n    value: 'true'\n")
    kubectl("patch", "configmap", "kubeadm-config", "--type=merge", "-p", json.dumps({"data": {"ClusterConfiguration": bad}}))
    document = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: UpgradeConfiguration\ntimeouts:\n  upgradeManifests: 15s\n"
    lab.cluster.typed("controlplane", f"printf '{document}' > /root/upgrade.yaml".replace("\n", "\\n"))
    done = lab.cluster.run("ssh", "controlplane", "--", "bash", "-c", "exec 2>&1; kubeadm upgrade apply -y v1.36.0 --config /root/upgrade.yaml")
    assert done.returncode == 1, done.stdout
    assert "couldn't upgrade control plane. kubeadm has tried to recover everything into the earlier state. Errors faced: " in done.stdout
    # Everything is as it was but etcd, which was well by then: a newer etcd serves the older API server.
    after = lab.manifests("controlplane")
    assert [line for line in after.splitlines() if "etcd" not in line] == [line for line in before.splitlines() if "etcd" not in line]
    eventually(lambda: lab.images()["kube-apiserver"], lambda tags: tags == {"v1.35.0"}, timeout_s=60)
    kubectl("patch", "configmap", "kubeadm-config", "--type=merge", "-p", json.dumps({"data": {"ClusterConfiguration": good}}))
    # The next upgrade's own checks want every part of the control plane well, and the API server that was taken back has just begun.
    kubectl.wait("condition=Ready", "pod", "-l", "tier=control-plane", timeout_s=60)
    lab.writer.goes_on()


def test_u16_an_upgrade_that_was_killed_goes_on(lab: Lab) -> None:
    """kill -9 once the new manifest of one component after the other is in place, then once more to the end."""
    for component in ("kube-apiserver", "kube-controller-manager"):
        moved = f"Moving new manifest to.*{component}.yaml"
        lab.cluster.typed(
            "controlplane",
            f"kubeadm upgrade apply -y v1.36.0 > {LOG} 2>&1 & pid=$!; "
            f"until grep -q '{moved}' {LOG}; do kill -0 $pid || {{ cat {LOG}; exit 1; }}; sleep 0.05; done; kill -9 $pid",
        )
    said = lab.cluster.typed("controlplane", "kubeadm upgrade apply -y v1.36.0")
    assert "Current and new manifests of kube-apiserver are equal, skipping upgrade" in said
    assert said.endswith(
        '\n[upgrade] SUCCESS! A control plane node of your cluster was upgraded to "v1.36.0".\n\n'
        "[upgrade] Now please proceed with upgrading the rest of the nodes by following the right order.\n"
    )
    assert "kubeadm-upgraded-manifests" not in lab.cluster.typed("controlplane", "ls /etc/kubernetes/tmp")
    # The addons wait for the other two.
    assert (
        "[upgrade/addon] Skipping upgrade of addons because control plane instances [controlplane02 controlplane03] have not been upgraded\n" in said
    )


def test_r07_api_servers_of_two_minors_live_together_and_name_what_may_not_follow(lab: Lab) -> None:
    assert lab.images()["kube-apiserver"] == {"v1.35.0", "v1.36.0"}
    # A kubelet may be as new as the oldest API server and no newer.
    lab.cluster.typed("controlplane", "apt-get install -y kubelet=1.36.0-1.1 && systemctl restart kubelet")
    eventually(lambda: "v1.36.0" in lab.cluster.kubectl("get", "node", "controlplane"))
    plan = lab.cluster.typed("controlplane", "kubeadm upgrade plan v1.36.0")
    assert "[upgrade/versions] WARNING: kubelet v1.36.0 on controlplane must not be newer than kube-apiserver v1.35.0\n" in plan


def test_u21_the_other_masters_by_upgrade_node_with_writes_flowing(lab: Lab) -> None:
    for machine in CONTROL_PLANES[1:]:
        lab.new_kubeadm(machine, "1.36.0")
        said = lab.cluster.typed(machine, "kubeadm upgrade node")
        assert '[upgrade/control-plane] Upgrading your Static Pod-hosted control plane instance to version "v1.36.0"' in said
        lab.writer.goes_on()
    assert "[addons] Applied essential addon: CoreDNS\n" in said  # with the last one
    images = lab.images()
    assert {name: tags for name, tags in images.items() if name != "etcd"} == {name: {"v1.36.0"} for name in COMPONENTS[1:]}
    assert len(images["etcd"]) == 1
    status = json.loads(lab.cluster.typed("controlplane", f"{ETCDCTL} endpoint status --cluster -w json").splitlines()[-1])
    assert [one["Status"]["version"] for one in status] == [next(iter(images["etcd"])).partition("-")[0]] * 3
    for machine in CONTROL_PLANES[1:]:
        lab.cluster.typed(machine, "apt-get install -y kubelet=1.36.0-1.1 && systemctl daemon-reload && systemctl restart kubelet")
    eventually(lambda: lab.ready(), lambda ready: len(ready) == 3)
    assert re.search(r"WARNING", lab.cluster.typed("controlplane", "kubeadm upgrade plan v1.36.0")) is None


def test_u21_no_acknowledged_write_was_lost(lab: Lab) -> None:
    lab.writer.goes_on()
    lab.writer.__exit__(None, None, None)
    assert lab.writer.lost() == set()
    assert len(lab.writer.acknowledged) > 500
