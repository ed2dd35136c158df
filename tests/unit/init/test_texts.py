"""What people read: the journal, the container log, the times and sizes of `systemctl status`."""

import datetime

import pytest

from kubette.init import catalog, cgroup, cri_log, journal_text, status_text
from kubette.init.unit_file import TIME_UNITS_S

RECORD = journal_text.Record(1_700_000_000_123_456, "b" * 32, "node01", "kubelet.service", "kubelet", 42, 6, "one\ntwo")


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("short", "Nov 14 22:13:20 node01 kubelet[42]: one\n" + " " * 36 + "two"),
        ("short-iso", "2023-11-14T22:13:20+0000 node01 kubelet[42]: one\n" + " " * 45 + "two"),
        ("cat", "one\ntwo"),
        ("with-unit", "Nov 14 22:13:20 node01 kubelet.service[42]: one\n" + " " * 44 + "two"),
    ],
)
def test_output_modes(mode: str, text: str) -> None:
    assert journal_text.render(RECORD, mode, datetime.UTC) == text


def test_records_survive_storage_and_carry_journald_field_names() -> None:
    import json

    assert journal_text.decode(json.loads(RECORD.encode())) == RECORD
    assert RECORD.fields()["_SYSTEMD_UNIT"] == "kubelet.service"
    assert journal_text.split_priority("<3>bad", 6) == (3, "bad")
    assert journal_text.decode(["torn"]) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("-5min", -300),
        ("1h 30min ago", -5400),
        ("now", 0),
        ("today", -3600),
        ("2023-11-14 00:30:00", -1800),
        ("@1699920000", -3600),
        ("00:15", -2700),
    ],
)
def test_times(text: str, seconds: int) -> None:
    now = datetime.datetime(2023, 11, 14, 1, tzinfo=datetime.UTC)
    assert journal_text.parse_time(text, now, TIME_UNITS_S) == int((now.timestamp() + seconds) * 1e6)


def test_nonsense_is_refused_in_journalctls_words() -> None:
    with pytest.raises(journal_text.TimeError, match="Failed to parse timestamp: soon"):
        journal_text.parse_time("soon", datetime.datetime.now(datetime.UTC), TIME_UNITS_S)
    with pytest.raises(ValueError, match="Unknown log level loud"):
        journal_text.parse_priority("loud")
    assert journal_text.parse_priority("err") == frozenset({0, 1, 2, 3})
    assert journal_text.parse_priority("warning..err") == frozenset({3, 4})


def test_container_log_lines() -> None:
    formatter = cri_log.LineFormatter("stdout")
    stamp = "2023-11-14T22:13:20.000000005Z"
    now = 1_700_000_000_000_000_005
    assert formatter.feed(b"a\n\nb", now) == f"{stamp} stdout F a\n{stamp} stdout F \n".encode()
    assert formatter.feed(b"c\n", now) == f"{stamp} stdout F bc\n".encode()
    long = formatter.feed(b"x" * 16384 + b"y" * 10 + b"\nrest", now).decode().splitlines()
    assert [line.split(" ")[2] for line in long] == ["P", "F"]
    assert [len(line.split(" ")[3]) for line in long] == [16384, 10]
    assert formatter.finish(now) == f"{stamp} stdout P rest\n".encode()
    assert formatter.finish(now) == b""


def test_a_container_that_never_ends_its_line_uses_no_more_than_a_part() -> None:
    formatter = cri_log.LineFormatter("stdout")
    for _ in range(10):
        formatter.feed(b"x" * 50_000, 0)
    assert len(formatter.finish(0)) <= 16384 + 50


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5s ago"), (64, "1min 4s ago"), (7380, "2h 3min ago"), (4 * 86400, "4 days ago"), (86400, "1 day ago"), (3600, "1h ago")],
)
def test_ago(seconds: float, text: str) -> None:
    assert status_text.format_ago(seconds) == text


def test_sizes_cpu_and_slices() -> None:
    assert [status_text.format_bytes(n) for n in (512, 933_888, 12_900_000)] == ["512B", "912.0K", "12.3M"]
    assert [status_text.format_cpu(int(s * 1e9)) for s in (0.056, 1.123, 123.5)] == ["56ms", "1.123s", "2min 3.500s"]
    assert cgroup.slice_path("kubepods-besteffort-pod1.slice") == "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice"


def test_the_catalog_explains_inits_messages_only() -> None:
    def explained(message: str, pid: int = 1) -> list[str]:
        return catalog.explain(journal_text.Record(0, "", "", "a.service", "systemd" if pid == 1 else "a", pid, 6, message))

    assert explained("Started a.service - An a.")[0] == "░░ Subject: A start job for unit a.service has finished successfully"
    assert "result 'exit-code'" in explained("a.service: Failed with result 'exit-code'.")[-1]
    assert explained("Started a.service - An a.", pid=7) == []
    assert explained("Something else") == []
