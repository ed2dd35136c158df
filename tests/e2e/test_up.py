"""`kubette up`: what it shows, what it refuses, and that it cleans up after itself."""

import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from harness.cluster import Cluster, free_port
from harness.eventually import eventually


@pytest.fixture
def another(new_cluster: Callable[..., Cluster], request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster of the test's own, not started; gone at the end."""
    cluster = new_cluster("x" + re.sub(r"[^a-z0-9]", "", request.node.name.removeprefix("test_"))[:12])
    yield cluster
    cluster.remove()


def refused(cluster: Cluster, *flags: str) -> str:
    done = cluster.run("up", *flags)
    assert done.returncode != 0, done.stdout + done.stderr
    return done.stderr


def test_each_phase_is_one_line_with_its_time(cluster: Cluster) -> None:
    lines = cluster.up_output.splitlines()
    assert lines[0] == 'Creating cluster "e2e" (v1.37.1) ...'
    phases = [line for line in lines if line.startswith(" ✓ ")]
    assert all(re.fullmatch(r" ✓ .+  \d+\.\ds", line) for line in phases)
    titles = " ".join(phases)
    for words in ("machines: controlplane, node01, node02", "kubeadm init on controlplane", "Joining: node01, node02", "Ready"):
        assert words in titles
    assert "kubectl get nodes" in cluster.up_output


def test_a_running_name_is_refused(cluster: Cluster) -> None:
    assert 'cluster "e2e" is already running' in refused(cluster)


def test_unknown_flags_and_arguments_are_refused(another: Cluster) -> None:
    assert refused(another, "--nodes=3").startswith("error: unknown flag: --nodes\n")
    assert "kubette up --help" in refused(another, "--nodes=3")
    assert refused(another, "extra").startswith("error: ")
    assert "invalid" in refused(another, "--workers=many")
    assert refused(another, "--control-planes=0").startswith("error: ")
    assert refused(another, "--kubernetes-version=v1.99.0").startswith("error: ")
    assert not another.home.exists() or not any(another.home.iterdir())


def test_a_port_in_use_is_refused(another: Cluster) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is already in use" in refused(another, f"--api-port={port}")


def test_commands_on_what_is_not_there_are_refused(another: Cluster) -> None:
    assert f'cluster "{another.name}" not found' in another.run("ssh", "node01", "--", "true").stderr
    done = another.run("down")
    assert (done.returncode, done.stderr) == (1, f'error: no cluster "{another.name}" found\n')


def test_no_room_is_refused(another: Cluster) -> None:
    another.directory.joinpath("home").write_text("a file where a folder must be")
    assert refused(another).startswith("error: cannot ")


def _until(stream: IO[str], text: str) -> None:
    for line in stream:
        if text in line:
            return
    raise AssertionError(f"ended without {text!r}")


def test_ctrl_c_cleans_up(another: Cluster) -> None:
    process = subprocess.Popen(
        another.command("up", f"--api-port={free_port()}", "--workers=0"), stderr=subprocess.PIPE, text=True, env=another.environment
    )
    assert process.stderr is not None
    with process.stderr:
        _until(process.stderr, "✓ Starting machines")
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.wait(60) != 0
    assert "✓ Cleaning up" in rest
    assert "Traceback" not in rest
    assert not (another.home / another.name).exists()
    assert not another.kubeconfig.exists() or another.name not in another.kubeconfig.read_text()
    eventually(lambda: _processes(another), lambda left: left == "", timeout_s=5)


def _processes(cluster: Cluster) -> str:
    """Processes that name the cluster's folder."""
    return subprocess.run(["pgrep", "-af", str(cluster.home)], capture_output=True, text=True, check=False).stdout


def test_a_failing_phase_shows_its_last_lines(another: Cluster) -> None:
    """A manifest that is there already: kubeadm's preflight checks refuse it."""
    manifests = another.home / another.name / "machines/controlplane/etc/kubernetes/manifests"
    manifests.mkdir(parents=True)
    (manifests / "etcd.yaml").write_text("mine")
    done = another.run("up", f"--api-port={free_port()}", "--workers=0")
    assert done.returncode == 1
    assert " ✗ Starting the control plane: kubeadm init on controlplane" in done.stderr
    assert "kubeadm init on controlplane" in done.stderr
    assert "error: " in done.stderr
    assert "/etc/kubernetes/manifests/etcd.yaml already exists" in done.stderr
    assert "✓ Cleaning up" in done.stderr


def test_a_machine_that_dies_is_named_as_what_failed_first(another: Cluster) -> None:
    process = subprocess.Popen(
        another.command("up", f"--api-port={free_port()}", "--workers=0"), stderr=subprocess.PIPE, text=True, env=another.environment
    )
    assert process.stderr is not None
    with process.stderr:
        _until(process.stderr, "✓ Starting machines")
        another("machine", "kill", "controlplane")
        rest = process.stderr.read()
    assert process.wait(60) == 1
    assert "error: " in rest
    assert "machine controlplane is off" in rest
