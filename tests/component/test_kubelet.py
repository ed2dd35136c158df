"""The kubelet as a process between a real API server and a runtime of child processes; driven by the real kubectl and curl-like requests."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import apiserver, fake_cri

KUBECTL = Path(sys.executable).with_name("kubectl")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("etcd") is None, reason="no etcd on PATH (Debian: etcd-server)"),
    pytest.mark.skipif(not KUBECTL.exists(), reason="no kubectl in the virtual environment"),
]
TIMEOUT_S = 30.0


class Node:
    """One kubelet, its runtime and its API server."""

    def __init__(self, directory: Path, server: apiserver.Server) -> None:
        self.directory, self.server = directory, server
        self.manifests = directory / "manifests"
        self.manifests.mkdir(parents=True)
        self.port, self.healthz = apiserver.free_port(), apiserver.free_port()
        # A unix socket's path is short; pytest's directories are not.
        self.socket = f"/tmp/kubette-cri-{os.getpid()}-{self.port}.sock"
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "staticPodPath": str(self.manifests),
            "podLogsDir": str(directory / "log" / "pods"),
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "port": self.port,
            "healthzPort": self.healthz,
            "clusterDNS": ["10.96.0.10"],
        }
        (directory / "config.yaml").write_text(json.dumps(config))
        self.runtime = subprocess.Popen([sys.executable, fake_cri.__file__, self.socket])
        self.kubelet: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [f"--config={self.directory}/config.yaml", f"--kubeconfig={self.server.kubeconfig}", f"--root-dir={self.directory}/root"]
        with (self.directory / "kubelet.log").open("ab") as log:
            command = [sys.executable, "-m", "kubette.kubelet", *argv, "--hostname-override=n1", "-v=3"]
            self.kubelet = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self.kubelet is not None
        self.kubelet.send_signal(how)
        self.kubelet.wait(10)

    def kubectl(self, *argv: str, stdin: str = "") -> str:
        command = [str(KUBECTL), f"--kubeconfig={self.server.kubeconfig}", *argv]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, what: str, *argv: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", what, *argv, "-o", "json"))
        return found

    def create(self, *objects: dict[str, Any]) -> None:
        self.kubectl("create", "--validate=false", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def ask(self, path: str, token: str | None = apiserver.TOKEN) -> tuple[int, str]:
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {token}"} if token else {})
        try:
            with urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def eventually(claim: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
    """Wait until the claim holds (is truthy and does not raise); answers it."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if found := claim():
                return found
        except (AssertionError, KeyError, IndexError, OSError):
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("kubelet")
    with apiserver.running(directory / "api", ["--disable-admission-plugins=ServiceAccount"]) as server:
        made = Node(directory, server)
        try:
            made.start()
            # The route controller's and the IPAM's place: the node's network becomes ready with its CIDR.
            eventually(lambda: made.kubectl("patch", "node", "n1", "-p", '{"spec":{"podCIDR":"10.244.1.0/24"}}'))
            eventually(lambda: condition(made.get("node", "n1"), "Ready")["status"] == "True")
            yield made
        finally:
            if made.kubelet is not None and made.kubelet.poll() is None:
                made.stop()
            made.runtime.terminate()
            made.runtime.wait(10)
            Path(made.socket).unlink(missing_ok=True)


def condition(obj: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in obj["status"]["conditions"] if c["type"] == kind)
    return found


