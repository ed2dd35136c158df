"""Rows B01-B18: backup and restore, typed as in the article on one control plane and a worker, in both styles. One story: etcd's folder changes on the way.

Three control planes (B20) and an etcd of its own machine (B19) are in files of their own.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import api, control_plane, real_etcdctl, restoring
from harness.cluster import CONTROL_PLANE, Cluster
from harness.eventually import eventually
from harness.kubectl import Kubectl

pytestmark = pytest.mark.needs("etcdctl")

SNAPSHOT = "/opt/snapshot-pre-boot.db"
PEER = "https://192.168.56.11:2380"
OTHERS_AUTHORITY = {"kubeadm": "/etc/kubernetes/pki/ca.crt", "systemd": "/var/lib/kubernetes/ca.crt"}
OTHERS_CERTIFICATE = {"kubeadm": "/var/lib/kubelet/pki/kubelet", "systemd": "/var/lib/kubelet/kubelet"}


@pytest.fixture(scope="module")
def cluster(style: str, new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    own = new_cluster(f"backup-{style}")
    own.up(f"--style={style}", "--workers=1")
    real_etcdctl.install(own, "controlplane")
    yield own
    own.remove()


def etcdctl(cluster: Cluster, style: str, words: str) -> str:
    return cluster.typed("controlplane", real_etcdctl.line(style, words))


def revision(cluster: Cluster, style: str) -> int:
    return int(json.loads(etcdctl(cluster, style, "get none -w json"))["header"]["revision"])


def etcd_log(cluster: Cluster, style: str) -> str:
    line = "crictl logs $(crictl ps --quiet --name etcd)" if style == "kubeadm" else "journalctl -u etcd --no-pager"
    return cluster.typed("controlplane", line)


def web(kubectl: Kubectl, name: str = "blue") -> None:
    kubectl("create", "deployment", name, "--image=nginx", "--replicas=2")
    kubectl("expose", "deployment", name, "--port=80")
    kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s", timeout_s=70)


def test_b01_a_folder_of_manifests_is_applied_twice(kubectl: Kubectl, tmp_path: Path) -> None:
    for kind in ("deployment", "configmap"):
        more = ("--image=nginx", "--replicas=1") if kind == "deployment" else ("--from-literal=a=b",)
        (tmp_path / f"{kind}.yaml").write_text(kubectl("create", kind, "kept", *more, "--dry-run=client", "-o", "yaml"))
    assert kubectl("apply", "-f", f"{tmp_path}/") == "configmap/kept created\ndeployment.apps/kept created\n"
    assert kubectl("apply", "-f", f"{tmp_path}/") == "configmap/kept unchanged\ndeployment.apps/kept unchanged\n"


def test_b02_all_objects_in_one_file_are_applied_again(kubectl: Kubectl, tmp_path: Path) -> None:
    """As typed: `kubectl get all --all-namespaces -o yaml > all-deploy-services.yaml`. Pods and replica sets of a deployment come back by themselves."""
    web(kubectl)
    file = tmp_path / "all-deploy-services.yaml"
    file.write_text(kubectl("get", "all", "--all-namespaces", "-o", "yaml"))
    listed = yaml.safe_load(file.read_text())
    assert (
        {"Deployment", "ReplicaSet", "Pod", "Service", "DaemonSet"} >= {item["kind"] for item in listed["items"]} > {"Deployment", "Pod", "Service"}
    )

    def specs() -> dict[str, Any]:
        items = kubectl.json("get", "deployment,service")["items"]
        return {f"{item['kind']}/{item['metadata']['name']}": item["spec"] for item in items}

    before = specs()
    kubectl("delete", "deployment,service", "blue")
    kubectl.wait("delete", "pod", "-l", "app=blue")
    own = [item for item in listed["items"] if item["metadata"]["namespace"] == kubectl.namespace and item["kind"] in ("Deployment", "Service")]
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": own}))
    # What the server gave it (uid, resourceVersion) belongs to the object that was: `create` ignores it, as upstream.
    kubectl("create", "-f", str(file))
    kubectl("rollout", "status", "deployment/blue", "--timeout=60s", timeout_s=70)
    assert specs() == before


def test_b03_a_generic_client_saves_a_namespace_and_brings_it_back(cluster: Cluster, kubectl: Kubectl) -> None:
    """Velero in short: what there is by discovery, its objects by pages, created again in a namespace of another name."""
    web(kubectl)
    for number in range(5):
        kubectl("create", "configmap", f"page-{number}", f"--from-literal=number={number}")
    target = f"{kubectl.namespace}-restored"[-60:].strip("-")
    saved: dict[str, list[Any]] = {}
    with api.Api(cluster.kubeconfig) as call:
        groups = [f"/apis/{version['groupVersion']}" for group in call("GET", "/apis")["groups"] for version in group["versions"]]
        for base in ("/api/v1", *groups):
            for resource in call("GET", base)["resources"]:
                if not resource["namespaced"] or not {"list", "create"} <= set(resource["verbs"]) or "/" in resource["name"]:
                    continue
                more = ""
                while more is not None:
                    page = call("GET", f"{base}/namespaces/{kubectl.namespace}/{resource['name']}?limit=2&continue={more}")
                    saved.setdefault(f"{base}/{resource['name']}", []).extend(page["items"] or [])
                    more = page["metadata"].get("continue") or None
        assert len(saved["/api/v1/configmaps"]) == 6  # a namespace has kube-root-ca.crt of its own
        call("POST", "/api/v1/namespaces", {"metadata": {"name": target}})
        for path in ("/api/v1/configmaps", "/api/v1/services", "/apis/apps/v1/deployments"):
            base, _, plural = path.rpartition("/")
            for item in saved[path]:
                if item["metadata"]["name"] == "kube-root-ca.crt":
                    continue
                metadata = {key: value for key, value in item["metadata"].items() if key in ("name", "labels", "annotations")}
                spec = {key: value for key, value in (item.get("spec") or {}).items() if not key.startswith("clusterIP")}
                call("POST", f"{base}/namespaces/{target}/{plural}", {**item, "metadata": metadata, **({"spec": spec} if spec else {})})
    restored = kubectl.in_namespace(target)
    restored("rollout", "status", "deployment/blue", "--timeout=60s", timeout_s=70)
    assert restored.jsonpath("{.data.number}", "configmap", "page-4") == "4"
    restored("delete", "namespace", target, "--wait=false")


def test_b04_the_data_directory_is_seen_and_has_etcds_layout(style: str, cluster: Cluster) -> None:
    assert "--data-dir=/var/lib/etcd\n" in cluster.typed("controlplane", f"cat {control_plane.file_of(style, 'etcd')}")
    assert cluster.typed("controlplane", "ls /var/lib/etcd/member").split() == ["snap", "wal"]
    assert "db" in cluster.typed("controlplane", "ls /var/lib/etcd/member/snap").split()
    assert re.search(r"^\S{16}-\S{16}\.wal$", cluster.typed("controlplane", "ls /var/lib/etcd/member/wal"), re.MULTILINE)


def test_b05_snapshot_save_and_status(style: str, cluster: Cluster) -> None:
    def saved_between() -> tuple[int, int]:
        before = revision(cluster, style)
        assert "Snapshot saved at snapshot.db\n" in etcdctl(cluster, style, "snapshot save snapshot.db")
        return before, revision(cluster, style)

    # Leases are renewed all the time: until nothing is written meanwhile.
    at, _ = eventually(saved_between, lambda pair: pair[0] == pair[1], 60, "a snapshot during which nothing is written")
    assert "snapshot.db" in cluster.typed("controlplane", "ls").split()
    shown = [
        cluster.typed("controlplane", f"ETCDCTL_API=3 {program} snapshot status snapshot.db -w table 2>/dev/null")
        for program in ("etcdctl", "/usr/bin/etcdctl", "/usr/bin/etcdutl")
    ]
    heads = [[cell.strip().upper() for cell in text.splitlines()[1].strip("|").split("|")] for text in shown]
    assert heads[0] == ["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"]
    rows = [[cell.strip() for cell in text.splitlines()[3].strip("|").split("|")] for text in shown]
    # Releases count the size in other words: 4.1 MB.
    assert rows[0][:3] == rows[1][:3] == rows[2][:3]
    assert int(rows[0][1]) == at
    cluster.typed("controlplane", "cp snapshot.db bad.db && printf x | dd of=bad.db bs=1 seek=9000 conv=notrunc status=none")
    for at, program in enumerate(("etcdctl", "/usr/bin/etcdutl")):
        said = cluster.refused("controlplane", f"ETCDCTL_API=3 {program} snapshot restore bad.db --data-dir=/tmp/bad-{at}")
        assert "expected sha256 [" in said
    cluster.typed("controlplane", "rm -rf snapshot.db bad.db /tmp/bad-*")


def test_b06_the_api_server_is_stopped_and_started(style: str, cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    if style == "kubeadm":
        assert "Unit kube-apiserver.service not loaded." in cluster.refused("controlplane", "service kube-apiserver stop")
        control_plane.stop(cluster, style, "kube-apiserver")
    else:
        cluster.typed("controlplane", "service kube-apiserver stop")
        assert "inactive (dead)" in cluster.refused("controlplane", "service kube-apiserver status")
        assert cluster.refused("controlplane", "systemctl is-active kube-apiserver") == "inactive\n"
    refused = cluster.refused("controlplane", "kubectl get nodes")
    assert "connection to the server" in refused
    assert "6443 was refused" in refused
    assert "6443" not in cluster.typed("controlplane", "ss -ltn | grep 6443 || true")
    if style == "kubeadm":
        control_plane.start(cluster, style, "kube-apiserver")
    else:
        cluster.typed("controlplane", "service kube-apiserver start")
        eventually(lambda: control_plane.is_up(cluster, "kube-apiserver"), timeout_s=40)
    assert "controlplane" in kubectl("get", "nodes")


def test_b11_the_namespaces_and_etcds_pod(style: str, cluster: Cluster) -> None:
    namespaces = [line.split()[0] for line in cluster.kubectl("get", "ns", "--no-headers").splitlines()]
    assert {"default", "kube-node-lease", "kube-public", "kube-system"} <= set(namespaces)
    pods = [line.split()[0] for line in cluster.kubectl("get", "pods", "-n", "kube-system", "--no-headers").splitlines()]
    assert ("etcd-controlplane" in pods) == (style == "kubeadm")


@pytest.mark.style("kubeadm")
def test_b12_describe_shows_the_image_and_the_whole_command(cluster: Cluster) -> None:
    text = cluster.kubectl("describe", "pod", "etcd-controlplane", "-n", "kube-system")
    pki = "/etc/kubernetes/pki/etcd"
    for shown in (
        "--listen-client-urls=https://127.0.0.1:2379,https://192.168.56.11:2379",
        f"--cert-file={pki}/server.crt",
        f"--key-file={pki}/server.key",
        f"--trusted-ca-file={pki}/ca.crt",
        "--data-dir=/var/lib/etcd",
    ):
        assert shown in text
    assert re.search(r"Image: +registry\.k8s\.io/etcd:3\.\d+\.\d+-\d+\n", text)


def test_b14_wrong_certificates_and_a_wrong_port_time_out_and_the_server_says_why(style: str, cluster: Cluster) -> None:
    authority, cert, key = real_etcdctl.CERTIFICATES[style].split()
    other = OTHERS_CERTIFICATE[style]
    wrong = {
        "without a certificate": (authority, "2379"),
        "with another authority's certificate": (f"{authority} --cert={other}.crt --key={other}.key", "2379"),
        "trusting another authority": (f"--cacert={OTHERS_AUTHORITY[style]} {cert} {key}", "2379"),
        "at the wrong port": (f"{authority} {cert} {key}", "2378"),
    }
    # All four at once: each takes its five seconds.
    lines = [
        f"(ETCDCTL_API=3 etcdctl --endpoints=https://127.0.0.1:{port} {flags} get k >/tmp/wrong-{at} 2>&1; echo $? >>/tmp/wrong-{at}) &"
        for at, (flags, port) in enumerate(wrong.values())
    ]
    cluster.typed("controlplane", "\n".join([*lines, "wait"]))
    for at, what in enumerate(wrong):
        said = cluster.typed("controlplane", f"cat /tmp/wrong-{at}; rm /tmp/wrong-{at}")
        assert "context deadline exceeded" in said, f"{what}: {said}"
        assert said.split()[-1] != "0", f"{what}: {said}"
    log = etcd_log(cluster, style)
    for cause in ("tls: client didn't provide a certificate", "x509: certificate signed by unknown authority", "remote error: tls: "):
        assert any("rejected connection on client endpoint" in line and cause in line for line in log.splitlines()), log[-3000:]


@pytest.mark.style("systemd")
def test_b07_b08_b09_b10_restore_as_a_unit(cluster: Cluster, style: str) -> None:
    kubectl, on = cluster.kubectl, "controlplane"
    web(kubectl, "before")
    etcdctl(cluster, style, "snapshot save snapshot.db")
    web(kubectl, "later")
    ids = {line.split(",")[0] for line in etcdctl(cluster, style, "member list").splitlines()}
    cluster.typed(on, "service kube-apiserver stop")
    target = f"--name controlplane --data-dir /var/lib/etcd-from-backup --initial-cluster controlplane={PEER}"
    restore = (
        f"ETCDCTL_API=3 etcdctl snapshot restore snapshot.db {target} --initial-cluster-token etcd-cluster-1 --initial-advertise-peer-urls {PEER}"
    )
    assert "added member" in cluster.typed(on, restore)
    assert 'data-dir "/var/lib/etcd-from-backup" exists' in cluster.refused(on, restore)
    script = "s/etcd-cluster-0/etcd-cluster-1/;s#--data-dir=/var/lib/etcd#--data-dir=/var/lib/etcd-from-backup#"
    cluster.typed(on, f"sed -i '{script}' /etc/systemd/system/etcd.service")
    cluster.typed(on, "systemctl daemon-reload && service etcd restart")
    assert "--data-dir=/var/lib/etcd-from-backup" in control_plane.process(cluster, "etcd")
    now = {line.split(",")[0] for line in etcdctl(cluster, style, "member list").splitlines()}
    assert len(now) == 1
    assert not now & ids
    keys = etcdctl(cluster, style, "get /registry/deployments/ --prefix --keys-only").split()
    assert "/registry/deployments/default/before" in keys
    assert "/registry/deployments/default/later" not in keys
    cluster.typed(on, "service kube-apiserver start")
    eventually(lambda: control_plane.is_up(cluster, "kube-apiserver"), timeout_s=40)
    assert "deployment.apps/before" in kubectl("get", "all")
    # A controller that remembers what never was may bring a pod of it back, whose owner is looked for in vain.
    eventually(lambda: kubectl("get", "all"), lambda shown: "later" not in shown, 60, "what never was is gone")
    # Controllers and kubelets list again: new pods come, and those of what never was are gone from the machines.
    kubectl("scale", "deployment", "before", "--replicas=3")
    kubectl("rollout", "status", "deployment/before", "--timeout=60s", timeout_s=70)
    eventually(lambda: cluster.typed("node01", "crictl pods"), lambda pods: "later-" not in pods, 40, "the pods of what never was are gone")
    kubectl("delete", "deployment,service", "before")


@pytest.mark.style("kubeadm")
def test_b13_b15_b16_b17_b18_the_machine_that_lost_everything(cluster: Cluster, style: str) -> None:
    kubectl, on = cluster.kubectl, "controlplane"
    web(kubectl)
    saved = cluster.typed(
        on,
        "ETCDCTL_API=3 etcdctl --endpoints=https://[127.0.0.1]:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt "
        f"--cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key snapshot save {SNAPSHOT}",
    )
    assert f"Snapshot saved at {SNAPSHOT}\n" in saved
    cluster.typed(on, "rm -rf /var/lib/etcd")
    cluster("machine", "reboot", on)

    def applications() -> str:
        # Of those who may see, nobody is left but the one who needs no roles.
        return cluster.typed(on, "kubectl --kubeconfig=/etc/kubernetes/super-admin.conf get deployments,services,pods")

    shown = eventually(applications, lambda said: "service/kubernetes" in said, 60)
    assert "blue" not in shown
    # While the API server runs, and without certificates.
    cluster.typed(on, f"ETCDCTL_API=3 etcdctl --data-dir /var/lib/etcd-from-backup snapshot restore {SNAPSHOT}")
    cluster.typed(on, "sed -i 's#path: /var/lib/etcd$#path: /var/lib/etcd-from-backup#' /etc/kubernetes/manifests/etcd.yaml")
    eventually(lambda: kubectl("get", "deployment", "blue"), timeout_s=60)
    assert "--data-dir=/var/lib/etcd " in control_plane.process(cluster, "etcd") + " "
    mounted = cluster.typed(
        on, "grep -A2 volumes -m1 -n /etc/kubernetes/manifests/etcd.yaml; grep etcd-from-backup /etc/kubernetes/manifests/etcd.yaml"
    )
    assert mounted.count("etcd-from-backup") == 1
    # Within a minute, with nothing done by hand.
    for component in CONTROL_PLANE:
        kubectl.in_namespace("kube-system").wait("condition=Ready", f"pod/{component}-{on}", timeout_s=60)
    kubectl("rollout", "status", "deployment/blue", "--timeout=60s", timeout_s=70)
    kubectl("scale", "deployment", "blue", "--replicas=3")
    kubectl("rollout", "status", "deployment/blue", "--timeout=60s", timeout_s=70)
    running = kubectl("get", "pods", "-n", "kube-system", "--no-headers")
    assert {line.split()[2] for line in running.splitlines()} == {"Running"}
    kubectl("delete", "deployment,service", "blue")


def test_b16_a_restore_with_bumped_revisions_tells_everyone_who_remembers(style: str, cluster: Cluster) -> None:
    kubectl, on, folder = cluster.kubectl, "controlplane", "/var/lib/etcd-bumped"
    etcdctl(cluster, style, f"snapshot save {SNAPSHOT}")
    known = revision(cluster, style)
    kubectl("create", "configmap", "never-was")
    target = f"--name=controlplane --initial-cluster=controlplane={PEER} --initial-advertise-peer-urls={PEER} --data-dir={folder}"
    cluster.typed(on, f"etcdutl snapshot restore {SNAPSHOT} {target} --bump-revision=1000000 --mark-compacted")
    script = f"s#path: /var/lib/etcd.*#path: {folder}#" if style == "kubeadm" else f"s#--data-dir=/var/lib/etcd.*#--data-dir={folder}#"
    control_plane.edit(cluster, style, "etcd", script)
    assert revision(cluster, style) >= known + 1000000 - 100
    said = cluster.refused(on, real_etcdctl.line(style, f"get / --prefix --limit=1 --rev={known}"))
    assert "required revision has been compacted" in said
    with api.Api(cluster.kubeconfig) as call:
        event = call("GET", f"/api/v1/namespaces/default/configmaps?watch=1&resourceVersion={known}&timeoutSeconds=5")
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
    assert "never-was" not in kubectl("get", "configmaps")
    web(kubectl, "green")
    kubectl("delete", "deployment,service", "green")


def test_backup_and_restore_in_one_command(cluster: Cluster, tmp_path: Path) -> None:
    restoring.story(cluster, tmp_path)
