"""Our API server over an etcd, for tests: processes on free ports, a token file, a kubeconfig.

    with apiserver.running(tmp_path) as server:
        server.kubeconfig        # a file; the user is in system:masters
        server.url, server.token

By hand: `python -m harness.apiserver DIR [--etcd etcd] [flags of kube-apiserver…]` in `tests/` runs until it is interrupted and prints the kubeconfig.
The etcd is the `etcd` on PATH (`--etcd PROGRAM` another; `kubette` ours).
"""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness import judges

TOKEN = "admintoken"
START_TIMEOUT_S = 30.0
OURS = [sys.executable, "-m", "kubette.etcd"]


@dataclass(slots=True)
class Server:
    """A running API server."""

    url: str
    token: str
    kubeconfig: Path
    etcd: str
    directory: Path
    process: subprocess.Popen[bytes]

    def log(self) -> str:
        return (self.directory / "kube-apiserver.log").read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(directory: Path, name: str, argv: Sequence[str]) -> subprocess.Popen[bytes]:
    file: IO[bytes] = open(directory / f"{name}.log", "ab")  # noqa: SIM115  the process owns it
    with file:
        return subprocess.Popen(argv, stdout=file, stderr=file, stdin=subprocess.DEVNULL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running_etcd(directory: Path, program: Sequence[str] = ()) -> Iterator[str]:
    """One member; yields its client URL."""
    found = judges.find("etcd")
    argv = list(program) or [found or "etcd"]
    client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    flags = ["--data-dir", str(directory / "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client]
    flags += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    process = _start(directory, "etcd", [*argv, *flags])
    try:
        yield client
    finally:
        _stop(process)


@contextlib.contextmanager
def running(directory: Path, flags: Sequence[str] = (), etcd: str = "", etcd_program: Sequence[str] = ()) -> Iterator[Server]:
    """An API server, with an etcd of its own unless `etcd` names one."""
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        url = etcd or stack.enter_context(running_etcd(directory, etcd_program))
        server = start(directory, url, flags)
        stack.callback(_stop, server.process)
        wait_ready(server)
        yield server


def start(directory: Path, etcd: str, flags: Sequence[str] = ()) -> Server:
    """Start only; the caller waits and stops."""
    directory.mkdir(parents=True, exist_ok=True)
    tokens, key, port = directory / "tokens.csv", directory / "sa.key", free_port()
    tokens.write_text(f'{TOKEN},admin,admin,"system:masters"\nusertoken,user,user,\n')
    if not key.exists():
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    own = {
        "etcd-servers": etcd,
        "secure-port": str(port),
        "bind-address": "127.0.0.1",
        "advertise-address": "192.0.2.10",  # nobody connects to it; a loopback address may not be an endpoint
        "cert-dir": str(directory / "certs"),
        "token-auth-file": str(tokens),
        "authorization-mode": "Node,RBAC",
        "service-cluster-ip-range": "10.96.0.0/12",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": str(key),
        "service-account-signing-key-file": str(key),
        "allow-privileged": "true",
    }
    given = {flag.lstrip("-").partition("=")[0] for flag in flags}
    argv = [f"--{name}={value}" for name, value in own.items() if name not in given]
    process = _start(directory, "kube-apiserver", [sys.executable, "-m", "kubette.kube_apiserver", *argv, *flags])
    url = f"https://127.0.0.1:{next((f.partition('=')[2] for f in flags if f.startswith('--secure-port=')), port)}"
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(directory / "certs" / "apiserver.crt")}}],
                "users": [{"name": "admin", "user": {"token": TOKEN}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
                "current-context": "test",
            }
        )
    )
    return Server(url, TOKEN, kubeconfig, etcd, directory, process)


def wait_ready(server: Server, timeout_s: float = START_TIMEOUT_S) -> None:
    """Until /readyz says so. Fails with the log when the process ends first."""
    context = ssl._create_unverified_context()
    request = urllib.request.Request(server.url + "/readyz", headers={"Authorization": f"Bearer {server.token}"})
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with urllib.request.urlopen(request, context=context, timeout=5):
                return
        except OSError:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"kube-apiserver did not become ready:\n{server.log()[-4000:]}") from None
            time.sleep(0.05)


def main() -> None:
    words = sys.argv[1:]
    program: list[str] = []
    if "--etcd" in words:
        at = words.index("--etcd")
        program = OURS if words[at + 1] == "kubette" else [words[at + 1]]
        del words[at : at + 2]
    with running(Path(words[0]).resolve(), words[1:], etcd_program=program) as server:
        print(f"export KUBECONFIG={server.kubeconfig}  # etcd {server.etcd}, pid {server.process.pid}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.process.wait()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
