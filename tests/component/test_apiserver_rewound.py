"""An etcd that goes back in time under a running API server, restored from a snapshot and soon past what was seen before."""

import json
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from harness import apiserver, etcd_processes
from harness.etcd_processes import OURS, Member
from harness.eventually import eventually

pytestmark = [pytest.mark.slow, pytest.mark.needs("openssl")]

MAPS = "/api/v1/namespaces/default/configmaps"


def call(server: apiserver.Server, path: str, body: dict[str, Any] | None = None, timeout_s: float = 20) -> IO[bytes]:
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode() if body else None, headers)
    opened: IO[bytes] = urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=timeout_s)
    return opened


def create(server: apiserver.Server, name: str) -> int:
    """The revision of the new ConfigMap."""
    made = json.load(call(server, MAPS, {"metadata": {"name": name}}))
    return int(made["metadata"]["resourceVersion"])


def names(server: apiserver.Server, query: str = "") -> set[str]:
    return {item["metadata"]["name"] for item in json.load(call(server, MAPS + query))["items"]} - {"kube-root-ca.crt"}


@contextmanager
def watching(server: apiserver.Server, since: int) -> Iterator[Iterator[dict[str, Any]]]:
    with call(server, f"{MAPS}?watch=1&resourceVersion={since}&timeoutSeconds=60", timeout_s=60) as stream:
        yield (json.loads(line) for line in stream)


def etcdctl(member: Member, *words: str) -> str:
    done = etcd_processes.run(OURS, ["--endpoints", member.url, *words])
    assert done.code == 0, done.stderr
    return done.stdout


def restore(snapshot: Path, into: Path, member: Member) -> None:
    """With the same name, address and token: the ids of the cluster and its member stay what they were, as on a cluster of kubeadm."""
    where = [f"--data-dir={into}", "--name=m0", f"--initial-cluster=m0={member.peer_url}", f"--initial-advertise-peer-urls={member.peer_url}"]
    done = etcd_processes.run(OURS, ["snapshot", "restore", str(snapshot), *where], name="etcdutl")
    assert done.code == 0, done.stderr


def revision(member: Member) -> int:
    return int(json.loads(etcdctl(member, "get", "none", "-w", "json"))["header"]["revision"])


def test_another_history_resets_caches_and_watchers_and_a_restart_alone_does_not(tmp_path: Path) -> None:
    ports, others, snapshot = etcd_processes.free_ports(2), etcd_processes.free_ports(2), tmp_path / "snapshot.db"
    with etcd_processes.serving(OURS, tmp_path / "first", ports) as first, apiserver.running(tmp_path / "api", etcd=first.url) as server:
        assert names(server) == set()  # fills the cache: what is watched from here on is in its log
        kept = create(server, "kept")
        etcdctl(first, "snapshot", "save", str(snapshot))
        create(server, "lost")
        with watching(server, kept) as events:
            assert next(events)["object"]["metadata"]["name"] == "lost"
            first.stop()
            with etcd_processes.serving(OURS, tmp_path / "first", ports) as again:
                # The same history: the watch goes on as if nothing had been.
                eventually(lambda: create(server, "after-restart"))
                event = next(events)
                assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "after-restart")
                seen = revision(again)
            restore(snapshot, tmp_path / "second", first)
            # It is past what the server has seen before the server meets it, and another object is where the lost one was.
            with etcd_processes.serving(OURS, tmp_path / "second", [others[0], ports[1]]) as elsewhere:
                text = etcdctl(elsewhere, "get", "/registry/configmaps/default/kept", "--print-value-only").strip()
                etcdctl(elsewhere, "put", "/registry/configmaps/default/new", text.replace('"kept"', '"new"'))
                while revision(elsewhere) <= seen + 5:
                    etcdctl(elsewhere, "put", "/somebody/else", "x")
            with etcd_processes.serving(OURS, tmp_path / "second", ports):
                event = next(events)
                assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired"), server.log()
                assert next(events, None) is None
                assert eventually(lambda: names(server)) == {"kept", "new"}, server.log()
                assert names(server, "?resourceVersion=0") == {"kept", "new"}
                with watching(server, create(server, "later") - 1) as renewed:
                    assert next(renewed)["object"]["metadata"]["name"] == "later"
                assert server.process.poll() is None
