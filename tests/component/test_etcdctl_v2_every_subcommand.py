"""Golden: every subcommand of the v2 client that the real etcdctl's own help lists, in every output format, beside ours on the same servers, ours and
the real one.

A subcommand that the real program has and this table lacks fails the test. Words in capitals are filled in: PRE is the client's own prefix, MEMBER and
PEER are the server's, DIR is an empty directory.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness import etcd_processes as etcd
from harness.etcd_processes import OURS, REAL, Done, Member
from harness.golden import PREFIXES, masked, said
from harness.terminal import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd", "etcdctl")]

FORMATS = ("simple", "extended", "json")

# Subcommand -> the lines typed, one after the other; "*" in front: in every output format. `|` is followed by standard input.
V2: dict[str, tuple[str, ...]] = {
    "auth disable": ("auth disable", "auth disable x", "auth disable -h"),
    "auth enable": ("auth", "auth enable x", "auth enable -h", "auth nonsense", "auth enable"),
    "backup": ("backup -h", "backup --nonsense", "backup --data-dir DIR/none --backup-dir DIR/backup", "backup --data-dir DIR/none --backup-dir /proc/none"),
    "cluster-health": ("cluster-health", "cluster-health -h", "cluster-health x", "--debug cluster-health"),
    "exec-watch": ("exec-watch", "exec-watch PRE", "exec-watch -h", "set PRE/e 1", "exec-watch --after-index 1 --recursive PRE/e -- nonsense-program", "rm PRE/e"),
    "get": ("set PRE/1 a", "*get PRE/1", "*get PRE/none", "get PRE", "get PRE/1 --sort -q", "--debug get PRE/1", "--no-sync get PRE/1", "--no-sync --debug get PRE/1", "get", "get a b", "get -h", "get --nonsense PRE/1", "-o nonsense get PRE/1", "rm PRE/1", "rmdir PRE"),
    "help": ("help", "", "--help", "-h", "h", "help nonsense", "nonsense", "help get", "h get", "help member", "help member add", "member help", "member help add", "help help", "--nonsense", "-o", "--timeout x ls", "-v", "--version", "---", "get ---", "set --ttl x a b", "-x=3"),
    "ls": ("set PRE/d/1 a", "mkdir PRE/d/e", "set PRE/d/f/2 b", "set PRE/d/_hidden 2", "*ls --sort PRE/d", "*ls --sort --recursive -p PRE", "ls --sort -r PRE", "ls -p -q --sort PRE/d", "ls PRE/d/1", "ls -p PRE/d/1", "*ls PRE/none", "ls PRE/d/e", "ls -h", "rm -r PRE"),
    "member add": ("member add", "member add x", "member add x nonsense", "member add x http://127.0.0.1", "member add x http://127.0.0.1:1/a", "member add x ftp://127.0.0.1:1", "member add x PEER", "member add -h", "-o json member add x PEER"),
    "member list": ("member list", "member list x", "member list -h", "member", "member nonsense", "member --nonsense", "member -h", "--debug member list"),
    "member remove": ("member remove", "member remove zz", "member remove 77", "member remove m0", "member remove a b", "member remove -h"),
    "member update": ("member update", "member update 77", "member update 77 http://127.0.0.1:1", "member update MEMBER PEER", "member update MEMBER nonsense", "member update zz PEER", "member update -h"),
    "mk": ("*mk PRE/m v", "mk PRE/m v --ttl 100", "mk PRE/n v --ttl 100", "rm PRE/n", "mk PRE/in|typed\n", "mk PRE/none|", "mk", "mk --in-order PRE/q v", "*mk PRE/q v --in-order", "mk --in-order --ttl 100 PRE/q v", "mk -h", "rm -r PRE"),
    "mkdir": ("*mkdir PRE/d", "mkdir PRE/e --ttl 100", "*mkdir PRE/f", "mkdir", "mkdir -h", "--debug mkdir PRE/g", "rm -r PRE"),
    "rm": ("set PRE/1 a", "rm PRE/1", "*rm PRE/1", "set PRE/1 a", "-o json rm PRE/1", "set PRE/1 a", "-o extended rm PRE/1", "set PRE/1 a", "*rm PRE/1 --with-value b", "*rm PRE/1 --with-index 1", "rm PRE/1 --with-value a", "mkdir PRE/d", "rm PRE/d", "rm --dir PRE/d", "set PRE/d/1 a", "rm --dir PRE/d", "*rm --recursive PRE/d", "rm", "rm -h"),
    "rmdir": ("mkdir PRE/d", "rmdir PRE/d", "*rmdir PRE/d", "set PRE/d/1 a", "*rmdir PRE/d", "rmdir PRE/d/1", "rmdir", "rmdir -h", "rm -r PRE"),
    "role add": ("role add PREr", "role add PREr", "role add", "role add a b", "role add root", "role add -h", "role remove PREr", "role", "role nonsense"),
    "role get": ("role add PREr", "role grant PREr --path /a --read", "role grant PREr --path /b/* --rw", "role get PREr", "role get root", "role get PREnone", "role get", "role get -h", "role remove PREr"),
    "role grant": ("role add PREr", "role grant PREr", "role grant PREr --path /a", "role grant PREr --path a --read", "role grant PREr --path /a//b/ --read", "role grant PREr --path /a --read --write", "role grant PREr --path /a --read", "role grant PREr --path /a --read", "role grant PREr --path /a --write", "role grant PREnone --path /a --write", "role grant --path /a --write", "role get PREr", "role grant -h", "role remove PREr"),
    "role list": ("role add PREr", "role list", "role list x", "role list -h", "role remove PREr"),
    "role remove": ("role add PREr", "role remove PREr", "role remove PREr", "role remove root", "role remove", "role remove -h"),
    "role revoke": ("role add PREr", "role grant PREr --path /a --readwrite", "role revoke PREr --path /a --write", "role get PREr", "role revoke PREr --path /a --write", "role revoke PREr --path /a --rw", "role get PREr", "role revoke PREr", "role revoke -h", "role remove PREr"),
    "set": ("*set PRE/1 a", "*set PRE/1 b", "set PRE/1 c --swap-with-value b", "*set PRE/1 d --swap-with-value b", "set PRE/1 d --swap-with-index 1", "set PRE/1 e --ttl 100", "set -- PRE/1 -v", "set PRE/1 -- -v", "set PRE/1|typed\n", "set PRE/1|", "set", "set /PRE/2 <&>", "*get PRE/2", "mkdir PRE/d", "set PRE/d x", "set PRE/1/x y", "set PRE//3/../4 x", "set / x", "--debug set PRE/1 a=b&c", "set -h", "rm -r PRE"),
    "setdir": ("*setdir PRE/d", "setdir PRE/d --ttl 100", "set PRE/1 x", "*setdir PRE/1", "setdir", "setdir -h", "rm -r PRE"),
    "update": ("set PRE/1 a", "*update PRE/1 b", "*update PRE/none b", "update PRE/1 c --ttl 100", "update PRE/1|typed\n", "update", "update -h", "rm -r PRE"),
    "updatedir": ("mkdir PRE/d", "*updatedir PRE/d", "updatedir PRE/d --ttl 100", "*updatedir PRE/none", "updatedir", "updatedir -h", "rm -r PRE"),
    "user add": ("user add PREu:pw", "user add PREu:pw", "user add PREv:", "user add", "user add :x", "user add a b", "user add -h", "user remove PREu", "user", "user nonsense"),
    "user get": ("user add PREu:pw", "role add PREr", "user grant PREu --roles PREr", "user get PREu", "user get PREnone", "user get", "user get -h", "user remove PREu", "role remove PREr"),
    "user grant": ("user add PREu:pw", "role add PREr", "user grant PREu", "user grant PREu --roles PREr", "user grant PREu --roles PREr", "user grant PREu --roles PREnone --roles PREq", "user get PREu", "user grant PREnone --roles PREr", "user grant --roles PREr", "user grant -h", "user remove PREu", "role remove PREr"),
    "user list": ("user add PREu:pw", "user list", "user list x", "user list -h", "user remove PREu"),
    "user passwd": ("user passwd", "user passwd a b", "user passwd -h"),
    "user remove": ("user add PREu:pw", "user remove PREu", "user remove PREu", "user remove", "user remove -h"),
    "user revoke": ("user add PREu:pw", "role add PREr", "user grant PREu --roles PREr", "user revoke PREu --roles PREr", "user get PREu", "user revoke PREu --roles PREr", "user revoke PREu", "user revoke -h", "user remove PREu", "role remove PREr"),
    "watch": ("set PRE/1 a", "set PRE/d/2 b", "*watch --after-index 1 PRE/1", "*watch --after-index 1 --recursive PRE", "--debug watch --after-index 1 PRE/1", "watch", "watch -h", "rm -r PRE"),
}  # fmt: skip


@pytest.fixture(scope="module", params=[REAL, OURS])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with etcd.serving(request.param, tmp_path_factory.mktemp("v2") / "data", etcd.free_ports(2), "--enable-v2") as member:
        yield member


def _listed() -> list[str]:
    """The subcommands that the real program's help knows, those of groups too."""
    found = []
    for name in _commands(["help"]):
        below = _commands([name, "-h"])
        found += [f"{name} {each}" for each in below] or [name]
    return found


