"""`kubette logs MACHINE [UNIT]`: the journal of a machine, also of one that is off."""

import subprocess
from typing import Any

from kubette.cli import common_flags, journal
from kubette.cli.errors import CommandError
from kubette.component_base.flags import FlagSet
from kubette.machines import layout, spec


def flags() -> FlagSet:
    flag_set = common_flags.flag_set("logs", "Show the journal of a machine or of one unit: kubette logs MACHINE [UNIT]", positional=True)
    flag_set.bool("follow", False, "Show new lines as they come.", shorthand="f")
    flag_set.int("tail", 0, "Show this many last lines (0: all).", shorthand="n")
    return flag_set


def run(options: Any) -> int:
    machine, *unit = common_flags.arguments(options, "kubette logs MACHINE [UNIT]", 1, 2)
    spec.check_name(options.name)
    place = layout.of(options.name)
    place.load().machine(machine)
    root = place.machine_root(machine)
    if not (root / "var/log/journal").is_dir():
        raise CommandError(f'machine "{machine}" was never started')
    return subprocess.run(journal.command(root, "".join(unit), options.tail, options.follow), check=False).returncode
