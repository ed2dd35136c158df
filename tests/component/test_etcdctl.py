"""Golden: our etcdctl beside the real one, command by command, on the same server; outputs, errors and exit codes are equal.

Each client has keys of its own (a prefix of the same length), so that both find the same state; revisions, ids and durations are masked.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import etcd_processes as etcd
from harness.etcd_processes import OURS, REAL, Done, Member
from harness.golden import PREFIXES, masked, said

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd", "etcdctl")]


@pytest.fixture(scope="module", params=[OURS])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    directory = tmp_path_factory.mktemp("etcd")
    with etcd.serving(request.param, directory / "data", etcd.free_ports(2)) as member:
        yield member


def _prefixed(kind: str, text: str) -> str:
    return text.replace("PRE", PREFIXES[kind])


def both(server: Member, *lines: list[str], stdin: str = "") -> list[Done]:
    """Run the lines by either client; they must not differ. Answers the real one's endings."""
    endings: dict[str, list[Done]] = {}
    for kind in (REAL, OURS):
        endings[kind] = []
        for line in lines:
            words = ["--endpoints", server.url, *(_prefixed(kind, word) for word in line)]
            done = etcd.run(kind, words, stdin=_prefixed(kind, stdin).encode())
            endings[kind].append(Done(done.code, masked(done.stdout), masked(said(done.stderr))))
    for line, real, ours in zip(lines, endings[REAL], endings[OURS], strict=True):
        assert ours == real, line
    return endings[REAL]


on_both_servers = pytest.mark.parametrize("server", [OURS, REAL], indirect=True)


def in_formats(*line: str) -> list[list[str]]:
    # protobuf holds revisions and prefixes that cannot be masked: compared where both clients send the same (see below).
    return [[*line, "-w", each] for each in ("simple", "json", "fields", "table")]


@on_both_servers
def test_put_get_and_del(server: Member) -> None:
    both(
        server,
        ["put", "PRE/a", "1"],
        ["put", "PRE/b", "two words\t<&>"],
        ["put", "PRE/é\x01", "ü", "--prev-kv"],
        ["put", "PRE/a", "2", "--prev-kv", "-w", "json"],
        ["put", "PRE/a", "3", "--prev-kv", "-w", "fields"],
        ["put", "PRE/a", "--ignore-value"],
        ["put", "PRE/none", "--ignore-value"],
        *in_formats("get", "PRE", "--prefix"),
        ["get", "PRE/a", "--hex"],
        ["get", "PRE/a", "--print-value-only"],
        ["get", "PRE/a", "--print-value-only", "-w", "json"],
        ["get", "PRE/", "PRE0", "--keys-only", "--limit", "1", "-w", "json"],
        ["get", "PRE", "--prefix", "--order", "descend", "--sort-by=version"],
        ["get", "PRE", "--prefix", "--sort-by", "MODIFY", "--consistency=s"],
        ["del", "PRE/a", "--prev-kv"],
        ["del", "PRE/a"],
        ["del", "PRE", "--prefix", "--prev-kv", "-w", "json"],
        ["del", "PRE", "-w", "fields"],
    )


def test_values_come_from_standard_input(server: Member) -> None:
    both(server, ["put", "PRE/in"], ["get", "PRE/in"], ["put", "--", "PRE/-x", "-v"], ["get", "PRE/-x"], ["del", "PRE", "--prefix"], stdin="line\n")


def test_mistakes_are_told_alike(server: Member) -> None:
    done = both(
        server,
        ["get"],
        ["put"],
        ["put", "PRE/x", "y", "--lease=zz"],
        ["put", "PRE/x", "y", "--lease=77"],
        ["put", "", "y"],
        ["get", "a", "--rev=100000"],
        ["get", "a", "b", "--prefix"],
        ["get", "a", "--prefix", "--from-key"],
        ["get", "a", "--order=up"],
        ["get", "a", "--sort-by=x"],
        ["get", "a", "--consistency=q"],
        ["get", "a", "-w", "xml"],
        ["del"],
        ["del", "a", "b", "c"],
        ["compaction"],
        ["compaction", "x"],
        ["compaction", "100000"],
        ["lease", "grant"],
        ["lease", "grant", "x"],
        ["lease", "revoke", "12"],
        ["lease", "revoke", "xyz"],
        ["lease", "timetolive", "12"],
        ["lease", "keep-alive", "--once", "12"],
        ["member", "remove", "zz"],
        ["member", "remove", "12"],
        ["member", "add", "x"],
        ["member", "add", "x", "http://y"],
        ["member", "update", "12", "--peer-urls=http://127.0.0.1:1"],
        ["member", "promote", "12"],
        ["move-leader"],
        ["move-leader", "12"],
        ["txn", "x"],
        ["lock"],
        ["elect", "x"],
        ["watch"],
        ["check", "perf", "--load=q"],
        ["snapshot", "save"],
        ["nonsense"],
    )
    assert all(each.code for each in done if "granted" not in each.stdout and "expired" not in each.stdout)


