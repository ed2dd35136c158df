"""`kubette-init`: PID 1 of a machine.

The contract with who powers the machine is `kubette.machines.power`: SIGRTMIN+4 and SIGTERM ask for power off, SIGRTMIN+5 and SIGINT for a reboot, SIGRTMIN+3 for a halt; PID 1 then
stops its units within SHUTDOWN_S and exits with 0 (off) or 133 (boot again). PID 1 never ends otherwise: what fails in it is logged, and it goes on.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubette.component_base import logs
from kubette.init import cgroup, control, manager, notify, programs, spawn
from kubette.init.journal import DIRECTORY, Journal
from kubette.init.loader import Loader, search_path
from kubette.stdx import tasks
from kubette.stdx.clock import SYSTEM_CLOCK

log = logs.logger(__name__)

EXIT_POWER_OFF = 0
EXIT_REBOOT = 133

SIGNALS = {
    signal.SIGRTMIN + 3: "halt",
    signal.SIGRTMIN + 4: "poweroff",
    signal.SIGRTMIN + 5: "reboot",
    signal.SIGTERM: "poweroff",
    signal.SIGINT: "reboot",
}
# What PID 1 is given and every service gets: the machine's locale and our own settings.
INHERITED_VARIABLES = ("LANG", "TZ", "container")
INHERITED_PREFIX = "KUBETTE_"


def main(argv: Sequence[str] | None = None) -> int:
    """Be init until the machine goes down."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words:
        print(f"kubette-init: unknown argument {words[0]}", file=sys.stderr)
        return 1
    if os.getpid() != 1:
        print("kubette-init: this is PID 1 of a machine and cannot run as an ordinary process", file=sys.stderr)
        return 1
    return asyncio.run(_run())


async def _run() -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_report)
    for directory in ("/run/systemd/system", "/run/lock", "/var/log", "/etc/systemd/system"):
        os.makedirs(directory, exist_ok=True)  # /run/systemd/system is what sd_booted(3) looks at
    journal = Journal(DIRECTORY, SYSTEM_CLOCK, os.uname().nodename)
    known = _known_programs()
    init = manager.Manager(SYSTEM_CLOCK, journal, Loader(search_path()), cgroup.find_root(), known)
    init.base_environment = base_environment()
    for number, verb in SIGNALS.items():
        loop.add_signal_handler(number, init.begin_shutdown, verb)
    loop.add_signal_handler(signal.SIGHUP, init.reload)
    notifications = notify.NotifySocket(init)

    def reap() -> None:
        notifications.drain()
        init.reap()

    loop.add_signal_handler(signal.SIGCHLD, reap)
    async with tasks.Scope() as scope:
        await control.serve(init, scope)
        reap()  # whoever died before the handler was there
        scope.start(init.boot())
        await init.asked_down.wait()
        await init.wait_down()
    return EXIT_REBOOT if init.going_down == "reboot" else EXIT_POWER_OFF


def _known_programs() -> dict[str, str]:
    try:
        return programs.entry_points()
    except Exception as error:  # a broken installation costs warm starts, not the machine
        log.error("Cannot list the programs of this installation", err=error)
        return {}


def base_environment() -> dict[str, str]:
    """What every service's environment starts from."""
    inherited = {name: value for name, value in os.environ.items() if name in INHERITED_VARIABLES or name.startswith(INHERITED_PREFIX)}
    return {"PATH": os.environ.get("PATH", spawn.DEFAULT_PATH), "LANG": "C.UTF-8", **inherited}


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception in a callback: PID 1 says so and goes on."""
    error = context.get("exception")
    log.error("Callback failed", err=error if isinstance(error, BaseException) else context.get("message", ""))
    if isinstance(error, BaseException):
        import traceback

        traceback.print_exception(error, file=sys.stderr)


if __name__ == "__main__":
    Path("/proc/self/comm").write_text("init")
    sys.exit(main())
