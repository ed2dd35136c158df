"""The real kubectl, driven as a user drives it.

kubectl("get", "pods")                     # its standard output; a failure is an AssertionError with both outputs
kubectl.refused("create", "-f", "x.yaml")  # its standard error, when it must fail
kubectl.json("get", "pod", "web")          # -o json, parsed
with kubectl.follow("get", "pods", "-w") as lines: lines.until("Running")
"""

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.terminal import on_terminal

TIMEOUT_S = 60.0


class Kubectl:
    """One kubectl program with one kubeconfig and one namespace."""

    def __init__(self, program: str, kubeconfig: Path, namespace: str = "default", environment: Mapping[str, str] | None = None) -> None:
        self.program, self.kubeconfig, self.namespace = program, kubeconfig, namespace
        self._environment = {**(environment or os.environ), "KUBECONFIG": str(kubeconfig)}

    def in_namespace(self, namespace: str) -> "Kubectl":
        return Kubectl(self.program, self.kubeconfig, namespace, self._environment)

    def with_program(self, program: str) -> "Kubectl":
        return Kubectl(program, self.kubeconfig, self.namespace, self._environment)

    def command(self, *args: str) -> list[str]:
        return [self.program, f"--namespace={self.namespace}", *args]

    def run(self, *args: str, stdin: str = "", timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Whatever the outcome."""
        return subprocess.run(self.command(*args), input=stdin, capture_output=True, text=True, timeout=timeout_s, env=self._environment, check=False)

    def __call__(self, *args: str, stdin: str = "", timeout_s: float = TIMEOUT_S) -> str:
        done = self.run(*args, stdin=stdin, timeout_s=timeout_s)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def refused(self, *args: str, stdin: str = "") -> str:
        done = self.run(*args, stdin=stdin)
        assert done.returncode != 0, f"kubectl {' '.join(args)} was not refused:\n{done.stdout}"
        return done.stderr

    def json(self, *args: str) -> Any:
        return json.loads(self(*args, "-o", "json"))

    def jsonpath(self, template: str, *args: str) -> str:
        return self("get", *args, "-o", f"jsonpath={template}")

    def apply(self, *objects: dict[str, Any]) -> str:
        return self("apply", "-f", "-", stdin="\n---\n".join(json.dumps(one) for one in objects))

    def wait(self, condition: str, *what: str, timeout_s: float = 30.0) -> None:
        """`kubectl wait --for=CONDITION`; a failure shows the pods."""
        done = self.run("wait", f"--for={condition}", f"--timeout={timeout_s:.0f}s", *what, timeout_s=timeout_s + 10)
        assert done.returncode == 0, f"kubectl wait --for={condition} {' '.join(what)}: {done.stderr}\n{self.run('get', 'pods', '-o', 'wide').stdout}"

    def exec(self, pod: str, script: str, timeout_s: float = TIMEOUT_S) -> str:
        return self("exec", pod, "--", "sh", "-c", script, timeout_s=timeout_s)

    @contextmanager
    def follow(self, *args: str) -> "Iterator[Lines]":
        """A kubectl that goes on; killed at the end."""
        process = subprocess.Popen(
            self.command(*args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._environment
        )
        try:
            yield Lines(process)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def on_terminal(self, args: Sequence[str], typed: str, timeout_s: float = TIMEOUT_S) -> tuple[int, str]:
        """On a pseudo-terminal, with keys typed at once: the exit code and all that was shown."""
        return on_terminal(self.command(*args), self._environment, typed, timeout_s)


class Lines:
    """What a running program prints, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.seen = process, list[str]()
        self._queue: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                self._queue.put(line.rstrip("\n"))
        except ValueError:  # closed under our feet: the follower ended
            pass
        self._queue.put(None)

    def until(self, text: str, timeout_s: float = 20.0) -> str:
        """The first line from here on that holds `text`."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line with {text!r} within {timeout_s:.0f} s; seen: {self.seen}") from None
            assert line is not None, f"ended without a line with {text!r}; seen: {self.seen}"
            self.seen.append(line)
            if text in line:
                return line
