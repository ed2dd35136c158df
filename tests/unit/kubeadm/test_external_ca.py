"""An authority whose key is elsewhere: requests for it, judged by openssl, and a control plane that signs nothing."""

import datetime
import subprocess
from pathlib import Path

import pytest
import yaml

from kubette.kubeadm import manifests, pki, signing_requests
from kubette.kubeadm.config import Cluster, Local
from kubette.kubeadm.phases import certs, control_plane
from kubette.kubeadm.phases.context import Context

NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)


def context(directory: Path, lines: list[str]) -> Context:
    return Context(Cluster("v1.37.1", certificates_dir=str(directory)), Local("controlplane", "192.168.56.11"), lines.append)


def request(path: Path, *more: str) -> str:
    done = subprocess.run(["openssl", "req", "-in", str(path), "-noout", "-verify", *more], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_generate_csr_writes_a_key_and_a_request_for_everything_that_is_signed(tmp_path: Path) -> None:
    signing_requests.generate(context(tmp_path / "pki", []), tmp_path / "conf")
    stems = {str(path.relative_to(tmp_path / "pki").with_suffix("")) for path in (tmp_path / "pki").rglob("*.csr")}
    assert stems == {str(path.relative_to(tmp_path / "pki").with_suffix("")) for path in (tmp_path / "pki").rglob("*.key")}
    assert {"apiserver", "apiserver-kubelet-client", "front-proxy-client", "etcd/server", "etcd/peer"} <= stems
    assert "DNS:kubernetes.default.svc" in request(tmp_path / "pki/apiserver.csr", "-text")
    assert "O = kubeadm:cluster-admins, CN = kubernetes-admin" in request(tmp_path / "conf/admin.conf.csr", "-subject")
    assert "O = system:nodes, CN = system:node:controlplane" in request(tmp_path / "conf/kubelet.conf.csr", "-subject")
    (user,) = yaml.safe_load((tmp_path / "conf/admin.conf").read_text())["users"]
    assert set(user["user"]) == {"client-key-data"}


@pytest.mark.slow
def test_without_the_key_of_the_ca_what_is_signed_is_used_and_the_controllers_sign_nothing(tmp_path: Path) -> None:
    lines: list[str] = []
    certs.run(context(tmp_path, lines), NOW)
    before = (tmp_path / "apiserver.crt").read_bytes()
    (tmp_path / "ca.key").unlink()
    lines.clear()
    certs.run(context(tmp_path, lines), NOW)
    assert "[certs] Using existing ca keyless certificate authority" in lines
    assert (tmp_path / "apiserver.crt").read_bytes() == before
    assert pki.is_external(tmp_path, "ca")
    (container,) = control_plane.document(context(tmp_path, lines), "kube-controller-manager")["spec"]["containers"]
    assert not [word for word in container["command"] if word.startswith("--cluster-signing-")]
    assert "cluster-signing-key-file" in manifests.controller_manager_flags(Cluster("v1.37.1"))
