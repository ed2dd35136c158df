"""The certificates of a control plane, judged by openssl."""

import datetime
import subprocess
from pathlib import Path

import pytest

from kubette.kubeadm import manifests, pki, shared_certs
from kubette.kubeadm.config import Cluster, ConfigError, Local
from kubette.kubeadm.phases import certs
from kubette.kubeadm.phases.context import Context

NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)


def make(directory: Path) -> list[str]:
    lines: list[str] = []
    cluster = Cluster("v1.37.0", certificates_dir=str(directory), control_plane_endpoint="192.168.56.10:6443", api_server_cert_sans=("127.0.0.1",))
    certs.run(Context(cluster, Local("controlplane", "192.168.56.11"), lines.append), NOW)
    return lines


def openssl(*args: str) -> str:
    return subprocess.run(["openssl", *args], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_openssl_verifies_every_leaf_for_its_purpose(tmp_path: Path) -> None:
    make(tmp_path)
    for stem, authority, purpose in (
        ("apiserver", "ca", "sslserver"),
        ("apiserver-kubelet-client", "ca", "sslclient"),
        ("front-proxy-client", "front-proxy-ca", "sslclient"),
        ("etcd/server", "etcd/ca", "sslserver"),
        ("etcd/peer", "etcd/ca", "sslserver"),
        ("etcd/peer", "etcd/ca", "sslclient"),
        ("apiserver-etcd-client", "etcd/ca", "sslclient"),
    ):
        moment = str(int(NOW.timestamp()))
        openssl("verify", "-attime", moment, "-purpose", purpose, "-CAfile", str(tmp_path / f"{authority}.crt"), str(tmp_path / f"{stem}.crt"))
    names = openssl("x509", "-in", str(tmp_path / "apiserver.crt"), "-noout", "-ext", "subjectAltName")
    for name in ("DNS:kubernetes.default.svc.cluster.local", "DNS:controlplane", "IP Address:10.96.0.1", "IP Address:192.168.56.10"):
        assert name in names


@pytest.mark.slow
def test_running_the_phase_again_keeps_every_file(tmp_path: Path) -> None:
    make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    lines = make(tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert '[certs] Using the existing "sa" key' in lines
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*.key")} == {"0o600"}


@pytest.mark.slow
def test_shared_certificates_survive_encryption_and_refuse_a_wrong_key(tmp_path: Path) -> None:
    make(tmp_path / "first")
    key = shared_certs.new_key()
    first, second, third = (shared_certs.files_of(Cluster("v1.37.0"), tmp_path / name) for name in ("first", "second", "third"))
    assert {"ca.key", "etcd-ca.key"} <= first.keys()
    data = shared_certs.encrypt(first, key)
    shared_certs.decrypt(second, key, data)
    for name in first:
        assert first[name].read_bytes() == second[name].read_bytes()
    with pytest.raises(ConfigError, match="message authentication failed"):
        shared_certs.decrypt(third, shared_certs.new_key(), data)


@pytest.mark.slow
def test_pin_is_openssls_hash_of_the_public_key(tmp_path: Path) -> None:
    make(tmp_path)
    pipeline = f"openssl x509 -pubkey -in {tmp_path / 'ca.crt'} | openssl pkey -pubin -outform der | openssl dgst -sha256 -hex"
    expected = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True, check=True).stdout.split()[-1]
    assert pki.public_key_hash(pki.load_certificate(tmp_path / "ca.crt")) == f"sha256:{expected}"


def test_etcd_flags_follow_the_release() -> None:
    local = Local("cp", "192.168.56.11")
    old = manifests.etcd_flags(Cluster("v1.31.0"), local, {"cp": "https://192.168.56.11:2380"}, "new")
    new = manifests.etcd_flags(Cluster("v1.37.0"), local, {"cp": "https://192.168.56.11:2380"}, "existing")
    assert "experimental-initial-corrupt-check" in old
    assert "initial-cluster-state" not in old
    assert new["feature-gates"] == "InitialCorruptCheck=true"
    assert new["initial-cluster-state"] == "existing"
