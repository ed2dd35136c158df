"""Pure: journal records as text: how they are stored, matched and shown (journalctl(1), `-o`)."""

import datetime
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PRIORITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
MESSAGE_BYTES_MAX = 48 * 1024  # journald's LineMax
OUTPUT_MODES = ("short", "short-iso", "short-iso-precise", "short-precise", "short-unix", "cat", "json", "json-pretty", "with-unit", "verbose")


class TimeError(ValueError):
    """A timestamp cannot be read; the text is journalctl's."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the journal."""

    time_us: int
    boot_id: str
    hostname: str
    unit: str
    identifier: str
    pid: int
    priority: int
    message: str

    def encode(self) -> bytes:
        """The stored form: a JSON array, one a line."""
        row = [self.time_us, self.boot_id, self.hostname, self.unit, self.identifier, self.pid, self.priority, self.message]
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"

    def fields(self) -> dict[str, str]:
        """journald's field names, as `-o json` shows them."""
        from_manager = self.pid == 1 and self.identifier == "systemd"
        fields = {
            "__REALTIME_TIMESTAMP": str(self.time_us),
            "_BOOT_ID": self.boot_id,
            "_HOSTNAME": self.hostname,
            "PRIORITY": str(self.priority),
            "SYSLOG_IDENTIFIER": self.identifier,
            "_PID": str(self.pid),
            "_TRANSPORT": "journal" if from_manager else "stdout",
            "MESSAGE": self.message,
        }
        if self.unit:
            fields["UNIT" if from_manager else "_SYSTEMD_UNIT"] = self.unit
        return fields


def decode(row: Any) -> Record | None:
    """The record of a stored row; None for one torn by a crash."""
    if not isinstance(row, list) or len(row) != 8:
        return None
    return Record(*row)


_PREFIX = re.compile(r"<([0-7])>")


def split_priority(line: str, default: int) -> tuple[int, str]:
    """sd-daemon(3): a line may begin with its priority, `<3>`."""
    match = _PREFIX.match(line)
    return (int(match[1]), line[match.end() :]) if match else (default, line)


@dataclass(frozen=True, slots=True)
class Filter:
    """What is wanted; an empty field accepts all."""

    units: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    boot_id: str = ""
    since_us: int = 0
    until_us: int = 0
    priorities: frozenset[int] = frozenset()
    pattern: re.Pattern[str] | None = None
    fields: tuple[tuple[str, str], ...] = ()

    def accepts(self, record: Record) -> bool:
        return (
            (not self.units or record.unit in self.units)
            and (not self.identifiers or record.identifier in self.identifiers)
            and (not self.boot_id or record.boot_id == self.boot_id)
            and (not self.since_us or record.time_us >= self.since_us)
            and (not self.until_us or record.time_us <= self.until_us)
            and (not self.priorities or record.priority in self.priorities)
            and (self.pattern is None or self.pattern.search(record.message) is not None)
            and all(record.fields().get(name) == value for name, value in self.fields)
        )


def render(record: Record, mode: str, zone: datetime.tzinfo | None = None) -> str:
    """One record in an output mode, without the final newline."""
    if mode == "cat":
        return record.message
    if mode == "json":
        return json.dumps(record.fields(), ensure_ascii=False)
    if mode == "json-pretty":
        return json.dumps(record.fields(), ensure_ascii=False, indent="\t")
    if mode == "verbose":
        when = _moment(record, zone).strftime("%a %Y-%m-%d %H:%M:%S.%f %Z")
        return "\n".join([when, *(f"    {name}={value}" for name, value in sorted(record.fields().items()) if not name.startswith("__"))])
    name = record.unit if mode == "with-unit" and record.unit else record.identifier
    head = f"{stamp(record, mode, zone)} {record.hostname} {name}[{record.pid}]: "
    # Further lines of a message are indented to its beginning, as journalctl does.
    return head + record.message.replace("\n", "\n" + " " * len(head))


def _moment(record: Record, zone: datetime.tzinfo | None) -> datetime.datetime:
    seconds, microseconds = divmod(record.time_us, 1_000_000)
    return datetime.datetime.fromtimestamp(seconds, zone).astimezone(zone).replace(microsecond=microseconds)


