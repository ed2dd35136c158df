"""The processes of a control plane as its administrator handles them, in either style: a manifest that is moved away and edited, or a unit.

`stopped` and `edited` give back what they took: at the end the component runs as before.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from harness.cluster import Cluster
from harness.eventually import eventually

MANIFESTS = "/etc/kubernetes/manifests"
UNITS = "/etc/systemd/system"
AWAY = "/root"


def file_of(style: str, component: str) -> str:
    """Where its flags stand."""
    return f"{MANIFESTS}/{component}.yaml" if style == "kubeadm" else f"{UNITS}/{component}.service"


def process(cluster: Cluster, component: str, machine: str = "controlplane") -> str:
    """Its line of `ps -aux | grep`; empty when there is none."""
    lines = cluster.typed(machine, f"ps -aux | grep {component}").splitlines()
    return next((line for line in lines if line.split()[10].rpartition("/")[2] == component), "")


def is_up(cluster: Cluster, component: str, machine: str = "controlplane") -> bool:
    """Whether it says so itself: by its health endpoint, or, etcd, by the API server that uses it."""
    port = {"kube-controller-manager": 10257, "kube-scheduler": 10259}.get(component)
    if port is None:
        try:
            return cluster.kubectl.run("get", "namespace", "default", timeout_s=10).returncode == 0
        except subprocess.TimeoutExpired:  # the server waits for its etcd
            return False
    return cluster.run("ssh", machine, "--", "curl", "-sfk", "-m", "2", f"https://127.0.0.1:{port}/healthz").stdout == "ok"


def stop(cluster: Cluster, style: str, component: str, machine: str = "controlplane") -> None:
    away = f"mv {MANIFESTS}/{component}.yaml {AWAY}/" if style == "kubeadm" else f"systemctl stop {component}"
    cluster.typed(machine, away)
    eventually(lambda: process(cluster, component, machine), lambda line: not line, 40, f"{component} has ended")


def start(cluster: Cluster, style: str, component: str, machine: str = "controlplane") -> None:
    cluster.typed(machine, f"mv {AWAY}/{component}.yaml {MANIFESTS}/" if style == "kubeadm" else f"systemctl start {component}")
    eventually(lambda: is_up(cluster, component, machine), timeout_s=40, what=f"{component} is back")


@contextmanager
def stopped(cluster: Cluster, style: str, component: str, machine: str = "controlplane") -> Iterator[None]:
    stop(cluster, style, component, machine)
    try:
        yield
    finally:
        start(cluster, style, component, machine)


def edit(cluster: Cluster, style: str, component: str, script: str, machine: str = "controlplane") -> None:
    """`sed` on its file, and until it runs with what is there now. The article's editor is vim."""
    before = process(cluster, component, machine)
    cluster.typed(machine, f"sed -i '{script}' {file_of(style, component)}")
    if style == "systemd":
        cluster.typed(machine, f"systemctl daemon-reload && systemctl restart {component}")
    pid = before.split()[1:2]
    eventually(lambda: process(cluster, component, machine).split()[1:2], lambda now: now and now != pid, 40, f"{component} was started again")
    eventually(lambda: is_up(cluster, component, machine), timeout_s=40, what=f"{component} is back")


@contextmanager
def edited(cluster: Cluster, style: str, component: str, script: str, machine: str = "controlplane") -> Iterator[None]:
    """For as long as the block lasts its file is what `script` makes of it."""
    kept = f"{AWAY}/{component}.before"
    cluster.typed(machine, f"cp {file_of(style, component)} {kept}")
    try:
        edit(cluster, style, component, script, machine)
        yield
    finally:
        before = process(cluster, component, machine).split()[1:2]
        cluster.typed(machine, f"cp {kept} {file_of(style, component)} && rm {kept}")
        if style == "systemd":
            cluster.typed(machine, f"systemctl daemon-reload && systemctl restart {component}")
        eventually(lambda: process(cluster, component, machine).split()[1:2], lambda now: now and now != before, 40, f"{component} was started again")
        eventually(lambda: is_up(cluster, component, machine), timeout_s=40, what=f"{component} is back")
