"""`migrate`: v2 keys become v3 keys, by the real etcdctl and by ours, of a directory of the real etcd and of ours; both servers serve what came of it."""

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from harness import etcd_processes as etcd
from harness.etcd_processes import OURS, REAL, Done, Member
from harness.golden import said

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd", "etcdctl")]

# Every node, the directories too, becomes a key of its own; the transformer is a program of the user's.
TRANSFORMER = """#!{python}
import json, struct, sys
sys.path.insert(0, {components!r})
from kubette.etcd_api.kv_pb2 import KeyValue
text, at, revision = sys.stdin.read(), 0, 100
while at < len(text):
    node, at = json.JSONDecoder().raw_decode(text, at)
    revision += 1
    key, value = "/moved" + node["key"], node.get("value", "a directory")
    pair = KeyValue(key=key.encode(), value=value.encode(), create_revision=revision, mod_revision=revision, version=1).SerializeToString()
    sys.stdout.buffer.write(struct.pack("<q", len(pair)) + pair)
"""


def _keys(member: Member) -> list[dict[str, object]]:
    done = etcd.run(REAL, ["--endpoints", member.url, "get", "", "--prefix", "-w", "json"])
    assert done.code == 0, done
    return list(json.loads(done.stdout)["kvs"])


def _fill(member: Member) -> None:
    for words in (["set", "/a", "1"], ["set", "/d/b", "ü <&>"], ["set", "/d/_hidden", "x"], ["mkdir", "/e"], ["set", "/t", "3", "--ttl", "1000"], ["set", "/a", "2"], ["rm", "/d/b"], ["set", "/d/b", "4"]):  # fmt: skip
        assert etcd.run(REAL, ["--endpoint", member.url, *words], api="2").code == 0
    assert etcd.run(REAL, ["--endpoints", member.url, "put", "v3", "x"]).code == 0


def _told(kind: str, *words: str) -> Done:
    done = etcd.run(kind, ["migrate", *words])
    return Done(done.code, said(done.stdout), said(done.stderr))  # the real one logs on standard output


@pytest.mark.parametrize("server", [REAL, OURS])
def test_ours_migrates_as_the_real_one_does(server: str, tmp_path: Path) -> None:
    transformer = tmp_path / "transformer"
    components = str(Path(__file__).resolve().parents[2] / "components")
    transformer.write_text(TRANSFORMER.format(python=sys.executable, components=components))
    transformer.chmod(stat.S_IRWXU)
    ports = etcd.free_ports(2)
    with etcd.serving(server, tmp_path / "data", ports, "--enable-v2", "--snapshot-count=5") as member:
        _fill(member)
    # The real program takes the database for whole, ours has the last writes in its log alone.
    judge = REAL if server == REAL else OURS
    for number, flags in enumerate(([], ["--no-ttl"], ["--transformer", str(transformer)])):
        told, keys = {}, {}
        for kind in {judge, OURS}:
            data = tmp_path / f"{number}-{kind}"
            shutil.copytree(tmp_path / "data", data)
            told[kind] = _told(kind, "--data-dir", str(data), *flags)
            for boots in (REAL, OURS):
                with etcd.serving(boots, data, ports, "--enable-v2") as member:
                    keys[kind, boots] = _keys(member)
                    shown = etcd.run(REAL, ["--endpoint", member.url, "get", "/d/b"], api="2")
                    assert shown.stdout == "4\n", shown  # the v2 keys stay
        assert told[OURS] == told[judge]
        assert told[OURS].code == 0
        assert all(each == keys[judge, REAL] for each in keys.values()), keys
        names = [str(pair["key"]) for pair in keys[judge, REAL]]
        assert len(names) == (7 if "--transformer" in flags else 3 if "--no-ttl" in flags else 4)


def test_what_cannot_be_migrated_is_told_alike(tmp_path: Path) -> None:
    ports, data = etcd.free_ports(2), tmp_path / "data"
    with etcd.serving(REAL, data, ports, "--enable-v2") as member:
        _fill(member)
    (tmp_path / "empty" / "member" / "snap").mkdir(parents=True)
    (tmp_path / "empty" / "member" / "wal").mkdir()
    for flags in (["--transformer", "/nonexistent"], ["--transformer", "/bin/false"]):
        assert _told(OURS, "--data-dir", str(data), *flags) == _told(REAL, "--data-dir", str(data), *flags)
    for flags in (
        ["--data-dir", str(tmp_path / "empty")],
        ["--data-dir", str(tmp_path)],
        ["--data-dir", str(data), "--wal-dir", str(tmp_path / "x")],
    ):
        assert _told(OURS, *flags) == _told(REAL, *flags)


def test_a_member_that_runs_is_waited_for(tmp_path: Path) -> None:
    ports, data = etcd.free_ports(2), tmp_path / "data"
    with etcd.serving(OURS, data, ports) as member:
        _fill(member)
        command = [*etcd.program(OURS, "etcdctl"), "migrate", "--data-dir", str(data)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=etcd.environment()) as waiting:
            assert waiting.stderr is not None
            assert waiting.stderr.readline() == f'waiting for etcd to close and release its lock on "{data}/member/snap/db"\n'
            member.stop()
            assert waiting.wait(60) == 0, waiting.stderr.read()
    with etcd.serving(OURS, data, ports) as member:
        assert len(_keys(member)) == 4


def test_without_v2_keys_nothing_is_done(tmp_path: Path) -> None:
    ports, data = etcd.free_ports(2), tmp_path / "data"
    with etcd.serving(OURS, data, ports) as member:
        assert etcd.run(REAL, ["--endpoints", member.url, "put", "v3", "x"]).code == 0
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert _told(OURS, "--data-dir", str(data)) == Done(0, "using default transformer\nno v2 keys to migrate", "")
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
