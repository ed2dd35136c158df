"""The programs a machine has beside the host's: our console scripts, kubectl, apt's commands, and those that turn the machine off.

What a node has and this host may lack (nslookup) is there too. They are a small tree (`usr/bin`, `usr/sbin`) laid over the host's. A name that the host has in /usr/sbin (Debian's `service`) is laid over there as well,
since a root's PATH finds that one first.
"""

import importlib.metadata
import os
import shlex
import shutil
import sys
from pathlib import Path

from kubette.machines import interpreter

NOT_ON_MACHINES = frozenset({"kubette"})  # the power switch is outside the machine

# The commands of the machine's own packages. No console scripts: on the host, a virtual environment must not hide the system's.
PACKAGE_COMMANDS = ("apt", "apt-get", "apt-cache", "apt-mark")

# In the place of programs that not every host has; pods, which see the machine's tools, have them as well.
STAND_INS = {"nslookup": "kubette.runtime.stand_ins.nslookup"}

# In place of the host's: `ssh node01` leads to the cluster's own machines.
DOOR = {"ssh": "kubette.machines.ssh"}

# What systemd-sysv ships: the old commands are words of systemctl.
POWER_COMMANDS = {"reboot": "reboot", "poweroff": "poweroff", "halt": "halt", "shutdown": "poweroff"}

# Whoever is on a machine is its root already, so that sudo only runs the command. (The real one needs a set-uid bit, which an ordinary user's machine ignores.)
SUDO = """#!/bin/sh
user=root shell= login=
usage() { echo "usage: sudo [-EHin] [-s] [-u user] [VAR=value] [command [arg ...]]" >&2; exit 1; }
while [ $# -gt 0 ]; do
  case $1 in
    --) shift; break ;;
    -E | -H | -n) shift ;;
    -i) login=yes; shift ;;
    -s) shell=yes; shift ;;
    -u) [ $# -gt 1 ] || usage; user=$2; shift 2 ;;
    -*) echo "sudo: invalid option -- '${1#-}'" >&2; usage ;;
    *=*) export "$1"; shift ;;
    *) break ;;
  esac
done
[ -n "$login" ] && cd /root && set -- bash -l ${1:+-c "$*"}
[ -n "$shell" ] && set -- bash ${1:+-c "$*"}
[ $# -gt 0 ] || usage
id -u "$user" >/dev/null 2>&1 || { echo "sudo: unknown user $user" >&2; exit 1; }
[ "$user" = root ] || set -- runuser -u "$user" -- "$@"
command -v "$1" >/dev/null || { echo "sudo: $1: command not found" >&2; exit 1; }
exec "$@"
"""


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
        if not (target / "usr/sbin" / name).exists():
            _write_script(target / "usr/sbin" / name, f"#!/bin/sh\nexec systemctl {verb}\n")
    _write_script(target / "usr/bin/sudo", SUDO)
    python = shlex.quote(sys.executable)
    for name in PACKAGE_COMMANDS:
        _write_script(target / "usr/bin" / name, f'#!/bin/sh\nexec {python} -P -m kubette.machines.packages {name} "$@"\n')
    for name, module in {**{name: module for name, module in STAND_INS.items() if shutil.which(name) is None}, **DOOR}.items():
        _write_script(target / "usr/bin" / name, f'#!/bin/sh\nexec {python} -P -m {module} "$@"\n')


def _write_script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
