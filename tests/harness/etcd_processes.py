"""etcd processes on free ports: ours and the real one, started on any data directory, and both command line clients."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import judges, warm_programs

OURS, REAL = "ours", "real"
AS_34 = {"KUBETTE_ETCD_VERSION": "3.4.23"}  # a cluster that a 3.4 member may join or continue


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


_CLIENTS = {"etcdctl": "kubette.etcdctl.__main__", "etcdutl": "kubette.etcdctl.etcdutl"}


def program(kind: str, name: str) -> list[str]:
    """The command of `etcd`, `etcdctl` or `etcdutl`."""
    if kind == OURS:
        return [sys.executable, "-m", {"etcd": "kubette.etcd", **_CLIENTS}[name]]
    found = judges.find(name)
    assert found is not None, f"{name} is missing: mark the test with needs"
    return [found]


def environment(more: Mapping[str, str] | None = None, api: str = "3") -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ETCD", "KUBETTE_ETCD"))}
    return {**clean, "ETCDCTL_API": api, **AS_34, **(more or {})}


def run(
    kind: str,
    words: Sequence[str],
    *,
    stdin: bytes = b"",
    name: str = "etcdctl",
    api: str = "3",
    cwd: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> Done:
    """Run a client to its end."""
    if kind == OURS and name in _CLIENTS:
        code, stdout, stderr = warm_programs.run(_CLIENTS[name], words, stdin=stdin, environment=environment(more, api), cwd=cwd)
        return Done(code, stdout.decode("utf-8", "backslashreplace"), stderr.decode("utf-8", "backslashreplace"))
    done = subprocess.run([*program(kind, name), *words], input=stdin, capture_output=True, env=environment(more, api), timeout=60, cwd=cwd)
    return Done(done.returncode, done.stdout.decode("utf-8", "backslashreplace"), done.stderr.decode("utf-8", "backslashreplace"))


class Member:
    """One process; `url` is where it serves clients."""

    def __init__(
        self,
        kind: str,
        data_dir: Path,
        client_port: int,
        peer_port: int,
        *more: str,
        name: str = "m0",
        command: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.url = f"http://127.0.0.1:{client_port}"
        self.peer_url = f"http://127.0.0.1:{peer_port}"
        flags = {
            "name": name,
            "data-dir": str(data_dir),
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster": f"{name}={self.peer_url}",
        }
        self._log = data_dir.with_name(data_dir.name + f".{kind}.log")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*(command or program(kind, "etcd")), *(f"--{flag}={value}" for flag, value in flags.items()), *more],
                stdout=log,
                stderr=log,
                env={key: value for key, value in environment(variables).items() if not key.startswith("ETCDCTL")},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_exit(self, timeout_s: float = 20.0) -> int:
        """Its exit code; a signal's is negative."""
        return self._process.wait(timeout_s)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def wait_serving(self) -> None:
        """Until a key can be read. A process that ends instead shows its log."""
        port = int(self.url.rpartition(":")[2])
        for _ in range(300):
            assert self._process.poll() is None, self._log.read_text()[-3000:]
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
            except OSError:
                time.sleep(0.05)
        else:
            raise AssertionError(f"does not serve: {self._log.read_text()[-3000:]}")

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def with_faults(*faults: str) -> list[str]:
    """The command of our etcd with these faults (see faulty_etcd)."""
    return [sys.executable, "-m", "harness.faulty_etcd", *faults, "--"]


def harness_path() -> dict[str, str]:
    """What a program needs in its environment to import the harness."""
    return {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}


@contextmanager
def serving(
    kind: str,
    data_dir: Path,
    ports: Sequence[int],
    *more: str,
    name: str = "m0",
    command: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Iterator[Member]:
    """A member that serves, until the block is left; it is stopped cleanly."""
    member = Member(kind, data_dir, ports[0], ports[1], *more, name=name, command=command, variables=variables)
    try:
        member.wait_serving()
        yield member
    finally:
        member.stop()
