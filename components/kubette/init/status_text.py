"""Pure: units as `systemctl` shows them: status, list-units, show. Properties in (`properties.details`), text out."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from kubette.init import unit_state

DOTS = {"active": "●", "reloading": "●", "activating": "●", "deactivating": "●", "failed": "×", "inactive": "○"}
COLORS = {"active": "32", "reloading": "32", "failed": "31"}
_TREE_WIDTH = 120


def format_bytes(count: int) -> str:
    """`912.0K`, `12.3M` as systemd writes sizes."""
    if count < 1024:
        return f"{count}B"
    size = float(count)
    for unit in "KMGT":
        size /= 1024
        if size < 1024 or unit == "T":
            return f"{int(size * 10) / 10:.1f}{unit}"
    raise AssertionError("unreachable")


def format_cpu(nanoseconds: int) -> str:
    """`56ms`, `1.123s`, `2min 3.500s`."""
    milliseconds = nanoseconds // 1_000_000
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest // 1000}.{rest % 1000:03d}s"
    return (f"{hours}h " if hours else "") + (f"{minutes}min " if minutes or hours else "") + text


_SPANS = ((365.25 * 86400, "y", "years"), (30.44 * 86400, "month", "months"), (7 * 86400, "w", "weeks"), (86400, "day", "days"))


def format_ago(seconds: float) -> str:
    """`5s ago`, `3min 4s ago`, `2h 3min ago`, `4 days ago` (systemd's format_timestamp_relative)."""
    s = max(0, int(seconds))
    for length, one, many in _SPANS:
        if s >= length:
            count = int(s / length)
            return f"{count}w ago" if one == "w" and count == 1 else f"{count} {one if count == 1 else many} ago"
    if s >= 3600:
        return f"{s // 3600}h {s % 3600 // 60}min ago" if s % 3600 >= 60 else f"{s // 3600}h ago"
    if s >= 60:
        return f"{s // 60}min {s % 60}s ago" if s % 60 else f"{s // 60}min ago"
    return f"{s}s ago"


def format_time(seconds: float, zone: datetime.tzinfo | None = None) -> str:
    """`Mon 2024-01-15 10:00:00 UTC`; `n/a` for never."""
    if not seconds:
        return "n/a"
    return datetime.datetime.fromtimestamp(int(seconds), zone).astimezone(zone).strftime("%a %Y-%m-%d %H:%M:%S %Z")


def _color(text: str, code: str, colored: bool) -> str:
    return f"\x1b[0;1;{code}m{text}\x1b[0m" if colored and code else text


def status(
    unit: Mapping[str, Any], logs: Sequence[str], now: float, zone: datetime.tzinfo | None = None, colored: bool = False, full: bool = False
) -> str:
    """`systemctl status` of one unit; `full` does not cut long command lines."""
    state = unit["ActiveState"]
    color = COLORS.get(state, "")
    title = unit["Id"] if unit["Description"] == unit["Id"] else f"{unit['Id']} - {unit['Description']}"
    lines = [f"{_color(DOTS[state], color, colored)} {title}", f"     Loaded: {_loaded(unit)}"]
    lines += _drop_ins(unit.get("DropInPaths") or [])
    lines.append(f"     Active: {_active(unit, now, zone, color, colored)}")
    if not unit["ConditionResult"] and state == "inactive":
        lines.append("  Condition: start condition failed")
    lines += [f"       Docs: {unit['Documentation'][0]}"] if unit["Documentation"] else []
    lines += [f"             {other}" for other in unit["Documentation"][1:]]
    if "MainPID" in unit:
        lines += _service_lines(unit, full)
    if logs:
        lines += ["", *logs]
    return "\n".join(lines)


def _loaded(unit: Mapping[str, Any]) -> str:
    state, path = unit["LoadState"], unit["FragmentPath"]
    if state == "not-found":
        return f"not-found (Reason: Unit {unit['Id']} not found.)"
    if state == "masked":
        return f"masked (Reason: Unit {unit['Id']} is masked.)"
    if state == "bad-setting":
        return f"bad-setting (Reason: Unit {unit['Id']} has a bad unit file setting.)"
    if unit["Transient"]:
        return "loaded (transient)"
    if not path:
        return f"{state} (built-in; static)" if unit["UnitFileState"] in ("static", "") else f"{state} (built-in; {unit['UnitFileState']})"
    file_state = unit["UnitFileState"]
    preset = f"; preset: {unit['UnitFilePreset']}" if file_state in ("enabled", "disabled") else ""
    return f"{state} ({path}{'; ' + file_state if file_state else ''}{preset})"


def _drop_ins(paths: Sequence[str]) -> list[str]:
    """Directories with their files as a small tree."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, []).append(name)
    lines = []
    for index, (folder, names) in enumerate(folders.items()):
        lines.append(("    Drop-In: " if index == 0 else "             ") + folder)
        lines.append("             └─" + ", ".join(names))
    return lines


def _active(unit: Mapping[str, Any], now: float, zone: datetime.tzinfo | None, color: str, colored: bool) -> str:
    state, sub = unit["ActiveState"], unit["SubState"]
    result = unit.get("Result", "success")
    inside = f" (Result: {result})" if state == "failed" or (state == "activating" and result != "success") else f" ({sub})"
    if state == "activating" and result != "success":
        inside = f" ({sub}) (Result: {result})"
    text = _color(state + (inside if state != "inactive" else " (dead)"), color, colored)
    since = {
        "active": unit["ActiveEnterTimestamp"],
        "reloading": unit["ActiveEnterTimestamp"],
        "inactive": unit["InactiveEnterTimestamp"],
        "failed": unit["InactiveEnterTimestamp"],
        "activating": unit["InactiveExitTimestamp"],
        "deactivating": unit["ActiveExitTimestamp"],
    }[state]
    return f"{text} since {format_time(since, zone)}; {format_ago(now - since)}" if since else text


def _service_lines(unit: Mapping[str, Any], full: bool) -> list[str]:
    lines: list[str] = []
    main, processes = unit["MainPID"], unit.get("Processes") or []
    commands = {entry["pid"]: entry["command"] for entry in processes}
    if main:
        lines.append(f"   Main PID: {main} ({_program(commands.get(main, ''))})")
    elif unit["ExecMainPID"] and unit["ExecMainCode"]:
        ending = unit_state.describe_status(unit["ExecMainCode"], unit["ExecMainStatus"])
        label = "status" if unit["ExecMainCode"] == "exited" else "signal"
        ending = ending if label == "status" else ending.partition("/")[2]
        lines.append(f"    Process: {unit['ExecMainPID']} {_exec_start(unit)} (code={unit['ExecMainCode']}, {label}={ending})")
        lines.append(f"   Main PID: {unit['ExecMainPID']} (code={unit['ExecMainCode']}, {label}={ending})")
    if unit["ControlPID"]:
        lines.append(f"Cntrl PID: {unit['ControlPID']} ({_program(commands.get(unit['ControlPID'], ''))})".rjust(12))
    if unit["StatusText"]:
        lines.append(f'     Status: "{unit["StatusText"]}"')
    if processes:
        lines.append(f"      Tasks: {unit['TasksCurrent']}")
        lines.append(f"     Memory: {format_bytes(unit['MemoryCurrent'])}")
        lines.append(f"        CPU: {format_cpu(unit['CPUUsageNSec'])}")
        lines.append(f"     CGroup: {unit['ControlGroup']}")
        width = max(len(str(entry["pid"])) for entry in processes)
        for index, entry in enumerate(processes):
            branch = "└─" if index == len(processes) - 1 else "├─"
            command = entry["command"]
            shown = command if full or len(command) <= _TREE_WIDTH else command[: _TREE_WIDTH - 1] + "…"
            lines.append(f"             {branch}{entry['pid']:>{width}} {shown}")
    return lines


def _program(command: str) -> str:
    return command.split(" ")[0].rpartition("/")[2][:15] if command else "n/a"


def _exec_start(unit: Mapping[str, Any]) -> str:
    commands = unit.get("ExecStart") or []
    return "ExecStart=" + " ".join(commands[0]["argv"]) if commands else ""


def table(rows: Sequence[Sequence[str]], headings: Sequence[str]) -> list[str]:
    """Columns, left-aligned, the last not padded."""
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    return [" ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [headings, *rows]]


def list_units(units: Sequence[Mapping[str, Any]], show_all: bool, legend: bool, plain: bool) -> str:
    """`systemctl list-units`."""
    rows = []
    for unit in units:
        bad = unit["ActiveState"] == "failed" or unit["LoadState"] not in ("loaded",)
        mark = "" if plain else ("● " if bad else "  ")
        rows.append((mark + unit["Id"], unit["LoadState"], unit["ActiveState"], unit["SubState"], unit["Description"]))
    headings = ("UNIT" if plain else "  UNIT", "LOAD", "ACTIVE", "SUB", "DESCRIPTION")
    lines = table(rows, headings)
    if not legend:
        return "\n".join(lines[1:])
    lines += [
        "",
        "LOAD   = Reflects whether the unit definition was properly loaded.",
        "ACTIVE = The high-level unit activation state, i.e. generalization of SUB.",
        "SUB    = The low-level unit activation state, values depend on unit type.",
        f"{len(rows)} loaded units listed."
        + (
            ""
            if show_all
            else " Pass --all to see loaded but inactive units, too.\nTo show all installed unit files use 'systemctl list-unit-files'."
        ),
    ]
    return "\n".join(lines)


def show(unit: Mapping[str, Any], wanted: Sequence[str], values_only: bool = False) -> str:
    """`systemctl show`: Key=value lines."""
    names = wanted or list(unit)
    lines = [(name, _value(name, unit[name])) for name in names if name in unit and name != "Processes"]
    return "\n".join(value if values_only else f"{name}={value}" for name, value in lines)


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("Timestamp"):
        return format_time(value) if value else ""
    if name == "ExecMainCode":
        return {"exited": "1", "killed": "2", "dumped": "3"}.get(value, "0")
    if name.startswith("Exec") and isinstance(value, list):
        return " ".join(
            f"{{ path={entry['path']} ; argv[]={' '.join(entry['argv'])} ; ignore_errors={'yes' if entry['ignore_errors'] else 'no'} }}"
            for entry in value
        )
    return " ".join(str(item) for item in value) if isinstance(value, list) else str(value)
