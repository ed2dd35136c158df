"""Rows K01-K06 and P01-P05: kubelet and kube-proxy."""

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from harness import control_plane
from harness.cluster import Cluster
from harness.eventually import eventually
from harness.kubectl import Kubectl

MACHINES = ("controlplane", "node01", "node02")
STATIC = "/etc/kubernetes/manifests"


def pod(name: str, image: str = "busybox", command: str = "sleep 100000", **container: Any) -> dict[str, Any]:
    main = {"name": "main", "image": image, "command": ["sh", "-c", command], **container}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [main], "terminationGracePeriodSeconds": 1},
    }


def test_k01_a_kubelet_registers_its_node_and_renews_its_lease(cluster: Cluster) -> None:
    leases = cluster.kubectl.in_namespace("kube-node-lease")

    def spec(node: str) -> dict[str, Any]:
        return dict(leases.json("get", "lease", node)["spec"])

    assert leases.jsonpath("{.items[*].spec.holderIdentity}", "leases").split() == list(MACHINES)
    with leases.follow("get", "lease", "controlplane", "-w", "-o", "jsonpath={.spec.renewTime}{'\\n'}") as times:
        first = times.until("T")
        # A node whose object is gone is registered by its kubelet when that starts. Drained first: it gets another pod network, where pods of the old one are not reached.
        cluster.kubectl("drain", "node02", "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        cluster.kubectl("delete", "node", "node02")
        leases.wait("delete", "lease/node02")
        cluster.typed("node02", "systemctl restart kubelet")
        cluster.kubectl.wait("create", "node/node02")
        cluster.kubectl.wait("condition=Ready", "node/node02")
        leases.wait("create", "lease/node02")
        assert spec("node02")["holderIdentity"] == "node02"
        assert spec("node02")["leaseDurationSeconds"] == 40  # and a quarter of it is the time between two renewals
        assert times.until("T", timeout_s=30) > first
    cluster.kubectl("rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=60s", timeout_s=70)


def test_k02_an_image_is_fetched_or_backed_off_and_so_is_a_bad_command(kubectl: Kubectl, is_long: bool) -> None:
    kubectl.apply(pod("good", image="nginx"), pod("unknown", image="registry.example/nothing:1"), pod("bad", command="exit 1"))

    def described(name: str, *words: str, timeout_s: float = 40) -> None:
        eventually(lambda: kubectl("describe", "pod", name), lambda text: all(word in text for word in words), timeout_s, f"{name}: {words}")

    described("good", "Pulling", "Successfully pulled image", "Created", "Started")
    described("unknown", "Failed to pull image", "ErrImagePull", "Back-off pulling image", "ImagePullBackOff")
    described("bad", "CrashLoopBackOff", "Back-off restarting failed container main in pod bad_")
    waiting = "{.status.containerStatuses[0].state.waiting.message}"
    for delay, timeout_s in (("10s", 20), *((("20s", 30), ("40s", 60), ("1m20s", 100), ("2m40s", 200), ("5m0s", 400)) if is_long else ())):
        wanted = f"back-off {delay} restarting failed container=main pod=bad_{kubectl.namespace}("
        eventually(lambda: kubectl.jsonpath(waiting, "pod", "bad"), lambda text: wanted in text, timeout_s, wanted)


def test_k03_it_watches_its_pods_and_opens_them(cluster: Cluster, kubectl: Kubectl, tmp_path: Path) -> None:
    ready = {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1}
    alive = {"exec": {"command": ["test", "!", "-e", "/tmp/dead"]}, "periodSeconds": 1, "failureThreshold": 1}
    script = "echo begun; touch /tmp/begun; while read line; do echo said $line; done; sleep 100000"
    kubectl.apply(
        pod("watched", command=script, stdin=True, readinessProbe=ready, livenessProbe=alive), pod("web", image="nginx", command="exec nginx")
    )
    kubectl.wait("jsonpath={.status.phase}=Running", "pod/watched")
    assert kubectl.jsonpath("{.status.conditions[?(@.type=='Ready')].status}", "pod", "watched") == "False"
    assert kubectl("exec", "watched", "--", "hostname") == "watched\n"
    code, shown = kubectl.on_terminal(["exec", "-it", "watched", "--", "sh"], "touch /tmp/ready; tty; exit 3\n")
    assert (code, "/dev/pts/" in shown) == (3, True)
    kubectl.wait("condition=Ready", "pod/watched", "pod/web")
    with kubectl.follow("logs", "-f", "watched") as lines:
        lines.until("begun")
        with subprocess.Popen(kubectl.command("attach", "-i", "watched"), stdin=subprocess.PIPE, text=True, env=cluster.environment) as attached:
            assert attached.stdin
            attached.stdin.write("hello\n")
            attached.stdin.flush()
            lines.until("said hello")
            attached.kill()
    (tmp_path / "there").write_text("file\n")
    kubectl("cp", str(tmp_path / "there"), "watched:/tmp/there")
    kubectl("cp", "watched:/tmp/there", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "file\n"
    with kubectl.follow("port-forward", "pod/web", ":80") as lines:
        port = re.search(r"127\.0\.0\.1:(\d+) -> 80", lines.until("Forwarding from 127.0.0.1"))
        assert port
        with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/", timeout=10) as answer:
            assert b"Welcome to nginx!" in answer.read()
    kubectl.exec("watched", "touch /tmp/dead")
    kubectl.wait("jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/watched")
    assert kubectl("logs", "watched", "--previous").splitlines()[0] == "begun"


def test_k04_k05_a_unit_on_each_machine(style: str, cluster: Cluster) -> None:
    for machine in MACHINES:
        status = cluster.typed(machine, "systemctl status kubelet")
        assert "Active: active (running)" in status
        line = control_plane.process(cluster, "kubelet", machine)
        assert line
        if style == "systemd":
            unit = cluster.typed(machine, "systemctl cat kubelet")
            for flag in (
                "--config=/var/lib/kubelet/kubelet-config.yaml",
                "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
                "--kubeconfig=/var/lib/kubelet/kubeconfig",
                "--register-node=true",
                "--v=2",
            ):
                assert f" {flag}" in unit
                assert f" {flag}" in line
        else:
            assert "10-kubeadm.conf" in status
            assert "--config=/var/lib/kubelet/config.yaml" in line


@pytest.mark.style("kubeadm")
def test_k06_static_pods_follow_their_files(cluster: Cluster) -> None:
    kubectl = cluster.kubectl

    def write(seconds: int, name: str = "static.anything") -> None:
        text = json.dumps(pod("static", command=f"exec sleep {seconds}"))
        cluster.typed("node01", f"cat > {STATIC}/{name} <<'END'\n{text}\nEND")

    def runs(seconds: int) -> bool:
        return cluster.run("ssh", "node01", "--", "pgrep", "-f", f"^sleep {seconds}$").returncode == 0

    try:
        write(3000)
        write(4000, ".hidden")
        eventually(lambda: runs(3000), timeout_s=25)
        kubectl.wait("condition=Ready", "pod/static-node01")
        # The mirror is for looking: deleted, it comes back, and the container never went.
        before = cluster.typed("node01", "pgrep -f '^sleep 3000$'")
        uid = kubectl.jsonpath("{.metadata.uid}", "pod", "static-node01")
        kubectl("delete", "pod", "static-node01", "--wait=false")
        eventually(lambda: kubectl.run("get", "pod", "static-node01", "-o", "jsonpath={.metadata.uid}").stdout, lambda now: now and now != uid)
        assert cluster.typed("node01", "pgrep -f '^sleep 3000$'") == before
        assert not runs(4000)
        write(3001)
        eventually(lambda: runs(3001) and not runs(3000), timeout_s=25, what="the edited pod")
    finally:
        cluster.typed("node01", f"rm -f {STATIC}/static.anything {STATIC}/.hidden")
    eventually(lambda: not runs(3001), timeout_s=25)
    kubectl.wait("delete", "pod/static-node01")
    # Without an API server the others go on.
    etcd = control_plane.process(cluster, "etcd").split()[1]
    with control_plane.stopped(cluster, "kubeadm", "kube-apiserver"):
        assert "refused" in cluster.refused("controlplane", "kubectl get nodes")
        assert control_plane.process(cluster, "etcd").split()[1] == etcd
        assert "etcd" in cluster.typed("controlplane", "crictl ps")


def test_p01_a_service_keeps_its_address_while_pods_come_and_go(cluster: Cluster, kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "database", "--image=nginx", "--replicas=1")
    kubectl("expose", "deployment", "database", "--port=80")
    kubectl.apply(pod("web"))
    kubectl("rollout", "status", "deployment/database", "--timeout=30s")
    kubectl.wait("condition=Ready", "pod/web")
    address = kubectl.jsonpath("{.spec.clusterIP}", "service", "database")

    def page() -> str:
        return kubectl.run("exec", "web", "--", "curl", "-s", "-m", "2", f"http://{address}").stdout

    eventually(page, lambda text: "Welcome to nginx!" in text)
    before = kubectl.jsonpath("{.items[0].status.podIP}", "pods", "-l", "app=database")
    kubectl("delete", "pod", "-l", "app=database", "--grace-period=1")
    kubectl("rollout", "status", "deployment/database", "--timeout=30s")
    assert kubectl.jsonpath("{.items[0].status.podIP}", "pods", "-l", "app=database") != before
    assert kubectl.jsonpath("{.spec.clusterIP}", "service", "database") == address
    eventually(page, lambda text: "Welcome to nginx!" in text)


def test_p02_p05_rules_node_ports_and_names(cluster: Cluster, kubectl: Kubectl) -> None:
    say = "hostname > /usr/share/nginx/html/index.html; exec nginx -g 'daemon off;'"
    for name in ("web-1", "web-2"):
        one = pod(name, image="nginx", command=say)
        one["metadata"]["labels"] = {"app": "web"}
        kubectl.apply(one)
    kubectl.apply(pod("client"))
    kubectl("create", "service", "nodeport", "web", "--tcp=80:80", "--node-port=30080")
    kubectl("create", "service", "clusterip", "headless", "--clusterip=None", "--tcp=80")
    kubectl("set", "selector", "service/headless", "app=web")
    kubectl.wait("condition=Ready", "pods", "--all")
    address = kubectl.jsonpath("{.spec.clusterIP}", "service", "web")
    pods = sorted(kubectl.jsonpath("{.items[*].status.podIP}", "pods", "-l", "app=web").split())
    name = f"{kubectl.namespace}/web:80-80"

    def rules() -> str:
        return cluster.typed("node01", "iptables-save -t nat")

    saved = eventually(rules, lambda text: text.count(f'--comment "{name} -> ') == 2)
    assert re.search(rf"-A KUBE-SERVICES -d {address}/32 .*{name} cluster IP.* -j KUBE-SVC-", saved)
    assert re.search(rf"-A KUBE-NODEPORTS .*{name}.* --dport 30080 -j KUBE-EXT-", saved)
    assert sorted(re.findall(rf"-A KUBE-SEP-\S+ .*{name}.* --to-destination (\S+):80", saved)) == pods

    def both(ask: Any) -> None:
        seen: set[str] = set()
        eventually(lambda: seen.update(ask().split()) or seen, lambda found: found == {"web-1", "web-2"}, 30)

    loop = "for i in 1 2 3 4 5 6; do curl -s -m 2 http://{}; done"
    both(lambda: cluster.typed("node01", loop.format(address)))
    for machine in range(11, 14):
        both(lambda machine=machine: cluster.typed("node01", loop.format(f"192.168.56.{machine}:30080")))

    def from_the_host() -> str:
        with urllib.request.urlopen("http://127.0.0.1:30080/", timeout=5) as answer:
            return str(answer.read().decode())

    both(from_the_host)
    found = eventually(lambda: kubectl.exec("client", "nslookup web"), lambda text: address in text)
    assert f"web.{kubectl.namespace}.svc.cluster.local" in found
    eventually(lambda: kubectl.exec("client", "nslookup headless"), lambda text: all(f"Address: {ip}\n" in text for ip in pods))
    assert f"name = web.{kubectl.namespace}.svc.cluster.local." in kubectl.exec("client", f"nslookup {address}")
    assert "** server can't find no.such.svc.cluster.local: NXDOMAIN" in kubectl.exec("client", "nslookup no.such.svc.cluster.local. || true")


@pytest.mark.style("systemd")
def test_p03_it_is_restarted_after_five_seconds(cluster: Cluster) -> None:
    def show(name: str) -> str:
        return cluster.typed("node01", f"systemctl show --property={name} --value kube-proxy").strip()

    unit = cluster.typed("node01", "systemctl cat kube-proxy")
    for line in ("--config=/var/lib/kube-proxy/kube-proxy-config.yaml", "Restart=on-failure", "RestartSec=5"):
        assert line in unit
    before, count = show("MainPID"), int(show("NRestarts"))
    cluster.typed("node01", f"kill -9 {before}")
    eventually(lambda: int(show("NRestarts")), lambda now: now == count + 1, timeout_s=15)
    assert show("MainPID") != before
    assert "Active: active (running)" in cluster.typed("node01", "systemctl status kube-proxy")


@pytest.mark.style("kubeadm")
def test_p04_kubeadm_installs_it_as_a_daemon_set(cluster: Cluster) -> None:
    def row() -> list[str]:
        return cluster.kubectl("get", "ds", "kube-proxy", "-n", "kube-system", "--no-headers").split()[:4]

    assert row() == ["kube-proxy", "3", "3", "3"]
    # A machine leaves, and one that joins gets its own.
    cluster.typed("node02", "kubeadm reset --force")
    cluster.kubectl("delete", "node", "node02")
    eventually(row, lambda seen: seen[1] == "2")
    cluster.typed("node02", cluster.typed("controlplane", "kubeadm token create --print-join-command").strip())
    eventually(row, lambda seen: seen == ["kube-proxy", "3", "3", "3"], 30)
    cluster.kubectl.wait("condition=Ready", "node/node02")
