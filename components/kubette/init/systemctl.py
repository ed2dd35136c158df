"""`systemctl`: asks init over its control socket, and prints as systemd's does (systemctl(1)).

Exit codes: 0; 1 a request failed; 3 a unit is not active (`status`, `is-active`); 4 there is no such unit; 5 it is not loaded (`stop`).
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from kubette.init import status_text
from kubette.init.bus import Bus, BusError, NotBooted
from kubette.stdx.clock import SYSTEM_CLOCK

_SUFFIXES = (".service", ".target", ".scope", ".slice", ".socket", ".timer", ".mount", ".path", ".device", ".swap", ".automount")
_NO_INSTALL = """The unit files have no installation config (WantedBy=, RequiredBy=, Also=,
Alias= settings in the [Install] section, and DefaultInstance= for template
units). This means they are not meant to be enabled or disabled using systemctl.

Possible reasons for having this kind of units are:
• A unit may be statically enabled by being symlinked from another unit's
  .wants/ or .requires/ directory.
• A unit's purpose may be to act as a helper for some other unit which has
  a requirement dependency on it.
• A unit may be started when needed via activation (socket, path, timer,
  D-Bus, udev, scripted systemctl call, ...).
• In case of template units, the unit is meant to be enabled with some
  instance name specified."""
# Options: name → (takes a value, attribute).
_OPTIONS = {
    "--now": (False, "now"),
    "--all": (False, "all"),
    "-a": (False, "all"),
    "--failed": (False, "failed"),
    "--quiet": (False, "quiet"),
    "-q": (False, "quiet"),
    "--no-pager": (False, "no_pager"),
    "--no-legend": (False, "no_legend"),
    "--plain": (False, "plain"),
    "--no-block": (False, "no_block"),
    "--full": (False, "full"),
    "-l": (False, "full"),
    "--value": (False, "value"),
    "--system": (False, "system"),
    "--type": (True, "type"),
    "-t": (True, "type"),
    "--state": (True, "state"),
    "--property": (True, "property"),
    "-p": (True, "property"),
    "--signal": (True, "signal"),
    "-s": (True, "signal"),
    "--kill-whom": (True, "whom"),
    "--kill-who": (True, "whom"),
    "--lines": (True, "lines"),
    "-n": (True, "lines"),
}
_LOG_LINES = 10


class UsageError(Exception):
    pass


class Options:
    """The command line."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.words: list[str] = []
        self.values: dict[str, list[str]] = {}
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            if word == "--":
                self.words.extend(rest)
                return
            if not word.startswith("-") or word == "-":
                self.words.append(word)
                continue
            name, equals, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:3], word[2:])
            if name not in _OPTIONS:
                raise UsageError(f"systemctl: {'unrecognized option ' + repr(name) if word.startswith('--') else f'invalid option -- {name[1:]!r}'}")
            takes_value, attribute = _OPTIONS[name]
            if takes_value and not equals:
                if not rest:
                    raise UsageError(f"systemctl: option '{name}' requires an argument")
                value = rest.pop(0)
            elif not takes_value and equals:
                if word.startswith("--"):
                    raise UsageError(f"systemctl: option '{name}' doesn't allow an argument")
                rest.insert(0, "-" + word[2:])
            self.values.setdefault(attribute, []).append(value)

    def has(self, name: str) -> bool:
        return name in self.values

    def list(self, name: str) -> list[str]:
        """The values of an option that takes a comma-separated list."""
        return [part for value in self.values.get(name, []) for part in value.split(",") if part]

    def last(self, name: str, default: str = "") -> str:
        return self.values.get(name, [default])[-1]


