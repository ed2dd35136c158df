"""Rows E01-E13: etcd, its client, and what Kubernetes keeps there. Those of several members (E14-E16) are in test_etcd_members.py.

For the first nine it is one etcd without flags, of an ordinary user, in a folder of node01; the client is the real one.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from harness import real_etcdctl
from harness.cluster import Cluster
from harness.eventually import eventually
from harness.kubectl import Kubectl

pytestmark = pytest.mark.needs("etcdctl")
FOLDER = "/tmp/etcd-v3"


@dataclass
class Standalone:
    """Lines typed in the folder where the programs were extracted."""

    cluster: Cluster

    def typed(self, line: str) -> str:
        return self.cluster.typed("node01", f"cd {FOLDER}; {line}")

    def refused(self, line: str) -> str:
        return self.cluster.refused("node01", f"cd {FOLDER}; {line}")


@pytest.fixture(scope="module")
def etcd(style: str, cluster: Cluster) -> Iterator[Standalone]:
    real_etcdctl.install(cluster, "node01")
    shell = Standalone(cluster)
    cluster.typed("node01", f"mkdir {FOLDER} && cd {FOLDER} && cp /usr/bin/etcd /usr/local/bin/etcdctl . && chown -R nobody .")
    shell.typed("(setpriv --reuid=nobody --regid=nogroup --clear-groups ./etcd >log 2>&1 </dev/null & echo $! >pid)")
    eventually(lambda: shell.typed("./etcdctl endpoint health 2>&1 || true"), lambda said: "is healthy" in said)
    yield shell
    shell.typed("pkill -u nobody etcd; while pgrep -u nobody etcd; do sleep 0.1; done; rm -rf /tmp/etcd-v3")


@pytest.mark.style("systemd")
def test_e01_a_process_without_flags_and_without_root(etcd: Standalone) -> None:
    assert "127.0.0.1:2379 is healthy: successfully committed proposal: took = " in etcd.typed("./etcdctl endpoint health")
    assert etcd.typed("ps -o user= -C etcd").split() == ["nobody"]
    assert etcd.typed("ls default.etcd/member").split() == ["snap", "wal"]


@pytest.mark.style("systemd")
def test_e02_it_listens_to_2379_and_2380_and_a_second_one_is_refused(etcd: Standalone) -> None:
    listening = etcd.typed("ss -ltnp")
    for port in (2379, 2380):
        assert re.search(rf'127\.0\.0\.1:{port} .*users:\(\("etcd",', listening)
    said = etcd.refused("mkdir second && cd second && timeout 20 ../etcd")
    assert "listen tcp 127.0.0.1:2380: bind: address already in use" in said


@pytest.mark.style("systemd")
def test_e03_the_api_of_version_2_is_served_on_the_same_port(etcd: Standalone) -> None:
    assert etcd.typed("ETCDCTL_API=2 ./etcdctl set key1 value1") == "value1\n"
    assert etcd.typed("ETCDCTL_API=2 ./etcdctl get key1") == "value1\n"
    assert etcd.typed("ETCDCTL_API=2 ./etcdctl ls") == "/key1\n"
    assert 'unknown command "set" for "etcdctl"' in etcd.refused("ETCDCTL_API=3 ./etcdctl set key1 value1")


@pytest.mark.style("systemd")
def test_e04_e09_put_and_get_a_key_value_pair(etcd: Standalone) -> None:
    def revision() -> int:
        return int(json.loads(etcd.typed("./etcdctl get none -w json"))["header"]["revision"])

    before = revision()
    assert etcd.typed("./etcdctl put key1 value1") == "OK\n"
    assert revision() == before + 1
    assert etcd.typed("./etcdctl get key1") == "key1\nvalue1\n"
    etcd.typed("./etcdctl put key1 value2 && ./etcdctl put key2 other")
    assert revision() == before + 3
    assert etcd.typed(f"./etcdctl get key1 --rev={before + 1}") == "key1\nvalue1\n"
    assert etcd.typed("./etcdctl get key --prefix --keys-only").split() == ["key1", "key2"]
    (pair,) = json.loads(etcd.typed("./etcdctl get key1 -w json"))["kvs"]
    assert (pair["create_revision"], pair["mod_revision"], pair["version"]) == (before + 1, before + 2, 2)
    seen = etcd.typed(f"timeout 0.5 ./etcdctl watch key1 --rev={before + 1} || true")
    assert seen == "PUT\nkey1\nvalue1\nPUT\nkey1\nvalue2\n"


# Each line does its whole work; `true` ends what would go on.
SUBCOMMANDS = """
./etcdctl put a 1
./etcdctl get a
printf 'value("a") = "1"\\n\\nput a 2\\n\\n\\n' | ./etcdctl txn -i
./etcdctl del a
timeout 0.5 ./etcdctl watch a --rev=1 || true
lease=$(./etcdctl lease grant 60 | cut -d' ' -f2)
./etcdctl lease keep-alive --once $lease && ./etcdctl lease list && ./etcdctl lease timetolive $lease && ./etcdctl lease revoke $lease
./etcdctl lock l echo locked
timeout 0.5 ./etcdctl elect e me || true
timeout 0.5 ./etcdctl elect -l e || true
./etcdctl compaction 2
./etcdctl defrag
./etcdctl alarm list && ./etcdctl alarm disarm
./etcdctl member list
./etcdctl endpoint health && ./etcdctl endpoint status && ./etcdctl endpoint hashkv
./etcdctl move-leader $(./etcdctl member list | cut -d, -f1) || true
timeout 0.5 ./etcdctl make-mirror --dest-insecure-transport --prefix m --dest-prefix copy 127.0.0.1:2379 || true
./etcdctl snapshot save s.db && ./etcdctl snapshot status s.db && ./etcdctl snapshot restore s.db --data-dir restored
./etcdctl role add r && ./etcdctl role grant-permission r readwrite k && ./etcdctl role list && ./etcdctl role get r && ./etcdctl role revoke-permission r k
./etcdctl user add root:pw && ./etcdctl user add u:pw && ./etcdctl user list && ./etcdctl user grant-role u r && ./etcdctl user get u
./etcdctl user grant-role root root && ./etcdctl user revoke-role u r && ./etcdctl user delete u && ./etcdctl role delete r
./etcdctl auth enable && ./etcdctl --user root:pw get a && ./etcdctl --user root:pw auth disable
./etcdctl user delete root
timeout -s INT {check_s} ./etcdctl check perf || true
"""


@pytest.mark.style("systemd")
def test_e05_every_subcommand_is_answered(etcd: Standalone, is_long: bool) -> None:
    shown = etcd.typed("./etcdctl")
    lines = SUBCOMMANDS.format(check_s=90 if is_long else 2)
    of_the_client_alone = {"help", "version", "completion", "migrate"}
    offered = set(re.findall(r"^\t([a-z-]+)(?: [a-z-]+)?\t", shown, re.MULTILINE)) - of_the_client_alone
    assert offered <= set(re.findall(r"etcdctl (?:-\S+ (?:\S+:\S+ )?)*([a-z-]+)", lines))
    said = etcd.typed(f"set -ex; {lines}")
    assert "nimplemented" not in said
    assert "unknown service" not in said
    if is_long:
        assert "PASS: Throughput" in said


@pytest.mark.style("systemd")
def test_e06_e07_e08_version_is_a_command_and_the_api_is_3(etcd: Standalone) -> None:
    for line in ("./etcdctl version", "ETCDCTL_API=3 ./etcdctl version", "export ETCDCTL_API=3; ./etcdctl version"):
        assert re.fullmatch(r"etcdctl version: 3\.4\.\d+\nAPI version: 3\.4\n", etcd.typed(line))
    assert re.match(r"etcdctl version: 3\.4\.\d+\nAPI version: 2\n", etcd.typed("ETCDCTL_API=2 ./etcdctl --version"))
    assert "unknown flag: --version" in etcd.refused("ETCDCTL_API=3 ./etcdctl --version")
    # The one of today that machines have: API 3 alone, and it says so of the variable.
    assert "API version: 3.6\n" in etcd.typed("ETCDCTL_API=3 /usr/bin/etcdctl version")
    assert "API version: 3.6\n" in etcd.typed("export ETCDCTL_API=3; /usr/bin/etcdctl version")


def test_e10_what_kubernetes_keeps_there(style: str, cluster: Cluster, kubectl: Kubectl) -> None:
    real_etcdctl.install(cluster, "controlplane")
    kubectl("create", "deployment", "kept", "--image=nginx")
    kubectl("create", "configmap", "kept", "--from-literal=a=b")
    kubectl("create", "secret", "generic", "kept", "--from-literal=a=b")
    kubectl("create", "role", "kept", "--verb=get", "--resource=pods")
    kubectl.wait("create", "pod", "-l", "app=kept")
    pod, replica_set = (kubectl.jsonpath("{.items[0].metadata.name}", kind) for kind in ("pods", "replicasets"))
    keys = cluster.typed("controlplane", real_etcdctl.line(style, "get /registry --prefix --keys-only")).split()
    for kind, name in {
        "pods": pod,
        "deployments": "kept",
        "replicasets": replica_set,
        "configmaps": "kept",
        "secrets": "kept",
        "roles": "kept",
    }.items():
        assert f"/registry/{kind}/{kubectl.namespace}/{name}" in keys
    assert [key for key in keys if key.startswith("/registry/minions/")] == [
        f"/registry/minions/{name}" for name in ("controlplane", "node01", "node02")
    ]
    assert f"/registry/namespaces/{kubectl.namespace}" in keys


def test_e11_a_client_without_a_certificate_of_the_authority_is_refused(style: str, cluster: Cluster) -> None:
    real_etcdctl.install(cluster, "controlplane")
    question = "--command-timeout=1s --dial-timeout=1s get /registry/minions/ --prefix --keys-only"
    assert "/registry/minions/node01" in cluster.typed("controlplane", real_etcdctl.line(style, question)).split()
    authority = real_etcdctl.CERTIFICATES[style].split()[0]
    pair = {"kubeadm": "/var/lib/kubelet/pki/kubelet{}", "systemd": "/var/lib/kubelet/kubelet{}"}[style]
    others = f"--cert={pair.format('.crt')} --key={pair.format('.key')}"
    for wrong in (authority, f"{authority} {others}"):
        said = cluster.refused("controlplane", f"ETCDCTL_API=3 etcdctl --endpoints=https://127.0.0.1:2379 {wrong} {question}")
        assert "/registry" not in said


@pytest.mark.style("kubeadm")
def test_e12_etcd_is_a_pod_of_the_system(cluster: Cluster) -> None:
    (line,) = (line for line in cluster.kubectl("get", "pods", "-n", "kube-system").splitlines() if line.startswith("etcd-"))
    assert line.split()[:3] == ["etcd-controlplane", "1/1", "Running"]


@pytest.mark.style("kubeadm")
def test_e13_the_keys_are_seen_from_inside_the_pod(cluster: Cluster, judge: Callable[[str], str]) -> None:
    kubectl = cluster.kubectl
    certificates = "--cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/server.crt --key /etc/kubernetes/pki/etcd/server.key"
    line = f"ETCDCTL_API=3 {{}} get / --prefix --keys-only --limit=10 {certificates}"
    inside = ("exec", "etcd-controlplane", "-n", "kube-system", "--", "sh", "-c")
    # The image's, and the real one, brought there.
    kubectl("cp", "-n", "kube-system", judge("etcdctl"), "etcd-controlplane:/tmp/etcdctl")
    try:
        for program in ("etcdctl", "/tmp/etcdctl"):
            keys = kubectl(*inside, line.format(program)).split()
            assert keys[0] == "/registry/apiregistration.k8s.io/apiservices/v1."
            assert len(keys) == 10
    finally:
        kubectl(*inside, "rm /tmp/etcdctl")
