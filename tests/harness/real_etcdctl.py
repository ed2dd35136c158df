"""The real etcdctl on a machine: in its /usr/local/bin, before ours, as after the article's "download binaries and then extract it"."""

import shutil

import pytest

from harness import judges
from harness.cluster import Cluster

CERTIFICATES = {
    "kubeadm": "--cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key",
    "systemd": "--cacert=/etc/etcd/ca.crt --cert=/etc/etcd/etcd-server.crt --key=/etc/etcd/etcd-server.key",
}


def install(cluster: Cluster, machine: str) -> None:
    program = judges.find("etcdctl")
    if program is None:
        pytest.skip(judges.missing("etcdctl"))
    target = cluster.home / cluster.name / "machines" / machine / "usr/local/bin/etcdctl"
    if not target.exists():
        shutil.copy(program, target)
    assert cluster.typed(machine, "etcdctl version").startswith("etcdctl version: 3.4.")


def line(style: str, words: str) -> str:
    """`etcdctl WORDS` with the certificates of a control plane of that style."""
    return f"ETCDCTL_API=3 etcdctl --endpoints=https://127.0.0.1:2379 {CERTIFICATES[style]} {words}"
