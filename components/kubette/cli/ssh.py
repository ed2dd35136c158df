"""`kubette ssh NAME [-- COMMAND...]`: a login shell or a command on a machine, as root; the command's exit status is passed on.

Everything after NAME belongs to the command, as with ssh: `kubette ssh node01 ls -l` needs no `--`.
"""

from collections.abc import Sequence
from typing import Any

from kubette.cli import common_flags
from kubette.cli.errors import CommandError
from kubette.component_base.flags import FlagError, FlagSet
from kubette.machines import client, layout, spec


def flags() -> FlagSet:
    return common_flags.flag_set("ssh", "A login shell, or a command, on a machine: kubette ssh NAME [-- COMMAND...]", positional=True)


def parse(words: Sequence[str]) -> Any:
    """Flags end at the machine's name."""
    rest, own = list(words), []
    while rest and rest[0].startswith("-"):
        own.append(rest.pop(0))
        if own[-1] == "--name" and rest:
            own.append(rest.pop(0))
    options = flags().parse(own)
    options.args = rest
    return options


def run(options: Any) -> int:
    if not options.args:
        raise FlagError("expected 'kubette ssh NAME [-- COMMAND...]', got no machine")
    name, *command = options.args
    if command[:1] == ["--"]:
        command = command[1:]
    pid = init_pid(options.name, name)
    from kubette.machines import enter

    return enter.run(pid, command)


def init_pid(cluster: str, machine: str) -> int:
    """PID 1 of a machine that can be entered. Raises CommandError for one that cannot."""
    spec.check_name(cluster)
    with client.Control(layout.of(cluster)) as control:
        status = control.machine(machine)
    if status["state"] not in ("running", "stopping"):
        remedy = {"off": f"kubette machine start {machine}", "paused": f"kubette machine resume {machine}"}.get(status["state"], "wait a moment")
        reason = f" ({status['reason']})" if status["reason"] else ""
        raise CommandError(f'machine "{machine}" is {status["state"]}{reason}; {remedy}')
    pid: int = status["pid"]
    return pid
