"""Row B19: an etcd on a machine of its own, as a unit of the user etcd; two clusters in one kubeconfig."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import real_etcdctl, restoring
from harness.cluster import Cluster
from harness.eventually import eventually

pytestmark = pytest.mark.needs("etcdctl")

ETCD = "etcd-server"
PKI = "/etc/kubernetes/pki/etcd"
LINE = f"ETCDCTL_API=3 etcdctl --endpoints=https://127.0.0.1:2379 --cacert={PKI}/ca.crt --cert={PKI}/server.crt --key={PKI}/server.key"
NEW = "/var/lib/etcd-data-new"


@pytest.fixture(scope="module")
def cluster2(new_cluster: Callable[..., Cluster], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The current context is the other one's."""
    place = tmp_path_factory.mktemp("two")
    first, second = (new_cluster(name, place) for name in ("cluster1", "cluster2"))
    second.up("--workers=0", "--etcd=external")
    first.up("--workers=0")
    for each in (first, second):
        first.kubectl("config", "rename-context", f"kubette-{each.name}", each.name)
    real_etcdctl.install(second, ETCD)
    yield second
    for each in (first, second):
        each.run("down", "--purge")


def test_b19_an_external_etcd_is_restored(cluster2: Cluster) -> None:
    kubectl = cluster2.kubectl
    assert sorted(kubectl("config", "get-contexts", "-o", "name").split()) == ["cluster1", "cluster2"]
    assert kubectl("config", "use-context", "cluster2") == 'Switched to context "cluster2".\n'
    pods = kubectl("get", "pods", "-n", "kube-system", "--no-headers")
    assert "kube-apiserver-controlplane" in pods
    assert "etcd" not in pods
    described = kubectl("describe", "pod", "kube-apiserver-controlplane", "-n", "kube-system")
    assert "--etcd-servers=https://192.168.56.12:2379\n" in described
    assert "--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt\n" in described
    assert [line.split()[0] for line in kubectl("get", "nodes", "--no-headers").splitlines()] == ["controlplane"]
    # Etcd is the user etcd's, and so are its data and its keys.
    process = cluster2.typed(ETCD, "ps -o user=,args= -C etcd")
    assert process.split()[0] == "etcd"
    assert "--data-dir=/var/lib/etcd-data" in process
    assert cluster2.typed(ETCD, "stat -c %U:%G:%a /var/lib/etcd-data") == "etcd:etcd:700\n"

    kubectl("create", "deployment", "critical", "--image=nginx")
    assert "Snapshot saved at /opt/cluster2.db" in cluster2.typed(ETCD, f"{LINE} snapshot save /opt/cluster2.db")
    kubectl("delete", "deployment", "critical")
    cluster2.typed(ETCD, f"ETCDCTL_API=3 etcdctl snapshot restore /opt/cluster2.db --data-dir {NEW}")
    cluster2.typed(ETCD, f"sed -i 's#--data-dir=/var/lib/etcd-data$#--data-dir={NEW}#' /etc/systemd/system/etcd.service && systemctl daemon-reload")
    # What root restored is root's.
    assert "etcd.service failed" in cluster2.refused(ETCD, "systemctl restart etcd")
    assert "permission denied" in cluster2.typed(ETCD, "journalctl -u etcd --no-pager")
    cluster2.typed(ETCD, f"systemctl stop etcd && chown -R etcd:etcd {NEW} && systemctl restart etcd")
    assert f"--data-dir={NEW}" in cluster2.typed(ETCD, "ps -o args= -C etcd")
    shown = eventually(lambda: kubectl("get", "deployment", "critical"), timeout_s=60)
    assert "critical" in shown
    # The other cluster has noticed nothing.
    kubectl("config", "use-context", "cluster1")
    assert "critical" not in kubectl("get", "deployments", "-A")
    assert "etcd-controlplane" in kubectl("get", "pods", "-n", "kube-system")
    kubectl("config", "use-context", "cluster2")


def test_backup_and_restore_in_one_command(cluster2: Cluster, tmp_path: Path) -> None:
    cluster2.kubectl("config", "use-context", "cluster2")
    assert "etcd would lose its quorum: this is its only member" in cluster2.run("machine", "pause", ETCD).stderr
    assert cluster2("machine", "pause", "--force", ETCD) == f'machine "{ETCD}" paused\n'
    cluster2("machine", "resume", ETCD)
    restoring.story(cluster2, tmp_path)
    assert cluster2.typed(ETCD, f"stat -c %U:%G:%a {NEW}") == "etcd:etcd:700\n"