def test_help_is_the_same_text(server: Member) -> None:
    both(
        server,
        *(["help", *each.split()] for each in ("put", "get", "del", "txn", "watch", "lease", "lease grant", "member", "endpoint status", "lock")),
        *(["help", *each.split()] for each in ("user add", "role revoke-permission", "check perf", "check datascale", "make-mirror", "elect")),
        ["lease"],
        ["get", "--no-such-flag"],
        ["get", "x", "--limit=many"],
        ["get", "x", "-w"],
    )


@pytest.mark.parametrize("form", ["simple", "json", "fields"])
def test_transactions(server: Member, form: str) -> None:
    guarded = 'val("PRE/t") = "1"\nver("PRE/t") > "0"\n\nput PRE/t "a b"\nget PRE/t\n\ndel PRE --prefix --prev-kv\n\n'
    both(server, ["put", "PRE/t", "1"], ["txn", "-w", form], ["txn", "-i", "-w", form], ["get", "PRE/t"], stdin=guarded)
    both(server, ["txn"], stdin='nonsense("PRE/t") = "1"\n\n\n\n')
    both(server, ["txn"], stdin='mod("PRE/t") = "x"\n\n\n\n')
    both(server, ["txn"], stdin='mod("PRE/t") = "0"\n\nfly PRE/t\n\n\n')
    both(server, ["txn"], stdin='mod("PRE/t") = "0"\n')


@on_both_servers
def test_a_watch_prints_its_events(server: Member) -> None:
    outputs: dict[str, list[str]] = {}
    for kind in (REAL, OURS):
        base = ["--endpoints", server.url]
        first = json.loads(etcd.run(kind, [*base, "put", f"{PREFIXES[kind]}/w1", "a", "-w", "json"]).stdout)["header"]["revision"]
        etcd.run(kind, [*base, "put", f"{PREFIXES[kind]}/w1", "b"])
        etcd.run(kind, [*base, "del", f"{PREFIXES[kind]}/w1"])
        outputs[kind] = []
        command = ["--", "sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_VALUE"]
        for form, more, lines in (("simple", [], 13), ("json", [], 1), ("fields", [], 37), ("simple", command, 16)):
            words = [*base, "watch", PREFIXES[kind], "--prefix", "--prev-kv", f"--rev={first}", "-w", form, *more]
            outputs[kind].append(masked(_output_of_endless(kind, words, lines)))
    assert outputs[OURS] == outputs[REAL]


def _output_of_endless(kind: str, words: list[str], lines: int) -> str:
    """The first lines of a command that does not end."""
    process = subprocess.Popen([*etcd.program(kind, "etcdctl"), *words], stdout=subprocess.PIPE, env=etcd.environment())
    assert process.stdout is not None
    first = b"".join(process.stdout.readline() for _ in range(lines))
    process.terminate()
    process.wait(20)
    process.stdout.close()
    return first.decode()


