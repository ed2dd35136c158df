"""Rows U01-U20 and R05, R06, R09: a cluster of v1.30.0 is upgraded by kubeadm, line for line as the article types it. One story: each test goes on where the one before stopped.

While it lasts a service is asked fifty times a second (U01, U02).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually
from harness.prober import RATE_PER_S, Prober

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
LIST = "/etc/apt/sources.list.d/kubernetes.list"


@dataclass
class Lab:
    """The cluster of the story, and who asks its service all the time."""

    cluster: Cluster
    prober: Prober

    def typed(self, machine: str, line: str, answer: str = "") -> str:
        """A line typed on a machine; `answer` to what it asks."""
        return self.cluster.typed(machine, f"printf '{answer}\\n' | {{ {line}; }}" if answer else line)

    def refused(self, machine: str, line: str) -> tuple[int, str]:
        """(exit code, both outputs) of a line that does not succeed."""
        done = self.cluster.run("ssh", machine, "--", "bash", "-c", f"exec 2>&1; {line}")
        assert done.returncode != 0, done.stdout
        return done.returncode, done.stdout

    def versions(self) -> dict[str, str]:
        """Node to the version that `kubectl get nodes` shows."""
        rows = [line.split() for line in self.cluster.kubectl("get", "nodes", "--no-headers").splitlines()]
        return {row[0]: row[-1] for row in rows}

    def places(self) -> dict[str, str]:
        """Pod of blue that stays to the machine it is on."""
        pods = self.cluster.kubectl.json("get", "pods", "-l", "app=blue")["items"]
        return {pod["metadata"]["name"]: pod["spec"].get("nodeName", "") for pod in pods if not pod["metadata"].get("deletionTimestamp")}

    def static_pods(self) -> dict[str, tuple[str, int]]:
        """Component to its image and how often its container was started again."""
        pods = self.cluster.kubectl.in_namespace("kube-system").json("get", "pods", "-l", "tier=control-plane")["items"]
        return {
            pod["metadata"]["labels"]["component"]: (pod["spec"]["containers"][0]["image"], pod["status"]["containerStatuses"][0]["restartCount"])
            for pod in pods
        }


def blue() -> list[dict[str, Any]]:
    """A deployment that may lose one pod at a time; a pod that goes answers until nobody sends anything to it any more."""
    labels = {"app": "blue"}
    container = {
        "name": "nginx",
        "image": "nginx",
        "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "blue"},
            "spec": {"replicas": 4, "selector": {"matchLabels": labels}, "template": template},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "blue"}, "spec": {"selector": labels, "ports": [{"port": 80}]}},
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "blue"},
            "spec": {"maxUnavailable": 2, "selector": {"matchLabels": labels}},
        },
    ]


@pytest.fixture(scope="module")
def lab(new_cluster: Callable[..., Cluster]) -> Iterator[Lab]:
    """controlplane and node01, both with pods of blue; node02 is a machine that has left the cluster."""
    cluster = new_cluster("upgrade")
    cluster.up("--workers=2", "--kubernetes-version=v1.30.0")
    cluster.typed("node02", "kubeadm reset --force")
    kubectl = cluster.kubectl
    kubectl("delete", "node", "node02")
    kubectl("taint", "nodes", "controlplane", "node-role.kubernetes.io/control-plane-")
    kubectl.in_namespace("kube-system")("rollout", "status", "deployment/coredns", "--timeout=60s", timeout_s=70)
    kubectl.apply(*blue())
    kubectl("rollout", "status", "deployment/blue", "--timeout=60s", timeout_s=70)
    address = kubectl.jsonpath("{.spec.clusterIP}", "service", "blue")
    prober = Prober(cluster, "controlplane", address, 80)
    prober.__enter__()
    yield Lab(cluster, prober)
    cluster.remove()


def from_the_table_on(text: str) -> str:
    return text[text.index("Components that must be") :]


def test_u09_two_nodes_of_v1_30_0(lab: Lab) -> None:
    assert lab.versions() == {"controlplane": "v1.30.0", "node01": "v1.30.0"}
    assert set(lab.places().values()) == {"controlplane", "node01"}


def test_u04_u10_plan_says_what_there_is_and_what_it_takes(lab: Lab) -> None:
    plan = lab.typed("controlplane", "kubeadm upgrade plan v1.30.6")
    assert (
        plan
        == """\
