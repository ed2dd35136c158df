"""Backup and restore: what a machine's files say of its member, what would be lost, what is typed, and what the answers mean."""

import base64
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from kubette.cli.doctor.facts import MANIFESTS, File
from kubette.cli.errors import CommandError
from kubette.cli.snapshots import loss, plan, reading
from kubette.cli.snapshots.member import Member

UNIT = """[Service]
ExecStart=/usr/local/bin/etcd \\
  --name ${NODE_NAME} \\
  --cert-file=/etc/etcd/server.crt \\
  --key-file=/etc/etcd/server.key \\
  --trusted-ca-file=/etc/etcd/ca.crt \\
  --client-cert-auth \\
  --initial-advertise-peer-urls https://${INTERNAL_IP}:2380 \\
  --listen-client-urls https://${INTERNAL_IP}:2379,https://127.0.0.1:2379 \\
  --data-dir=/var/lib/etcd-from-backup
"""
DROP_IN = "[Service]\nEnvironment=NODE_NAME=cp02\nEnvironment=INTERNAL_IP=192.168.56.12\n"


def manifest(host_path: str, *more: str) -> str:
    command = ["etcd", "--name=cp", "--data-dir=/var/lib/etcd", "--initial-advertise-peer-urls=https://192.168.56.11:2380", *more]
    container = {"name": "etcd", "command": command, "volumeMounts": [{"mountPath": "/var/lib/etcd", "name": "etcd-data"}]}
    volumes = [{"name": "etcd-data", "hostPath": {"path": host_path}}]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "etcd"}, "spec": {"containers": [container], "volumes": volumes}}
    return yaml.safe_dump(pod)


def test_a_member_is_read_from_its_unit() -> None:
    files = {"/etc/systemd/system/etcd.service": File(UNIT), "/etc/systemd/system/etcd.service.d/10-machine.conf": File(DROP_IN)}
    found = reading.read("cp02", files)
    assert (found.name, found.is_unit, found.data_dir) == ("cp02", True, "/var/lib/etcd-from-backup")
    assert (found.peer_url, found.client_url) == ("https://192.168.56.12:2380", "https://127.0.0.1:2379")
    assert found.certificates == " --cacert=/etc/etcd/ca.crt --cert=/etc/etcd/server.crt --key=/etc/etcd/server.key"


def test_the_data_of_a_static_pod_are_where_its_volume_is() -> None:
    found = reading.read("cp", {f"{MANIFESTS}/etcd.yaml": File(manifest("/var/lib/etcd-from-backup"))})
    assert (found.is_unit, found.data_dir) == (False, "/var/lib/etcd-from-backup")


def test_what_cannot_be_restored_is_refused() -> None:
    with pytest.raises(CommandError, match="has no etcd"):
        reading.read("node01", {})
    with pytest.raises(CommandError, match="--wal-dir"):
        reading.read("cp", {f"{MANIFESTS}/etcd.yaml": File(manifest("/var/lib/etcd", "--wal-dir=/fast"))})


def test_keys_are_objects() -> None:
    for key, resource, name in (
        ("/registry/pods/default/web", "pods", "default/web"),
        ("/registry/services/specs/default/web", "services", "default/web"),
        ("/registry/minions/node01", "nodes", "node01"),
        ("/registry/apiregistration.k8s.io/apiservices/v1.apps", "apiservices.apiregistration.k8s.io", "v1.apps"),
        ("/registry/deployments/default/web", "deployments.apps", "default/web"),
        ("/registry/events/default/web.1", "events", "default/web.1"),
        ("/registry/leases/kube-node-lease/node01", "leases.coordination.k8s.io", "kube-node-lease/node01"),
        ("/registry/masterleases/192.168.56.11", "masterleases", "192.168.56.11"),
        ("mine", "key", "mine"),
    ):
        assert loss.object_of(key) == (resource, name)


def test_what_is_newer_than_the_snapshot_is_named() -> None:
    pods, lease = "/registry/pods/default/", "/registry/leases/kube-node-lease/node01"
    then = {f"{pods}kept": (5, 5), f"{pods}changed": (6, 6), f"{pods}deleted": (7, 7), f"{pods}made-again": (8, 8), lease: (1, 9)}
    now = {f"{pods}kept": (5, 5), f"{pods}changed": (6, 20), f"{pods}new": (21, 21), f"{pods}made-again": (22, 22), lease: (1, 23)}
    found = loss.compare(now, then)
    assert found.created == ["pods default/new"]
    assert found.changed == ["pods default/changed", "pods default/made-again"]
    assert found.deleted == ["pods default/deleted"]
    assert found.restless == {"leases.coordination.k8s.io": 1}
    said = loss.text(found)
    assert "Newer than the snapshot, and lost (1):\n  pods default/new\n" in said
    assert "Also 1 leases.coordination.k8s.io, which change all the time." in said
    assert loss.text(loss.compare(then, then)) == "Nothing is newer than the snapshot."


