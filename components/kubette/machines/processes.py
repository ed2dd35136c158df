"""All processes of a machine, from outside: those in the pid namespace of its PID 1 and in the ones inside it (its pods')."""

import contextlib
import os
import signal
from pathlib import Path

SWEEPS_MAX = 10  # a sweep that finds nothing new ends the search; a fork bomb must not keep us for ever


def _pid_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def of_machine(init_pid: int) -> list[int]:
    """Pids as the host numbers them; PID 1 first, so that it starts nothing while the others stop."""
    own = _pid_namespace(init_pid)
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    parents = {pid: _parent(pid) for pid in pids}
    inside = {pid for pid in pids if own and _pid_namespace(pid) == own} | {init_pid}
    for pid in sorted(pids):
        chain, current = [], pid
        while current not in inside and current in parents and current not in chain:
            chain.append(current)
            current = parents[current]
        if current in inside:
            inside.update(chain)
    return sorted(inside, key=lambda pid: (pid != init_pid, pid))


def signal_all(init_pid: int, which: signal.Signals) -> None:
    """Send SIGSTOP or SIGCONT to every process, again until a sweep finds nothing new."""
    done: set[int] = set()
    for _ in range(SWEEPS_MAX):
        fresh = [pid for pid in of_machine(init_pid) if pid not in done]
        if not fresh:
            return
        for pid in fresh:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, which)
        done.update(fresh)