def pod(name: str, command: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": spec.pop("image", "busybox"), "command": ["sh", "-c", command], **spec.pop("container", {})}
    # A daemon's default token is given by no controller here.
    base = {"nodeName": "n1", "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 2, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {**base, **spec}}


def status_of(node: Node, name: str) -> dict[str, Any]:
    status: dict[str, Any] = node.get("pod", name)["status"]
    return status


def test_the_node_registers_and_keeps_its_lease(node: Node) -> None:
    found = node.get("node", "n1")
    assert found["metadata"]["labels"]["kubernetes.io/hostname"] == "n1"
    assert condition(found, "Ready")["message"] == "kubelet is posting ready status"
    assert found["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")
    lease = eventually(lambda: node.get("lease", "n1", "-n", "kube-node-lease"))
    assert lease["spec"]["holderIdentity"] == "n1"
    # It goes with its node, also when there was no node yet when it was made (its cache is empty when the first lease is).
    assert lease["metadata"]["ownerReferences"][0]["uid"] == node.get("node", "n1")["metadata"]["uid"]


def test_a_pod_runs_with_its_configuration_and_its_log_is_read(node: Node) -> None:
    node.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm", "namespace": "default"}, "data": {"key": "value"}},
        pod(
            "configured",
            "echo $KEY at $IP; exec sleep 1000",
            container={
                "env": [
                    {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "key"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ]
            },
        ),
    )
    status = eventually(lambda: status_of(node, "configured") if status_of(node, "configured")["phase"] == "Running" else None)
    code, text = eventually(lambda: found if (found := node.ask("/containerLogs/default/configured/main"))[1] else None)
    assert (code, text) == (200, f"value at {status['podIP']}\n")
    reasons = [e["reason"] for e in node.get("events", "--field-selector=involvedObject.name=configured")["items"]]
    assert {"Pulling", "Pulled", "Created", "Started"} <= set(reasons)


def test_strangers_are_turned_away(node: Node) -> None:
    assert node.ask("/pods", token=None) == (401, "Unauthorized")
    code, text = node.ask("/pods", token="usertoken")
    assert code == 403
    assert text.startswith("Forbidden (user=user, verb=get, resource=nodes, subresource(s)=[")


def test_init_containers_come_first_and_a_job_completes(node: Node) -> None:
    init = [{"name": "init", "image": "busybox", "command": ["sh", "-c", "echo first"]}]
    node.create(pod("once", "echo second", initContainers=init, restartPolicy="Never"))
    status = eventually(lambda: found if (found := status_of(node, "once"))["phase"] == "Succeeded" else None)
    assert condition({"status": status}, "Ready")["reason"] == "PodCompleted"
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    assert node.ask("/containerLogs/default/once/init")[1] == "first\n"


def test_a_crashing_container_backs_off_and_a_missing_image_says_so(node: Node) -> None:
    node.create(pod("crash", "exit 3"), pod("missing", "true", image="missing"))

    def looping() -> bool:
        entry = status_of(node, "crash")["containerStatuses"][0]
        return entry["state"]["waiting"]["reason"] == "CrashLoopBackOff" and entry["lastState"]["terminated"]["exitCode"] == 3

    eventually(looping)
    waiting = eventually(lambda: status_of(node, "missing")["containerStatuses"][0]["state"]["waiting"])
    assert eventually(
        lambda: status_of(node, "missing")["containerStatuses"][0]["state"]["waiting"]["reason"] in ("ErrImagePull", "ImagePullBackOff")
    )
    assert "message" in waiting or waiting["reason"] == "ContainerCreating"


def test_a_pod_that_does_not_fit_is_rejected(node: Node) -> None:
    node.create(pod("big", "true", container={"resources": {"requests": {"cpu": "1000"}}}))
    status = eventually(lambda: found if (found := status_of(node, "big")).get("reason") else None)
    assert (status["phase"], status["reason"]) == ("Failed", "OutOfcpu")
    assert status["message"].startswith("Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: ")
    node.kubectl("delete", "pod", "big", "--timeout=10s")


def test_containers_survive_the_kubelet(node: Node) -> None:
    node.create(pod("survivor", "exec sleep 1001"))
    before = eventually(lambda: found if (found := status_of(node, "survivor"))["phase"] == "Running" else None)
    node.stop(signal.SIGKILL)
    node.start()
    eventually(lambda: node.ask("/pods")[0] == 200 and "survivor" in node.ask("/pods")[1])
    after = status_of(node, "survivor")
    assert after["containerStatuses"] == before["containerStatuses"]


def test_a_deleted_pod_leaves_nothing_behind(node: Node) -> None:
    node.create(pod("gone", "trap '' TERM; while :; do sleep 0.1; done"))
    eventually(lambda: status_of(node, "gone")["phase"] == "Running")
    uid = node.get("pod", "gone")["metadata"]["uid"]
    node.kubectl("delete", "pod", "gone", "--timeout=20s")
    eventually(lambda: not (node.directory / "root" / "pods" / uid).exists())
    eventually(lambda: not list((node.directory / "log" / "pods").glob("*_gone_*")))


def test_a_static_pod_has_a_mirror_that_comes_back_and_goes_with_its_file(node: Node) -> None:
    manifest = node.manifests / "static.yaml"
    body = pod("static", "exec sleep 1002", hostNetwork=True)
    del body["spec"]["nodeName"], body["spec"]["automountServiceAccountToken"]
    manifest.write_text(json.dumps(body))
    eventually(lambda: status_of(node, "static-n1")["phase"] == "Running")
    mirror = node.get("pod", "static-n1")
    assert mirror["metadata"]["annotations"]["kubernetes.io/config.source"] == "file"
    assert mirror["metadata"]["ownerReferences"][0]["kind"] == "Node"
    node.kubectl("delete", "pod", "static-n1", "--wait=false")
    again = eventually(lambda: found if (found := node.get("pod", "static-n1"))["metadata"]["uid"] != mirror["metadata"]["uid"] else None)
    eventually(lambda: status_of(node, "static-n1")["containerStatuses"] == mirror["status"]["containerStatuses"])
    assert again["metadata"]["annotations"]["kubernetes.io/config.hash"] == mirror["metadata"]["annotations"]["kubernetes.io/config.hash"]
    manifest.unlink()
    eventually(lambda: "static-n1" not in node.kubectl("get", "pods", "-o", "name"))


def test_an_unknown_flag_and_a_broken_file_end_the_start(tmp_path: Path) -> None:
    broken = tmp_path / "config.yaml"
    broken.write_text("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfoo: 1\n")
    for argv, message in (
        (["--no-such-flag"], "unknown flag: --no-such-flag"),
        ([f"--config={broken}"], 'strict decoding error: unknown field \\"foo\\"'),
    ):
        done = subprocess.run([sys.executable, "-m", "kubette.kubelet", *argv], capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 1
        assert message in done.stderr
