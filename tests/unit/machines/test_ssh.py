"""`ssh` on a machine: what its words mean."""

import pytest

from kubette.machines import ssh

HOSTS = "127.0.0.1 localhost\n192.168.56.11 controlplane\n192.168.56.12 node01\n"


@pytest.mark.parametrize(
    ("words", "host", "user", "terminal", "command"),
    [
        (["node01"], "node01", "root", None, []),
        (["ann@node01", "ls", "-l"], "node01", "ann", None, ["ls", "-l"]),
        (["-t", "node01", "--", "top"], "node01", "root", True, ["top"]),
        (["-Tqo", "StrictHostKeyChecking=no", "-i/root/key", "node01", "-l", "ann", "id", "-u"], "node01", "ann", False, ["id", "-u"]),
    ],
)
def test_options_end_where_the_command_begins(words: list[str], host: str, user: str, terminal: bool | None, command: list[str]) -> None:
    found = ssh.parse(words)
    assert (found.host, found.user, found.terminal, found.command) == (host, user, terminal, command)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "^$"),
        (["-Z", "node01"], "unknown option -- Z"),
        (["-p"], "option requires an argument -- 'p'"),
        (["-L", "8:b:8", "node01"], "option -- 'L' is not"),
    ],
)
def test_what_is_no_use_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ssh.UsageError, match=said):
        ssh.parse(words)


def test_the_words_of_a_command_are_a_line_for_the_shell_there() -> None:
    assert ssh.as_user(ssh.parse(["node01", "echo", "a b"])) == ["echo a b"]
    assert ssh.as_user(ssh.parse(["node01"])) == []
    assert ssh.as_user(ssh.parse(["ann@node01", "id"])) == ["runuser", "-l", "ann", "-c", "id"]


def test_a_machine_is_known_by_its_address_too() -> None:
    assert [ssh.machine_of(host, HOSTS) for host in ("192.168.56.12", "node01", "other")] == ["node01", "node01", "other"]
