"""Pure: a machine's power: its states, how PID 1 is asked to go down, and what its end means.

The contract between a machine's PID 1 (`kubette.init`) and its supervisor:

*Start.* The supervisor forks PID 1 in the new namespaces, with the root tree mounted, the host name and the network set, and calls init's
`main([])`. Environment: PATH, HOME=/root, TERM=linux, container=kubette, and the pairs of /etc/environment. Standard output and
error are the machine's console (a log file on the host), standard input is /dev/null. All signals have their default action and are unblocked.

*Asking* uses systemd's own signals: SIGRTMIN+4 power off, SIGRTMIN+5 reboot, SIGRTMIN+3 halt (as power off), SIGINT reboot (ctrl-alt-del), SIGTERM power off.
PID 1 stops its units, in order, within the time it is given (`STOP_TIMEOUT_S`; `kubette down` gives less); then the supervisor pulls the plug.

*Ending.* PID 1 ends by reboot(2), which inside a pid namespace makes the kernel end PID 1 by SIGHUP for a restart and by SIGINT for power off or
halt; or, the same thing, by exit status 133 (restart) or 0 (power off). The machine is booted again or marked off accordingly. Any other end
is a crash: the machine is off and the reason is shown. The kernel ends everything else in the machine with it.
"""

import signal
from dataclasses import dataclass
from enum import StrEnum

SIGNAL_POWER_OFF = signal.SIGRTMIN + 4
SIGNAL_REBOOT = signal.SIGRTMIN + 5

EXIT_POWER_OFF = 0
EXIT_REBOOT = 133  # as in systemd-nspawn

STOP_TIMEOUT_S = 30.0
DOWN_TIMEOUT_S = 3.0  # `kubette down` is over in 5 s, with the kernel's own clearing


class State(StrEnum):
    OFF = "off"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    PAUSED = "paused"


class PowerError(Exception):
    """The machine cannot do this in its state; the text is for the user."""


# What each command may start from.
_ALLOWED = {
    "start": {State.OFF},
    "stop": {State.RUNNING, State.STARTING, State.STOPPING, State.PAUSED},
    "reboot": {State.RUNNING, State.PAUSED},
    "kill": {State.RUNNING, State.STARTING, State.STOPPING, State.PAUSED},
    "pause": {State.RUNNING},
    "resume": {State.PAUSED},
}


def check(command: str, name: str, state: State) -> None:
    """Raises PowerError when `command` makes no sense for a machine in `state`."""
    if state not in _ALLOWED[command]:
        raise PowerError(f'cannot {command} machine "{name}": it is {state}')


@dataclass(frozen=True, slots=True)
class Ending:
    """How a machine went down: whether to boot it again, and the words for `kubette status`."""

    reboots: bool
    reason: str


def ending(exit_code: int, expected_reboot: bool, was_killed: bool) -> Ending:
    """Judge PID 1's end. `exit_code` is negative for a signal (os.waitstatus_to_exitcode)."""
    if was_killed:
        return Ending(False, "killed")
    if exit_code in (-signal.SIGHUP, EXIT_REBOOT):
        return Ending(True, "rebooted")
    if exit_code in (-signal.SIGINT, EXIT_POWER_OFF):
        return Ending(expected_reboot, "rebooted" if expected_reboot else "powered off")
    if exit_code < 0:
        return Ending(expected_reboot, f"PID 1 was killed by {signal.Signals(-exit_code).name}")
    return Ending(expected_reboot, f"PID 1 exited with status {exit_code}")
