"""Kubeconfig files as clientcmd reads them."""

import base64
from pathlib import Path

import pytest

from kubette.client import kubeconfig
from kubette.client.kubeconfig import KubeconfigError

DOCUMENT = {
    "current-context": "one",
    "clusters": [
        {"name": "c", "cluster": {"server": "https://10.0.0.1:6443/", "certificate-authority": "pki/ca.crt"}},
        {"name": "d", "cluster": {"server": "10.0.0.2:8080", "certificate-authority-data": base64.b64encode(b"PEM").decode()}},
    ],
    "users": [
        {"name": "u", "user": {"client-certificate": "u.crt", "client-key": "/abs/u.key"}},
        {"name": "t", "user": {"tokenFile": "token"}},
        {"name": "x", "user": {"exec": {"command": "aws"}}},
    ],
    "contexts": [
        {"name": "one", "context": {"cluster": "c", "user": "u"}},
        {"name": "two", "context": {"cluster": "d", "user": "t", "namespace": "n"}},
        {"name": "three", "context": {"cluster": "c", "user": "x"}},
        {"name": "four", "context": {"cluster": "missing", "user": "u"}},
    ],
}


def test_relative_paths_are_relative_to_the_file() -> None:
    config = kubeconfig.from_document(DOCUMENT, base=Path("/etc/kubernetes"))
    assert (config.server, config.ca_file) == ("https://10.0.0.1:6443", "/etc/kubernetes/pki/ca.crt")
    assert (config.cert_file, config.key_file) == ("/etc/kubernetes/u.crt", "/abs/u.key")


def test_another_context_brings_its_cluster_user_and_namespace() -> None:
    config = kubeconfig.from_document(DOCUMENT, context="two", base=Path("/d"))
    assert (config.server, config.ca_data, config.token_file, config.namespace) == ("http://10.0.0.2:8080", "PEM", "/d/token", "n")


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ("three", 'user "x": exec is not supported'),
        ("four", 'invalid configuration: cluster "missing" does not exist'),
        ("five", 'context "five" does not exist'),
    ],
)
def test_what_cannot_be_honoured_is_refused(context: str, words: str) -> None:
    with pytest.raises(KubeconfigError, match=words):
        kubeconfig.from_document(DOCUMENT, context=context)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="stat /nonexistent/x: no such file or directory"):
        kubeconfig.load("/nonexistent/x")
    broken = tmp_path / "broken"
    broken.write_text("a: [")
    with pytest.raises(KubeconfigError, match="error loading config file"):
        kubeconfig.load(str(broken))


def test_in_cluster_uses_the_service_account(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    (tmp_path / "namespace").write_text("kube-system\n")
    config = kubeconfig.in_cluster(str(tmp_path), {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"})
    assert (config.server, config.token_file, config.namespace) == ("https://10.96.0.1:443", str(tmp_path / "token"), "kube-system")
    with pytest.raises(KubeconfigError, match="KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"):
        kubeconfig.in_cluster(str(tmp_path), {})
