"""Files between us and the real etcd 3.4: what else a data directory or a snapshot may hold, and what may have happened to it before.

Users and roles with authentication on, v2 keys, leases, a log of several segments, a database compacted and defragmented, a snapshot of which a whole
cluster is made. Each goes both ways; test_etcd_interchange has the directions themselves.
"""

import asyncio
import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import etcd_processes as etcd
from harness.etcd_calls import Calls
from harness.etcd_processes import OURS, REAL, Done, Member
from harness.eventually import eventually

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd", "etcdctl")]

BOTH_WAYS = pytest.mark.parametrize(("first", "second"), [(REAL, OURS), (OURS, REAL)])
ROOT = ("--user", "root:pw")


def run(member: Member, *words: str, api: str = "3") -> Done:
    return etcd.run(REAL, ["--endpoints", member.url, *words], api=api)


def ctl(member: Member, *words: str, api: str = "3") -> str:
    done = run(member, *words, api=api)
    assert done.code == 0, (words, done)
    return done.stdout


def restore(kind: str, file: Path, data: Path, name: str, cluster: dict[str, str]) -> None:
    initial = ",".join(f"{each}={url}" for each, url in cluster.items())
    words = ["snapshot", "restore", str(file), "--data-dir", str(data), "--name", name, "--initial-cluster", initial]
    done = etcd.run(kind, [*words, "--initial-advertise-peer-urls", cluster[name], "--initial-cluster-token=new"])
    assert done.code == 0, done


def keys_and_hash(member: Member, *flags: str) -> Any:
    pairs = json.loads(ctl(member, *flags, "get", "", "--prefix", "-w", "json"))
    (hashed,) = json.loads(ctl(member, *flags, "endpoint", "hashkv", "-w", "json"))
    return pairs["header"]["revision"], pairs.get("kvs"), hashed["HashKV"]["hash"], hashed["HashKV"]["compact_revision"]


# Users and roles


def _protect(member: Member) -> None:
    for words in (
        *(["user", "add", "root:pw"], ["user", "add", "reader:pw"], ["user", "add", "nopassword", "--no-password"], ["role", "add", "r"]),
        *(["role", "grant-permission", "r", "read", "/a", "/c"], ["role", "grant-permission", "r", "readwrite", "/w/", "--prefix"]),
        *(
            ["role", "add", "root"],
            ["user", "grant-role", "root", "root"],
            ["user", "grant-role", "reader", "r"],
            ["put", "/b", "1"],
            ["put", "/d", "2"],
        ),
        ["auth", "enable"],
    ):
        ctl(member, *words)


def _wait_users(member: Member) -> None:
    """Until root may log in: the real one checks passwords before it has read its log to the end."""
    eventually(lambda: run(member, *ROOT, "user", "list"), lambda done: done.code == 0, 60)


def _is_protected(member: Member) -> None:
    """Everybody may do what they might before, and nothing else."""
    _wait_users(member)
    reader = ("--user", "reader:pw")
    assert ctl(member, *ROOT, "user", "list") == "nopassword\nreader\nroot\n"
    assert ctl(member, *ROOT, "user", "get", "reader") == "User: reader\nRoles: r\n"
    permissions = ctl(member, *ROOT, "role", "get", "r", "-w", "json")
    assert len(json.loads(permissions)["perm"]) == 2
    assert ctl(member, *reader, "get", "/b", "--print-value-only") == "1\n"
    ctl(member, *reader, "put", "/w/x", "y")
    for words, complaint in (
        ([*reader, "get", "/d"], "etcdserver: permission denied"),
        ([*reader, "put", "/b", "x"], "etcdserver: permission denied"),
        (["get", "/b"], "etcdserver: user name is empty"),
        (["--user", "reader:bad", "get", "/b"], "etcdserver: authentication failed, invalid user ID or password"),
        (
            ["--user", "nopassword:x", "get", "/b"],
            "rpc error: code = Unknown desc = auth: authentication failed, password was given for no password user",
        ),
    ):
        done = run(member, *words)
        assert done.code != 0, words
        assert done.stderr.splitlines()[-1] == f"Error: {complaint}", words


@BOTH_WAYS
@pytest.mark.parametrize("snapshots", [[], ["--snapshot-count=5"]], ids=["log alone", "with .snap"])
def test_users_and_roles_go_with_a_directory(first: str, second: str, snapshots: Sequence[str], tmp_path: Path) -> None:
    ports, data = etcd.free_ports(2), tmp_path / "data"
    with etcd.serving(first, data, ports, *snapshots) as member:
        _protect(member)
        _is_protected(member)
        before = keys_and_hash(member, *ROOT)
    for kind in (second, first):
        with etcd.serving(kind, data, ports, *snapshots) as member:
            _wait_users(member)
            assert keys_and_hash(member, *ROOT) == before
            _is_protected(member)
            before = keys_and_hash(member, *ROOT)
    with etcd.serving(second, data, ports) as member:
        _wait_users(member)
        ctl(member, *ROOT, "auth", "disable")
        assert ctl(member, "get", "/d", "--print-value-only") == "2\n"


