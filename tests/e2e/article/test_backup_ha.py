"""Row B20, and backup and restore in one command, on three control planes, in both styles."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import control_plane, real_etcdctl, restoring
from harness.cluster import Cluster
from harness.eventually import eventually

pytestmark = pytest.mark.needs("etcdctl")

MACHINES = {"controlplane": "192.168.56.11", "controlplane02": "192.168.56.12", "controlplane03": "192.168.56.13"}
FOLDER = "/var/lib/etcd-from-backup"
SNAPSHOT = "/opt/snapshot.db"


@pytest.fixture(scope="module")
def cluster(style: str, new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    own = new_cluster(f"backup-ha-{style}")
    own.up(f"--style={style}", "--control-planes=3", "--workers=0")
    for machine in MACHINES:
        real_etcdctl.install(own, machine)
    yield own
    own.remove()


def statuses(cluster: Cluster, style: str, machines: list[str]) -> list[dict[str, Any]]:
    """What each member says of itself and its cluster."""
    lines = real_etcdctl.line(style, "--command-timeout=3s endpoint status -w json")
    return [json.loads(cluster.typed(machine, f"{lines} 2>/dev/null"))[0]["Status"] for machine in machines]


def member_ids(cluster: Cluster, style: str) -> set[int]:
    listed = json.loads(cluster.typed("controlplane", real_etcdctl.line(style, "member list -w json")))
    return {member["ID"] for member in listed["members"]}


def test_b20_three_members_are_restored_from_one_snapshot(style: str, cluster: Cluster) -> None:
    kubectl, names = cluster.kubectl, list(MACHINES)
    kubectl("create", "configmap", "kept")
    cluster.typed("controlplane", real_etcdctl.line(style, f"snapshot save {SNAPSHOT}"))
    kubectl("create", "configmap", "later")
    ids, (old, *_) = member_ids(cluster, style), statuses(cluster, style, names)
    initial = ",".join(f"{name}=https://{address}:2380" for name, address in MACHINES.items())
    for machine, address in MACHINES.items():
        if machine != "controlplane":
            cluster.typed(machine, f"ssh controlplane cat {SNAPSHOT} >{SNAPSHOT}")
        target = f"--name {machine} --initial-cluster {initial} --initial-advertise-peer-urls https://{address}:2380 --data-dir {FOLDER}"
        cluster.typed(machine, f"ETCDCTL_API=3 etcdctl snapshot restore {SNAPSHOT} {target} --initial-cluster-token etcd-cluster-1")
    for machine in names:
        control_plane.stop(cluster, style, "kube-apiserver", machine)

    def goes_back(machine: str) -> None:
        control_plane.stop(cluster, style, "etcd", machine)
        script = f"s#path: /var/lib/etcd$#path: {FOLDER}#" if style == "kubeadm" else f"s#--data-dir=/var/lib/etcd$#--data-dir={FOLDER}#"
        file = f"{control_plane.AWAY}/etcd.yaml" if style == "kubeadm" else control_plane.file_of(style, "etcd")
        start = f"mv {file} {control_plane.MANIFESTS}/" if style == "kubeadm" else "systemctl daemon-reload && systemctl start --no-block etcd"
        cluster.typed(machine, f"sed -i '{script}' {file} && {start}")

    *renewed, last = names
    for machine in renewed:
        goes_back(machine)
    healthy = real_etcdctl.line(style, "--command-timeout=2s endpoint health")
    for machine in renewed:
        eventually(lambda machine=machine: cluster.typed(machine, healthy), timeout_s=60)  # type: ignore[misc]
    # The third still has the old data: the new members do not take it for one of theirs, and alone it has no quorum.
    assert "context deadline exceeded" in cluster.refused(last, healthy)
    seen = statuses(cluster, style, renewed)
    assert {status["header"]["cluster_id"] for status in seen} != {old["header"]["cluster_id"]}
    goes_back(last)
    eventually(lambda: cluster.typed(last, healthy), timeout_s=60)
    seen = statuses(cluster, style, names)
    assert len({status["header"]["cluster_id"] for status in seen}) == 1
    assert len({status["leader"] for status in seen} - {0}) == 1
    now = member_ids(cluster, style)
    assert len(now) == 3
    assert not now & ids
    for machine in names:
        control_plane.start(cluster, style, "kube-apiserver", machine)
    assert kubectl("get", "configmap", "kept", "-o", "name") == "configmap/kept\n"
    assert 'configmaps "later" not found' in kubectl.refused("get", "configmap", "later")


def test_backup_and_restore_in_one_command(cluster: Cluster, tmp_path: Path) -> None:
    eventually(lambda: cluster.kubectl("get", "nodes"), timeout_s=60)
    restoring.story(cluster, tmp_path)
