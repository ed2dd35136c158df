"""`kubeadm --dry-run`: everything is said, files go to a folder of their own, and neither machine nor cluster changes."""

import re

from harness.cluster import Cluster


def state(cluster: Cluster) -> list[str]:
    """What the commands would change."""
    files = "find /etc/kubernetes /var/lib/kubelet/*.yaml /var/lib/kubelet/*.env -type f -not -path '*/tmp/*' | sort | xargs md5sum"
    tokens = cluster.typed(
        "controlplane", "kubeadm token list -o jsonpath='{.token}'; kubectl -n kube-system get configmap kubeadm-config -o jsonpath={.metadata.uid}"
    )
    return [*(cluster.typed(machine, files) for machine in ("controlplane", "node01")), tokens]


def test_reset_says_what_it_would_take_away(cluster: Cluster) -> None:
    before = state(cluster)
    said = cluster.typed("controlplane", "kubeadm reset --dry-run")
    assert "[reset] Would remove the etcd member on this node from the etcd cluster\n" in said
    assert "[reset] Would delete contents of directories: [/etc/kubernetes/manifests /var/lib/kubelet /etc/kubernetes/pki]\n" in said
    assert "etcd" not in cluster.typed("node01", "kubeadm reset --dry-run")
    assert state(cluster) == before


def test_init_writes_into_a_folder_and_shows_it(cluster: Cluster) -> None:
    before = state(cluster)
    said = cluster.typed("controlplane", "KUBEADM_INIT_DRYRUN_DIR=/tmp/dry kubeadm init --dry-run --ignore-preflight-errors=all")
    assert '[dryrun] Would write file "/etc/kubernetes/manifests/kube-apiserver.yaml" with content:\n\tapiVersion: v1\n' in said
    assert '[dryrun] Would perform action CREATE on resource "configmaps" in API group "core/v1"\n' in said
    there = cluster.typed("controlplane", "ls /tmp/dry && rm -rf /tmp/dry").split()
    assert {"admin.conf", "apiserver.crt", "ca.key", "config.yaml", "etcd.yaml", "kube-apiserver.yaml"} <= set(there)
    assert state(cluster) == before


def test_join_asks_the_cluster_and_tells_it_nothing(cluster: Cluster) -> None:
    line = cluster.typed("controlplane", "kubeadm token create --print-join-command 2>/dev/null").strip()
    token = re.search(r"--token (\S+)", line)
    assert token is not None
    try:
        before = state(cluster)
        said = cluster.typed("node01", f"KUBEADM_JOIN_DRYRUN_DIR=/tmp/dry {line} --node-name=node09 --dry-run --ignore-preflight-errors=all")
        assert said.endswith("[join] Finished dry-running successfully!\n")
        assert "bootstrap-kubelet.conf" in cluster.typed("node01", "ls /tmp/dry && rm -rf /tmp/dry")
        assert state(cluster) == before
    finally:
        cluster.typed("controlplane", f"kubeadm token delete {token[1]}")
