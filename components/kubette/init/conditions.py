"""Condition…= and Assert…=: is the machine such that the unit makes sense? (systemd.unit(5))"""

import fnmatch
import glob
import os
from collections.abc import Callable, Iterable

from kubette.init.service_spec import Condition


def _directory_not_empty(path: str) -> bool:
    try:
        return any(os.scandir(path))
    except OSError:
        return False


def _virtualization(argument: str) -> bool:
    # A machine is a container to its programs, as `container=kubette` in PID 1's environment says.
    return argument in ("yes", "true", "1", "container", "kubette")


def _environment(argument: str) -> bool:
    name, separator, value = argument.partition("=")
    return os.environ.get(name) == value if separator else name in os.environ


def _kernel_command_line(argument: str) -> bool:
    try:
        with open("/proc/cmdline") as file:
            words = file.read().split()
    except OSError:
        return False
    return argument in words or any(word.startswith(argument + "=") for word in words)


_TESTS: dict[str, Callable[[str], bool]] = {
    "PathExists": os.path.exists,
    "PathExistsGlob": lambda pattern: bool(glob.glob(pattern)),
    "PathIsDirectory": os.path.isdir,
    "PathIsSymbolicLink": os.path.islink,
    "PathIsReadWrite": lambda path: os.access(path, os.W_OK),
    "DirectoryNotEmpty": _directory_not_empty,
    "FileNotEmpty": lambda path: os.path.isfile(path) and os.path.getsize(path) > 0,
    "FileIsExecutable": lambda path: os.path.isfile(path) and os.access(path, os.X_OK),
    "Environment": _environment,
    "Host": lambda name: fnmatch.fnmatch(os.uname().nodename, name),
    "User": lambda name: name in ("root", "0", "@system"),
    "Virtualization": _virtualization,
    "Architecture": lambda name: name in ({"x86_64": "x86-64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine), "native"),
    "KernelCommandLine": _kernel_command_line,
    "Capability": lambda name: True,  # root of its machine has them all
    "FirstBoot": lambda text: text in ("no", "false", "0"),
}


def first_unmet(conditions: Iterable[Condition]) -> Condition | None:
    """The condition that does not hold, or None. Of those marked `|` one must hold; of the others all."""
    unmet_trigger: Condition | None = None
    triggered = False
    for condition in conditions:
        holds = _TESTS[condition.kind](condition.argument) != condition.negated
        if condition.trigger:
            triggered = triggered or holds
            unmet_trigger = unmet_trigger or condition
        elif not holds:
            return condition
    return None if triggered else unmet_trigger
