"""The smallest PID 1 that keeps the contract of `kubette.machines.power`, for tests of machines without init: it reaps, and goes down when asked."""

import os
import signal
from collections.abc import Sequence

from kubette.machines import power


def main(argv: Sequence[str] | None = None) -> int:
    waited = {power.SIGNAL_POWER_OFF, power.SIGNAL_REBOOT, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    while True:
        which = signal.sigwait(waited)
        if which == signal.SIGCHLD:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
        elif which in (power.SIGNAL_REBOOT, signal.SIGINT):
            return power.EXIT_REBOOT
        else:
            return power.EXIT_POWER_OFF
