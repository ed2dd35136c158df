"""`kubette machine start|stop|reboot|kill|pause|resume NAME`: the power switch."""

from typing import Any

from kubette.cli import common_flags
from kubette.component_base.flags import FlagError, FlagSet
from kubette.machines import client, layout, power, spec

# The command, the supervisor's method, and what is said afterwards.
SWITCHES = {
    "start": ("StartMachine", "started"),
    "stop": ("StopMachine", "stopped"),
    "reboot": ("RebootMachine", "rebooted"),
    "kill": ("KillMachine", "killed"),
    "pause": ("PauseMachine", "paused"),
    "resume": ("ResumeMachine", "resumed"),
}
USAGE = f"kubette machine {'|'.join(SWITCHES)} NAME"


def flags() -> FlagSet:
    flag_set = common_flags.flag_set("machine", f"Power switch of a machine: {USAGE}", positional=True)
    flag_set.duration("timeout", power.STOP_TIMEOUT_S, "How long stop and reboot wait for the machine's own shutdown before the plug is pulled.")
    return flag_set


def run(options: Any) -> int:
    words = common_flags.arguments(options, USAGE, 2, 2)
    if words[0] not in SWITCHES:
        raise FlagError(f'unknown command "{words[0]}" for "kubette machine"')
    if "timeout" in options.changed and words[0] not in ("stop", "reboot"):
        raise FlagError(f"--timeout has no meaning for {words[0]}")
    method, done = SWITCHES[words[0]]
    spec.check_name(options.name)
    parameters = {"timeout": options.timeout} if words[0] in ("stop", "reboot") else {}
    with client.Control(layout.of(options.name)) as control:
        control.machine(words[1])
        control.call(method, name=words[1], **parameters)
    print(f'machine "{words[1]}" {done}')
    return 0
