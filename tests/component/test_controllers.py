"""The real controller manager beside a real API server and etcd, driven by the real kubectl: what the unit tests cannot show."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import apiserver, judges

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd", "kubectl", "openssl")]

Object = dict[str, Any]
READY = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]


class Cluster:
    """kubectl with the cluster's kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.program = judges.find("kubectl") or "kubectl"

    def __call__(self, *words: str, stdin: str = "", check: bool = True) -> str:
        argv = [self.program, "--kubeconfig", str(self.kubeconfig), *words]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def items(self, *words: str) -> list[dict]:
        return list(json.loads(self("get", *words, "-o", "json"))["items"])

    def be_the_kubelet(self, *words: str) -> int:
        """Report every pod of the selection as running and ready; answers how many there are."""
        pods = self.items("pods", *words)
        for number, pod in enumerate(pods):
            if pod["status"]["phase"] == "Pending":
                address = f"10.244.0.{number + 2}"
                status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": READY}
                self("patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
        return len(pods)


def eventually(what: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("controllers")
    ca, key = directory / "ca.crt", directory / "ca.key"
    subject = ["-subj", "/CN=kubernetes", "-keyout", str(key), "-out", str(ca)]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject], check=True, capture_output=True)
    with apiserver.running(directory, [f"--client-ca-file={ca}"]) as server:
        flags = [
            f"--kubeconfig={server.kubeconfig}",
            f"--root-ca-file={ca}",
            f"--cluster-signing-cert-file={ca}",
            f"--cluster-signing-key-file={key}",
            "--allocate-node-cidrs",
            "--cluster-cidr=10.244.0.0/16",
            "--bind-address=127.0.0.1",
            f"--secure-port={apiserver.free_port()}",
            "--node-monitor-grace-period=3s",
            "--node-monitor-period=1s",
        ]
        with open(directory / "kube-controller-manager.log", "wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "kubette.kube_controller_manager", *flags], stdout=log, stderr=log)
            try:
                yield Cluster(server.kubeconfig)
                assert process.poll() is None, (directory / "kube-controller-manager.log").read_text()[-4000:]
            finally:
                process.terminate()
                process.wait(10)


def test_a_deployment_rolls_out_and_its_service_finds_the_pods(cluster: Cluster) -> None:
    cluster("create", "deployment", "web", "--image=nginx", "--replicas=2")
    cluster("expose", "deployment", "web", "--port=80")
    eventually(lambda: cluster.be_the_kubelet("-l", "app=web") == 2)
    cluster("rollout", "status", "deployment/web", "--timeout=20s")
    name = cluster.items("replicasets", "-l", "app=web")[0]["metadata"]["name"]
    assert f"Scaled up replica set {name} from 0 to 2" in cluster("describe", "deployment", "web")

    def slices() -> list[str]:
        found = cluster.items("endpointslices", "-l", "kubernetes.io/service-name=web")
        return sorted(a for s in found for e in s["endpoints"] or [] for a in e["addresses"] if e["conditions"]["ready"])

    eventually(lambda: slices() == ["10.244.0.2", "10.244.0.3"])
    cluster("delete", "deployment", "web", "--cascade=foreground", "--timeout=20s")
    eventually(lambda: not cluster.items("pods", "-l", "app=web"))


def test_a_namespace_is_given_what_pods_need_and_goes_with_all_it_holds(cluster: Cluster) -> None:
    cluster("create", "namespace", "team")
    eventually(lambda: "default" in cluster("-n", "team", "get", "serviceaccounts", "-o", "name"))
    eventually(lambda: "kube-root-ca.crt" in cluster("-n", "team", "get", "configmaps", "-o", "name"))
    cluster("-n", "team", "create", "configmap", "held", "--from-literal=a=b")
    cluster("delete", "namespace", "team", "--timeout=30s")
    assert cluster("get", "namespace", "team", "--ignore-not-found") == ""


def test_a_node_gets_a_subnet_and_taints_when_it_falls_silent(cluster: Cluster) -> None:
    for name in ("silent", "alive"):
        cluster("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}))
        cluster("patch", "node", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": {"conditions": READY}}))
    cidrs = {n["metadata"]["name"]: n["spec"].get("podCIDR") for n in cluster.items("nodes")}
    eventually(lambda: all(n["spec"].get("podCIDR") for n in cluster.items("nodes")))
    assert len(cidrs) == 2

    def beat_and_look() -> bool:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        beating = [{**READY[0], "lastHeartbeatTime": stamp}]
        cluster("patch", "node", "alive", "--subresource=status", "--type=merge", "-p", json.dumps({"status": {"conditions": beating}}))
        taints = json.loads(cluster("get", "node", "silent", "-o", "json"))["spec"].get("taints") or []
        return {(t["key"], t["effect"]) for t in taints} >= {
            ("node.kubernetes.io/unreachable", "NoExecute"),
            ("node.kubernetes.io/unreachable", "NoSchedule"),
        }

    eventually(beat_and_look, 30.0)
    assert "Kubelet stopped posting node status." in cluster("get", "node", "silent", "-o", "yaml")


def test_unknown_flags_and_controllers_are_refused() -> None:
    def refused(*flags: str) -> str:
        done = subprocess.run([sys.executable, "-m", "kubette.kube_controller_manager", *flags], capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        return done.stderr

    assert "unknown flag: --cloud-provider" in refused("--cloud-provider=aws")
    assert "is not in the list of known controllers" in refused("--controllers=nope")
    assert "stat /nonexistent: no such file or directory" in refused("--kubeconfig=/nonexistent")


def test_a_claim_is_bound_kept_while_it_is_used_and_its_volume_reclaimed(cluster: Cluster, tmp_path: Path) -> None:
    data = Path("/tmp") / f"kubette-volume-{tmp_path.parent.name}"
    data.mkdir()
    (data / "left").write_text("by somebody")

    def volume(name: str, policy: str) -> Object:
        spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": policy}
        return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {**spec, "hostPath": {"path": str(data)}}}

    def phase(kind: str, name: str) -> str:
        return cluster("get", kind, name, "--ignore-not-found", "-o", "jsonpath={.status.phase}")

    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "500Mi"}}, "storageClassName": ""},
    }
    cluster("apply", "-f", "-", stdin=json.dumps(claim))
    complaint = "no persistent volumes available for this claim and no storage class is set"
    eventually(lambda: complaint in cluster("describe", "pvc", "data"))
    cluster("apply", "-f", "-", stdin=json.dumps(volume("keeps", "Retain")))
    eventually(lambda: (phase("pvc", "data"), phase("pv", "keeps")) == ("Bound", "Bound"))
    assert cluster("get", "pvc", "data", "--no-headers").split()[:5] == ["data", "Bound", "keeps", "1Gi", "RWO"]
    assert cluster("get", "pv", "keeps", "--no-headers").split()[:6] == ["keeps", "1Gi", "RWO", "Retain", "Bound", "default/data"]
    # In use by a pod that has a node: it stays until the pod is gone.
    mounts = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    pod = {"nodeName": "somewhere", "terminationGracePeriodSeconds": 0, "containers": [{"name": "db", "image": "db"}], "volumes": mounts}
    cluster("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db"}, "spec": pod}))
    assert "Used By:       db" in cluster("describe", "pvc", "data")
    cluster("delete", "pvc", "data", "--wait=false")
    eventually(lambda: "Terminating" in cluster("get", "pvc", "data"))
    cluster("delete", "pv", "keeps", "--wait=false")
    assert (phase("pvc", "data"), phase("pv", "keeps")) == ("Bound", "Bound")
    cluster("delete", "pod", "db", "--force", "--grace-period=0")
    eventually(lambda: phase("pvc", "data") + phase("pv", "keeps") == "")
    assert (data / "left").exists()
    # Deleted with its claim, contents and all; a directory that may not be is left and said so.
    cluster("apply", "-f", "-", stdin=json.dumps(volume("goes", "Delete")))
    cluster("apply", "-f", "-", stdin=json.dumps(claim))
    eventually(lambda: phase("pvc", "data") == "Bound")
    cluster("delete", "pvc", "data")
    eventually(lambda: phase("pv", "goes") == "" and not data.exists())
    forbidden = volume("stays", "Delete")
    forbidden["spec"]["hostPath"]["path"] = "/srv/data"
    cluster("apply", "-f", "-", stdin=json.dumps(forbidden))
    cluster("apply", "-f", "-", stdin=json.dumps(claim))
    eventually(lambda: phase("pvc", "data") == "Bound")
    cluster("delete", "pvc", "data")
    eventually(lambda: phase("pv", "stays") == "Failed")
    eventually(lambda: "host_path deleter only supports /tmp/.+ but received provided /srv/data" in cluster("describe", "pv", "stays"))
    cluster("delete", "pv", "stays")
