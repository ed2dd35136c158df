"""Rows U09, U12-U14, U17, U18 and R01 of the article, typed as there: a machine gets newer programs by its packages, one by one."""

import re
from collections.abc import Callable, Iterator

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually

LIST = "/etc/apt/sources.list.d/kubernetes.list"


@pytest.fixture(scope="module")
def machine(new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    """A new cluster of v1.30.0; its node01 is what the tests type at."""
    cluster = new_cluster("packages")
    cluster.up("--workers=1", "--kubernetes-version=v1.30.0")
    yield cluster
    cluster.remove()


def typed(cluster: Cluster, line: str) -> str:
    return cluster.on("node01", line)


def versions(cluster: Cluster) -> dict[str, str]:
    """Node to kubelet's version, as `kubectl get nodes` has it."""
    rows = [line.split() for line in cluster.kubectl("get", "nodes", "--no-headers").splitlines()]
    return {row[0]: row[-1] for row in rows}


def test_u09_r01_every_component_is_of_the_release_of_the_cluster(machine: Cluster) -> None:
    assert versions(machine) == {"controlplane": "v1.30.0", "node01": "v1.30.0"}
    assert typed(machine, "kubelet --version") == "Kubernetes v1.30.0\n"
    assert typed(machine, "kubeadm version -o short") == "v1.30.0\n"
    assert "Server Version: v1.30.0" in machine.kubectl("version")
    if typed(machine, "command -v dpkg || true"):  # the host's
        assert re.search(r"^ii +kubelet +1\.30\.0-1\.1 ", typed(machine, "dpkg -l kubelet"), re.MULTILINE)


def test_u12_u13_u14_the_list_of_sources_decides_which_kubeadm_there_is(machine: Cluster) -> None:
    refused = machine.run("ssh", "node01", "--", "apt-get install kubeadm=1.31.0-1.1")
    assert refused.returncode == 100
    assert "E: Version '1.31.0-1.1' for 'kubeadm' was not found" in refused.stderr
    typed(machine, f"sed -i s/v1.30/v1.31/ {LIST}")
    typed(machine, "sudo apt update")
    assert "   kubeadm | 1.31.0-1.1 | https://pkgs.k8s.io/core:/stable:/v1.31/deb  Packages\n" in typed(machine, "sudo apt-cache madison kubeadm")
    typed(machine, "apt-get install kubeadm=1.31.0-1.1")
    assert typed(machine, "kubeadm version -o short") == "v1.31.0\n"
    assert typed(machine, "kubelet --version") == "Kubernetes v1.30.0\n"


def test_u17_u18_a_new_kubelet_runs_after_its_restart_and_not_before(machine: Cluster) -> None:
    typed(machine, f"sed -i s/v1.30/v1.31/ {LIST} && apt-get update && apt-mark hold kubelet")
    before = typed(machine, "systemctl show --property MainPID --value kubelet")
    refused = machine.run("ssh", "node01", "--", "apt-get install -y kubelet=1.31.0-1.1")
    assert "E: Held packages were changed and -y was used without --allow-change-held-packages." in refused.stderr
    typed(machine, "apt-mark unhold kubelet && apt-get install -y kubelet=1.31.0-1.1")
    assert typed(machine, "kubelet --version") == "Kubernetes v1.31.0\n"
    assert typed(machine, "systemctl show --property MainPID --value kubelet") == before
    assert 'git_version="v1.30.0"' in machine.kubectl("get", "--raw", "/api/v1/nodes/node01/proxy/metrics")  # of the process that runs
    assert versions(machine)["node01"] == "v1.30.0"
    typed(machine, "systemctl daemon-reload && systemctl restart kubelet")
    eventually(lambda: versions(machine) == {"controlplane": "v1.30.0", "node01": "v1.31.0"})
