"""`kubette logs MACHINE [UNIT]`: the journal of a machine; of one that is off, what it wrote to its console."""

from typing import Any

from kubette.cli import common_flags, ssh
from kubette.cli.errors import CommandError
from kubette.component_base.flags import FlagSet
from kubette.machines import layout


def flags() -> FlagSet:
    flag_set = common_flags.flag_set("logs", "Show the journal of a machine or of one unit: kubette logs MACHINE [UNIT]", positional=True)
    flag_set.bool("follow", False, "Show new lines as they come.", shorthand="f")
    flag_set.int("tail", 0, "Show this many last lines (0: all).", shorthand="n")
    return flag_set


def run(options: Any) -> int:
    machine, *unit = common_flags.arguments(options, "kubette logs MACHINE [UNIT]", 1, 2)
    place = layout.of(options.name)
    place.load().machine(machine)
    try:
        pid = ssh.init_pid(options.name, machine)
    except Exception:
        if unit or options.follow:
            raise
        return _console(place, machine, options.tail)
    command = ["journalctl", "--no-pager"]
    command += ["-u", unit[0]] if unit else []
    command += ["-f"] if options.follow else []
    command += ["-n", str(options.tail)] if options.tail > 0 else []
    from kubette.machines import enter

    return enter.run(pid, command)


def _console(place: layout.Layout, machine: str, tail: int) -> int:
    try:
        lines = place.console_log(machine).read_text(errors="replace").splitlines()
    except OSError as error:
        raise CommandError(f'machine "{machine}" has written no log') from error
    print(*lines[-tail:] if tail > 0 else lines, sep="\n")
    return 0
