"""Rows R01-R03 and R08: what a version is, which there are, what is released together, and for how long."""

import json
import re
import subprocess

import pytest

from harness.cluster import KUBETTE, Cluster

RELEASE = re.compile(r"v\d+\.\d+\.\d+")


def test_r01_every_component_says_major_minor_patch(cluster: Cluster) -> None:
    said = cluster.kubectl.run("version").stdout
    client, server = (re.search(rf"^{side} Version: (\S+)$", said, re.MULTILINE) for side in ("Client", "Server"))
    assert client is not None
    assert server is not None
    assert RELEASE.fullmatch(client[1])
    version = server[1]
    assert RELEASE.fullmatch(version)
    nodes = cluster.kubectl.json("get", "nodes")["items"]
    assert {(node["status"]["nodeInfo"]["kubeletVersion"], node["status"]["nodeInfo"]["kubeProxyVersion"] or version) for node in nodes} == {
        (version, version)
    }
    for program in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"):
        assert cluster.typed("controlplane", f"{program} --version") == f"Kubernetes {version}\n"
    info = json.loads(cluster.kubectl("get", "--raw", "/version"))
    assert (f"v{info['major']}.{info['minor']}." in version, info["gitVersion"]) == (True, version)


def versions(*words: str) -> str:
    return subprocess.run([KUBETTE, "versions", *words], capture_output=True, text=True, check=True).stdout


def listed(*words: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(versions(*words, "-o", "json"))
    return rows


@pytest.mark.style("kubeadm")
def test_r02_alpha_and_beta_come_before_a_release(cluster: Cluster) -> None:
    known = [row["version"] for row in listed("v1.31")]
    assert [v for v in known if v.startswith("v1.31.0")] == [
        "v1.31.0", "v1.31.0-rc.1", "v1.31.0-rc.0", "v1.31.0-beta.0", "v1.31.0-alpha.3", "v1.31.0-alpha.2", "v1.31.0-alpha.1",
    ]  # fmt: skip
    # They have a repository of their own, and kubeadm offers them to those who ask only.
    prerelease = "deb [trusted=yes] https://pkgs.k8s.io/core:/prerelease:/v1.31/deb/ /"
    try:
        cluster.typed("node01", f"echo '{prerelease}' > /etc/apt/sources.list.d/prerelease.list && apt-get update")
        assert " 1.31.0~beta.0-1.1 " in cluster.typed("node01", "apt-cache madison kubeadm")
    finally:
        cluster.typed("node01", "rm /etc/apt/sources.list.d/prerelease.list && apt-get update")


@pytest.mark.style("kubeadm")
def test_r03_etcd_and_coredns_have_versions_of_their_own(cluster: Cluster) -> None:
    for row in listed():
        line = row["version"].rpartition(".")[0]
        images = cluster.typed("controlplane", f"kubeadm config images list --kubernetes-version {row['version']}").splitlines()
        assert images == [
            *(f"registry.k8s.io/{name}:{row['version']}" for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")),
            f"registry.k8s.io/coredns/coredns:{row['coredns']}",
            f"registry.k8s.io/pause:{row['pause']}",
            f"registry.k8s.io/etcd:{row['etcd']}",
        ], line


def test_r08_the_newest_three_minors_are_supported() -> None:
    rows = listed()
    assert [row["support"] for row in rows] == ["supported"] * 3 + ["ended"] * (len(rows) - 3)
    table = versions().splitlines()
    assert table[0].split() == ["VERSION", "STAGE", "SUPPORT", "END-OF-LIFE", "ETCD", "COREDNS", "PAUSE"]
    assert table[-1].split()[2:4] == ["ended", "2025-07-15"]  # v1.30
