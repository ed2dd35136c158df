"""Programs run on machines for `kubette up`: several at once, their output in a log on the host, ended on Ctrl-C."""

import os
import selectors
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kubette.cli.errors import PhaseError
from kubette.machines import enter, machine

TAIL_LINES = 20


@dataclass(slots=True)
class Running:
    """One program on one machine."""

    machine: str
    title: str
    log: Path
    pid: int
    pidfd: int


def start(machine_name: str, init_pid: int, title: str, command: Sequence[str], log: Path) -> Running:
    """Start `command` on a machine; standard output and error go to `log`."""
    out = machine.open_log(log)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        pid = enter.spawn(init_pid, command, null, out, out)
    finally:
        os.close(out)
        os.close(null)
    return Running(machine_name, title, log, pid, os.pidfd_open(pid))


def stop(running: Sequence[Running]) -> None:
    """End what still runs."""
    for one in running:
        try:
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(one.pidfd)


class Batch:
    """Programs that run at the same time. As a context manager it leaves none behind."""

    def __init__(self) -> None:
        self._running: list[Running] = []
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> "Batch":
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._running)
        self._selector.close()

    def start(self, machine_name: str, init_pid: int, title: str, command: Sequence[str], log: Path) -> None:
        one = start(machine_name, init_pid, title, command, log)
        self._running.append(one)
        self._selector.register(one.pidfd, selectors.EVENT_READ, one)

    def wait_any(self) -> Running | None:
        """The next program that ends well; None when none is left. Raises PhaseError for one that ends badly."""
        if not self._running:
            return None
        one: Running = self._selector.select()[0][0].data
        code = os.waitstatus_to_exitcode(os.waitpid(one.pid, 0)[1])
        self._selector.unregister(one.pidfd)
        os.close(one.pidfd)
        self._running.remove(one)
        if code != 0:
            killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)
            raise PhaseError(f"{one.title} on {one.machine}", f"{one.title} on {one.machine} failed with exit code {code}", tail(one.log), killed)
        return one

    def wait_all(self) -> None:
        while self.wait_any() is not None:
            pass


def tail(path: Path, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log, as far as it exists."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - (64 << 10)))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