@BOTH_WAYS
def test_users_and_roles_go_with_a_snapshot(first: str, second: str, tmp_path: Path) -> None:
    ports, file = etcd.free_ports(2), tmp_path / "snapshot.db"
    with etcd.serving(first, tmp_path / "data", ports) as member:
        _protect(member)
        ctl(member, *ROOT, "snapshot", "save", str(file))
    for restorer in (REAL, OURS):
        restore(restorer, file, tmp_path / restorer, "m0", {"m0": f"http://127.0.0.1:{ports[1]}"})
        with etcd.serving(second, tmp_path / restorer, ports) as member:
            _is_protected(member)


# The v2 store


def _v2_tree(member: Member) -> Any:
    document = json.loads(ctl(member, "-o", "json", "ls", "--recursive", "--sort", "/", api="2"))

    def without_time(node: dict[str, Any]) -> dict[str, Any]:
        return {**node, "ttl": bool(node.get("ttl")), "nodes": [without_time(each) for each in node["nodes"] or ()]}

    return without_time(document["node"])


@BOTH_WAYS
@pytest.mark.parametrize("snapshots", [[], ["--snapshot-count=5"]], ids=["log alone", "with .snap"])
def test_v2_keys_go_with_a_directory(first: str, second: str, snapshots: Sequence[str], tmp_path: Path) -> None:
    ports, data = etcd.free_ports(2), tmp_path / "data"
    flags = ("--enable-v2", *snapshots)
    with etcd.serving(first, data, ports, *flags) as member:
        for words in (["set", "/a", "1"], ["set", "/d/b", "ü"], ["mk", "--in-order", "/q", "x"], ["set", "/t", "3", "--ttl", "5000"], ["set", "/a", "2"], ["mkdir", "/e", "--ttl", "5000"], ["rm", "/d/b"], ["set", "/d/_hidden", "h"], ["set", "/d/c", "4"]):  # fmt: skip
            ctl(member, *words, api="2")
            ctl(member, "put", "/v3" + words[-1], "beside")
        before, v3 = _v2_tree(member), keys_and_hash(member)
    for kind in (second, first):
        with etcd.serving(kind, data, ports, *flags) as member:
            assert (_v2_tree(member), keys_and_hash(member)) == (before, v3)
            assert ctl(member, "get", "/d/_hidden", api="2") == "h\n"
            # The history, and the next index.
            assert ctl(member, "watch", "--after-index", str(before["nodes"][0]["modifiedIndex"] - 1), "/a", api="2") == "2\n"
            ctl(member, "set", "/d/c", kind, api="2")
            before = _v2_tree(member)


# What happened before


@BOTH_WAYS
def test_a_database_compacted_and_defragmented_is_gone_on_with(first: str, second: str, tmp_path: Path) -> None:
    ports, data = etcd.free_ports(2), tmp_path / "data"
    with etcd.serving(first, data, ports, "--snapshot-count=20") as member:
        lease = ctl(member, "lease", "grant", "5000").split()[1]
        for number in range(30):
            ctl(member, "put", f"/k{number % 7}", f"value {number}", "--lease", lease if number % 2 else "0")
        ctl(member, "del", "/k3")
        at = json.loads(ctl(member, "get", "x", "-w", "json"))["header"]["revision"]
        ctl(member, "compaction", str(at - 5), "--physical")
        ctl(member, "defrag")
        before = keys_and_hash(member)
    for kind in (second, first):
        with etcd.serving(kind, data, ports, "--snapshot-count=20") as member:
            assert keys_and_hash(member) == before
            assert "required revision has been compacted" in run(member, "get", "/k1", f"--rev={at - 6}").stderr
            assert run(member, "get", "/k1", f"--rev={at - 4}").code == 0
            granted = json.loads(ctl(member, "lease", "timetolive", lease, "--keys", "-w", "json"))
            assert granted["granted-ttl"] == 5000
            assert sorted(granted["keys"]) == sorted(each["key"] for each in before[1] if each.get("lease"))
    with etcd.serving(second, data, ports) as member:
        ctl(member, "lease", "revoke", lease)
        left = json.loads(ctl(member, "get", "", "--prefix", "-w", "json"))
        assert [each for each in left["kvs"] if each.get("lease")] == []


@BOTH_WAYS
def test_a_log_of_several_segments_is_gone_on_with(first: str, second: str, tmp_path: Path) -> None:
    """More than 64 MB without a snapshot: every byte of it is read again by the other one."""
    ports, data = etcd.free_ports(2), tmp_path / "data"
    megabyte = bytes(range(256)) * 4096

    async def write(member: Member) -> int:
        async with Calls(member.url) as calls:
            for number in range(70):
                await calls.put(b"/big/%d" % (number % 5), megabyte[number:] + b"%d" % number, timeout_s=60)
            return (await calls.put(b"/end", b"1")).header.revision

    async def read(member: Member) -> list[bytes]:
        async with Calls(member.url) as calls:
            return [(await calls.get(b"/big/%d" % number, timeout_s=60)).kvs[0].value for number in range(5)]

    with etcd.serving(first, data, ports) as member:
        revision = asyncio.run(write(member))
    assert len(list((data / "member" / "wal").glob("*.wal"))) > 1
    assert not list((data / "member" / "snap").glob("*.snap"))
    (data / "member" / "snap" / "db").unlink(missing_ok=True)  # all that is left is the log
    with etcd.serving(second, data, ports) as member:
        assert asyncio.run(read(member)) == [megabyte[number:] + b"%d" % number for number in range(65, 70)]
        assert json.loads(ctl(member, "get", "/end", "-w", "json"))["header"]["revision"] == revision


