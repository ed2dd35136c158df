"""Phases by name: what runs, what is skipped, what is refused; and the way to the cluster that a join is told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kubette.kubeadm import joining, kubelet_config
from kubette.kubeadm.cli import main
from kubette.kubeadm.config import Cluster, ConfigError, Local
from kubette.kubeadm.discovery import from_file
from kubette.kubeadm.phases import init, join, workflow
from kubette.kubeadm.phases.context import Context, PhaseError
from kubette.kubeadm.phases.workflow import Phase

TOKEN = "abcdef.0123456789abcdef"
PIN = "sha256:" + "0" * 64


def story() -> tuple[list[str], tuple[Phase, ...], Context]:
    ran: list[str] = []

    def phase(name: str, *children: str) -> Phase:
        async def run(_: Context, chosen: Sequence[str]) -> None:
            ran.append("/".join([name, *chosen]))

        return Phase(name, "", run, children)

    async def fail(_: Context, __: Sequence[str]) -> None:
        raise OSError("disk full")

    phases = (phase("one"), phase("two", "a", "b"), phase("three"), Phase("bad", "", fail))
    return ran, phases, Context(Cluster("v1.37.0"), Local("cp", "192.168.56.11"), lambda _: None)


async def test_skipped_phases_and_children_do_not_run() -> None:
    ran, phases, context = story()
    await workflow.run(phases, context, ["one", "two/a", "bad"])
    assert ran == ["two/b", "three"]


async def test_a_phase_whose_children_are_all_skipped_does_not_run() -> None:
    ran, phases, context = story()
    await workflow.run(phases, context, ["two/a", "two/b", "bad"])
    assert ran == ["one", "three"]


async def test_skipping_what_is_no_phase_is_refused_before_anything_runs() -> None:
    ran, phases, context = story()
    with pytest.raises(ConfigError, match="invalid phase name: two/c"):
        await workflow.run(phases, context, ["two/c"])
    assert ran == []


async def test_a_failure_names_its_phase() -> None:
    _, phases, context = story()
    with pytest.raises(PhaseError, match="error execution phase bad: disk full"):
        await workflow.run(phases, context)


@pytest.mark.parametrize(("words", "expected"), [(["one"], "one"), (["two", "all"], "two/a/b"), (["two", "b"], "two/b")])
async def test_one_phase_runs_alone(words: list[str], expected: str) -> None:
    ran, phases, context = story()
    await workflow.run_one(phases, words, context)
    assert ran == [expected]


@pytest.mark.parametrize("words", [["four"], ["two"], ["two", "c"], ["one", "all"]])
def test_words_that_name_no_phase_are_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError):
        workflow.find(story()[1], words)


def test_inits_phases_have_upstreams_names() -> None:
    assert [phase.name for phase in init.PHASES] == [
        "preflight",
        "certs",
        "kubeconfig",
        "etcd",
        "control-plane",
        "kubelet-start",
        "wait-control-plane",
        "upload-config",
        "upload-certs",
        "mark-control-plane",
        "bootstrap-token",
        "kubelet-finalize",
        "addon",
        "show-join-command",
    ]
    assert "certs/etcd-healthcheck-client" in workflow.names(init.PHASES)
    assert "control-plane-prepare/download-certs" in workflow.names(join.PHASES)


def test_a_single_certificate_phase_makes_that_one_alone(tmp_path: Path) -> None:
    words = ["init", "phase", "certs", "front-proxy-ca", f"--cert-dir={tmp_path}", "--apiserver-advertise-address=192.168.56.11"]
    assert main(words) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front-proxy-ca.crt", "front-proxy-ca.key"]


@pytest.mark.parametrize(
    ("discovery", "words"),
    [
        ({}, "apiServerEndpoint: Required value"),
        ({"bootstrapToken": {"apiServerEndpoint": "a:1"}}, "the bootstrap token is invalid"),
        ({"bootstrapToken": {"apiServerEndpoint": "a:1", "token": TOKEN}}, "without caCertHashes can be unsafe"),
        ({"bootstrapToken": {"apiServerEndpoint": "a", "token": TOKEN, "caCertHashes": [PIN]}}, "missing port in address"),
        ({"bootstrapToken": {"apiServerEndpoint": "a:1"}, "file": {"kubeConfigPath": "/f"}}, "bootstrapToken and file cannot both be set"),
        ({"file": {}}, "discovery.file.kubeConfigPath"),
    ],
)
def test_a_join_that_cannot_find_or_trust_its_cluster_is_refused(discovery: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        joining.discovery({"discovery": discovery})


def test_a_join_by_token_and_by_file() -> None:
    by_token = {"bootstrapToken": {"apiServerEndpoint": "a:1", "token": TOKEN, "caCertHashes": [PIN]}}
    assert joining.discovery({"discovery": by_token}) == (joining.Discovery("a:1", TOKEN, (PIN,)), TOKEN)
    by_file = {"file": {"kubeConfigPath": "/f"}, "tlsBootstrapToken": TOKEN}
    assert joining.discovery({"discovery": by_file}) == (joining.Discovery(file="/f"), TOKEN)


def test_flags_that_repeat_the_file_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "k.yaml").write_text("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n")
    assert main(["init", f"--config={tmp_path / 'k.yaml'}", "--pod-network-cidr=10.0.0.0/16", "--token=x"]) == 1
    assert "can not mix '--config' with arguments [pod-network-cidr token]" in capsys.readouterr().err


def test_registration_of_the_file_reaches_the_kubelets_flags() -> None:
    local = Local("n", "192.168.56.12", taints=({"key": "gpu", "effect": "NoExecute"},), kubelet_extra_args={"node-labels": "zone=a"})
    assert kubelet_config.kubeadm_flags_env(local, control_plane=False) == (
        'KUBELET_KUBEADM_ARGS="--hostname-override=n --node-ip=192.168.56.12 --node-labels=zone=a --register-with-taints=gpu=:NoExecute"\n'
    )
    assert "register-with-taints" not in kubelet_config.kubeadm_flags_env(Local("n", "a", taints=()), control_plane=True)


def test_component_documents_overrule_the_defaults_object_by_object() -> None:
    context = Context(Cluster("v1.37.0"), Local("n", "a"), lambda _: None)
    context.kubelet_configuration = {"authentication": {"anonymous": {"enabled": True}}, "maxPods": 5}
    document = context.kubelet_document()
    assert document["maxPods"] == 5
    assert document["authentication"]["anonymous"] == {"enabled": True}
    assert document["authentication"]["webhook"]["enabled"] is True


def test_published_cluster_info_is_a_discovery_file_when_a_token_comes_with_it(tmp_path: Path) -> None:
    file = tmp_path / "cluster-info.yaml"
    file.write_text(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: ''\n  cluster: {server: 'https://a:1', certificate-authority-data: Q0E=}\n"
        "contexts: null\nusers: null\ncurrent-context: ''\n"
    )
    found = from_file(str(file), TOKEN)
    assert found["clusters"][0]["cluster"] == {"server": "https://a:1", "certificate-authority-data": "Q0E="}
    assert found["users"][0]["user"] == {"token": TOKEN}
    with pytest.raises(ConfigError, match="tlsBootstrapToken: Required value"):
        from_file(str(file), "")
