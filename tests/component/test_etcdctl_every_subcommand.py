"""Golden: every subcommand that the real etcdctl's own help lists, of the v3 API, in every output format, beside ours on the same server.

A subcommand that the real program has and this table lacks fails the test. Words in capitals are filled in: PRE is the client's own prefix,
LEASE, MEMBER and LEADER come from what the lines before have printed, REV from the last JSON answer.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness import etcd_processes as etcd
from harness.etcd_processes import OURS, REAL, Done, Member
from harness.golden import PREFIXES, masked, said

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd", "etcdctl")]

FORMATS = ("simple", "json", "table", "fields")
_GUARD = 'mod("PRE/t") > "0"\n\nput PRE/t 2\nget PRE/t\ndel PRE/none\n\nget PRE/t\n\n'

# Subcommand -> the lines typed, one after the other; "*" in front: in every output format. `|` is followed by standard input.
V3: dict[str, tuple[str, ...]] = {
    "alarm disarm": ("alarm disarm", "alarm disarm -w json", "alarm disarm -w table", "alarm disarm x"),
    "alarm list": ("*alarm list", "alarm list x"),
    "auth disable": ("*auth disable", "auth disable x"),
    "auth enable": ("auth enable", "auth enable x"),
    "check datascale": ("put /etcdctl-check-datascale/x 1", "check datascale", "check datascale --load=q", "del /etcdctl-check-datascale/x"),
    "check perf": ("put /etcdctl-check-perf/x 1", "check perf", "check perf --load=q", "check perf --prefix /etcdctl-check-perf/", "del /etcdctl-check-perf/x"),
    "compaction": ("put PRE/c 1 -w json", "compaction REV", "*compaction 1", "compaction", "compaction x", "compaction 1 2", "compaction 9999999", "compaction 1 --physical"),
    # What the scripts do: test_etcdctl_completion.
    "completion bash": ("completion", "completion x", "help completion", "completion -h", "help completion bash", "completion bash x", "completion bash --nonsense", "__complete", "__completeNoDesc"),
    "completion fish": ("help completion fish", "completion fish x"),
    "completion powershell": ("help completion powershell", "completion powershell x"),
    "completion zsh": ("help completion zsh", "completion zsh x"),
    "defrag": ("*defrag", "defrag --cluster", "defrag x"),
    "del": ("put PRE/1 a", "put PRE/2 b", "*del PRE/1 --prev-kv", "*del PRE --prefix", "del", "del a b c", "del a --prefix --from-key", "del a b --prefix"),
    "elect": ("elect", "elect a", "elect a b c", "elect -l a b", "help elect"),
    "endpoint hashkv": ("*endpoint hashkv", "endpoint hashkv --rev 99999", "endpoint hashkv --rev=-1", "endpoint hashkv --cluster"),
    "endpoint health": ("*endpoint health", "endpoint health --cluster", "endpoint health x"),
    "endpoint status": ("*endpoint status", "endpoint status --cluster", "endpoint status x"),
    "get": (
        "put PRE/1 a",
        "put PRE/2 b",
        "*get PRE/1",
        "*get PRE --prefix --keys-only",
        "*get PRE/none",
        "get PRE --prefix --limit 1 -w json",
        "get PRE --prefix --order descend",
        "get PRE --prefix --sort-by create --order ASCEND",
        "get --from-key PRE/2 --limit 1",
        "get PRE/1 --rev 9999999",
        "get PRE/1 --hex",
        "*get PRE/1 --print-value-only",
        "get",
        "get a b c",
        "get a --order x",
        "get a --consistency x",
        "del PRE --prefix",
    ),
    "help": ("help", "", "--help", "help nonsense", "help nonsense x", "help help", "help --help", "help get", "help get x", "help user add", "get --help", "lease --help", "--version", "get --version", "nonsense", "endpoint nonsense", "get --nonsense", "-w", "--endpoints"),
    "lease grant": ("*lease grant 100", "lease grant", "lease grant x", "lease grant 1 2", "lease grant 99999999999", "lease grant 0"),
    "lease keep-alive": ("lease grant 100", "*lease keep-alive --once LEASE", "*lease keep-alive --once 77", "lease keep-alive 77", "lease keep-alive", "lease keep-alive zz"),
    "lease list": ("*lease list", "lease list x"),
    "lease revoke": ("lease grant 100", "lease revoke LEASE", "*lease revoke 77", "lease revoke", "lease revoke zz", "lease grant 100", "lease revoke LEASE -w json"),
    "lease timetolive": ("lease grant 100", "put --lease=LEASE PRE/l x", "*lease timetolive LEASE", "*lease timetolive LEASE --keys", "*lease timetolive 77", "lease timetolive", "lease timetolive zz", "lease revoke LEASE"),
    "lock": ("lock", "lock PRE sh -c true", "lock PRE sh -c exit\\ 3", "lock PRE nonsense-program", "lock PRE --ttl x", "help lock"),
    "make-mirror": ("make-mirror", "make-mirror a b", "make-mirror a --no-dest-prefix --dest-prefix x", "help make-mirror"),
    "member add": ("member add", "member add x", "member add x y", "member add x http://127.0.0.1:1", "member add x --peer-urls=nonsense", "member add x --peer-urls=PEER", "*member add"),
    "member list": ("*member list", "member list x", "member list --hex -w json"),
    "member promote": ("member promote", "member promote zz", "*member promote 77", "member promote MEMBER"),
    "member remove": ("member remove", "member remove zz", "*member remove 77", "member remove MEMBER"),
    "member update": ("member update", "member update 77", "*member update 77 --peer-urls=http://127.0.0.1:1", "*member update MEMBER --peer-urls=PEER"),
    # What becomes of keys: test_etcdctl_migrate.
    "migrate": ("help migrate", "migrate --data-dir /nonexistent", "migrate", "migrate --transformer /nonexistent", "migrate --nonsense"),
    "move-leader": ("move-leader", "move-leader zz", "*move-leader 77", "move-leader MEMBER", "move-leader a b"),
    "put": ("*put PRE/p 1", "*put PRE/p 2 --prev-kv", "put PRE/p|three", "put PRE/p --ignore-value", "put PRE/p 4 --ignore-lease", "put PRE/none --ignore-value", "put PRE/p 1 --ignore-value", "put", "put PRE/p", "put a --lease=zz b", "put a b --lease=77", "del PRE/p"),
    "role add": ("*role add PREr", "role add", "role add a b", "role add ''", "role delete PREr"),
    "role delete": ("role add PREr", "*role delete PREr", "role delete"),
    "role get": ("role add PREr", "role grant-permission PREr read a b", "*role get PREr", "*role get PREnone", "role get", "role delete PREr"),
    "role grant-permission": ("role add PREr", "*role grant-permission PREr read PREk", "role grant-permission PREr", "role grant-permission PREr fly x", "role grant-permission PREr read x --prefix --from-key", "role grant-permission PREr write '' --prefix", "role grant-permission PREr write '' --from-key", "role get PREr", "role grant-permission PREnone read x", "role delete PREr"),
    "role list": ("role add PREr", "*role list", "role list x", "role delete PREr"),
    "role revoke-permission": ("role add PREr", "role grant-permission PREr read a --prefix", "*role revoke-permission PREr a --prefix", "*role revoke-permission PREr none", "role grant-permission PREr read a --from-key", "role revoke-permission PREr a --from-key", "role grant-permission PREr read a b", "role revoke-permission PREr a b", "role revoke-permission PREr", "role revoke-permission", "role delete PREr"),
    "snapshot restore": ("snapshot restore", "snapshot restore /nonexistent", "snapshot restore DIR/none --data-dir DIR/x", "snapshot save DIR/s.db", "snapshot restore DIR/s.db --data-dir DIR/d", "snapshot restore DIR/s.db --data-dir DIR/d", "snapshot restore DIR/s.db --data-dir DIR/e --name zz", "snapshot restore DIR/s.db --data-dir DIR/f --initial-advertise-peer-urls http://127.0.0.1:1"),
    "snapshot save": ("*snapshot save DIR/s.db", "snapshot save", "snapshot save /nonexistent/x", "--endpoints a,b snapshot save DIR/x"),
    "snapshot status": ("snapshot save DIR/s.db", "*snapshot status DIR/s.db", "snapshot status DIR/none", "snapshot status"),
    "txn": (f"*txn|{_GUARD}", "put PRE/t 1", f"*txn|{_GUARD}", f"txn -i|{_GUARD}", "txn x", "txn|nonsense\n\n\n\n", "del PRE/t"),
    "user add": ("*user add PREu:pw", "user add PREv --no-password", "user add", "user add :x", "user add PREw --interactive=false|secret\n", "user add PREx --new-user-password=pw", "user delete PREu", "user delete PREv", "user delete PREw", "user delete PREx"),
    "user delete": ("user add PREu --no-password", "*user delete PREu", "user delete"),
    "user get": ("user add PREu --no-password", "role add PREr", "user grant-role PREu PREr", "*user get PREu", "*user get PREu --detail", "*user get PREnone", "user get", "user delete PREu", "role delete PREr"),
    "user grant-role": ("user add PREu --no-password", "role add PREr", "*user grant-role PREu PREr", "user grant-role PREu none", "user grant-role none PREr", "user grant-role PREu", "user delete PREu", "role delete PREr"),
    "user list": ("user add PREu --no-password", "*user list", "user list x", "user delete PREu"),
    "user passwd": ("user add PREu:a", "user passwd PREu --interactive=false|b\n", "*user passwd PREnone --interactive=false|b\n", "user passwd", "user delete PREu"),
    "user revoke-role": ("user add PREu --no-password", "role add PREr", "user grant-role PREu PREr", "*user revoke-role PREu PREr", "user revoke-role PREu", "user delete PREu", "role delete PREr"),
    "version": ("*version", "version x"),
    "watch": ("watch", "watch a b --prefix", "watch -i|nonsense\nwatch\nprogress x\n", "help watch", "watch --rev=x a"),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with etcd.serving(OURS, tmp_path_factory.mktemp("etcd") / "data", etcd.free_ports(2)) as member:
        yield member


def _listed() -> list[str]:
    """The subcommands that the real program's help knows."""
    lines = etcd.run(REAL, ["help"]).stdout.partition("COMMANDS:\n")[2].partition("\n\n")[0].splitlines()
    return [line.strip().split("\t")[0] for line in lines]


