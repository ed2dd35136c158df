"""The programs a machine has beside the host's: our console scripts, kubectl, and the commands that turn the machine off.

They are a small tree (`usr/bin`, `usr/sbin`) laid over the host's. A name that the host has in /usr/sbin (Debian's `service`) is laid over there as well,
since a root's PATH finds that one first.
"""

import importlib.metadata
import os
import shutil
from pathlib import Path

from kubette.machines import interpreter

NOT_ON_MACHINES = frozenset({"kubette"})  # the power switch is outside the machine

# What systemd-sysv ships: the old commands are words of systemctl.
POWER_COMMANDS = {"reboot": "reboot", "poweroff": "poweroff", "halt": "halt", "shutdown": "poweroff"}


def console_scripts() -> dict[str, str]:
    """Our programs: name to `module:function`."""
    points = importlib.metadata.distribution("kubette").entry_points
    return {point.name: point.value for point in points if point.group == "console_scripts"}


def write_layer(target: Path) -> None:
    """(Re)make the tree at `target`."""
    if target.exists():
        shutil.rmtree(target)
    for folder in ("usr/bin", "usr/sbin"):
        (target / folder).mkdir(parents=True)
    scripts = interpreter.scripts()
    for name in sorted({*console_scripts(), "kubectl"} - NOT_ON_MACHINES):
        program = scripts / name
        if not program.exists():
            continue
        (target / "usr/bin" / name).symlink_to(program)
        if os.path.lexists(f"/usr/sbin/{name}"):
            (target / "usr/sbin" / name).symlink_to(program)
    for name, verb in POWER_COMMANDS.items():
        script = target / "usr/sbin" / name
        if not script.exists():
            script.write_text(f"#!/bin/sh\nexec systemctl {verb}\n")
            script.chmod(0o755)
