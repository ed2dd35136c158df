"""Static pods from files, node admission, the files of volumes."""

import base64
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from kubette.kubelet import admission, log_reader, log_rotation, pod_spec, static_pods
from kubette.kubelet.container_inputs import sub_path_of
from kubette.kubelet.pod_sources import FileSource
from kubette.kubelet.start_error import StartError
from kubette.kubelet.volumes import atomic_writer, host_path, payloads
from kubette.kubelet.volumes.file import File

from .builders import container, pod

MANIFEST = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "etcd", "namespace": "kube-system"}, "spec": {"hostNetwork": True}}


def manifest(image: str = "etcd:1") -> dict[str, Any]:
    spec = {"hostNetwork": True, "containers": [{"name": "etcd", "image": image, "livenessProbe": {"httpGet": {"port": 2381}}}]}
    return {**MANIFEST, "spec": spec}


class StoppedClock:
    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0


# Static pods


def test_a_static_pod_is_defaulted_named_and_hashed() -> None:
    made = static_pods.from_manifest(manifest(), "/m/etcd.yaml", "Node01", "now")
    again = static_pods.from_manifest(manifest(), "/m/etcd.yaml", "Node01", "later")
    other = static_pods.from_manifest(manifest("etcd:2"), "/m/etcd.yaml", "Node01", "now")
    assert made["metadata"]["name"] == "etcd-node01"
    assert pod_spec.uid(made) == pod_spec.uid(again) != pod_spec.uid(other)
    assert made["metadata"]["annotations"] == {
        "kubernetes.io/config.hash": pod_spec.uid(made),
        "kubernetes.io/config.seen": "now",
        "kubernetes.io/config.source": "file",
    }
    assert made["spec"]["tolerations"] == [{"effect": "NoExecute", "operator": "Exists"}]
    probe = made["spec"]["containers"][0]["livenessProbe"]
    assert (probe["periodSeconds"], probe["failureThreshold"], probe["httpGet"]["scheme"]) == (10, 3, "HTTP")
    assert made["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"


def test_the_mirror_is_owned_by_the_node_and_named_by_the_hash() -> None:
    made = static_pods.from_manifest(manifest(), "/m/etcd.yaml", "n", "now")
    mirror = static_pods.mirror_of(made, {"metadata": {"name": "n", "uid": "u"}})
    assert mirror["metadata"]["ownerReferences"][0] == {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": True}
    assert "uid" not in mirror["metadata"]
    assert static_pods.is_mirror_of(mirror, made)
    assert pod_spec.is_mirror(mirror)
    assert not static_pods.is_mirror_of(mirror, static_pods.from_manifest(manifest("etcd:2"), "/m/etcd.yaml", "n", "now"))


@pytest.mark.parametrize("document", [None, [], {"kind": "Service"}, {**MANIFEST, "apiVersion": "v2"}, MANIFEST])
def test_what_is_no_pod_is_refused(document: Any) -> None:
    with pytest.raises(static_pods.InvalidManifest):
        static_pods.from_manifest(document, "/m/x.yaml", "n", "now")


def test_files_come_change_break_and_go(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    source = FileSource(
        str(tmp_path),
        "n",
        StoppedClock(),
        20,
        lambda p: told.append(("put", p["spec"]["containers"][0]["image"])),
        lambda p: told.append(("remove", p["spec"]["containers"][0]["image"])),
    )

    def write(text: str, name: str = "etcd") -> list[tuple[str, str]]:
        (tmp_path / name).write_text(text)
        told.clear()
        source.scan()
        return list(told)

    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd}\nspec: {containers: [{name: e, image: %s}]}\n"
    assert write(text % "one") == [("put", "one")]
    assert write(text % "one") == []
    assert write(text % "two") == [("remove", "one"), ("put", "two")]
    # A half-written manifest leaves the pod that runs alone.
    assert write("apiVersion: v1\nkind: Po") == []
    assert write(text % "two") == []
    assert write(text % "hidden", ".etcd.swp") == []
    (tmp_path / "etcd").unlink()
    told.clear()
    source.scan()
    assert told == [("remove", "two")]


# Admission

ALLOCATABLE = {"cpu": "2", "memory": "1Gi", "pods": "3"}


def admit(a_pod: dict[str, Any], others: list[dict[str, Any]], **node: Any) -> tuple[str, str] | None:
    rejection = admission.admit(a_pod, others, {"metadata": {"name": "n", **node.get("metadata", {})}, "spec": node.get("spec", {})}, ALLOCATABLE)
    return (rejection.reason, rejection.message) if rejection else None


def other(uid: str, **spec: Any) -> dict[str, Any]:
    made = pod(container("web", resources={"requests": {"cpu": "1500m"}}), **spec)
    made["metadata"]["uid"] = uid
    return made


def test_a_pod_that_does_not_fit_is_rejected_with_the_numbers() -> None:
    assert admit(other("a"), []) is None
    assert admit(other("a"), [other("b")]) == (
        "OutOfcpu",
        "Node didn't have enough resource: cpu, requested: 1500, used: 1500, capacity: 2000",
    )
    plain = [{**pod(), "metadata": {"name": "p", "uid": str(i)}} for i in range(3)]
    assert admit(pod(), plain) == ("OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3")


def test_labels_ports_and_taints_are_the_nodes_last_word() -> None:
    assert admit(pod(nodeSelector={"disk": "ssd"}), []) == ("NodeAffinity", "Predicate NodeAffinity failed")
    assert admit(pod(nodeSelector={"disk": "ssd"}), [], metadata={"labels": {"disk": "ssd"}}) is None
    port = container("web", ports=[{"containerPort": 80, "hostPort": 8080}])
    taken = pod(port)
    taken["metadata"]["uid"] = "x"
    assert admit(pod(port), [taken]) == ("NodePorts", "Predicate NodePorts failed")
    taint = {"taints": [{"key": "k", "effect": "NoExecute"}]}
    assert admit(pod(), [], spec=taint) == ("TaintToleration", "Predicate TaintToleration failed")
    assert admit(pod(tolerations=[{"operator": "Exists"}]), [], spec=taint) is None


def test_a_static_pod_is_never_rejected() -> None:
    static = static_pods.from_manifest(manifest(), "/m/etcd.yaml", "n", "now")
    assert admit(static, [other("a"), other("b")], spec={"taints": [{"key": "k", "effect": "NoExecute"}]}) is None


# Volumes


def test_files_are_replaced_together_through_one_link(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    assert atomic_writer.write(volume, {"a": File(b"1"), "dir/b": File(b"2", 0o600)})
    assert os.readlink(volume / "a") == "..data/a"
    assert (volume / "dir/b").read_bytes() == b"2"
    assert (volume / "dir/b").stat().st_mode & 0o777 == 0o600
    first = os.readlink(volume / "..data")
    assert not atomic_writer.write(volume, {"a": File(b"1"), "dir/b": File(b"2", 0o600)})
    assert atomic_writer.write(volume, {"a": File(b"3")})
    assert (volume / "a").read_bytes() == b"3"
    assert sorted(os.listdir(volume)) == sorted(["..data", os.readlink(volume / "..data"), "a"])
    assert os.readlink(volume / "..data") != first


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "..x", ""])
def test_a_volume_writes_nothing_outside_itself(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="invalid path"):
        atomic_writer.write(tmp_path / "v", {path: File(b"")})


def test_payloads_show_keys_items_fields_and_tokens() -> None:
    a_pod = pod()
    a_pod["metadata"]["labels"] = {"app": "web"}
    objects = {
        ("configmaps", "cm"): {"data": {"a": "1", "b": "2"}, "binaryData": {"c": base64.b64encode(b"\x00").decode()}},
        ("secrets", "s"): {"data": {"k": base64.b64encode(b"v").decode()}},
    }
    volume = {
        "name": "all",
        "projected": {
            "defaultMode": 0o400,
            "sources": [
                {"configMap": {"name": "cm", "items": [{"key": "a", "path": "x/a", "mode": 0o444}]}},
                {"secret": {"name": "s"}},
                {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"serviceAccountToken": {"path": "token"}},
            ],
        },
    }
    assert payloads.references(volume) == {("configmaps", "cm"), ("secrets", "s")}
    assert payloads.files(a_pod, volume, objects, {"token": "jwt"}, {}) == {
        "x/a": File(b"1", 0o444),
        "k": File(b"v", 0o400),
        "labels": File(b'app="web"', 0o400),
        "token": File(b"jwt", 0o400),
    }
    assert set(payloads.files(a_pod, {"name": "v", "configMap": {"name": "cm"}}, objects, {}, {})) == {"a", "b", "c"}


def test_a_missing_source_is_named_unless_it_is_optional() -> None:
    with pytest.raises(payloads.VolumeError, match='configmap "cm" not found'):
        payloads.files(pod(), {"name": "v", "configMap": {"name": "cm"}}, {}, {}, {})
    assert payloads.files(pod(), {"name": "v", "configMap": {"name": "cm", "optional": True}}, {}, {}, {}) == {}
    missing = {"name": "v", "secret": {"secretName": "s", "items": [{"key": "x", "path": "x"}]}}
    with pytest.raises(payloads.VolumeError, match="references non-existent secret key: x"):
        payloads.files(pod(), missing, {("secrets", "s"): {"data": {}}}, {}, {})


def test_host_paths_are_checked_or_made(tmp_path: Path) -> None:
    assert host_path.prepare({"path": str(tmp_path / "d"), "type": "DirectoryOrCreate"}).is_dir()
    assert host_path.prepare({"path": str(tmp_path / "f"), "type": "FileOrCreate"}).is_file()
    with pytest.raises(payloads.VolumeError, match="hostPath type check failed: .* is not a directory"):
        host_path.prepare({"path": str(tmp_path / "f"), "type": "Directory"})
    with pytest.raises(payloads.VolumeError, match="hostPath type check failed"):
        host_path.prepare({"path": str(tmp_path / "none"), "type": "File"})


def test_a_sub_path_stays_inside_its_volume(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    volume.mkdir()
    assert sub_path_of(volume, "a/b") == (volume / "a/b").resolve()
    (volume / "out").symlink_to("/etc")
    for path in ("out/x", "../x", "/etc"):
        with pytest.raises(StartError):
            sub_path_of(volume, path)


# Logs


def log_file(path: Path, lines: int) -> Path:
    path.write_bytes(b"".join(b"2026-01-01T00:00:%02d.000000000Z stdout F line %d %s\n" % (i % 60, i, b"x" * 100) for i in range(lines)))
    return path


async def read(path: Path, **options: Any) -> list[bytes]:
    async def stopped() -> bool:
        return False

    return b"".join([piece async for piece in log_reader.read(str(path), log_reader.Options(**options), stopped)]).splitlines()


async def test_logs_are_tailed_over_block_borders_and_limited(tmp_path: Path) -> None:
    path = log_file(tmp_path / "0.log", 3000)
    assert len(await read(path)) == 3000
    for tail in (0, 1, 700, 2999, 5000):
        found = await read(path, tail=tail)
        assert len(found) == min(tail, 3000)
        assert all(line.startswith(b"line %d " % (3000 - len(found) + i)) for i, line in enumerate(found))
    assert (await read(path, tail=1, timestamps=True))[0].startswith(b"2026-01-01T00:00:59.000000000Z line 2999")
    assert b"".join(await read(path, limit_bytes=4)) == b"line"
    assert await read(path, stream="stderr") == []


def test_rotation_keeps_the_configured_number_of_files(tmp_path: Path) -> None:
    path = log_file(tmp_path / "0.log", 1)
    for stamp in range(6):
        log_file(tmp_path / f"0.log.2026010{stamp}-000000", 1)
    log_rotation.prune(path, 5)
    assert sorted(os.listdir(tmp_path)) == ["0.log", *(f"0.log.2026010{s}-000000.gz" for s in (3, 4, 5))]


def test_a_group_that_the_machine_cannot_have_is_not_given_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user namespace of one id answers EINVAL to any other; without root nothing else can be done, and whoever runs there owns the file."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "chown", refuse)
    atomic_writer.write(tmp_path / "v", {"token": File(b"x", 0o600)}, group=2000)
    assert (tmp_path / "v/token").stat().st_mode & 0o777 == 0o640