def test_watching_interactively(server: Member) -> None:
    outputs = {}
    for kind in (REAL, OURS):
        base = ["--endpoints", server.url]
        header = json.loads(etcd.run(kind, [*base, "put", f"{PREFIXES[kind]}/i", "a", "-w", "json"]).stdout)["header"]
        process = subprocess.Popen(
            [*etcd.program(kind, "etcdctl"), *base, "watch", "-i"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=etcd.environment()
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"watch --rev={header['revision']} {PREFIXES[kind]}/i\n".encode())
        process.stdin.flush()
        outputs[kind] = masked(b"".join(process.stdout.readline() for _ in range(3)).decode())
        process.terminate()
        process.wait(20)
        process.stdin.close()
        process.stdout.close()
    assert outputs[OURS] == outputs[REAL]


def test_leases(server: Member) -> None:
    endings = {}
    for kind in (REAL, OURS):
        done = []
        for form in ("simple", "json", "fields"):
            base = ["--endpoints", server.url, "-w", form]
            granted = etcd.run(kind, [*base, "lease", "grant", "300"])
            found = re.search(r"lease ([0-9a-f]{16})", granted.stdout) or re.search(r'"ID"\s*:\s*(\d+)', granted.stdout)
            assert found is not None, granted
            lease = found[1] if form == "simple" else f"{int(found[1]):x}"
            etcd.run(kind, [*base, "put", "--lease", lease, f"{PREFIXES[kind]}/l", "x"])
            lines = [["timetolive", lease], ["timetolive", lease, "--keys"], ["keep-alive", "--once", lease], ["list"], ["revoke", lease]]
            done += [granted, *(etcd.run(kind, [*base, "lease", *line]) for line in lines)]
        endings[kind] = [
            (each.code, re.sub(r'"(ttl|TTL)"( ?:) ?29\d', r'"\1"\2 300', masked(each.stdout).replace('"ttl":300', '"ttl": 300'))) for each in done
        ]
    assert endings[OURS] == endings[REAL]


def test_an_ipv4_address_may_stand_in_brackets(server: Member) -> None:
    done = etcd.run(OURS, ["--endpoints", server.url.replace("127.0.0.1", "[127.0.0.1]"), "put", "bracketed", "1"])
    assert (done.code, done.stdout, done.stderr) == (0, "OK\n", "")


@on_both_servers
def test_members_endpoints_and_alarms(server: Member) -> None:
    both(
        server,
        *in_formats("member", "list"),
        *(["endpoint", "health", "-w", each] for each in ("simple", "json", "fields")),
        *([["endpoint", "status", "-w", each] for each in ("json", "fields")]),
        *in_formats("endpoint", "hashkv"),
        ["endpoint", "health", "--cluster"],
        ["endpoint", "hashkv", "--cluster"],
        ["alarm", "list"],
        ["alarm", "disarm"],
        ["alarm", "list", "-w", "json"],
        ["defrag"],
        ["defrag", "--cluster"],
        ["mem", "list"],
    )
    both(server, ["put", "same", "1"])
    # The same bytes, since nothing of this changes anything.
    both(
        server, ["get", "same", "-w", "protobuf"], ["member", "list", "-w", "protobuf"], ["endpoint", "status", "-w", "table"], ["endpoint", "status"]
    )


def test_member_add_and_remove(server: Member) -> None:
    endings = {}
    for kind, port in ((REAL, 1), (OURS, 2)):
        base = ["--endpoints", server.url]
        added = etcd.run(kind, [*base, "member", "add", "new", "--learner", f"--peer-urls=http://127.0.0.1:{port}"])
        member = next(
            each["ID"] for each in json.loads(etcd.run(REAL, [*base, "member", "list", "-w", "json"]).stdout)["members"] if each.get("isLearner")
        )
        lines = [
            ["list"],
            ["update", f"{member:x}", f"--peer-urls=http://127.0.0.1:{port + 2}"],
            ["promote", f"{member:x}"],
            ["remove", f"{member:x}"],
        ]
        done = [added, *(etcd.run(kind, [*base, "member", *line]) for line in lines)]
        texts = [re.sub(r"127\.0\.0\.1:\d\b", "A", masked(re.sub(rf"\b *{member:x}\b", " ID", each.stdout))) for each in done]
        # Members come in the order of their ids, which are made of the time.
        sorted_texts = [sorted(re.split(r"[\n,\"]", text)) for text in texts]
        endings[kind] = [(each.code, text, said(each.stderr)) for each, text in zip(done, sorted_texts, strict=True)]
    assert endings[OURS] == endings[REAL]


def test_a_lock_runs_a_command_and_is_given_back(server: Member) -> None:
    script = 'echo "${ETCD_LOCK_KEY%%/*}" "${ETCD_LOCK_REV:+held}"'
    both(server, ["lock", "PRE", "sh", "-c", script], ["lock", "PRE", "sh", "-c", "exit 3"], ["get", "PRE/", "--prefix"])


def test_both_clients_contend_for_one_lock_and_one_election(server: Member) -> None:
    for words, name in ((["lock", "shared"], "shared/"), (["elect", "chosen", "me"], "chosen/")):
        first = subprocess.Popen([*etcd.program(REAL, "etcdctl"), "--endpoints", server.url, *words], stdout=subprocess.PIPE, env=etcd.environment())
        assert first.stdout is not None
        holder = first.stdout.readline()
        assert holder.startswith(name.encode())
        second = subprocess.Popen([*etcd.program(OURS, "etcdctl"), "--endpoints", server.url, *words], stdout=subprocess.PIPE, env=etcd.environment())
        assert second.stdout is not None
        for _ in range(100):
            if len(etcd.run(REAL, ["--endpoints", server.url, "get", name, "--prefix", "--keys-only"]).stdout.split()) == 2:
                break
        first.terminate()
        mine = second.stdout.readline()
        assert mine.startswith(name.encode())
        assert mine != holder
        second.terminate()
        assert (first.wait(20), second.wait(20)) == (0, 0)
        first.stdout.close()
        second.stdout.close()
        assert etcd.run(REAL, ["--endpoints", server.url, "get", name, "--prefix"]).stdout == ""


def test_compaction_and_version(server: Member) -> None:
    header = json.loads(etcd.run(REAL, ["--endpoints", server.url, "put", "c", "1", "-w", "json"]).stdout)["header"]
    ours = etcd.run(OURS, ["--endpoints", server.url, "compaction", str(header["revision"]), "--physical"])
    assert (ours.code, ours.stdout) == (0, f"compacted revision {header['revision']}\n")
    both(server, ["compaction", "1"], ["get", "c", "--rev=1"], ["version"])


@on_both_servers
def test_users_and_roles(server: Member) -> None:
    if etcd.run(REAL, ["--endpoints", server.url, "user", "list"]).code:
        pytest.skip("the server has no Auth service yet")
    both(
        server,
        ["user", "add", "PREu:pw"],
        ["user", "add", "PREv", "--new-user-password=pw"],
        ["user", "add", "PREw", "--no-password"],
        ["user", "add", "PREu:pw"],
        ["role", "add", "PREr"],
        ["role", "grant-permission", "PREr", "readwrite", "PREa"],
        ["role", "grant-permission", "PREr", "read", "PREb", "--prefix"],
        ["role", "grant-permission", "PREr", "write", "PREc", "PREd"],
        ["role", "grant-permission", "PREr", "write", "PREe", "--from-key"],
        ["role", "grant-permission", "PREr", "fly", "PREe"],
        *in_formats("role", "get", "PREr"),
        ["user", "grant-role", "PREu", "PREr"],
        ["user", "get", "PREu"],
        ["user", "get", "PREu", "--detail"],
        ["role", "revoke-permission", "PREr", "PREb", "--prefix"],
        ["role", "revoke-permission", "PREr", "PREa"],
        ["user", "revoke-role", "PREu", "PREr"],
        ["user", "get", "nobody"],
        ["role", "delete", "PREr"],
        ["user", "delete", "PREu"],
        ["user", "delete", "PREv"],
        ["user", "delete", "PREw"],
        ["user", "list"],
        ["role", "list"],
        ["auth", "enable"],
    )


def test_an_endpoint_that_is_gone(tmp_path: Path) -> None:
    port = etcd.free_ports(1)[0]
    for line in (["get", "x"], ["endpoint", "health"], ["endpoint", "status"]):
        words = ["--endpoints", f"127.0.0.1:{port}", "--command-timeout=300ms", "--dial-timeout=300ms", *line]
        real, ours = etcd.run(REAL, words), etcd.run(OURS, words)
        assert (ours.code, ours.stdout, said(ours.stderr)) == (real.code, real.stdout, said(real.stderr))


def test_the_environment_stands_in_for_flags(server: Member) -> None:
    for more, words in (
        ({"ETCDCTL_ENDPOINTS": server.url}, ["endpoint", "hashkv"]),
        ({"ETCDCTL_ENDPOINTS": server.url, "ETCDCTL_WRITE_OUT": "json"}, ["member", "list"]),
    ):
        real, ours = etcd.run(REAL, words, more=more), etcd.run(OURS, words, more=more)
        assert (ours.code, masked(ours.stdout)) == (real.code, masked(real.stdout))


def test_a_mirror_copies_and_follows(server: Member, tmp_path: Path) -> None:
    etcd.run(REAL, ["--endpoints", server.url, "put", "mirror/a", "1"])
    with etcd.serving(OURS, tmp_path / "copy", etcd.free_ports(2)) as copy:
        words = ["--endpoints", server.url, "make-mirror", "--prefix=mirror/", "--dest-prefix=copied/", copy.url]
        process = subprocess.Popen([*etcd.program(OURS, "etcdctl"), *words], env=etcd.environment())
        try:
            watching = ["--endpoints", copy.url, "watch", "copied/", "--prefix", "--rev=1"]
            assert _output_of_endless(REAL, watching, 3) == "PUT\ncopied/a\n1\n"
            etcd.run(REAL, ["--endpoints", server.url, "put", "mirror/b", "2"])
            assert _output_of_endless(REAL, watching, 6) == "PUT\ncopied/a\n1\nPUT\ncopied/b\n2\n"
        finally:
            process.terminate()
            process.wait(20)
