"""Commands on machines whose output is wanted: several at once, each with a time limit, through the same door as `kubette ssh`."""

import contextlib
import os
import select
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from kubette.machines import enter
from kubette.stdx.clock import SYSTEM_CLOCK

OUTPUT_BYTES_MAX = 16 << 20  # of one command; more is cut off
TIMED_OUT = 124  # timeout(1)'s own


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it printed, errors too."""

    code: int
    output: str


@dataclass(slots=True)
class Started:
    pid: int
    pidfd: int
    out: int


def start(init_pid: int, command: Sequence[str]) -> Started:
    """Start `command` on the machine whose PID 1 is `init_pid`; `finish` must follow."""
    out = os.memfd_create("output", os.MFD_CLOEXEC)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        pid = enter.spawn(init_pid, command, null, out, out)
    finally:
        os.close(null)
    return Started(pid, os.pidfd_open(pid), out)


def finish(one: Started, timeout_s: float) -> Done:
    """Wait for it; one that is late is ended and answers 124 with what it has printed so far."""
    deadline = SYSTEM_CLOCK.monotonic() + timeout_s
    try:
        is_over = bool(select.select([one.pidfd], [], [], max(0.0, deadline - SYSTEM_CLOCK.monotonic()))[0])
        if not is_over:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGTERM)
        status = os.waitpid(one.pid, 0)[1]
        output = os.pread(one.out, OUTPUT_BYTES_MAX, 0).decode(errors="replace")
        return Done(os.waitstatus_to_exitcode(status) if is_over else TIMED_OUT, output)
    finally:
        os.close(one.pidfd)
        os.close(one.out)


def run(init_pid: int, command: Sequence[str], timeout_s: float) -> Done:
    return finish(start(init_pid, command), timeout_s)