def mangle(name: str) -> str:
    """`kubelet` means kubelet.service."""
    return name if name.endswith(_SUFFIXES) or any(mark in name for mark in "*?[") else name + ".service"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; answers the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if "--version" in words:
        print("systemd 252 (kubette-init)")
        return 0
    if "--help" in words or "-h" in words:
        print("systemctl [OPTIONS...] COMMAND ...\n\nCommands: " + " ".join(sorted(COMMANDS)))
        return 0
    try:
        options = Options(words)
        command, names = (options.words[0], options.words[1:]) if options.words else ("list-units", [])
        if command not in COMMANDS:
            raise UsageError(f"Unknown command verb {command}.")
        return COMMANDS[command](Bus(), names, options)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 1
    except NotBooted:
        print("System has not been booted with systemd as init system (PID 1). Can't operate.", file=sys.stderr)
        print("Failed to connect to bus: Host is down", file=sys.stderr)
        return 1
    except BusError as error:
        print(error.message, file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _need(names: Sequence[str]) -> list[str]:
    if not names:
        raise UsageError("Too few arguments.")
    return [mangle(name) for name in names]


def _warn_changed(name: str) -> None:
    print(
        f"Warning: The unit file, source configuration file or drop-ins of {name} changed on disk. Run 'systemctl daemon-reload' to reload units.",
        file=sys.stderr,
    )


def _expand(bus: Bus, names: Sequence[str]) -> list[str]:
    """Patterns stand for the loaded units they match."""
    found: list[str] = []
    for name in names:
        found.extend([unit["Id"] for unit in bus.call("ListUnits", patterns=[name])] if any(mark in name for mark in "*?[") else [name])
    return found


def _job(method: str, verb: str) -> Callable[[Bus, list[str], Options], int]:
    """start, stop, restart, …: one job a unit, in the order given."""

    def run(bus: Bus, names: list[str], options: Options) -> int:
        code = 0
        for name in _expand(bus, _need(names)):
            if verb != "stop" and bus.call("GetUnit", name=name)["NeedDaemonReload"]:
                _warn_changed(name)
            try:
                bus.call(method, name=name, wait=not options.has("no_block"))
            except BusError as error:
                if error.name in ("JobFailed", "JobTimeout", "JobCanceled", "JobDependency"):
                    text = error.message
                else:
                    text = f"Failed to {verb} {name}: {error.message}"
                print(text, file=sys.stderr)
                code = 5 if error.name == "NoSuchUnit" else 1
        return code

    return run


def _print_changes(changes: Sequence[Sequence[str]], quiet: bool) -> None:
    for kind, path, target in changes:
        if not quiet:
            print(f"Created symlink {path} → {target}." if kind == "symlink" else f"Removed {path}.", file=sys.stderr)


def _enable(bus: Bus, names: list[str], options: Options) -> int:
    units = _need(names)
    result = bus.call("EnableUnitFiles", names=units)
    _print_changes(result["changes"], options.has("quiet"))
    if not result["carriesInstallInfo"]:
        print(_NO_INSTALL, file=sys.stderr)
    return _job("StartUnit", "start")(bus, units, options) if options.has("now") else 0


def _disable(bus: Bus, names: list[str], options: Options) -> int:
    units = _need(names)
    _print_changes(bus.call("DisableUnitFiles", names=units)["changes"], options.has("quiet"))
    return _job("StopUnit", "stop")(bus, units, options) if options.has("now") else 0


def _mask(bus: Bus, names: list[str], options: Options) -> int:
    units = _need(names)
    _print_changes(bus.call("MaskUnitFiles", names=units)["changes"], options.has("quiet"))
    return _job("StopUnit", "stop")(bus, units, options) if options.has("now") else 0


def _unmask(bus: Bus, names: list[str], options: Options) -> int:
    _print_changes(bus.call("UnmaskUnitFiles", names=_need(names))["changes"], options.has("quiet"))
    return 0


def _is_state(accepted: tuple[str, ...]) -> Callable[[Bus, list[str], Options], int]:
    """is-active, is-failed: the states, and 0 if one of them is wanted."""

    def run(bus: Bus, names: list[str], options: Options) -> int:
        found = False
        known = False
        for name in _expand(bus, _need(names)):
            unit = bus.call("GetUnit", name=name)
            known = known or unit["LoadState"] != "not-found"
            found = found or unit["ActiveState"] in accepted
            if not options.has("quiet"):
                print(unit["ActiveState"])
        if found:
            return 0
        if "failed" in accepted:
            return 1
        return 3 if known else 4

    return run


def _is_enabled(bus: Bus, names: list[str], options: Options) -> int:
    code = 1
    for name in _need(names):
        state = bus.call("GetUnit", name=name)["UnitFileState"]
        if not state:
            print(f"Failed to get unit file state for {name}: No such file or directory", file=sys.stderr)
            continue
        if not options.has("quiet"):
            print(state)
        if state in ("enabled", "enabled-runtime", "static", "alias", "indirect", "generated", "transient"):
            code = 0
    return code


def _log_lines(unit: dict[str, Any], count: int) -> list[str]:
    from kubette.init import journal, journal_text

    if unit["LoadState"] == "not-found" or not count:
        return []
    boots = journal.tail(journal_text.Filter(), 1)
    wanted = journal_text.Filter(units=(unit["Id"],), boot_id=boots[-1].boot_id if boots else "")
    return [journal_text.render(record, "short") for record in journal.tail(wanted, count)]


def _status(bus: Bus, names: list[str], options: Options) -> int:
    if not names:
        return _machine_status(bus)
    code = 0
    lines = int(options.last("lines", str(_LOG_LINES)))
    shown = 0
    for name in _expand(bus, [_name_of(bus, name) for name in names]):
        unit = bus.call("GetUnit", name=name)
        if unit["LoadState"] == "not-found" and unit["ActiveState"] == "inactive":
            print(f"Unit {name} could not be found.", file=sys.stderr)
            code = code or 4
            continue
        if shown:
            print()
        shown += 1
        if unit["NeedDaemonReload"]:
            _warn_changed(name)
        print(status_text.status(unit, _log_lines(unit, lines), SYSTEM_CLOCK.wall(), colored=sys.stdout.isatty(), full=options.has("full")))
        if unit["ActiveState"] not in ("active", "reloading"):
            code = code or 3
    return code


def _name_of(bus: Bus, name: str) -> str:
    """`systemctl status PID` is the unit of that process."""
    if name.isdigit():
        unit: str = bus.call("GetUnitByPID", pid=int(name))["Id"]
        return unit
    return mangle(name)


def _machine_status(bus: Bus) -> int:
    state = bus.call("GetSystemState")
    units = bus.call("ListUnits")
    print(f"● {os.uname().nodename}\n    State: {state['SystemState']}\n    Units: {len(units)} loaded\n   Failed: {state['NFailedUnits']} units")
    for unit in units:
        if unit.get("MainPID"):
            print(f"           ├─{unit['Id']}\n           │ └─{unit['MainPID']}")
    return 0


def _cat(bus: Bus, names: list[str], options: Options) -> int:
    code = 0
    for index, name in enumerate(_need(names)):
        unit = bus.call("GetUnit", name=name)
        paths = [path for path in (unit["FragmentPath"], *unit["DropInPaths"]) if path]
        if not paths:
            print(f"No files found for {name}.", file=sys.stderr)
            code = 1
            continue
        if unit["NeedDaemonReload"]:
            _warn_changed(name)
        for position, path in enumerate(paths):
            try:
                with open(path) as file:
                    content = file.read()
            except OSError as error:
                print(f"Failed to cat {path}: {error.strerror}", file=sys.stderr)
                code = 1
                continue
            if index or position:
                print()
            print(f"# {path}\n{content}", end="" if content.endswith("\n") else "\n")
    return code


def _show(bus: Bus, names: list[str], options: Options) -> int:
    wanted = options.list("property")
    for index, name in enumerate(_need(names) if names else ["default.target"]):
        if index:
            print()
        print(status_text.show(bus.call("GetUnit", name=name), wanted, options.has("value")))
    return 0


def _list_units(bus: Bus, names: list[str], options: Options) -> int:
    units = bus.call("ListUnits", patterns=[mangle(name) if "." in name else name for name in names] or None)
    kinds, states = options.list("type"), options.list("state")
    if options.has("failed"):
        states.append("failed")
    if kinds:
        units = [unit for unit in units if unit["Id"].rpartition(".")[2] in kinds]
    if states:
        units = [unit for unit in units if {unit["ActiveState"], unit["SubState"], unit["LoadState"]} & set(states)]
    elif not options.has("all") and not names:
        units = [unit for unit in units if unit["ActiveState"] != "inactive"]
    print(status_text.list_units(units, options.has("all"), not options.has("no_legend"), options.has("plain")))
    return 0


def _list_unit_files(bus: Bus, names: list[str], options: Options) -> int:
    files, kinds, states = bus.call("ListUnitFiles"), options.list("type"), options.list("state")
    import fnmatch

    patterns = [mangle(name) for name in names] or ["*"]
    rows = [
        (file["name"], file["state"], "enabled" if file["state"] in ("enabled", "disabled") else "-")
        for file in files
        if (not kinds or file["name"].rpartition(".")[2] in kinds)
        and (not states or file["state"] in states)
        and any(fnmatch.fnmatchcase(file["name"], pattern) for pattern in patterns)
    ]
    lines = status_text.table(rows, ("UNIT FILE", "STATE", "PRESET"))
    print("\n".join(lines[1:] if options.has("no_legend") else [*lines, "", f"{len(rows)} unit files listed."]))
    return 0


def _daemon_reload(bus: Bus, names: list[str], options: Options) -> int:
    bus.call("Reload")
    return 0


def _reset_failed(bus: Bus, names: list[str], options: Options) -> int:
    code = 0
    if not names:
        bus.call("ResetFailedUnit")
    for name in [mangle(name) for name in names]:
        try:
            bus.call("ResetFailedUnit", name=name)
        except BusError as error:
            print(f"Failed to reset failed state of unit {name}: {error.message}", file=sys.stderr)
            code = 1
    return code


def _kill(bus: Bus, names: list[str], options: Options) -> int:
    code = 0
    for name in _need(names):
        try:
            bus.call("KillUnit", name=name, whom=options.last("whom", "all"), signal=options.last("signal", "SIGTERM"))
        except BusError as error:
            print(f"Failed to kill unit {name}: {error.message}", file=sys.stderr)
            code = 1
    return code


def _edit(bus: Bus, names: list[str], options: Options) -> int:
    """Opens the drop-in override.conf (or, with --full, a copy of the unit) in an editor, then reloads."""
    import shutil
    from pathlib import Path

    editor = next(
        (
            e
            for e in (os.environ.get("SYSTEMD_EDITOR"), os.environ.get("EDITOR"), os.environ.get("VISUAL"), "editor", "nano", "vim", "vi")
            if e and shutil.which(e.split()[0])
        ),
        "",
    )
    if not editor:
        print(
            "Cannot edit units: No editor available. Please set either $SYSTEMD_EDITOR, $EDITOR or $VISUAL.",
            file=sys.stderr,
        )
        return 1
    for name in _need(names):
        unit = bus.call("GetUnit", name=name)
        if unit["LoadState"] == "not-found":
            print(f"No files found for {name}.", file=sys.stderr)
            return 1
        full = options.has("full")
        path = Path("/etc/systemd/system", name if full else f"{name}.d/override.conf")
        path.parent.mkdir(parents=True, exist_ok=True)
        if full and not path.exists() and unit["FragmentPath"]:
            shutil.copyfile(unit["FragmentPath"], path)
        if subprocess.run([*editor.split(), str(path)], check=False).returncode != 0:
            print(f"Editing {path} failed, keeping what is there.", file=sys.stderr)
            return 1
    bus.call("Reload")
    return 0


def _is_system_running(bus: Bus, names: list[str], options: Options) -> int:
    state = bus.call("GetSystemState")["SystemState"]
    if not options.has("quiet"):
        print(state)
    return 0 if state == "running" else 1


def _get_default(bus: Bus, names: list[str], options: Options) -> int:
    default = bus.call("GetSystemState")["Default"]
    print("multi-user.target" if default == "default.target" else default)
    return 0


def _set_default(bus: Bus, names: list[str], options: Options) -> int:
    """Link default.target to another target."""
    if len(names) != 1:
        raise UsageError("Too few arguments." if not names else "Too many arguments.")
    target = names[0] if names[0].endswith(".target") else names[0] + ".target"
    unit = bus.call("GetUnit", name=target)
    if unit["LoadState"] == "not-found":
        print(f"Failed to set default target: Unit file {target} does not exist.", file=sys.stderr)
        return 1
    link = "/etc/systemd/system/default.target"
    if os.path.islink(link):
        os.unlink(link)
        print(f"Removed {link}.", file=sys.stderr)
    path = unit["FragmentPath"] or f"/usr/lib/systemd/system/{target}"
    os.symlink(path, link)
    print(f"Created symlink {link} → {path}.", file=sys.stderr)
    bus.call("Reload")
    return 0


def _list_dependencies(bus: Bus, names: list[str], options: Options) -> int:
    """The tree of what a unit requires and wants."""

    def walk(name: str, indent: str, seen: tuple[str, ...]) -> None:
        unit = bus.call("GetUnit", name=name)
        children = sorted({*unit["Requires"], *unit["Wants"], *unit["BindsTo"]})
        for index, child in enumerate(children):
            last = index == len(children) - 1
            state = bus.call("GetUnit", name=child)["ActiveState"]
            print(f"{status_text.DOTS[state]} {indent}{'└─' if last else '├─'}{child}")
            if child not in seen:
                walk(child, indent + ("  " if last else "│ "), (*seen, child))

    root = mangle(names[0]) if names else "default.target"
    print(root)
    walk(root, "", (root,))
    return 0


def _power(method: str) -> Callable[[Bus, list[str], Options], int]:
    def run(bus: Bus, names: list[str], options: Options) -> int:
        bus.call(method)
        return 0

    return run


def _show_environment(bus: Bus, names: list[str], options: Options) -> int:
    print("\n".join(f"{name}={value}" for name, value in sorted(bus.call("GetEnvironment").items())))
    return 0


COMMANDS: dict[str, Callable[[Bus, list[str], Options], int]] = {
    "start": _job("StartUnit", "start"),
    "stop": _job("StopUnit", "stop"),
    "restart": _job("RestartUnit", "restart"),
    "try-restart": _job("TryRestartUnit", "restart"),
    "reload": _job("ReloadUnit", "reload"),
    "reload-or-restart": _job("ReloadOrRestartUnit", "restart"),
    "enable": _enable,
    "disable": _disable,
    "mask": _mask,
    "unmask": _unmask,
    "is-active": _is_state(("active", "reloading")),
    "is-failed": _is_state(("failed",)),
    "is-enabled": _is_enabled,
    "status": _status,
    "cat": _cat,
    "show": _show,
    "edit": _edit,
    "list-units": _list_units,
    "list-unit-files": _list_unit_files,
    "list-dependencies": _list_dependencies,
    "daemon-reload": _daemon_reload,
    "reset-failed": _reset_failed,
    "kill": _kill,
    "is-system-running": _is_system_running,
    "get-default": _get_default,
    "set-default": _set_default,
    "show-environment": _show_environment,
    "poweroff": _power("PowerOff"),
    "reboot": _power("Reboot"),
    "halt": _power("Halt"),
}

if __name__ == "__main__":
    sys.exit(main())
