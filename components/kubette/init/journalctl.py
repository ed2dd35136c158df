"""`journalctl`: reads the journal's files, and follows them by inotify (journalctl(1))."""

import ctypes
import dataclasses
import datetime
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from kubette.init import catalog, journal, journal_text, systemctl, unit_file
from kubette.init.journal_text import Filter, Record

_DEFAULT_FOLLOW_LINES = 10
# name → (takes a value, attribute); a value written `?` is optional and must be attached or follow as a word that is not an option.
_OPTIONS = {
    "-u": ("value", "unit"), "--unit": ("value", "unit"), "-t": ("value", "identifier"), "--identifier": ("value", "identifier"),
    "-f": ("", "follow"), "--follow": ("", "follow"), "-n": ("?", "lines"), "--lines": ("?", "lines"), "-b": ("?", "boot"), "--boot": ("?", "boot"),
    "-S": ("value", "since"), "--since": ("value", "since"), "-U": ("value", "until"), "--until": ("value", "until"), "-o": ("value", "output"), "--output": ("value", "output"),
    "-p": ("value", "priority"), "--priority": ("value", "priority"), "-g": ("value", "grep"), "--grep": ("value", "grep"), "-r": ("", "reverse"), "--reverse": ("", "reverse"),
    "-e": ("", "end"), "--pager-end": ("", "end"), "-x": ("", "catalog"), "--catalog": ("", "catalog"), "-a": ("", "all"), "--all": ("", "all"), "-q": ("", "quiet"), "--quiet": ("", "quiet"),
    "--no-pager": ("", "no_pager"), "--no-tail": ("", "no_tail"), "--no-hostname": ("", "no_hostname"), "--utc": ("", "utc"), "--list-boots": ("", "list_boots"), "--disk-usage": ("", "disk_usage"),
    "-D": ("value", "directory"), "--directory": ("value", "directory"), "-k": ("", "dmesg"), "--dmesg": ("", "dmesg"), "-l": ("", "full"), "--full": ("", "full"),
}  # fmt: skip


class UsageError(Exception):
    """The text is journalctl's."""