[preflight] Running pre-flight checks.
[upgrade/config] Reading configuration from the cluster...
[upgrade/config] FYI: You can look at this config file with 'kubectl -n kube-system get cm kubeadm-config -o yaml'
[upgrade] Running cluster health checks
[upgrade] Fetching available versions to upgrade to
[upgrade/versions] Cluster version: 1.30.0
[upgrade/versions] kubeadm version: v1.30.0
[upgrade/versions] Target version: v1.30.6
[upgrade/versions] Latest version in the v1.30 series: v1.30.6

Components that must be upgraded manually after you have upgraded the control plane with 'kubeadm upgrade apply':
COMPONENT   NODE           CURRENT   TARGET
kubelet     controlplane   v1.30.0   v1.30.6
kubelet     node01         v1.30.0   v1.30.6

Upgrade to the latest version in the v1.30 series:

COMPONENT                 NODE           CURRENT    TARGET
kube-apiserver            controlplane   v1.30.0    v1.30.6
kube-controller-manager   controlplane   v1.30.0    v1.30.6
kube-scheduler            controlplane   v1.30.0    v1.30.6
kube-proxy                               1.30.0     v1.30.6
CoreDNS                                  v1.11.1    v1.11.1
etcd                      controlplane   3.5.12-0   3.5.12-0

You can now apply the upgrade by executing the following command:

	kubeadm upgrade apply v1.30.6

Note: Before you can perform this upgrade, you have to update kubeadm to v1.30.6.

_____________________________________________________________________


The table below shows the current state of component configs as understood by this version of kubeadm.
Configs that have a "yes" mark in the "MANUAL UPGRADE REQUIRED" column require manual config upgrade or
resetting to kubeadm defaults before a successful upgrade can be performed. The version to manually
upgrade to is denoted in the "PREFERRED VERSION" column.

API GROUP                 CURRENT VERSION   PREFERRED VERSION   MANUAL UPGRADE REQUIRED
kubeproxy.config.k8s.io   v1alpha1          v1alpha1            no
kubelet.config.k8s.io     v1beta1           v1beta1             no
_____________________________________________________________________

