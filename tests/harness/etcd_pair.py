"""Our etcd and the real one side by side: what one answers, the other must."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import judges

_MASKS = (
    (r'"(cluster_id|member_id|raft_term|leader|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)": ?"?\d+"?', r'"\1":N'),
    (r'"expiration":"[^"]*"', '"expiration":T'),
    (r"127\.0\.0\.1:\d+", "HOST"),
    (r"\b[0-9a-f]{14,16}\b", "ID"),
)


@dataclass(slots=True)
class Answer:
    """Of an HTTP request."""

    status: int
    body: str
    headers: dict[str, str]


class Member:
    """One running server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def http(self, method: str, path: str, body: str = "", form: bool = False, headers: dict[str, str] | None = None) -> Answer:
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        data = body.encode() if method in ("POST", "PUT") else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": kind, **(headers or {})}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return Answer(response.status, response.read().decode(), dict(response.headers))
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode(), dict(error.headers))

    def first_lines(self, path: str, body: str, count: int, headers: dict[str, str] | None = None) -> list[str]:
        """Of an answer that does not end."""
        request = urllib.request.Request(self.url + path, body.encode() or None, headers or {})
        with urllib.request.urlopen(request, timeout=20) as response:
            return [response.readline().decode() for _ in range(count)]

    def etcdctl(self, *words: str, api: int = 3, stdin: str = "") -> tuple[int, str]:
        """Its exit code and all it said."""
        program = judges.find("etcdctl")
        assert program is not None
        environment = {"PATH": os.environ["PATH"], "ETCDCTL_API": str(api)}
        done = subprocess.run([program, "--endpoints", self.url, *words], input=stdin, capture_output=True, text=True, env=environment, timeout=60)
        return done.returncode, done.stdout + done.stderr


def masked(text: str) -> str:
    """Without what differs from server to server."""
    # The real client writes its own log lines with times.
    text = re.sub(r"(?m)^\{\"level\":\"warn\".*\n", "", text)
    for pattern, replacement in _MASKS:
        text = re.sub(pattern, replacement, text)
    return text


def _ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@contextmanager
def member(directory: Path, command: list[str], *more: str, tls: bool = False) -> Iterator[Member]:
    """A member of its own cluster; with `tls` its client port speaks it (the files are the caller's flags)."""
    ports, (metrics, _) = _ports(), _ports()
    client, peer = f"http{'s' if tls else ''}://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"
    health = f"http://127.0.0.1:{metrics}" if tls else client
    more = (*more, f"--listen-metrics-urls={health}") if tls else more
    flags = {
        "name": "solo",
        "data-dir": str(directory),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"solo={peer}",
    }
    with directory.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen([*command, *(f"--{name}={value}" for name, value in flags.items()), *more], stdout=log, stderr=log)
    try:
        running = Member(client)
        for _ in range(400):
            try:
                if json.loads(Member(health).http("GET", "/health").body)["health"] == "true":
                    break
            except (OSError, ValueError):
                pass
            time.sleep(0.05)
        else:
            raise AssertionError(directory.with_suffix(".log").read_text())
        yield running
    finally:
        process.kill()
        process.wait()


@contextmanager
def pair(directory: Path) -> Iterator[tuple[Member, Member]]:
    """Ours, then the real one."""
    real = judges.find("etcd")
    assert real is not None
    with (
        member(directory / "ours", [sys.executable, "-m", "kubette.etcd"]) as ours,
        member(directory / "real", [real], "--enable-v2", "--log-level=error") as theirs,
    ):
        yield ours, theirs
