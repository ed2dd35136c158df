"""`kubette machine start|stop|reboot|kill|pause|resume NAME`: the power switch. It takes etcd's quorum away only when it is told to with --force."""

from collections.abc import Sequence
from typing import Any

from kubette.cli import common_flags, on_machines, quorum
from kubette.cli.errors import CommandError
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
LOOK_TIMEOUT_S = 10.0
USAGE = f"kubette machine {'|'.join(SWITCHES)} NAME"


def flags() -> FlagSet:
    flag_set = common_flags.flag_set("machine", f"Power switch of a machine: {USAGE}", positional=True)
    flag_set.duration("timeout", power.STOP_TIMEOUT_S, "How long stop and reboot wait for the machine's own shutdown before the plug is pulled.")
    flag_set.bool("force", False, "Also stop, kill or pause a machine without which etcd has no quorum.")
    return flag_set


def run(options: Any) -> int:
    words = common_flags.arguments(options, USAGE, 2, 2)
    if words[0] not in SWITCHES:
        raise FlagError(f'unknown command "{words[0]}" for "kubette machine"')
    if "timeout" in options.changed and words[0] not in ("stop", "reboot"):
        raise FlagError(f"--timeout has no meaning for {words[0]}")
    if options.force and words[0] not in quorum.TAKES_AWAY:
        raise FlagError(f"--force has no meaning for {words[0]}")
    method, done = SWITCHES[words[0]]
    spec.check_name(options.name)
    parameters = {"timeout": options.timeout} if words[0] in ("stop", "reboot") else {}
    with client.Control(layout.of(options.name)) as control:
        control.machine(words[1])
        if words[0] in quorum.TAKES_AWAY and not options.force:
            members = [machine.name for machine in layout.of(options.name).load().etcd_members]
            if words[1] in members and (reason := quorum.refusal(words[0], words[1], members, _serving(control, members))):
                raise CommandError(reason)
        control.call(method, name=words[1], **parameters)
    print(f'machine "{words[1]}" {done}')
    return 0


def _serving(control: client.Control, machines: Sequence[str]) -> set[str]:
    """Those of `machines` on which there is an etcd."""
    running = {each["name"]: each["pid"] for each in control.status()["machines"] if each["name"] in machines and each["state"] == "running"}
    asked = {name: on_machines.start(pid, ["cat /proc/[0-9]*/comm 2>/dev/null | grep -qx etcd"]) for name, pid in running.items()}
    return {name for name, one in asked.items() if on_machines.finish(one, LOOK_TIMEOUT_S).code == 0}