def stamp(record: Record, mode: str, zone: datetime.tzinfo | None = None) -> str:
    """The time as the output mode writes it."""
    moment = _moment(record, zone)
    if mode == "short-iso":
        return moment.strftime("%Y-%m-%dT%H:%M:%S%z")
    if mode == "short-iso-precise":
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%f%z")
    if mode == "short-precise":
        return moment.strftime("%b %d %H:%M:%S.%f")
    if mode == "short-unix":
        return f"{record.time_us // 1_000_000}.{record.time_us % 1_000_000:06d}"
    return moment.strftime("%b %d %H:%M:%S")


def parse_priority(text: str) -> frozenset[int]:
    """`err` or `3` means that and all worse; `warning..err` a range. Raises ValueError with journalctl's words."""
    low, dots, high = text.partition("..")
    try:
        levels = [
            int(word) if word.isdigit() else PRIORITIES.index({"error": "err", "warn": "warning"}.get(word, word)) for word in (low, high or low)
        ]
    except ValueError:
        raise ValueError(f"Unknown log level {text}") from None
    if max(levels) > 7:
        raise ValueError(f"Unknown log level {text}")
    return frozenset(range(min(levels), max(levels) + 1)) if dots else frozenset(range(levels[0] + 1))


_RELATIVE = re.compile(r"(?P<sign>[-+])?(?P<span>.*?)(?P<ago>\s+ago)?$")


def parse_time(text: str, now: datetime.datetime, spans: Mapping[str, float]) -> int:
    """A timestamp of systemd.time(7) in microseconds: `2012-10-30 18:17:16`, `18:17`, `today`, `-5min`, `1h ago`, `@1395716396`. Raises TimeError."""
    body = text.strip()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    words = {"now": now, "today": midnight, "yesterday": midnight - datetime.timedelta(days=1), "tomorrow": midnight + datetime.timedelta(days=1)}
    if body in words:
        return int(words[body].timestamp() * 1e6)
    if re.fullmatch(r"@\d+(\.\d+)?", body):
        return int(float(body[1:]) * 1e6)
    for form in ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%H:%M:%S", "%H:%M"):
        try:
            moment = datetime.datetime.strptime(body, form)
        except ValueError:
            continue
        if "%Y" not in form:
            moment = moment.replace(year=now.year, month=now.month, day=now.day)
        return int(moment.replace(tzinfo=now.tzinfo).timestamp() * 1e6)
    match = _RELATIVE.fullmatch(body)
    if match and (match["sign"] or match["ago"]):
        seconds = _span(match["span"], spans)
        if seconds is not None:
            return int((now.timestamp() + (seconds if match["sign"] == "+" and not match["ago"] else -seconds)) * 1e6)
    raise TimeError(f"Failed to parse timestamp: {text}")


def _span(text: str, spans: Mapping[str, float]) -> float | None:
    if not re.fullmatch(r"(\s*\d+(\.\d*)?\s*[a-z]*)+", text):
        return None
    total = 0.0
    for number, unit in re.findall(r"(\d+(?:\.\d*)?)\s*([a-z]*)", text):
        if unit not in spans:
            return None
        total += float(number) * spans[unit]
    return total


def list_boots(boots: Iterable[tuple[str, int, int]], zone: datetime.tzinfo | None = None) -> list[str]:
    """`--list-boots` from (boot id, first, last), oldest first; the last boot is number 0."""
    rows = list(boots)
    lines = [f"{'IDX':>3} {'BOOT ID':<32} {'FIRST ENTRY':<27} LAST ENTRY"] if rows else []
    for index, (boot_id, first_us, last_us) in enumerate(rows, 1 - len(rows)):
        times = [
            datetime.datetime.fromtimestamp(us // 1_000_000, zone).astimezone(zone).strftime("%a %Y-%m-%d %H:%M:%S %Z") for us in (first_us, last_us)
        ]
        lines.append(f"{index:>3} {boot_id} {times[0]:<27} {times[1]}")
    return lines