"""
    )
    # Without a version: the newest of the line that this kubeadm can install.
    alone = lab.typed("controlplane", "kubeadm upgrade plan")
    assert re.search(r"^I remote version is much newer: v1\.37\.\d+; falling back to: stable-1\.30$", alone, re.MULTILINE)
    assert "[upgrade/versions] Latest version in the v1.30 series: v1.30.14\n" in alone


def test_u11_drain_moves_the_pods_and_leaves_the_static_ones(lab: Lab) -> None:
    before = lab.static_pods()
    said = lab.typed("controlplane", "kubectl drain controlplane --ignore-daemonsets")
    assert said.endswith("node/controlplane drained\n")
    eventually(lambda: sorted(lab.places().values()), lambda where: where == ["node01"] * 4)
    assert lab.static_pods() == before
    assert "Ready,SchedulingDisabled" in lab.cluster.kubectl("get", "node", "controlplane")


def test_u12_u13_u14_the_line_of_the_repository_decides(lab: Lab) -> None:
    status, said = lab.refused("controlplane", "apt-get install kubeadm=1.31.0-1.1")
    assert status == 100
    assert said.endswith("E: Version '1.31.0-1.1' for 'kubeadm' was not found\n")
    assert lab.typed("controlplane", f"cat {LIST}") == (
        "deb [signed-by=/etc/apt/keyrings/kubernetes-apt-keyring.gpg] https://pkgs.k8s.io/core:/stable:/v1.30/deb/ /\n"
    )
    lab.typed("controlplane", f"sed -i s/v1.30/v1.31/ {LIST}")  # the article's editor is vim
    lab.typed("controlplane", "apt update")
    assert "   kubeadm | 1.31.0-1.1 | https://pkgs.k8s.io/core:/stable:/v1.31/deb  Packages\n" in lab.typed(
        "controlplane", "apt-cache madison kubeadm"
    )
    assert "Unpacking kubeadm (1.31.0-1.1) over (1.30.0-1.1) ...\n" in lab.typed("controlplane", "apt-get install kubeadm=1.31.0-1.1")
    assert lab.typed("controlplane", "kubeadm version -o short") == "v1.31.0\n"


def test_u15_u04_plan_of_the_minor(lab: Lab) -> None:
    plan = lab.typed("controlplane", "kubeadm upgrade plan v1.31.0")
    assert "[upgrade/versions] Cluster version: 1.30.0\n[upgrade/versions] kubeadm version: v1.31.0\n" in plan
    for row in (
        "kubelet     node01         v1.30.0   v1.31.0",
        "kube-apiserver            controlplane   v1.30.0    v1.31.0",
        "etcd                      controlplane   3.5.12-0   3.5.15-0",
        "\tkubeadm upgrade apply v1.31.0",
    ):
        assert f"\n{row}\n" in plan
    assert "Note: Before you can perform this upgrade" not in plan


def test_u05_diff_and_a_dry_run_change_nothing(lab: Lab) -> None:
    before = lab.typed("controlplane", "md5sum /etc/kubernetes/manifests/* /var/lib/kubelet/config.yaml")
    assert "+    image: registry.k8s.io/kube-scheduler:v1.31.0\n" in lab.typed("controlplane", "kubeadm upgrade diff v1.31.0")
    told = lab.typed("controlplane", "kubeadm upgrade apply v1.31.0 --dry-run")
    assert '[dryrun] Would write file "/etc/kubernetes/manifests/kube-apiserver.yaml" with content:\n\tapiVersion: v1\n\tkind: Pod\n' in told
    assert '[dryrun] Would perform action CREATE on resource "deployments" in API group "apps/v1"\n[dryrun] Attached object:\n' in told
    assert told.endswith("[upgrade/successful] Finished dryrunning successfully!\n")
    assert lab.typed("controlplane", "md5sum /etc/kubernetes/manifests/* /var/lib/kubelet/config.yaml") == before
    assert "Server Version: v1.30.0" in lab.cluster.kubectl("version")


def test_u16_u05_apply_asks_and_replaces_the_control_plane(lab: Lab) -> None:
    assert (
        "won't proceed; the user didn't answer (Y|y) in order to continue" in lab.refused("controlplane", "echo n | kubeadm upgrade apply v1.31.0")[1]
    )
    expiry = "openssl x509 -noout -serial -in /etc/kubernetes/pki/{}.crt"
    old = {name: lab.typed("controlplane", expiry.format(name)) for name in ("apiserver", "etcd/server", "ca")}
    said = lab.typed("controlplane", "kubeadm upgrade apply v1.31.0", answer="y")
    assert "[upgrade] Are you sure you want to proceed? [y/N]: " in said
    assert said.endswith(
        '\n[upgrade/successful] SUCCESS! Your cluster was upgraded to "v1.31.0". Enjoy!\n\n'
        "[upgrade/kubelet] Now that your control plane is upgraded, please proceed with upgrading your kubelets if you haven't already done so.\n"
    )
    assert "Server Version: v1.31.0" in lab.cluster.kubectl("version")
    images = {component: image.rpartition(":")[2] for component, (image, _) in lab.static_pods().items()}
    assert images == {"etcd": "3.5.15-0", **dict.fromkeys(CONTROL_PLANE[1:], "v1.31.0")}
    # What was there is kept, under the hour of the upgrade.
    kept = lab.typed("controlplane", "cd /etc/kubernetes/tmp && ls -d kubeadm-backup-* kubeadm-kubelet-config-*").split()
    assert [re.sub(r"\d{4}(-\d\d){5}$", "DATE", name) for name in kept] == [
        "kubeadm-backup-etcd-DATE",
        "kubeadm-backup-manifests-DATE",
        "kubeadm-kubelet-config-DATE",
    ]
    assert lab.typed("controlplane", f"grep -h image: /etc/kubernetes/tmp/{kept[1]}/*").count("v1.30.0") == 3
    lab.typed("controlplane", f"test -s /etc/kubernetes/tmp/{kept[0]}/etcd/member/wal/0000000000000000-0000000000000000.wal")
    new = {name: lab.typed("controlplane", expiry.format(name)) for name in old}
    assert {name for name in old if new[name] != old[name]} == {"apiserver", "etcd/server"}


def test_u06_nodes_show_the_old_version_until_their_kubelet_is_new(lab: Lab) -> None:
    assert lab.versions() == {"controlplane": "v1.30.0", "node01": "v1.30.0"}
    lab.typed("controlplane", "apt-get install kubelet=1.31.0-1.1")
    assert lab.typed("controlplane", "kubelet --version") == "Kubernetes v1.31.0\n"
    assert lab.versions()["controlplane"] == "v1.30.0"


def test_u17_u18_the_kubelet_is_new_after_its_restart_and_the_unit_after_a_reload(lab: Lab) -> None:
    pid = lab.typed("controlplane", "systemctl show --property MainPID --value kubelet")
    lab.typed("controlplane", "mkdir -p /etc/systemd/system/kubelet.service.d")
    lab.typed("controlplane", r"printf '[Service]\nEnvironment=KUBELET_EXTRA_ARGS=--v=3\n' > /etc/systemd/system/kubelet.service.d/20-more.conf")
    # A restart alone: a new process with the old flags, and systemd says why.
    said = lab.typed("controlplane", "systemctl restart kubelet")
    assert said == (
        "Warning: The unit file, source configuration file or drop-ins of kubelet.service changed on disk. "
        "Run 'systemctl daemon-reload' to reload units.\n"
    )
    running = "ps -o args= -p $(systemctl show --property MainPID --value kubelet)"
    assert lab.typed("controlplane", "systemctl show --property MainPID --value kubelet") != pid
    assert "--v=3" not in lab.typed("controlplane", running)
    lab.typed("controlplane", "systemctl daemon-reload")
    assert lab.typed("controlplane", "systemctl restart kubelet") == ""
    assert "--v=3" in lab.typed("controlplane", running)
    eventually(lambda: lab.versions() == {"controlplane": "v1.31.0", "node01": "v1.30.0"})


def test_u19_uncordon(lab: Lab) -> None:
    assert lab.typed("controlplane", "kubectl uncordon controlplane") == "node/controlplane uncordoned\n"
    assert lab.cluster.kubectl("get", "node", "controlplane", "--no-headers").split()[1] == "Ready"
    # The upgrade has begun to replace every kube-proxy. Who types the next drain in the same second drains while nobody follows the endpoints.
    lab.cluster.kubectl("rollout", "status", "daemonset/kube-proxy", "--namespace=kube-system", "--timeout=60s", timeout_s=70)


def test_u20_u07_node01_the_same_way(lab: Lab) -> None:
    lab.typed("controlplane", "kubectl drain node01 --ignore-daemonsets")
    eventually(lambda: sorted(lab.places().values()), lambda where: where == ["controlplane"] * 4)
    for line in (f"sed -i s/v1.30/v1.31/ {LIST}", "apt update", "apt-get install kubeadm=1.31.0-1.1"):
        lab.typed("node01", line)
    assert lab.typed("node01", "kubeadm upgrade node").splitlines()[-2:] == [
        "[upgrade] The configuration for this node was successfully updated!",
        "[upgrade] Now you should go ahead and upgrade the kubelet package using your package manager.",
    ]
    # As it was spelled before v1.15.
    lab.typed("node01", "kubeadm upgrade node config --kubelet-version v1.31.0")
    for line in ("apt-get install kubelet=1.31.0-1.1", "systemctl daemon-reload", "systemctl restart kubelet"):
        lab.typed("node01", line)
    eventually(lambda: lab.versions()["node01"] == "v1.31.0")
    lab.typed("controlplane", "kubectl uncordon node01")


def test_u08_all_are_ready_and_of_one_version(lab: Lab) -> None:
    nodes = lab.cluster.kubectl("get", "nodes", "--no-headers").splitlines()
    assert [(line.split()[1], line.split()[-1]) for line in nodes] == [("Ready", "v1.31.0")] * 2
    assert "Awesome, you're up-to-date! Enjoy!" in lab.typed("controlplane", "kubeadm upgrade plan v1.31.0")


def test_r09_two_minors_at_once_are_refused(lab: Lab) -> None:
    """By the kubeadm that is there, and by the one that could."""
    status, said = lab.refused("controlplane", "kubeadm upgrade apply v1.33.0")
    assert status == 1
    assert said.endswith(
        "[upgrade/version] FATAL: the --version argument is invalid due to these fatal errors:\n\n"
        '\t- Specified version to upgrade to "v1.33.0" is too high; kubeadm can upgrade only 1 minor version at a time\n'
        '\t- Specified version to upgrade to "v1.33.0" is at least one minor release higher than the kubeadm minor release (33 > 31). '
        "Such an upgrade is not supported\n\n"
        "Please fix the misalignments highlighted above and try upgrading again\n"
        "To see the stack trace of this error execute with --v=5 or higher\n"
    )
    lab.typed("controlplane", f"sed -i s/v1.31/v1.33/ {LIST}; apt update; apt-get install kubeadm=1.33.0-1.1")
    status, said = lab.refused("controlplane", "kubeadm upgrade apply v1.33.0")
    assert status == 1
    assert "this version of kubeadm only supports deploying clusters with the control plane version >= 1.32.0. Current version: v1.31.0\n" in said
    assert "Server Version: v1.31.0" in lab.cluster.kubectl("version")
    lab.typed("controlplane", f"sed -i s/v1.33/v1.31/ {LIST}; apt update; apt-get install -y --allow-downgrades kubeadm=1.31.0-1.1")


def test_r06_kubectl_itself_says_that_it_is_too_new(lab: Lab) -> None:
    done = lab.cluster.kubectl.run("version")
    client = re.search(r"Client Version: v1\.(\d+)", done.stdout)
    assert client is not None
    warning = f"version difference between client (1.{client[1]}) and server (1.31) exceeds the supported minor version skew of +/-1"
    assert warning in done.stderr


def test_r05_a_kubelet_newer_than_the_api_server_does_not_join(lab: Lab) -> None:
    lab.typed("node02", f"sed -i s/v1.30/v1.32/ {LIST}; apt update; apt-get install kubeadm=1.32.0-1.1 kubelet=1.32.0-1.1")
    join = lab.typed("controlplane", "kubeadm token create --print-join-command").strip()
    status, said = lab.refused("node02", join)
    assert status == 2
    assert (
        "\t[ERROR KubeletVersion]: the kubelet version is higher than the control plane version. This is not a supported version skew and "
        'may lead to a malfunctional cluster. Kubelet version: "1.32.0" Control plane version: "1.31.0"\n'
    ) in said
    lab.typed("node02", f"sed -i s/v1.32/v1.31/ {LIST}; apt update; apt-get install -y --allow-downgrades kubeadm=1.31.0-1.1 kubelet=1.31.0-1.1")


def test_u03_new_machines_in_and_old_ones_out(lab: Lab) -> None:
    lab.typed("node02", lab.typed("controlplane", "kubeadm token create --print-join-command").strip())
    eventually(lambda: lab.versions().get("node02") == "v1.31.0")
    lab.cluster.kubectl.wait("condition=Ready", "node/node02")
    lab.typed("controlplane", "kubectl drain node01 --ignore-daemonsets")
    assert lab.typed("controlplane", "kubectl delete node node01") == 'node "node01" deleted\n'
    eventually(lambda: sorted({*lab.places().values()}), lambda where: "node01" not in where)
    assert lab.versions() == {"controlplane": "v1.31.0", "node02": "v1.31.0"}


def test_u01_u02_the_service_answered_all_the_time(lab: Lab) -> None:
    prober = lab.prober
    prober.__exit__(None, None, None)
    assert prober.failures == [], f"{len(prober.failures)} of {prober.sent}"
    assert prober.sent > 20 * RATE_PER_S / 2  # of a story that takes longer than twenty seconds
