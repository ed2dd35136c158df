"""Rows N05, A11 and E14 on three control planes and three workers, which six typed commands make out of bare machines."""

import re
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from harness import control_plane, real_etcdctl
from harness.cluster import Cluster
from harness.eventually import eventually

CONTROL_PLANES = ("controlplane", "controlplane02", "controlplane03")
WORKERS = ("node01", "node02", "node03")
ENDPOINT = "192.168.56.10:6443"
COMMAND_S = 200.0


@pytest.fixture(scope="module")
def ha(new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    """Machines with power and nothing on them."""
    cluster = new_cluster("article-ha")
    said = cluster.up("--machines-only", "--control-planes=3", "--workers=3")
    assert "kubeadm init --pod-network-cidr=10.244.0.0/16" in said
    yield cluster
    cluster.remove()


def joins(said: str) -> list[str]:
    """The lines that `kubeadm init` prints for control planes and for workers, as one would copy them."""
    return [
        re.sub(r"\s*\\\n\s*", " ", found).strip()
        for found in re.findall(r"^ +(kubeadm join (?:.*\\\n)*.*)$|^(kubeadm join (?:.*\\\n)*.*)$", said, re.M)
        for found in found
        if found
    ]


def test_n05_three_masters_and_three_workers_from_six_commands(ha: Cluster) -> None:
    assert "no kubeconfig yet: type kubeadm init on controlplane" in ha.run("kubeconfig").stderr
    init = f"kubeadm init --control-plane-endpoint={ENDPOINT} --upload-certs --pod-network-cidr=10.244.0.0/16"
    said = ha.typed("controlplane", init, COMMAND_S)
    assert "Your Kubernetes control-plane has initialized successfully!" in said
    as_control_plane, as_worker = joins(said)
    assert "--control-plane" in as_control_plane
    assert "--certificate-key" in as_control_plane
    # The other five at once, as from five windows.
    done: dict[str, str] = {}
    lines = {**dict.fromkeys(CONTROL_PLANES[1:], as_control_plane), **dict.fromkeys(WORKERS, as_worker)}

    def join(machine: str) -> None:
        done[machine] = ha.typed(machine, lines[machine], COMMAND_S)

    windows = [threading.Thread(target=join, args=(machine,)) for machine in lines]
    for window in windows:
        window.start()
    for window in windows:
        window.join()
    assert {machine for machine, text in done.items() if "This node has joined the cluster" in text} == lines.keys(), done
    ha.kubeconfig.write_text(ha("kubeconfig"))
    ha.kubectl.wait("condition=Ready", "node", "--all", timeout_s=120)
    assert set(ha.kubectl.jsonpath("{.items[*].metadata.name}", "nodes").split()) == {*CONTROL_PLANES, *WORKERS}
    for machine in CONTROL_PLANES:
        assert ha.typed(machine, "cd /etc/kubernetes; ls -d admin.conf kubelet.conf controller-manager.conf scheduler.conf pki/etcd/ca.crt")
    assert "super-admin.conf" in ha.typed("controlplane", "ls /etc/kubernetes")
    # What a node more would have to type.
    line = ha.typed("controlplane", "kubeadm token create --print-join-command")
    assert re.fullmatch(
        rf"kubeadm join {ENDPOINT} --token [a-z0-9]{{6}}\.[a-z0-9]{{16}} --discovery-token-ca-cert-hash sha256:[0-9a-f]{{64}} ?\n", line
    )


@pytest.mark.needs("etcdctl")
def test_e14_the_members_of_three_masters_have_one_leader(ha: Cluster) -> None:
    for machine in CONTROL_PLANES:
        real_etcdctl.install(ha, machine)
        table = ha.typed(machine, real_etcdctl.line("kubeadm", "endpoint status --cluster -w table"))
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "https://" in line]
        assert [row[4] for row in sorted(rows)].count("true") == 1
        assert len(rows) == 3


def test_a11_any_api_server_may_die(ha: Cluster) -> None:
    """kill -9 of each in turn, while kubectl asks and asks: at most one of its requests is lost each time. Behind them there is one active manager and one scheduler."""
    for lease in ("kube-controller-manager", "kube-scheduler"):
        holder = ha.kubectl.in_namespace("kube-system").jsonpath("{.spec.holderIdentity}", "lease", lease)
        assert holder.rpartition("_")[0] in CONTROL_PLANES
    eventually(lambda: ha.kubectl.jsonpath("{.subsets[*].addresses[*].ip}", "endpoints", "kubernetes").split(), lambda ips: len(ips) == 3, 40)
    for machine in CONTROL_PLANES:
        eventually(lambda machine=machine: ha.typed(machine, "curl -sk https://127.0.0.1:6443/readyz"), lambda said: said == "ok", 60)  # type: ignore[misc]
        before = control_plane.process(ha, "kube-apiserver", machine).split()[1]
        failures: list[str] = []
        over = threading.Event()

        def ask(failures: list[str] = failures, over: threading.Event = over) -> None:
            while not over.is_set():
                try:
                    done = ha.kubectl.run("get", "nodes", "--request-timeout=20s", timeout_s=40)
                    failures.extend([done.stderr] if done.returncode else [])
                except subprocess.TimeoutExpired as error:
                    failures.append(str(error))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            ha.typed(machine, f"kill -9 {before}")
            eventually(
                lambda machine=machine: control_plane.process(ha, "kube-apiserver", machine).split()[1:2],
                lambda pid, before=before: pid and pid != [before],
                60,
            )  # type: ignore[misc]
            eventually(lambda machine=machine: ha.typed(machine, "curl -sk https://127.0.0.1:6443/readyz || true"), lambda said: said == "ok", 60)  # type: ignore[misc]
        finally:
            over.set()
            asking.join()
        assert len(failures) <= 1, failures
