"""An ordinary user: a fresh checkout in a home of its own, one command, and the smoke test of a whole cluster; nothing is left of it.

Run by root, who makes the user. Where an ordinary user runs the tests, all the others here say the same.
"""

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness import isolation, judges
from harness.cluster import Cluster, free_port
from harness.eventually import eventually

pytestmark = [pytest.mark.root, pytest.mark.needs("useradd", "curl")]

USER = "kubette-e2e"
CHECKOUT = Path(__file__).parents[2]
PARTS = ("components", "manifests", "scripts", "systemd", "pyproject.toml", "README.md", "LICENSE")
INSTALL_TIMEOUT_S = 600.0


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """The home of a user made for this file."""
    subprocess.run(["useradd", "--create-home", "--shell=/bin/bash", USER], check=True)
    try:
        yield Path(f"~{USER}").expanduser()
    finally:
        subprocess.run(["userdel", "--remove", "--force", USER], check=False, capture_output=True)


@pytest.fixture(scope="module")
def mine(home: Path, new_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster of that user, from a checkout of its own, started by `scripts/up`."""
    checkout = home / "kubette"
    checkout.mkdir()
    for part in filter(lambda name: (CHECKOUT / name).exists(), PARTS):
        source = CHECKOUT / part
        if source.is_dir():
            shutil.copytree(source, checkout / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, checkout / part)
    subprocess.run(["chown", "-R", f"{USER}:", str(home)], check=True)
    environment = ["env", "-C", str(home), "-u", "VIRTUAL_ENV", f"HOME={home}", f"USER={USER}"]
    cluster = new_cluster(
        "rootless",
        place=home,
        as_user=("runuser", "-u", USER, "--", *environment),
        program=str(checkout / ".venv/bin/kubette"),
        kubectl_program=str(checkout / ".venv/bin/kubectl"),
        api_port=free_port(),
    )
    # Where the tests run side by side only the machine's own network reaches packages; elsewhere `up` installs, as for a new user.
    if isolation.outside():
        subprocess.run([*isolation.outside(), *cluster.as_user, str(checkout / "scripts/install")], check=True, timeout=INSTALL_TIMEOUT_S)
    command = [*cluster.as_user, str(checkout / "scripts/up"), f"--name={cluster.name}", f"--api-port={cluster.api_port}"]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    assert done.returncode == 0, f"scripts/up: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return cluster


def processes() -> list[str]:
    """The user's processes; in a namespace's own view they may be anybody, for the host they are the user's."""
    living = (p.info for p in psutil.process_iter(["username", "status", "cmdline"]) if p.info["status"] != psutil.STATUS_ZOMBIE)
    return [" ".join(info["cmdline"] or []) for info in living if info["username"] == USER]


def page(mine: Cluster, machine: str, url: str) -> str:
    return mine.on(machine, "curl", "-s", "-m", "5", url)


def test_an_ordinary_user_has_a_whole_cluster(mine: Cluster) -> None:
    nodes = mine.kubectl("get", "nodes").splitlines()
    assert nodes[0].split() == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert [line.split()[:3] for line in nodes[1:]] == [
        ["controlplane", "Ready", "control-plane"],
        ["node01", "Ready", "<none>"],
        ["node02", "Ready", "<none>"],
    ]
    assert mine.on("node01", "id", "-u") == "0\n"
    assert mine.on("node01", "systemctl", "is-active", "kubelet", "containerd") == "active\nactive\n"
    listing = mine.on("node01", "ps", "-ef")
    assert "kubelet" in listing
    assert "kube-apiserver" not in listing
    supervisor = mine.status()["pid"]
    assert psutil.Process(supervisor).username() == USER


def test_deployment_service_logs_exec_and_node_port(mine: Cluster) -> None:
    kubectl = mine.kubectl
    kubectl("create", "deployment", "web", "--image=nginx", "--replicas=3")
    kubectl("expose", "deployment", "web", "--port=80")
    kubectl("expose", "deployment", "web", "--name=outside", "--port=80", "--type=NodePort")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout_s=70)
    pods = kubectl.json("get", "pods", "-l", "app=web")["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node01", "node02"}
    address = kubectl.jsonpath("{.spec.clusterIP}", "service", "web")
    for machine in ("controlplane", "node01", "node02"):
        eventually(lambda machine=machine: page(mine, machine, f"http://{address}"), lambda text: "Welcome to nginx!" in text)  # type: ignore[misc]
    first = pods[0]["metadata"]["name"]
    eventually(lambda: kubectl.exec(first, "curl -s -m 5 http://web.default.svc.cluster.local"), lambda text: "Welcome to nginx!" in text, 40)
    port = kubectl.jsonpath("{.spec.ports[0].nodePort}", "service", "outside")

    def from_host() -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return bytes(answer.read())

    eventually(from_host, lambda body: b"Welcome to nginx!" in body)
    logs = "".join(kubectl("logs", pod["metadata"]["name"]) for pod in pods)
    assert '"GET / HTTP/1.1" 200' in logs
    assert kubectl.exec(first, "hostname") == f"{first}\n"
    code, shown = kubectl.on_terminal(["exec", "-it", first, "--", "sh"], "tty\nexit 4\n")
    assert code == 4
    assert "/dev/pts/" in shown
    # A container may write where its image does: also below /usr, which is the host's and its root's.
    kubectl.exec(first, "echo changed > /usr/share/nginx/html/index.html")
    assert kubectl.exec(first, "curl -s -m 5 http://127.0.0.1/") == "changed\n"


