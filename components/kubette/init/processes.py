"""Finding the processes of a unit without a control group.

A process belongs to a unit when it is one the unit started, a descendant of one, in a session one of them led (a child left behind by its parent stays in its session),
in the private mount namespace of the main process (everything inside a container), or carries the unit's INVOCATION_ID in its environment (a daemon that forked twice
and made its own session keeps it). One pass over /proc answers for a unit; it is done when a unit stops, not while it runs.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    comm: str
    state: str
    parent: int
    session: int


@dataclass(frozen=True, slots=True)
class Marks:
    """What is known of a unit's processes. `pids` are those init forked for it; `mount_namespace` is 0 unless private."""

    pids: frozenset[int]
    invocation_id: str
    mount_namespace: int = 0


def read(pid: int) -> Process | None:
    """One process, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            content = file.read()
    except OSError:
        return None
    head, _, rest = content.rpartition(b")")
    fields = rest.split()
    return Process(pid, head.partition(b"(")[2].decode(errors="replace"), fields[0].decode(), int(fields[1]), int(fields[3]))


def is_alive(pid: int) -> bool:
    """Whether `pid` is a process that is not merely waiting to be reaped."""
    process = read(pid)
    return process is not None and process.state not in ("Z", "X")


def snapshot() -> dict[int, Process]:
    """Every living process this process can see."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = read(int(name))
            if process is not None and process.state not in ("Z", "X"):
                found[process.pid] = process
    return found


def mount_namespace(pid: int | str) -> int:
    """The identity of a process's mount namespace; 0 when it cannot be read."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino
    except OSError:
        return 0


def environment_value(pid: int, name: str) -> str:
    """A variable of a process's environment as it was when the program started; empty when unset or unreadable."""
    prefix = name.encode() + b"="
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            for entry in file.read().split(b"\0"):
                if entry.startswith(prefix):
                    return entry[len(prefix) :].decode(errors="replace")
    except OSError:
        pass
    return ""


def members(marks: Marks, foreign: Collection[int]) -> list[int]:
    """The living processes of a unit, oldest ancestors first. `foreign` are processes init forked for other units."""
    everything = snapshot()
    own_pid = os.getpid()
    own_namespace = mount_namespace("self")
    inherited: dict[int, bool] = {own_pid: False}

    def belongs(pid: int) -> bool:
        known = inherited.get(pid)
        if known is not None:
            return known
        inherited[pid] = False  # a parent loop cannot be, a changing /proc can
        process = everything.get(pid)
        if process is None or pid in foreign:
            return False
        answer = pid in marks.pids or belongs(process.parent) or _marked(process)
        inherited[pid] = answer
        return answer

    def _marked(process: Process) -> bool:
        if process.session in marks.pids and process.session not in foreign:
            return True
        if marks.mount_namespace and marks.mount_namespace != own_namespace and mount_namespace(process.pid) == marks.mount_namespace:
            return True
        return environment_value(process.pid, "INVOCATION_ID") == marks.invocation_id

    return [pid for pid in sorted(everything) if pid != own_pid and belongs(pid)]