def parse_options(argv: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Options by attribute, and FIELD=value matches. Short options may be bundled (`-xeu kubelet`). Raises UsageError."""
    found: dict[str, list[str]] = {}
    matches: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, has_value, value = word.partition("=")
        elif word.startswith("-") and len(word) > 1:
            name, value = word[:2], word[2:]
            has_value = "=" if value else ""
            if value and name in _OPTIONS and not _OPTIONS[name][0]:
                rest.insert(0, "-" + value)
                has_value = value = ""
        else:
            matches.append(word)
            continue
        if name not in _OPTIONS:
            raise UsageError(f"journalctl: unrecognized option '{name}'" if word.startswith("--") else f"journalctl: invalid option -- '{name[1:]}'")
        kind, attribute = _OPTIONS[name]
        if kind == "value" and not has_value:
            if not rest:
                raise UsageError(
                    f"journalctl: option '{name}' requires an argument"
                    if word.startswith("--")
                    else f"journalctl: option requires an argument -- '{name[1:]}'"
                )
            value = rest.pop(0)
        elif kind == "?" and not has_value and rest and re.fullmatch(r"-?\d+|all|[0-9a-f]{32}", rest[0]):
            value = rest.pop(0)
        elif not kind and has_value:
            raise UsageError(f"journalctl: option '{name}' doesn't allow an argument")
        found.setdefault(attribute, []).append(value)
    return found, matches


def main(argv: Sequence[str] | None = None) -> int:
    """Show what is asked for; answers the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if "--version" in words:
        print("systemd 252 (kubette-init)")
        return 0
    if "--help" in words or "-h" in words:
        print("journalctl [OPTIONS...] [MATCHES...]\n\nOptions: " + " ".join(sorted(_OPTIONS)))
        return 0
    try:
        options, matches = parse_options(words)
        return _run(options, matches)
    except (UsageError, journal_text.TimeError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _run(options: dict[str, list[str]], matches: list[str]) -> int:
    directory = options.get("directory", [journal.DIRECTORY])[-1]
    zone = datetime.UTC if "utc" in options else None
    if "dmesg" in options:
        raise UsageError("journalctl: a machine has no kernel log of its own: its kernel is the host's (run dmesg there)")
    mode = options.get("output", ["short"])[-1]
    if mode not in journal_text.OUTPUT_MODES:
        raise UsageError(f"Unknown output format '{mode}'.")
    if "list_boots" in options:
        print("\n".join(journal_text.list_boots(journal.boots(directory), zone)))
        return 0
    if "disk_usage" in options:
        size = sum(path.stat().st_size for path in journal.files(directory))
        from kubette.init import status_text

        print(f"Archived and active journals take up {status_text.format_bytes(size)} in the file system.")
        return 0
    accept = _filter(options, matches, directory)
    follow = "follow" in options
    count = _count(options, follow)
    follower = Follower(directory) if follow else None
    records = list(journal.read(accept, directory)) if count is None else journal.tail(accept, count, directory)
    if "reverse" in options:
        records.reverse()
    if not records and not follow:
        if "quiet" not in options:
            print("-- No entries --")
        return 0
    look = Look(mode, zone, "no_hostname" in options, "catalog" in options)
    lines = _lines(records, look)
    if not follow and "no_pager" not in options and sys.stdout.isatty() and shutil.which("less"):
        return _page(lines, to_end="end" in options)
    for line in lines:
        print(line)
    if follower is not None:
        sys.stdout.flush()
        last = records[-1] if records else None
        for line in _lines(follower.records(accept, last), look):
            print(line, flush=True)
    return 0


def _count(options: dict[str, list[str]], follow: bool) -> int | None:
    """How many lines; None for all."""
    if "lines" in options:
        text = options["lines"][-1] or str(_DEFAULT_FOLLOW_LINES)
        if text == "all":
            return None
        if not text.isdigit():
            raise UsageError(f"Failed to parse lines '{text}'")
        return int(text)
    if follow and "no_tail" not in options:
        return _DEFAULT_FOLLOW_LINES
    return 1000 if "end" in options else None


def _filter(options: dict[str, list[str]], matches: list[str], directory: str) -> Filter:
    now = datetime.datetime.now().astimezone()
    spans = unit_file.TIME_UNITS_S
    fields = []
    for match in matches:
        name, equals, value = match.partition("=")
        if not equals:
            raise UsageError(f"Failed to add match '{match}': Invalid argument")
        fields.append((name, value))
    try:
        priorities = journal_text.parse_priority(options["priority"][-1]) if "priority" in options else frozenset[int]()
        pattern = re.compile(options["grep"][-1], re.IGNORECASE if options["grep"][-1].islower() else 0) if "grep" in options else None
    except (ValueError, re.error) as error:
        raise UsageError(str(error)) from None
    return Filter(
        units=tuple(systemctl.mangle(name) for name in options.get("unit", [])),
        identifiers=tuple(options.get("identifier", [])),
        boot_id=_boot(options["boot"][-1], directory) if "boot" in options else "",
        since_us=journal_text.parse_time(options["since"][-1], now, spans) if "since" in options else 0,
        until_us=journal_text.parse_time(options["until"][-1], now, spans) if "until" in options else 0,
        priorities=priorities,
        pattern=pattern,
        fields=tuple(fields),
    )


def _boot(text: str, directory: str) -> str:
    """`0` the current boot, `-1` the one before, `1` the first, or an id."""
    boots = [boot_id for boot_id, _, _ in journal.boots(directory)]
    if re.fullmatch(r"[0-9a-f]{32}", text):
        return text
    offset = int(text or 0) if re.fullmatch(r"[-+]?\d*", text) else None
    if offset is None:
        raise UsageError(f"Failed to parse boot descriptor '{text}'")
    index = offset - 1 if offset > 0 else len(boots) - 1 + offset
    if not 0 <= index < len(boots):
        raise UsageError(f"Data from the specified boot ({offset:+d}) is not available: No such boot ID in journal")
    return boots[index]


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """How records are shown."""

    mode: str
    zone: datetime.tzinfo | None
    no_hostname: bool
    catalog: bool


def _lines(records: Iterable[Record], look: Look) -> Iterable[str]:
    """Rendered records; a new boot is marked as journalctl does."""
    previous = ""
    for record in records:
        if previous and record.boot_id != previous and look.mode.startswith("short"):
            yield f"-- Boot {record.boot_id} --"
        previous = record.boot_id
        text = journal_text.render(record, look.mode, look.zone)
        yield text.replace(f" {record.hostname} ", " ", 1) if look.no_hostname else text
        if look.catalog and look.mode.startswith(("short", "with-unit", "verbose")):
            yield from catalog.explain(record)


def _page(lines: Iterable[str], to_end: bool) -> int:
    pager = subprocess.Popen(["less", "-FRSXMK", *(["+G"] if to_end else [])], stdin=subprocess.PIPE, text=True)
    assert pager.stdin is not None
    try:
        for line in lines:
            pager.stdin.write(line + "\n")
        pager.stdin.close()
    except BrokenPipeError:
        pass  # the reader has seen enough
    return pager.wait()


_IN_MODIFY, _IN_CREATE, _IN_MOVED_FROM, _IN_MOVED_TO = 0x2, 0x100, 0x40, 0x80


class Follower:
    """New records as they are written: inotify on the journal's directory, made before the first reading so that nothing is missed."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        Path(directory).mkdir(parents=True, exist_ok=True)
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_CLOEXEC)
        watch = libc.inotify_add_watch(self._fd, os.fsencode(directory), _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO | _IN_MOVED_FROM)
        if self._fd < 0 or watch < 0:
            raise UsageError(f"Failed to watch {directory}: {os.strerror(ctypes.get_errno())}")

    def records(self, accept: Filter, last: Record | None) -> Iterable[Record]:
        """For ever: the wanted records after `last`."""
        since_us = last.time_us if last is not None else 0
        # Records of the same microsecond as the last one shown are told apart by equality.
        shown = {last} if last is not None else set[Record]()
        tail = _Tail(self._directory)
        fresh = dataclasses.replace(accept, since_us=max(accept.since_us, since_us))
        yield from (record for record in tail.initial(fresh) if record not in shown)
        while True:
            self._wait()
            yield from tail.more(accept)

    def _wait(self) -> None:
        data = os.read(self._fd, 64 * 1024)
        assert len(data) >= struct.calcsize("iIII")


class _Tail:
    """Reads on in the active file, across its rotation."""

    def __init__(self, directory: str) -> None:
        self._path = Path(directory, "system.jsonl")
        self._file = open(self._path, "rb") if self._path.exists() else None  # noqa: SIM115 (kept open)
        self._pending = b""

    def initial(self, accept: Filter) -> Iterable[Record]:
        return self._read(accept)

    def more(self, accept: Filter) -> Iterable[Record]:
        if self._file is not None:
            yield from self._read(accept)
        try:
            changed = self._file is None or os.fstat(self._file.fileno()).st_ino != self._path.stat().st_ino
        except OSError:
            return
        if changed:
            if self._file is not None:
                self._file.close()
            self._file, self._pending = open(self._path, "rb"), b""  # noqa: SIM115 (kept open)
            yield from self._read(accept)

    def _read(self, accept: Filter) -> Iterable[Record]:
        import orjson

        if self._file is None:
            return
        *lines, self._pending = (self._pending + self._file.read()).split(b"\n")
        for line in lines:
            try:
                record = journal_text.decode(orjson.loads(line)) if line else None
            except ValueError:
                continue
            if record is not None and accept.accepts(record):
                yield record


if __name__ == "__main__":
    sys.exit(main())