def _commands(words: Sequence[str]) -> list[str]:
    lines = etcd.run(REAL, words, api="2").stdout.partition("COMMANDS:\n")[2].partition("\n\n")[0].splitlines()
    return [line.split()[0].rstrip(",") for line in lines]


def test_the_table_has_every_subcommand() -> None:
    assert sorted(V2) == sorted(_listed())


_NUMBERS = (
    (re.compile(r"(?<=Index: )\d+|(?<=-Index: )\d+|(?<=Index\":)\d+|(?<=\"index\":)\d+|(?<=\[)\d+(?=[/\]])|(?<=/)\d+(?=\])"), "N"),
    (re.compile(r"(?<=\")\d{20}|(?<=/q/)\d{20}"), "NNN"),
    (re.compile(r'"expiration":"[^"]*"'), '"expiration":T'),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+"), "TIME"),
    (re.compile(r"(\[\w+ != )\d+\]"), r"\1N]"),
)


def story(kind: str, server: Member, lines: Sequence[str], directory: Path) -> list[tuple[str, Done]]:
    """What each of the lines printed."""
    directory.mkdir()
    found = {"DIR": str(directory), "PEER": server.peer_url, "PRE": PREFIXES[kind]}
    found["MEMBER"] = etcd.run(REAL, ["--endpoints", server.url, "member", "list"]).stdout.split(",")[0]
    told = []
    for line in lines:
        text, _, stdin = line.removeprefix("*").partition("|")
        for form in FORMATS if line.startswith("*") else ("",):
            words = shlex.split(text.replace("<&>", "'<&>'").replace("&c", "'&c'"))
            for name, value in found.items():
                words = [word.replace(name, value) for word in words]
            done = etcd.run(
                kind, [*(["--endpoints", server.url] if text else []), *(["-o", form] if form else []), *words], stdin=stdin.encode(), api="2"
            )
            outputs = [masked(each.replace(str(directory), "DIR")) for each in (done.stdout, said(done.stderr))]
            for pattern, replacement in _NUMBERS:
                outputs = [pattern.sub(replacement, each) for each in outputs]
            told.append((f"-o {form} {text}" if form else text, Done(done.code, *outputs)))
    return told


