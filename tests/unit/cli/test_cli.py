"""What the command line refuses, and in which words."""

import socket
from pathlib import Path

import pytest

from kubette.cli import __main__, diagnosis, host_checks, readiness, ssh
from kubette.cli.errors import CommandError
from kubette.machines import namespaces


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frob"], "error: unknown flag: --frob"),
        (["frob"], 'error: unknown command "frob" for "kubette"'),
        (["up", "--frob"], "error: unknown flag: --frob"),
        (["up", "extra"], 'error: unknown command "extra" for "kubette up"'),
        (["up", "--workers", "x"], 'invalid argument "x" for "--workers" flag'),
        (["up", "--name", "No_Way"], 'invalid name "No_Way"'),
        (["up", "--style", "magic"], 'invalid argument "magic" for "--style" flag: must be one of kubeadm, systemd'),
        (["machine", "explode", "node01"], 'unknown command "explode" for "kubette machine"'),
        (["machine", "kill", "node01", "--timeout", "3s"], "--timeout has no meaning for kill"),
        (["status", "-o", "xml"], "unable to match a printer"),
        (["status"], 'no cluster "kubette" found'),
        (["ssh", "node01"], 'cluster "kubette" not found'),
        (["down"], 'no cluster "kubette" found'),
    ],
)
def test_refusals(words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KUBETTE_HOME", str(tmp_path))
    assert __main__.main(words) == 1
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_every_command_has_flags_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in __main__.COMMANDS:
        assert __main__.main([name, "--help"]) == 0
        assert f"kubette {name} [flags]" in capsys.readouterr().out


def test_the_flags_of_an_ssh_command_are_its_own() -> None:
    assert ssh.parse(["--name", "dev", "node01", "ls", "-l", "--all"]).args == ["node01", "ls", "-l", "--all"]
    assert ssh.parse(["--name=dev", "node01", "--", "ls", "-l"]).name == "dev"


def test_a_port_in_use_is_named_and_a_chosen_one_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBETTE_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for is_chosen in (True, False):
            with pytest.raises(CommandError, match=f"port {port} on 127.0.0.1 is already in use.*--api-port"):
                host_checks.reserve_api_port("kubette", port, is_chosen)
    host_checks.reserve_api_port("kubette", port, True).close()


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks, "SPACE_BYTES_MIN", 1 << 60)
    with pytest.raises(CommandError, match="no space"):
        host_checks.check_folder(tmp_path / "home")


@pytest.mark.parametrize(
    ("switches", "remedy"),
    [
        ({"kernel/apparmor_restrict_unprivileged_userns": "1"}, "kernel.apparmor_restrict_unprivileged_userns=0"),
        ({"kernel/unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone=1"),
        ({"user/max_user_namespaces": "0"}, "user.max_user_namespaces=65536"),
        ({}, "seccomp=unconfined"),
    ],
)
def test_a_host_without_user_namespaces_gets_cause_and_remedy(switches: dict[str, str], remedy: str) -> None:
    assert remedy in namespaces.explain_refusal("unshare: Operation not permitted", switches, is_root=False)


def test_a_node_is_ready_only_if_it_lives_since_its_machine_started() -> None:
    node = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    lease = {"spec": {"renewTime": "2026-01-01T00:00:10.000000Z"}}
    boot = 1767225600.0  # 2026-01-01T00:00:00Z
    assert readiness.is_ready(node, lease, boot)
    assert not readiness.is_ready(node, lease, boot + 60)
    assert not readiness.is_ready({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, lease, boot)
    assert not readiness.is_ready(node, None, boot)


def test_a_container_that_was_started_again_is_named_with_its_last_words(tmp_path: Path) -> None:
    folder = tmp_path / "var/log/pods/kube-system_etcd-controlplane_1/etcd"
    folder.mkdir(parents=True)
    (folder / "0.log").write_text("2026-01-01T00:00:00Z stderr F cannot open the WAL\n")
    (folder / "1.log").write_text("")
    restarted = list(diagnosis.restarted(tmp_path))
    assert restarted == [("etcd", folder / "0.log")]
    assert diagnosis.content((folder / "0.log").read_text().strip()) == "cannot open the WAL"
