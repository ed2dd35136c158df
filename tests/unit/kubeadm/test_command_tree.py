"""kubeadm's commands as its help and its completion show them, compared with upstream's reference."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kubette.kubeadm.cli import main

# kubernetes.io/docs/reference/setup-tools/kubeadm: command -> those below it.
UPSTREAM = {
    "": "certs completion config help init join kubeconfig reset token upgrade version",
    "certs": "certificate-key check-expiration generate-csr renew",
    "certs renew": "admin.conf all apiserver apiserver-etcd-client apiserver-kubelet-client controller-manager.conf etcd-healthcheck-client "
    "etcd-peer etcd-server front-proxy-client scheduler.conf super-admin.conf",
    "config": "images migrate print validate",
    "config images": "list pull",
    "config print": "init-defaults join-defaults reset-defaults upgrade-defaults",
    "init": "phase",
    "init phase": "addon bootstrap-token certs control-plane etcd kubeconfig kubelet-finalize kubelet-start mark-control-plane preflight "
    "show-join-command upload-certs upload-config wait-control-plane",
    "init phase certs": "all apiserver apiserver-etcd-client apiserver-kubelet-client ca etcd-ca etcd-healthcheck-client etcd-peer etcd-server "
    "front-proxy-ca front-proxy-client sa",
    "init phase kubeconfig": "admin all controller-manager kubelet scheduler super-admin",
    "init phase control-plane": "all apiserver controller-manager scheduler",
    "init phase upload-config": "all kubeadm kubelet",
    "init phase addon": "all coredns kube-proxy",
    "join": "phase",
    "join phase": "control-plane-join control-plane-prepare etcd-join kubelet-start kubelet-wait-bootstrap preflight wait-control-plane",
    "join phase control-plane-prepare": "all certs control-plane download-certs kubeconfig",
    "kubeconfig": "user",
    "reset": "phase",
    "reset phase": "cleanup-node preflight remove-etcd-member",
    "token": "create delete generate list",
    "upgrade": "apply diff node plan",
    "upgrade apply": "phase",
    "upgrade apply phase": "addon bootstrap-token control-plane kubelet-config post-upgrade preflight upload-config",
    "upgrade node phase": "addon control-plane kubelet-config post-upgrade preflight",
}


def listed(text: str) -> list[str]:
    part = text.partition("\nAvailable Commands:\n")[2].partition("\n\n")[0]
    return [line.split()[0] for line in part.splitlines()]


@pytest.mark.parametrize("words", UPSTREAM)
def test_every_command_of_upstream_is_there(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words.split(), "--help"]) == 0
    said = capsys.readouterr().out
    # `upgrade node config` is older than the reference.
    assert [name for name in listed(said) if name != "config" or words != "upgrade node"] == UPSTREAM[words].split()
    assert main(["help", *words.split()]) == 0
    assert capsys.readouterr().out == said
    for name in UPSTREAM[words].split():
        if name != "help":
            assert main([*words.split(), name, "--help"]) == 0, name
            shown = capsys.readouterr().out
            assert "\nUsage:\n  kubeadm " + f"{words} {name}".strip() in shown
            assert "\n  -h, --help" in shown


def test_a_group_alone_shows_itself_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "renew"]) == 1
    assert listed(capsys.readouterr().out) == UPSTREAM["certs renew"].split()
    assert main(["token", "nonsense"]) == 1
    assert capsys.readouterr().err.startswith("error: invalid subcommand \"nonsense\"\nSee 'kubeadm token -h' for help and examples\n")
    assert main(["help", "nonsense"]) == 0
    assert capsys.readouterr().out.startswith("Unknown help topic [`nonsense`]\n")


def test_flags_stand_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "check-expiration", "--help"]) == 0
    assert capsys.readouterr().out == (
        "Check certificates expiration for a Kubernetes cluster\n\n"
        "Usage:\n  kubeadm certs check-expiration [flags]\n\n"
        "Flags:\n"
        '      --cert-dir string     The path where to save the certificates. (default "/etc/kubernetes/pki")\n'
        "      --config string       Path to a kubeadm configuration file.\n"
        "  -h, --help                help for check-expiration\n"
        '      --kubeconfig string   The kubeconfig file to use when talking to the cluster. (default "/etc/kubernetes/admin.conf")\n'
        '  -o, --output string       Output format. One of: text|json|yaml. (default "text")\n\n'
        "Global Flags:\n  -v, --v Level   number for the log level verbosity\n"
    )


def test_images_as_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "images", "list", "--kubernetes-version=v1.31.0", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["apiVersion"]) == ("Images", "output.kubeadm.k8s.io/v1alpha3")
    assert found["images"][0] == "registry.k8s.io/kube-apiserver:v1.31.0"
    assert main(["config", "images", "list", "-o", "table"]) == 1
    assert "invalid output format: table" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["init", "join", "reset", "upgrade"])
def test_defaults_are_a_configuration(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "print", f"{kind}-defaults"]) == 0
    text = capsys.readouterr().out
    assert f"kind: {kind.capitalize()}Configuration" in text
    (tmp_path / "file").write_text(text)
    assert main(["config", "validate", "--config", str(tmp_path / "file")]) == 0


def test_bash_completes(tmp_path: Path) -> None:
    """The script in a real bash, as readline would call it."""
    program = str(Path(sys.executable).with_name("kubeadm"))

    def completed(line: str) -> list[str]:
        words = line.split(" ")
        script = (
            f"source <(kubeadm completion bash)\ncompopt() {{ :; }}\nCOMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}\n"
            f"COMP_WORDS=({' '.join(words[:-1])} '{words[-1]}'); COMP_CWORD={len(words) - 1}\n"
            "$(complete -p kubeadm | sed 's/.*-F \\([^ ]*\\) .*/\\1/')\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
        )
        done = subprocess.run(
            ["bash", "-c", script], env={"PATH": f"{Path(program).parent}:/usr/bin:/bin"}, capture_output=True, text=True, timeout=30, check=True
        )
        return [one.split()[0] for one in done.stdout.splitlines() if one]

    assert completed("kubeadm upgrade ") == ["apply", "diff", "node", "plan"]
    assert completed("kubeadm init phase ce") == ["certs"]
    assert completed("kubeadm token create --pri") == ["--print-join-command"]
    assert completed("kubeadm completion ") == ["bash", "zsh"]


@pytest.mark.parametrize(
    ("words", "text"),
    [([], "shell not specified"), (["bash", "zsh"], "too many arguments; expected only the shell type"), (["fish"], 'unsupported shell type "fish"')],
)
def test_completion_refuses(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", *words]) == 1
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--groups=admins", 'bootstrap group "admins" is invalid'),
        ("--usages=reading", "valid bootstrap token usages: [signing authentication]"),
    ],
)
def test_tokens_are_for_something(flag: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "create", flag]) == 1
    assert text in capsys.readouterr().err
