"""`/pause` as a container of its own: waits for SIGINT or SIGTERM and reaps whatever it inherits. `-v` prints its version."""

import os
import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Upstream's pause: exit 0 on a signal."""
    if "-v" in (sys.argv[1:] if argv is None else argv):
        print("pause.c", flush=True)
        return 0
    import setproctitle

    setproctitle.setproctitle("/pause")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD})
    while signal.sigwait({signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}) == signal.SIGCHLD:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            continue
    print("Shutting down, got signal: Terminated", flush=True)
    return 0