@pytest.mark.parametrize("subcommand", V2)
def test_ours_prints_what_the_real_one_prints(server: Member, subcommand: str, tmp_path: Path) -> None:
    real, ours = (story(kind, server, V2[subcommand], tmp_path / kind) for kind in (REAL, OURS))
    for (line, expected), (_, found) in zip(real, ours, strict=True):
        assert found == expected, line


def test_an_endpoint_that_is_gone_is_told_alike() -> None:
    (port,) = etcd.free_ports(1)
    for words in (["get", "a"], ["--no-sync", "get", "a"], ["--no-sync", "mk", "a", "b"], ["member", "list"], ["cluster-health"], ["user", "list"], ["--no-sync", "role", "list"], ["--total-timeout", "1s", "ls"]):  # fmt: skip
        real, ours = (etcd.run(kind, ["--endpoints", f"http://127.0.0.1:{port}", *words], api="2") for kind in (REAL, OURS))
        assert ours == real, words


@contextlib.contextmanager
def _running(kind: str, server: Member, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A client that does not end by itself, until the block is left: then it is interrupted, and ends well."""
    command = [*etcd.program(kind, "etcdctl"), "--endpoints", server.url, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=etcd.environment(api="2")) as process:
        try:
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()


def _lines(process: subprocess.Popen[str], count: int) -> list[str]:
    """Its next lines; a program that prints none is ended, and then there are fewer."""
    assert process.stdout is not None
    timer = threading.Timer(60, process.kill)
    timer.start()
    try:
        return [process.stdout.readline() for _ in range(count)]
    finally:
        timer.cancel()


@pytest.mark.parametrize("kind", [REAL, OURS])
def test_a_watch_goes_on_forever(server: Member, kind: str) -> None:
    prefix = PREFIXES[kind] + "forever"
    for value in ("1", "2"):
        etcd.run(REAL, ["--endpoints", server.url, "set", f"{prefix}/a", value], api="2")
    with _running(kind, server, "watch", "--forever", "--recursive", "--after-index", "1", prefix) as process:
        assert _lines(process, 4) == [f"[set] /{prefix}/a\n", "1\n", f"[set] /{prefix}/a\n", "2\n"]
        etcd.run(REAL, ["--endpoints", server.url, "mkdir", f"{prefix}/d"], api="2")  # of directories nothing is told
        etcd.run(REAL, ["--endpoints", server.url, "rm", f"{prefix}/a"], api="2")
        assert _lines(process, 2) == [f"[delete] /{prefix}/a\n", "PrevNode.Value: 2\n"]


@pytest.mark.parametrize("kind", [REAL, OURS])
def test_a_command_is_run_at_every_change(server: Member, kind: str) -> None:
    prefix = PREFIXES[kind] + "exec"
    etcd.run(REAL, ["--endpoints", server.url, "set", f"{prefix}/a", "1"], api="2")
    script = 'echo "$ETCD_WATCH_ACTION $ETCD_WATCH_KEY $ETCD_WATCH_VALUE ${ETCD_WATCH_MODIFIED_INDEX:+indexed}"'
    with _running(kind, server, "exec-watch", "--after-index", "1", "--recursive", prefix, "--", "sh", "-c", script) as process:
        assert _lines(process, 1) == [f"set /{prefix}/a 1 indexed\n"]
        etcd.run(REAL, ["--endpoints", server.url, "set", f"{prefix}/b", "2"], api="2")
        assert _lines(process, 1) == [f"set /{prefix}/b 2 indexed\n"]
    # Without `--` upstream takes the last word for the key.
    with _running(kind, server, "exec-watch", "--after-index", "1", "env", f"{prefix}/a") as process:
        assert any(_lines(process, 1) == [f"ETCD_WATCH_KEY=/{prefix}/a\n"] for _ in range(len(os.environ) + 10))


# Users of the v2 API are the real server's alone: ours has no /v2/auth, and says so as the real one does where that API is off.
with_v2_users = pytest.mark.parametrize("server", [REAL], indirect=True)


@with_v2_users
@pytest.mark.parametrize("kind", [REAL, OURS])
def test_passwords_are_asked_for_on_the_terminal(server: Member, kind: str, tmp_path: Path) -> None:
    user = PREFIXES[kind] + "asked"
    variables = {**etcd.environment(api="2"), "TERM": "xterm"}
    for words, said_at_last in ((["user", "add", user], f"User {user} created"), (["user", "passwd", user], "Password updated")):
        with Terminal([*etcd.program(kind, "etcdctl"), "--endpoints", server.url, *words], variables, tmp_path) as terminal:
            terminal.wait_for("New password: ")
            terminal.type("secret\n")
            terminal.wait_for(said_at_last)
        if kind == OURS:  # the real one asks before it turns the echo off
            assert "secret" not in terminal.screen
    etcd.run(REAL, ["--endpoints", server.url, "user", "remove", user], api="2")


@with_v2_users
def test_who_may_do_what(server: Member) -> None:
    """With authentication on: the guest's role, a user's, root's; both clients are let in and turned away alike."""

    def both(*words: str) -> Done:
        real, ours = (etcd.run(kind, ["--endpoints", server.url, *words], api="2") for kind in (REAL, OURS))
        assert [re.sub(r"\[\d+\]", "[N]", ours.stdout + ours.stderr), ours.code] == [
            re.sub(r"\[\d+\]", "[N]", real.stdout + real.stderr),
            real.code,
        ], words
        return real

    def done(*words: str) -> None:
        assert etcd.run(OURS, ["--endpoints", server.url, *words], api="2").code == 0, words

    for words in (["set", "/open/a", "1"], ["set", "/shut/a", "1"], ["user", "add", "root:pw"], ["user", "add", "u:pw"], ["role", "add", "r"], ["role", "grant", "r", "--path", "/open/*", "--readwrite"], ["user", "grant", "u", "--roles", "r"], ["auth", "enable"]):  # fmt: skip
        done(*words)
    try:
        assert both("auth", "enable").code == 1
        assert both("get", "/open/a").code == 0  # the guest's role begins with everything
        done("-u", "root:pw", "role", "revoke", "guest", "--path", "/*", "--readwrite")
        for code, *words in (
            *((4, "get", "/open/a"), (4, "set", "/open/a", "2"), (4, "ls", "/"), (1, "user", "list"), (1, "role", "list"), (1, "auth", "disable")),
            *((0, "-u", "u:pw", "get", "/open/a"), (0, "-u", "u:pw", "set", "/open/a", "2"), (0, "-u", "u:pw", "ls", "/open/")),
            *((4, "-u", "u:pw", "get", "/shut/a"), (4, "-u", "u:pw", "set", "/shut/a", "2"), (4, "-u", "u:pw", "ls", "-r", "/")),
            *((4, "-u", "u:bad", "get", "/open/a"), (4, "-u", "nobody:x", "get", "/open/a"), (1, "-u", "u:pw", "user", "list")),
            *(
                (1, "-u", "u:pw", "member", "add", "x", "http://127.0.0.1:1"),
                (0, "-u", "root:pw", "get", "/shut/a"),
                (0, "-u", "root:pw", "user", "list"),
            ),
            *((0, "-u", "root:pw", "role", "get", "guest"), (0, "-u", "root:pw", "user", "get", "u"), (1, "-u", "root:pw", "user", "remove", "root")),
            *((0, "member", "list"), (0, "cluster-health")),
        ):
            assert both(*map(str, words)).code == code, words
    finally:
        etcd.run(REAL, ["--endpoints", server.url, "-u", "root:pw", "auth", "disable"], api="2")
    assert both("auth", "disable").code == 1
    for words in (["user", "remove", "root"], ["user", "remove", "u"], ["role", "remove", "r"], ["role", "remove", "guest"], ["rm", "-r", "/open"], ["rm", "-r", "/shut"]):  # fmt: skip
        done(*words)