# A cluster out of a snapshot


@contextlib.contextmanager
def _cluster(kinds: Sequence[str], directory: Path, ports: Sequence[int], urls: dict[str, str]) -> Iterator[list[Member]]:
    """Members of these kinds on restored directories, serving."""
    members: list[Member] = []
    initial = ",".join(f"{name}={url}" for name, url in urls.items())
    flags = (f"--initial-cluster={initial}", "--initial-cluster-state=existing", "--initial-cluster-token=new")
    try:
        for number, kind in enumerate(kinds):
            members.append(Member(kind, directory / f"m{number}", ports[2 * number], ports[2 * number + 1], *flags, name=f"m{number}"))
        for member in members:
            member.wait_serving()
        yield members
    finally:
        for member in members:
            member.stop()


@pytest.mark.parametrize("kinds", [(REAL, REAL, REAL), (OURS, OURS, OURS)], ids=["real", "ours"])
@pytest.mark.parametrize(("server", "restorer"), [(REAL, OURS), (OURS, REAL)])
def test_three_directories_of_one_snapshot_are_a_cluster(server: str, restorer: str, kinds: Sequence[str], tmp_path: Path) -> None:
    ports, file = etcd.free_ports(6), tmp_path / "snapshot.db"
    with etcd.serving(server, tmp_path / "data", ports) as member:
        lease = ctl(member, "lease", "grant", "5000").split()[1]
        for number in range(20):
            ctl(member, "put", f"/k{number % 7}", str(number), "--lease", lease if number % 2 else "0")
        ctl(member, "compaction", "8")
        ctl(member, "snapshot", "save", str(file))
        before = keys_and_hash(member)
    urls = {f"m{number}": f"http://127.0.0.1:{ports[2 * number + 1]}" for number in range(3)}
    for name in urls:
        restore(restorer, file, tmp_path / name, name, urls)
    with _cluster(kinds, tmp_path, ports, urls) as members:
        for member in members:
            assert keys_and_hash(member) == before
        listed = json.loads(ctl(members[0], "member", "list", "-w", "json"))["members"]
        assert sorted((each["name"], each["peerURLs"]) for each in listed) == sorted((name, [url]) for name, url in urls.items())
        for number, member in enumerate(members):
            ctl(member, "put", "/after", str(number))
            assert {ctl(each, "get", "/after", "--print-value-only") for each in members} == {f"{number}\n"}
        members[0].stop()  # two of three go on
        ctl(members[1], "put", "/after", "without one", "--command-timeout=30s")


# Backups of the v2 client


def _await_published(member: Member) -> None:
    """The v2 client asks the members for their client URLs first; ours answers, unlike the real one, before it has told them to the cluster."""
    eventually(lambda: json.loads(ctl(member, "member", "list", "-w", "json"))["members"], lambda all_: all("clientURLs" in each for each in all_))


@BOTH_WAYS
@pytest.mark.parametrize("by", [REAL, OURS, "etcdutl"])
def test_a_backup_is_the_beginning_of_a_new_cluster(first: str, second: str, by: str, tmp_path: Path) -> None:
    ports, data, copy = etcd.free_ports(2), tmp_path / "data", tmp_path / "copy"
    with etcd.serving(first, data, ports, "--enable-v2", "--snapshot-count=5") as member:
        _await_published(member)
        for number in range(8):
            ctl(member, "set", f"/d/{number % 3}", str(number), api="2")
            ctl(member, "put", f"/v3/{number % 3}", str(number))
        tree, pairs = _v2_tree(member), keys_and_hash(member)
        old = json.loads(ctl(member, "member", "list", "-w", "json"))
    words = ["backup", "--data-dir", str(data), "--backup-dir", str(copy)]
    done = etcd.run(OURS, words, name=by) if by == "etcdutl" else etcd.run(by, [*words, "--with-v3"], api="2")
    assert done.code == 0, done
    for kind in (first, second):
        started = tmp_path / f"for-{kind}"
        shutil.copytree(copy, started)
        with etcd.serving(kind, started, ports, "--enable-v2", "--force-new-cluster") as member:
            _await_published(member)
            assert (_v2_tree(member), keys_and_hash(member)) == (tree, pairs)
            new = json.loads(ctl(member, "member", "list", "-w", "json"))
            assert new["header"]["cluster_id"] != old["header"]["cluster_id"]
            assert [each["ID"] for each in new["members"]] == [new["header"]["member_id"]] != [old["header"]["member_id"]]
            ctl(member, "set", "/after", "1", api="2")
