"""What happens inside the machine of test_runtime.py: the real runtime under the real init, driven over its socket.

Runs as a unit of that machine: `runtime_scenarios.py RESULTS`. Each scenario is a function; what it raises is its result.
"""

import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from kubette.cri import api_pb2 as cri
from kubette.cri import services

CONTAINERD = str(Path(sys.executable).with_name("containerd"))
OWN_PID = cri.NamespaceOption(pid=cri.CONTAINER)
SCENARIOS: dict[str, Callable[["Node"], None]] = {}
DEADLINE_S = 20.0


def scenario(function: Callable[["Node"], None]) -> Callable[["Node"], None]:
    SCENARIOS[function.__name__] = function
    return function


def eventually(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < until, "the condition did not come true"
        time.sleep(0.02)
    return value


def refusal(call: Callable[[], Any]) -> Any:
    """The error of a call that must not succeed."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


class Node:
    """One runtime, and the calls of a kubelet."""

    def __init__(self) -> None:
        self.process = self.start()
        channel = grpc.insecure_channel(services.SOCKET)
        self.runtime = services.Stub(channel, services.RUNTIME_SERVICE)
        self.images = services.Stub(channel, services.IMAGE_SERVICE)
        assert not self.network_ready()
        network = cri.NetworkConfig(pod_cidr="10.244.7.0/24")
        self.runtime.UpdateRuntimeConfig(cri.UpdateRuntimeConfigRequest(runtime_config=cri.RuntimeConfig(network_config=network)))
        for image in ("nginx", "busybox"):
            self.images.PullImage(cri.PullImageRequest(image=cri.ImageSpec(image=image)))

    def start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([CONTAINERD])

    def network_ready(self) -> bool:
        status = self.runtime.Status(cri.StatusRequest(), timeout=DEADLINE_S, wait_for_ready=True).status
        return {c.type: c.status for c in status.conditions}["NetworkReady"]

    def sandbox(self, name: str, options: cri.NamespaceOption = OWN_PID, **more: Any) -> tuple[str, cri.PodSandboxConfig]:
        context = cri.LinuxSandboxSecurityContext(namespace_options=options)
        config = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=name, uid=f"{name}-uid", namespace="default"),
            hostname=name,
            log_directory=f"/var/log/pods/{name}",
            linux=cri.LinuxPodSandboxConfig(security_context=context),
            **more,
        )
        return self.runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=config)).pod_sandbox_id, config

    def container(
        self, sandbox: tuple[str, cri.PodSandboxConfig], image: str, *command: str, security: dict[str, Any] | None = None, **more: Any
    ) -> str:
        options = sandbox[1].linux.security_context.namespace_options
        context = cri.LinuxContainerSecurityContext(namespace_options=options, **(security or {}))
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name="main"),
            image=cri.ImageSpec(image=image),
            command=command,
            log_path="main/0.log",
            linux=cri.LinuxContainerConfig(security_context=context),
            **more,
        )
        request = cri.CreateContainerRequest(pod_sandbox_id=sandbox[0], config=config, sandbox_config=sandbox[1])
        container_id: str = self.runtime.CreateContainer(request).container_id
        self.runtime.StartContainer(cri.StartContainerRequest(container_id=container_id))
        return container_id

    def status(self, container_id: str) -> cri.ContainerStatus:
        status: cri.ContainerStatus = self.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container_id)).status
        return status

    def output(self, container_id: str) -> str:
        """What a container has written, once it has ended."""
        eventually(lambda: self.status(container_id).state == cri.CONTAINER_EXITED)
        lines = Path(self.status(container_id).log_path).read_text().splitlines()
        return "\n".join(line.split(" ", 3)[3] for line in lines)

    def run(self, name: str, *command: str, **more: Any) -> str:
        return self.output(self.container(self.sandbox(name), "busybox", *command, **more))

    def exec(self, container_id: str, *command: str, timeout: int = 10) -> cri.ExecSyncResponse:
        response: cri.ExecSyncResponse = self.runtime.ExecSync(cri.ExecSyncRequest(container_id=container_id, cmd=command, timeout=timeout))
        return response

    def address(self, sandbox_id: str) -> str:
        return str(self.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)).status.network.ip)

    def remove(self, sandbox_id: str) -> None:
        self.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox_id))
        self.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id))


@scenario
def a_pod_is_reached_from_the_machine_and_from_another_pod(node: Node) -> None:
    web = node.sandbox("web")
    node.container(web, "nginx")
    address = node.address(web[0])
    page = eventually(lambda: _get(f"http://{address}/"))
    assert b"Welcome to nginx!" in page
    assert "Welcome to nginx!" in node.run("visitor", "curl", "-sS", f"http://{address}/")


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bytes(response.read())
    except OSError:
        return b""


@scenario
def a_container_sees_its_own_processes_hostname_and_tree(node: Node) -> None:
    seen = node.run(
        "own",
        "sh",
        "-c",
        "echo $$; hostname; touch /usr/share/x /x && ls -d /usr/share/x; ls /etc/hostname; touch /proc/sys/kernel/x 2>/dev/null || echo ro",
    )
    assert seen.splitlines() == ["1", "own", "/usr/share/x", "/etc/hostname", "ro"]
    assert not Path("/usr/share/x").exists()


@scenario
def an_exit_code_a_signal_and_a_missing_program_are_told_apart(node: Node) -> None:
    seven = node.container(node.sandbox("seven"), "busybox", "sh", "-c", "exit 7")
    eventually(lambda: node.status(seven).state == cri.CONTAINER_EXITED)
    assert (node.status(seven).exit_code, node.status(seven).reason) == (7, "Error")
    slow = node.container(node.sandbox("slow"), "busybox", "sh", "-c", "while :; do sleep 1; done")
    node.runtime.StopContainer(cri.StopContainerRequest(container_id=slow, timeout=0))
    assert node.status(slow).exit_code == 128 + signal.SIGKILL
    sandbox = node.sandbox("missing")
    error = refusal(lambda: node.container(sandbox, "busybox", "nosuch"))
    assert 'exec: "nosuch": executable file not found in $PATH: unknown' in error.details()
    (listed,) = node.runtime.ListContainers(cri.ListContainersRequest(filter=cri.ContainerFilter(pod_sandbox_id=sandbox[0]))).containers
    assert (node.status(listed.id).exit_code, node.status(listed.id).reason) == (128, "StartError")


@scenario
def a_stop_signal_is_heard_within_its_grace(node: Node) -> None:
    container = node.container(node.sandbox("graceful"), "busybox", "sh", "-c", "trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done")
    node.exec(container, "true")
    node.runtime.StopContainer(cri.StopContainerRequest(container_id=container, timeout=10))
    assert node.status(container).exit_code == 3
    assert node.output(container) == "bye"


@scenario
def the_runtime_may_be_killed_and_nothing_is_lost(node: Node) -> None:
    sandbox = node.sandbox("survivor")
    container = node.container(sandbox, "busybox", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")
    gone = node.container(node.sandbox("short"), "busybox", "sh", "-c", "while [ ! -e /stop/it ]; do sleep 0.05; done; exit 9", mounts=[_volume()])
    pid = _pid(node, container)
    node.process.kill()
    node.process.wait()
    Path("/tmp/volume/it").touch()
    node.process = node.start()
    eventually(node.network_ready)
    assert _pid(node, container) == pid
    eventually(lambda: node.status(gone).state == cri.CONTAINER_EXITED)
    assert node.status(gone).exit_code == 9
    assert node.exec(container, "hostname").stdout == b"survivor\n"
    assert node.address(sandbox[0]).startswith("10.244.7.")


def _volume() -> cri.Mount:
    Path("/tmp/volume").mkdir(exist_ok=True)
    return cri.Mount(container_path="/stop", host_path="/tmp/volume", readonly=True)


def _pid(node: Node, container: str) -> int:
    info = node.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container, verbose=True)).info["info"]
    return int(json.loads(info)["pid"])


@scenario
def exec_answers_output_exit_code_and_deadline(node: Node) -> None:
    container = node.container(node.sandbox("execs"), "busybox", "sh", "-c", "while :; do sleep 1; done")
    done = node.exec(container, "sh", "-c", "echo out; echo err >&2; exit 4")
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 4)
    assert refusal(lambda: node.exec(container, "sleep", "60", timeout=1)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: b"sleep 60" not in node.exec(container, "ps", "ax").stdout)


@scenario
def security_context_is_applied(node: Node) -> None:
    who = {"run_as_user": cri.Int64Value(value=1000), "run_as_group": cri.Int64Value(value=2000), "supplemental_groups": [3000]}
    security = {**who, "readonly_rootfs": True, "no_new_privs": True}
    seen = node.run("secure", "sh", "-c", "id -u; id -g; id -G; touch /x; grep -E 'CapEff|NoNew' /proc/self/status", security=security)
    # Output and errors are two pipes: their lines keep no order among each other.
    assert [line for line in seen.splitlines() if line.replace(" ", "").isdigit()] == ["1000", "2000", "2000 3000"]
    assert "Read-only file system" in seen
    words = seen.split()
    assert (words[words.index("CapEff:") + 1], words[words.index("NoNewPrivs:") + 1]) == ("0" * 16, "1")


@scenario
def a_pod_that_shares_its_process_namespace_has_pause_as_its_init(node: Node) -> None:
    sandbox = node.sandbox("shared", cri.NamespaceOption(pid=cri.POD))
    assert "/pause" in node.output(node.container(sandbox, "busybox", "cat", "/proc/1/cmdline"))


@scenario
def a_sandbox_whose_pause_dies_is_not_ready(node: Node) -> None:
    sandbox_id, _ = node.sandbox("paused")
    info = node.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id, verbose=True)).info["info"]
    assert Path(f"/proc/{json.loads(info)['pid']}/cmdline").read_bytes() == b"/pause\0"
    os.kill(json.loads(info)["pid"], signal.SIGKILL)
    ready = cri.PodSandboxFilter(id=sandbox_id, state=cri.PodSandboxStateValue(state=cri.SANDBOX_READY))
    eventually(lambda: not node.runtime.ListPodSandbox(cri.ListPodSandboxRequest(filter=ready)).items)


@scenario
def events_tell_every_change(node: Node) -> None:
    stream = node.runtime.GetContainerEvents(cri.GetEventsRequest(), timeout=DEADLINE_S)
    events: queue.SimpleQueue[cri.ContainerEventResponse] = queue.SimpleQueue()

    def follow() -> None:
        with contextlib.suppress(grpc.RpcError):  # cancelled
            for event in stream:
                events.put(event)

    threading.Thread(target=follow, daemon=True).start()
    sandbox, made = node.sandbox("watched"), 0

    def heard() -> bool:  # the stream is open once its first event has come
        nonlocal made
        made += 1
        node.sandbox(f"watched{made}")
        return not events.empty()

    eventually(heard)
    container = node.container(sandbox, "busybox", "true")
    kinds = []
    while True:
        event = events.get(timeout=DEADLINE_S)
        if event.container_id == container:
            kinds.append(event.container_event_type)
            if event.container_event_type == cri.CONTAINER_STOPPED_EVENT:
                assert event.containers_statuses[0].state == cri.CONTAINER_EXITED
                break
    stream.cancel()
    assert kinds == [cri.CONTAINER_CREATED_EVENT, cri.CONTAINER_STARTED_EVENT, cri.CONTAINER_STOPPED_EVENT]


@scenario
def a_memory_limit_is_enforced_where_the_machine_can(node: Node) -> None:
    info = json.loads(node.runtime.Status(cri.StatusRequest(verbose=True)).info["config"])
    if "memory" not in info["enforcedLimits"]:
        return  # the runtime says that it cannot, and the machine's control groups are not ours
    sandbox = node.sandbox("greedy")
    resources = cri.LinuxContainerResources(memory_limit_in_bytes=32 << 20, memory_swap_limit_in_bytes=32 << 20)
    config = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name="main"),
        image=cri.ImageSpec(image="busybox"),
        command=[sys.executable, "-c", "b = bytearray(200 << 20)"],
        linux=cri.LinuxContainerConfig(resources=resources, security_context=cri.LinuxContainerSecurityContext(namespace_options=OWN_PID)),
    )
    container = node.runtime.CreateContainer(
        cri.CreateContainerRequest(pod_sandbox_id=sandbox[0], config=config, sandbox_config=sandbox[1])
    ).container_id
    node.runtime.StartContainer(cri.StartContainerRequest(container_id=container))
    eventually(lambda: node.status(container).state == cri.CONTAINER_EXITED)
    assert (node.status(container).exit_code, node.status(container).reason) == (137, "OOMKilled")


@scenario
def crictl_shows_and_runs(node: Node) -> None:
    sandbox = node.sandbox("shown")
    container = node.container(sandbox, "busybox", "sh", "-c", "echo logged; while :; do sleep 1; done")

    def crictl(*words: str) -> str:
        return subprocess.run([sys.executable, "-m", "kubette.runtime.crictl", *words], capture_output=True, text=True, check=True).stdout

    (line,) = [x for x in crictl("ps").splitlines() if container[:13] in x]
    assert [word for word in line.split() if word in ("Running", "main", "shown", "default")] == ["Running", "main", "shown", "default"]
    assert "docker.io/library/busybox" in crictl("images")
    assert crictl("exec", container[:13], "sh", "-c", "echo $HOSTNAME") == "shown\n"
    assert eventually(lambda: crictl("logs", container[:13])) == "logged\n"
    assert json.loads(crictl("inspect", container[:13]))["info"]["pid"] == _pid(node, container)
    crictl("stopp", sandbox[0][:13])
    assert "NotReady" in next(x for x in crictl("pods").splitlines() if sandbox[0][:13] in x)


@scenario
def removal_leaves_nothing(node: Node) -> None:
    for item in node.runtime.ListPodSandbox(cri.ListPodSandboxRequest()).items:
        node.remove(item.id)
    assert not node.runtime.ListContainers(cri.ListContainersRequest()).containers
    assert not list(Path("/run/netns").iterdir())
    assert [p.name for p in Path("/var/lib/cni/networks/kubette").iterdir()] == ["last_reserved_ip.0"]
    assert not list(Path("/run/containerd/io.containerd.runtime.v2.task/k8s.io").iterdir())
    assert not list(Path("/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots").iterdir())
    assert not [name for _, name in socket.if_nameindex() if name.startswith("veth")]
    assert "cri-" not in Path("/proc/mounts").read_text()


def main(results: Path) -> None:
    assert shutil.which("curl"), "this machine has no curl"
    outcome: dict[str, str] = {}
    try:
        node = Node()
        for name, function in SCENARIOS.items():
            try:
                function(node)
                outcome[name] = ""
            except BaseException:
                outcome[name] = traceback.format_exc()
        node.process.terminate()
        node.process.wait()
    except BaseException:
        outcome["start"] = traceback.format_exc()
    results.write_text(json.dumps(outcome))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
