"""A cluster of its own for tests: own KUBETTE_HOME, own kubeconfig, own name and port, driven through the commands a user types."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import judges
from harness.kubectl import Kubectl
from harness.terminal import on_terminal

KUBETTE = str(Path(sys.executable).with_name("kubette"))
UP_TIMEOUT_S = 240.0
COMMAND_TIMEOUT_S = 120.0
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Cluster:
    """`as_user` is put before each command (`runuser -u NAME --`), for the clusters of an ordinary user."""

    name: str
    directory: Path
    as_user: tuple[str, ...] = ()
    program: str = KUBETTE
    kubectl_program: str = ""
    api_port: int = field(default_factory=free_port)
    up_output: str = ""  # of the first `up`

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBETTE_HOME": str(self.home), "KUBECONFIG": str(self.kubeconfig)}

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.kubectl_program or judges.find("kubectl") or "kubectl", self.kubeconfig, environment=self.environment)

    def command(self, verb: str, *args: str) -> list[str]:
        return [*self.as_user, self.program, verb, f"--name={self.name}", *args]

    def run(self, verb: str, *args: str, stdin: str = "", timeout_s: float = COMMAND_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Any command of kubette, whatever its outcome."""
        command = self.command(verb, *args)
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, env=self.environment, check=False)

    def __call__(self, verb: str, *args: str, stdin: str = "", timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        done = self.run(verb, *args, stdin=stdin, timeout_s=timeout_s)
        assert done.returncode == 0, f"kubette {verb} {' '.join(args)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def up(self, *flags: str) -> str:
        """`kubette up`; what it said."""
        done = self.run("up", f"--api-port={self.api_port}", *flags, timeout_s=UP_TIMEOUT_S)
        output = done.stderr + done.stdout
        self.up_output = self.up_output or output
        assert done.returncode == 0, f"kubette up: exit code {done.returncode}\n{output}"
        return output

    def on(self, machine: str, *command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """A command on a machine, by `kubette ssh`."""
        return self("ssh", machine, "--", *command, timeout_s=timeout_s)

    def typed(self, machine: str, line: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """A line typed in a shell on a machine; what it printed, errors too."""
        done = self.run("ssh", machine, "--", "bash", "-c", f"exec 2>&1; {line}", timeout_s=timeout_s)
        assert done.returncode == 0, f"{machine}# {line}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def refused(self, machine: str, line: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """What a line that fails printed."""
        done = self.run("ssh", machine, "--", "bash", "-c", f"exec 2>&1; {line}", timeout_s=timeout_s)
        assert done.returncode != 0, f"{machine}# {line}: was not refused\n{done.stdout}"
        return done.stdout

    def on_terminal(self, machine: str, line: str, typed: str, timeout_s: float = COMMAND_TIMEOUT_S) -> tuple[int, str]:
        """A line on a machine, at a terminal where keys are typed: its exit code, and what was shown."""
        return on_terminal(self.command("ssh", machine, "--", "bash", "-c", line), self.environment, typed, timeout_s)

    def status(self) -> Any:
        return json.loads(self("status", "-o", "json"))

    def remove(self) -> None:
        """Whatever became of it."""
        self.run("down", "--purge")
        shutil.rmtree(self.home, ignore_errors=True)

    def diagnostics(self) -> str:
        """What one wants to know of a cluster in which a test failed."""
        parts = []
        if not self.kubeconfig.exists():
            parts.append(self.up_output or "(not up)")
        for args in (("get", "nodes", "-o", "wide"), ("get", "pods", "-A", "-o", "wide"), ("get", "events", "-A", "--sort-by=.lastTimestamp")):
            try:
                done = self.kubectl.run(*args, timeout_s=10)
                lines = (done.stdout + done.stderr).splitlines()
            except subprocess.TimeoutExpired:
                lines = ["(no answer)"]
            parts.append("\n".join([f"$ kubectl {' '.join(args)}", *lines[:1], *lines[1:][-40:]]))
        of_the_control_plane = (log for name in CONTROL_PLANE for log in self.home.glob(f"*/machines/*/var/log/pods/kube-system_{name}-*/*/*.log"))
        for log in [*sorted(self.home.glob("*/logs/*.log")), *sorted(of_the_control_plane)]:
            tail = log.read_text(errors="replace").splitlines()[-15:]
            parts.append("\n".join([f"== {log.relative_to(self.home)}", *tail]))
        return "\n\n".join(parts)


def differences(before: Mapping[str, set[str]], after: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """What there is now that was not there before."""
    return {kind: after[kind] - before[kind] for kind in after if after[kind] - before[kind]}