def test_the_table_has_every_subcommand() -> None:
    assert sorted(V3) == sorted(_listed())


def _words(text: str) -> list[str]:
    import shlex

    return shlex.split(text) + ([""] if text.endswith(" ") else [])


def story(kind: str, server: Member, lines: Sequence[str], directory: Path) -> list[tuple[str, Done]]:
    """What each of the lines printed."""
    directory.mkdir()
    found = {"DIR": str(directory), "PEER": server.peer_url, "PRE": PREFIXES[kind]}
    found["MEMBER"] = etcd.run(REAL, ["--endpoints", server.url, "member", "list"]).stdout.split(",")[0]
    told = []
    for line in lines:
        text, _, stdin = line.removeprefix("*").partition("|")
        for form in FORMATS if line.startswith("*") else ("",):
            words = _words(text) + (["-w", form] if form else [])
            for name, value in found.items():
                words = [word.replace(name, value) for word in words]
            endpoints = [] if "--endpoints" in text or not text or text.startswith("__") else ["--endpoints", server.url]
            done = etcd.run(kind, [*endpoints, *words], stdin=stdin.replace("PRE", PREFIXES[kind]).encode())
            lease = re.search(r"lease ([0-9a-f]{16}) granted", done.stdout)
            revision = re.search(r'"revision":(\d+)', done.stdout)
            found.update({"REV": revision[1]} if revision else {})
            found.update({"LEASE": lease[1]} if lease and text.startswith("lease grant") else {})
            stdout = _without_padding(done.stdout) if form == "table" or "|" in done.stdout else done.stdout
            outputs = [masked(each.replace(str(directory), "DIR")) for each in (stdout, said(done.stderr))]
            told.append((f"{text} -w {form}" if form else text, Done(done.code, *outputs)))
    return told


def _without_padding(text: str) -> str:
    return re.sub(r"-+", "-", re.sub(r" +", " ", text))


@pytest.mark.parametrize("subcommand", V3)
def test_ours_prints_what_the_real_one_prints(server: Member, subcommand: str, tmp_path: Path) -> None:
    real, ours = (story(kind, server, V3[subcommand], tmp_path / kind) for kind in (REAL, OURS))
    assert ours == real
