"""Files between us and the real etcd 3.4, in every direction: data directories of stopped members, snapshots, restored directories.

Each direction ends with a server that answers every key with its value, its revisions and its leases as they were.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import etcd_processes as etcd
from harness.etcd_processes import OURS, REAL, Member

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd", "etcdctl")]

BULK = 40
SNAPSHOT_OFTEN = "--snapshot-count=10"  # so that .snap files, not the log alone, are read by the other side


def ctl(kind: str, member: Member, *words: str, stdin: str = "") -> str:
    done = etcd.run(kind, ["--endpoints", member.url, *words], stdin=stdin.encode())
    assert done.code == 0, done
    return done.stdout


def fill(member: Member) -> None:
    """Every kind of history: overwritten, deleted, made again, in one transaction, on a lease, big, binary; a compaction in the middle."""
    operations = "".join(f"put /bulk/{number:03} value-{number}\n" for number in range(BULK))
    ctl(REAL, member, "txn", stdin=f"\n{operations}\n\n")
    for value in ("1", "2", "3"):
        ctl(REAL, member, "put", "/again", value)
    ctl(REAL, member, "del", "/again")
    ctl(REAL, member, "put", "/again", "4")
    ctl(REAL, member, "put", "/gone", "x")
    ctl(REAL, member, "compaction", str(revision(member) - 2))
    ctl(REAL, member, "del", "/gone")
    lease = ctl(REAL, member, "lease", "grant", "5000").split()[1]
    ctl(REAL, member, "put", "/leased", "y", "--lease", lease)
    ctl(REAL, member, "put", "/big", stdin="b" * 300_000)
    ctl(REAL, member, "put", "/ünï", "ö")
    for number in range(12):
        ctl(REAL, member, "put", f"/more/{number}", "z")


def revision(member: Member) -> int:
    return int(json.loads(ctl(REAL, member, "get", "x", "-w", "json"))["header"]["revision"])


def everything(member: Member) -> dict[str, Any]:
    """All that a client can see and that a move to other software must not change."""
    pairs = json.loads(ctl(REAL, member, "get", "", "--prefix", "-w", "json"))
    leases = sorted(each["id"] for each in json.loads(ctl(REAL, member, "lease", "list", "-w", "json"))["leases"] or [])
    (hashed,) = json.loads(ctl(REAL, member, "endpoint", "hashkv", "-w", "json"))
    return {
        "kvs": pairs["kvs"],
        "revision": pairs["header"]["revision"],
        "leases": leases,
        "hash": (hashed["HashKV"]["hash"], hashed["HashKV"]["compact_revision"]),
    }


def ids(member: Member) -> list[tuple[int, str, list[str]]]:
    found = json.loads(ctl(REAL, member, "member", "list", "-w", "json"))
    return [(each["ID"], each["name"], each["clientURLs"]) for each in found["members"]]


@pytest.mark.parametrize("snapshots", [[], [SNAPSHOT_OFTEN]], ids=["log alone", "with .snap"])
@pytest.mark.parametrize("first", [REAL, OURS])
def test_a_stopped_members_directory_is_gone_on_with(first: str, snapshots: Sequence[str], tmp_path: Path) -> None:
    """real → ours → real, and ours → real → ours."""
    second = OURS if first == REAL else REAL
    ports, data = etcd.free_ports(2), tmp_path / "data"
    with etcd.serving(first, data, ports, *snapshots) as member:
        fill(member)
        before, who = everything(member), ids(member)
    for kind in (second, first):
        with etcd.serving(kind, data, ports, *snapshots) as member:
            assert everything(member) == before
            assert ids(member) == who
            ctl(REAL, member, "put", "/written-by", kind)
            for number in range(12):
                ctl(REAL, member, "put", f"/{kind}/{number}", "z")
            before = everything(member)


def status(kind: str, path: Path) -> dict[str, int]:
    done = etcd.run(kind, ["snapshot", "status", str(path), "-w", "json"])
    assert done.code == 0, done
    found: dict[str, int] = json.loads(done.stdout)
    return found


def restore(kind: str, path: Path, data: Path, ports: Sequence[int], *more: str, name: str = "etcdctl") -> None:
    peer = f"http://127.0.0.1:{ports[1]}"
    words = ["snapshot", "restore", str(path), "--data-dir", str(data), "--name=m0", f"--initial-cluster=m0={peer}"]
    done = etcd.run(kind, [*words, f"--initial-advertise-peer-urls={peer}", "--initial-cluster-token=new", *more], name=name)
    assert done.code == 0, done


@pytest.mark.parametrize("restorer", [REAL, OURS])
@pytest.mark.parametrize("saver", [REAL, OURS])
@pytest.mark.parametrize("server", [REAL, OURS])
def test_a_snapshot_restored_by_either_boots_on_both(server: str, saver: str, restorer: str, tmp_path: Path) -> None:
    """server → `snapshot save` → status (equal) → restore → the real etcd and ours serve everything from it."""
    ports, file = etcd.free_ports(2), tmp_path / "snapshot.db"
    with etcd.serving(server, tmp_path / "data", ports) as member:
        fill(member)
        before, old = everything(member), ids(member)
        ctl(saver, member, "snapshot", "save", str(file))
    real = status(REAL, file)
    assert status(OURS, file) == real
    assert real["revision"] == before["revision"]
    restored = tmp_path / "restored"
    restore(restorer, file, restored, ports)

    for kind in (REAL, OURS):
        data = tmp_path / f"for-{kind}"
        shutil.copytree(restored, data)
        with etcd.serving(kind, data, ports) as member:
            assert everything(member) == before
            (new,) = ids(member)
            assert new[0] != old[0][0]
            ctl(REAL, member, "put", "/after", "1")
            assert ctl(OURS, member, "get", "/after", "--print-value-only") == "1\n"


def test_a_restored_directory_may_be_opened_by_one_and_then_the_other(tmp_path: Path) -> None:
    ports, file, data = etcd.free_ports(2), tmp_path / "snapshot.db", tmp_path / "restored"
    with etcd.serving(OURS, tmp_path / "data", ports) as member:
        fill(member)
        ctl(OURS, member, "snapshot", "save", str(file))
        before = everything(member)
    restore(OURS, file, data, ports)
    for kind in (OURS, REAL, OURS):
        with etcd.serving(kind, data, ports) as member:
            assert everything(member) == before


@pytest.mark.parametrize("kind", [REAL, OURS])
def test_bumped_revisions_are_compacted(kind: str, tmp_path: Path) -> None:
    ports, file, data = etcd.free_ports(2), tmp_path / "snapshot.db", tmp_path / "restored"
    with etcd.serving(OURS, tmp_path / "data", ports) as member:
        fill(member)
        ctl(OURS, member, "snapshot", "save", str(file))
        before = everything(member)
    restore(OURS, file, data, ports, "--bump-revision=1000000", "--mark-compacted", name="etcdutl")
    with etcd.serving(kind, data, ports) as member:
        after = everything(member)
        assert [each["key"] for each in after["kvs"]] == [each["key"] for each in before["kvs"]]
        assert after["revision"] == before["revision"] + 1_000_000
        old = etcd.run(REAL, ["--endpoints", member.url, "get", "/again", f"--rev={before['revision']}"])
        assert "required revision has been compacted" in old.stderr
    assert etcd.run(OURS, ["snapshot", "restore", str(file), "--bump-revision=5"], name="etcdutl", cwd=tmp_path).code == 128


def test_the_hash_of_a_file_is_the_servers(tmp_path: Path) -> None:
    with etcd.serving(OURS, tmp_path / "data", etcd.free_ports(2)) as member:
        fill(member)
        (served,) = json.loads(ctl(REAL, member, "endpoint", "hashkv", "-w", "json"))
        ctl(OURS, member, "snapshot", "save", str(tmp_path / "snapshot.db"))
    done = etcd.run(OURS, ["hashkv", str(tmp_path / "snapshot.db"), "-w", "json"], name="etcdutl")
    assert json.loads(done.stdout)["hash"] == served["HashKV"]["hash"]


def test_a_damaged_snapshot_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "snapshot.db"
    with etcd.serving(OURS, tmp_path / "data", etcd.free_ports(2)) as member:
        fill(member)
        ctl(OURS, member, "snapshot", "save", str(file))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(content)
    for words in (["status", str(damaged)], ["restore", str(damaged)]):
        done = etcd.run(OURS, ["snapshot", *words], cwd=tmp_path)
        assert done.code == 1
        assert "expected sha256" in done.stderr
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    done = etcd.run(OURS, ["snapshot", "restore", str(file), "--data-dir", str(tmp_path / "there")])
    assert (done.code, done.stderr.splitlines()[-1]) == (1, f'Error: data-dir "{tmp_path}/there" exists')


def test_a_database_is_defragmented_without_a_server(tmp_path: Path) -> None:
    ports, data = etcd.free_ports(2), tmp_path / "data"
    with etcd.serving(REAL, data, ports) as member:
        fill(member)
        before = everything(member)
    done = etcd.run(OURS, ["defrag", "--data-dir", str(data)], name="etcdutl")
    assert done.code == 0, done
    with etcd.serving(REAL, data, ports) as member:
        assert everything(member) == before
