"""Unit files: syntax, command lines, specifiers, and what the settings come to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubette.init import manager, service_spec, unit_file


def parse(text: str) -> unit_file.UnitFile:
    return unit_file.parse(text, "x.service")


def test_continuations_comments_lists_and_resets() -> None:
    unit = parse("# c\n[Service]\nExecStart=/bin/a \\\n; a comment inside\n  --b\n[Unit]\nAfter=a.service\nAfter=b.service  a.service\n")
    assert unit.values("Service", "ExecStart") == ["/bin/a  --b"]
    assert unit.words("Unit", "After") == ["a.service", "b.service"]
    unit.extend(parse("[Service]\nExecStart=\nExecStart=/bin/c\n"))
    assert unit.values("Service", "ExecStart") == ["/bin/c"]


def test_what_makes_no_sense_is_a_warning() -> None:
    assert parse("A=b\n[Service]\nnonsense\n").warnings == [
        "x.service:1: Assignment outside of section. Ignoring.",
        "x.service:3: Missing '=', ignoring line.",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a 'b c' \"d e\"", ["a", "b c", "d e"]),
        (r"a\x20b \t \101 \.", ["a b", "\t", "A", r"\."]),
        ("''", [""]),
        ("x'y z'w", ["xy zw"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert unit_file.split_words(text) == words


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(unit_file.UnitFileError, match="unbalanced quoting"):
        unit_file.split_words("a 'b")


def test_prefixes_and_several_commands() -> None:
    first, second = unit_file.parse_exec("-/bin/a b ; @+/bin/c name d")
    assert (first.path, first.argv, first.ignore_failure, first.full_privileges) == ("/bin/a", ("/bin/a", "b"), True, False)
    assert (second.path, second.argv, second.full_privileges) == ("/bin/c", ("name", "d"), True)
    assert unit_file.parse_exec(r"/bin/a \; b")[0].argv == ("/bin/a", ";", "b")


def test_variables_expand_as_in_a_kubelet_unit() -> None:
    words = ["/usr/bin/kubelet", "$ARGS", "${A}/x", "$UNSET", "$$A", "a$A", "--v=${UNSET}"]
    expanded = unit_file.expand_environment(words, {"ARGS": "--config=/a --x='y z'", "A": "b"})
    assert expanded == ["/usr/bin/kubelet", "--config=/a", "--x=y z", "b/x", "$A", "a$A", "--v="]


def test_specifiers_of_an_instance() -> None:
    values = unit_file.name_specifiers("etcd-backup@var-lib.service")
    assert (
        unit_file.expand_specifiers("%n %N %p %i %I %j %% %q", values)
        == "etcd-backup@var-lib.service etcd-backup@var-lib etcd-backup var-lib var/lib backup % %q"
    )
    assert unit_file.template_of("a@b.service") == "a@.service"


@pytest.mark.parametrize(("text", "seconds"), [("5", 5), ("1min 30s", 90), ("500ms", 0.5), ("2h", 7200), ("infinity", unit_file.INFINITY)])
def test_time_spans(text: str, seconds: float) -> None:
    assert unit_file.parse_time_span(text) == seconds


def test_environment_files_are_read_as_a_shell_would() -> None:
    text = "# c\nKUBELET_KUBEADM_ARGS=\"--a=b --c='d'\"\nPLAIN=x y\nSINGLE='a\\b'\nnonsense\nLONG=a\\\nb\n"
    assert unit_file.parse_environment_file(text) == {"KUBELET_KUBEADM_ARGS": "--a=b --c='d'", "PLAIN": "x y", "SINGLE": "a\\b", "LONG": "ab"}


def test_service_settings() -> None:
    unit = parse(
        "[Service]\nType=notify\nExecStart=/bin/%p\nRestart=always\nRestartSec=10\nTimeoutSec=0\nKillSignal=SIGINT\nLimitNOFILE=1K:infinity\n"
        "SuccessExitStatus=7 SIGKILL\nPrivateTmp=yes\nUMask=0077\nPIDFile=x.pid\n"
    )
    spec = service_spec.service_spec(unit, unit_file.name_specifiers("web.service"))
    assert spec.commands["ExecStart"][0].path == "/bin/web"
    assert (spec.restart, spec.restart_s, spec.timeout_stop_s, spec.kill_signal) == ("always", 10, unit_file.INFINITY, 2)
    assert spec.limits == {"RLIMIT_NOFILE": (1024, -1)}
    assert ("exited", 7) in spec.success_exit
    assert ("killed", 9) in spec.success_exit
    assert ("exited", 9) not in spec.success_exit
    assert (spec.umask, spec.pid_file) == (0o077, "/run/x.pid")
    assert spec.warnings == ("x.service:10: Unknown key name 'PrivateTmp' in section 'Service', ignoring.",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Restart=always\n", "Service has no ExecStart="),
        ("Type=simple\nExecStart=/a\nExecStart=/b\n", "more than one ExecStart="),
        ("Type=oneshot\nExecStart=/a\nRestart=always\n", "isn't allowed for Type=oneshot"),
    ],
)
def test_units_that_cannot_run_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(unit_file.UnitFileError, match=complaint):
        service_spec.service_spec(parse("[Service]\n" + text), {})


def test_default_dependencies() -> None:
    spec = service_spec.unit_spec("a.service", parse("[Unit]\nAfter=b.service\n"))
    assert spec.of("After") == ("b.service", "sysinit.target", "basic.target")
    assert spec.of("Conflicts") == ("shutdown.target",)
    bare = service_spec.unit_spec("a.service", parse("[Unit]\nDefaultDependencies=no\n"))
    assert bare.of("After") == ()


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=5))
def test_a_transient_command_line_arrives_word_for_word(words: list[str]) -> None:
    """Whatever a container's arguments contain, quoting, parsing and expansion give them back."""
    argv = ["/bin/x", *words]
    unit = manager.transient_file({"Type": "exec", "ExecStart": argv, "Environment": ["A=b c"]})
    spec = service_spec.service_spec(unit, {"n": "SPECIFIER"})
    (command,) = spec.commands["ExecStart"]
    assert unit_file.expand_environment(command.argv, {"A": "EXPANDED"}) == argv
    assert spec.environment == (("A", "b c"),)