def test_keys_are_read_from_etcdctls_answer() -> None:
    key = base64.b64encode(b"/registry/pods/default/web").decode()
    answer = {"kvs": [{"key": key, "create_revision": 3, "mod_revision": 4, "version": 2}], "count": 1}
    assert loss.revisions(json.dumps(answer)) == {"/registry/pods/default/web": (3, 4)}
    assert loss.revisions("{}") == {}


def test_a_snapshot_that_is_not_what_etcd_has_is_told() -> None:
    status, live = plan.Status(0xAB, 100, 40, 4096), plan.Sum(100, 0xCD, 10, 30)
    assert plan.difference(status, live, live) == ""
    assert "at revision 99" in plan.difference(status, live, plan.Sum(99, 0xCD, 10, 30))
    assert "29 keys" in plan.difference(status, live, plan.Sum(100, 0xCD, 10, 29))
    assert "hash ce" in plan.difference(status, live, plan.Sum(100, 0xCE, 10, 30))
    assert "compacted meanwhile" in plan.difference(status, live, plan.Sum(100, 0xCE, 9, 30))


def test_a_members_answers_are_read() -> None:
    hashed = '[{"Endpoint":"127.0.0.1:2379","HashKV":{"header":{"revision":3,"raft_term":2},"hash":2587454935,"compact_revision":-1}}]'
    counted = '{"header":{"revision":3,"raft_term":2},"kvs":[{"key":"YQ==","create_revision":2,"mod_revision":2,"version":1}],"more":true,"count":2}'
    assert plan.sum_of(f"{hashed}\n{counted}\n") == plan.Sum(3, 2587454935, -1, 2)
    assert plan.status_of('{"hash":171,"revision":3,"totalKey":9,"totalSize":20480}') == plan.Status(171, 3, 9, 20480)


THREE = [
    Member(f"cp{n}", f"cp{n}", False, "/var/lib/etcd", f"https://192.168.56.1{n}:2380", "https://127.0.0.1:2379", "/ca", "/crt", "/key")
    for n in (1, 2, 3)
]


def test_no_member_starts_before_all_are_stopped_and_no_server_meanwhile() -> None:
    steps = plan.restore(THREE, ["cp1", "cp2", "cp3"], False, "7", 30)
    assert [step.name for step in steps] == ["restore", "stop-apiserver", "stop-etcd", "switch", "start-etcd", "check", "start-apiserver"]
    assert all(step.scripts.keys() == {"cp1", "cp2", "cp3"} for step in steps)
    every = ",".join(f"cp{n}=https://192.168.56.1{n}:2380" for n in (1, 2, 3))
    for script in steps[0].scripts.values():
        assert f"--initial-cluster={every} " in script
        assert "--initial-cluster-token=restored-7 --bump-revision=1000000000 --mark-compacted" in script
    assert "--name=cp2 " in steps[0].scripts["cp2"]


def test_a_member_that_would_come_back_with_old_data_is_in_the_way() -> None:
    assert plan.refusal(THREE, dict.fromkeys(("cp1", "cp2", "cp3"), "running")) == ""
    said = plan.refusal(THREE, {"cp1": "running", "cp2": "off", "cp3": "running"})
    assert 'machine "cp2" is off' in said
    assert "kubette machine start cp2" in said


def test_the_snapshot_is_taken_of_a_member_that_answers() -> None:
    assert plan.chosen(THREE, {"cp1": False, "cp2": True, "cp3": True}).machine == "cp2"
    with pytest.raises(CommandError, match="no member of etcd answers"):
        plan.chosen(THREE, {})


def test_the_folders_are_switched_once_wherever_it_was_interrupted(tmp_path: Path) -> None:
    """The script itself, on real folders: killed before, between and after its two moves."""
    data = tmp_path / "etcd"
    one = Member("cp", "cp", True, str(data), "https://192.168.56.11:2380", "https://127.0.0.1:2379")
    (switch,) = plan.restore([one], [], True, "7", 30)[3].scripts.values()
    new, before = tmp_path / "etcd-new-7", Path(plan.old(one, "7"))
    data.mkdir(), new.mkdir()
    (data / "old").touch(), (new / "new").touch()
    data.rename(before)  # the first move was done
    for _ in range(2):
        subprocess.run(["bash", "-c", switch], check=True)
        assert [path.name for path in data.iterdir()] == ["new"]
        assert [path.name for path in before.iterdir()] == ["old"]
        assert not new.exists()