def test_a_user_that_the_machine_cannot_be_is_refused_in_words(mine: Cluster) -> None:
    """Without newuidmap a user namespace has one user; with it the Pod runs."""
    kubectl = mine.kubectl
    container = {"name": "main", "image": "busybox", "command": ["sh", "-c", "id -u; sleep 1000"]}
    spec = {"securityContext": {"runAsUser": 1000, "fsGroup": 2000}, "restartPolicy": "Never", "containers": [container]}
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other"}, "spec": spec})
    if judges.find("newuidmap") and judges.find("newgidmap"):
        kubectl.wait("condition=Ready", "pod/other")
        assert kubectl("logs", "other") == "1000\n"
        return
    kubectl.wait("jsonpath={.status.phase}=Failed", "pod/other")
    state = kubectl.json("get", "pod", "other")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert state["reason"] == "StartError"
    assert "this machine's user namespace maps no such id" in state["message"]


def test_a_machine_is_killed_and_started(mine: Cluster) -> None:
    mine("machine", "kill", "node01")
    assert {m["name"]: m["state"] for m in mine.status()["machines"]} == {"controlplane": "running", "node01": "off", "node02": "running"}
    mine("machine", "start", "node01")
    kubectl = mine.kubectl
    eventually(lambda: mine.on("node01", "crictl", "ps"), lambda text: "nginx" in text, 40, what="the pods of node01 are back")
    kubectl.wait("condition=Ready", "node/node01")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout_s=70)
    on_node = kubectl.json("get", "pods", "-l", "app=web", "--field-selector=spec.nodeName=node01")["items"]
    assert {pod["status"]["containerStatuses"][0]["restartCount"] for pod in on_node} == {1}


def test_all_machines_are_rebooted(mine: Cluster) -> None:
    def objects() -> dict[str, str]:
        listed = mine.kubectl("get", "nodes,deployments,replicasets,pods,services,configmaps,secrets", "-A", "-o", "json")
        return {f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["uid"] for o in json.loads(listed)["items"]}

    before = objects()
    mine("down")
    assert processes() == []
    mine.up()
    assert objects() == before
    mine.kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout_s=70)


def test_down_leaves_nothing(mine: Cluster) -> None:
    mine("down", "--purge")
    assert processes() == []
    assert not any(mine.home.iterdir())
    assert "rootless" not in mine.kubeconfig.read_text()
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(mine.home) not in mounts
