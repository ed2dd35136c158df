"""Our etcd with faults: `python -m harness.faulty_etcd FAULT… -- etcd's flags`. Nothing in etcd itself knows of it: a production start cannot be armed.

    kill:WHERE:N           die (SIGKILL) at the Nth time WHERE is reached
    error:CALL:ERRNO       the first call of os.CALL fails with ERRNO; a later one works (which is what disks do)
    segment:BYTES          the log's segments are that small, so that they are cut and released often
    clock:FILE             the time of day is off by the number of seconds that FILE says
    power:DIRECTORY:SEED   death is a power cut (see power_cut): what was not synced is lost, or some of it is; DIRECTORY is for the tool's own files

WHERE is `before NAME` or `after NAME`, of POINTS below, or `os.CALL`: each call that changes the disk. With `ARM=FILE` in the environment a fault waits until that
file exists.
"""

import asyncio
import errno
import functools
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Name -> the function that does it.
POINTS = {
    "log write": "kubette.etcd.wal:Wal.flush",
    "log fsync": "kubette.etcd.wal:Wal.sync",
    "log cut": "kubette.etcd.wal:Wal._cut",
    "log release": "kubette.etcd.wal:Wal.release_to",
    "log create": "kubette.etcd.wal:Wal.create",
    "snapshot recorded": "kubette.etcd.wal:Wal.save_snapshot",
    "apply": "kubette.etcd.server:Server.apply",
    "conf change": "kubette.etcd.server:Server._apply_conf_change",
    "answer": "kubette.etcd.rim.grpc:Call.answer",
    "messages": "kubette.etcd.transport:Transport.send",
    "snapshot capture": "kubette.etcd.snapshotter:capture",
    "database write": "kubette.etcd.snapshotter:write_database",
    "snap write": "kubette.etcd.snapshotter:save_snap",
    "snap purge": "kubette.etcd.snapshotter:purge",
    "snapshot send": "kubette.etcd.transport:Transport._send_snapshot",
    "snapshot receive": "kubette.etcd.transport:Transport._receive_snapshot",
    "snapshot install": "kubette.etcd.server:Server.install_snapshot",
    "received load": "kubette.etcd.server:Server._load_received",
    "compaction": "kubette.etcd.mvcc.store:Store.compact",
    "defragment": "kubette.etcd.services.maintenance:Maintenance.defragment",
    "lease revoke": "kubette.etcd.lessor:Lessor.revoke",
}
DISK_CALLS = ("pwrite", "fsync", "fdatasync", "rename", "replace", "unlink", "ftruncate")


def _armed() -> bool:
    path = os.environ.get("ARM")
    return path is None or os.path.exists(path)


_before_death: list[Callable[[], None]] = []


def _die() -> None:
    for act in _before_death:
        act()
    os.kill(os.getpid(), signal.SIGKILL)


class _Nth:
    """Acts at the Nth armed call."""

    def __init__(self, count: int, act: Callable[[], None]) -> None:
        self._left = count
        self._act = act

    def __call__(self) -> None:
        if _armed():
            self._left -= 1
            if self._left == 0:
                self._act()


def _wrap(owner: Any, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    raw = inspect.getattr_static(owner, name)
    function = raw.__func__ if isinstance(raw, classmethod) else raw

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before()
        result = function(*args, **kwargs)
        if inspect.iscoroutine(result):
            return _finish(result, after)
        after()
        return result

    setattr(owner, name, classmethod(wrapped) if isinstance(raw, classmethod) else wrapped)


async def _finish(work: Any, after: Callable[[], None]) -> Any:
    result = await work
    after()
    return result


def _nothing() -> None:
    return


def _kill(where: str, count: int) -> None:
    act = _Nth(count, _die)
    if where.startswith("os."):
        _wrap(os, where.removeprefix("os."), act, _nothing)
        return
    when, _, name = where.partition(" ")
    module, _, path = POINTS[name].partition(":")
    owner: Any = importlib.import_module(module)
    *outer, last = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    _wrap(owner, last, act if when == "before" else _nothing, act if when == "after" else _nothing)


def _error(call: str, name: str) -> None:
    number = getattr(errno, name)

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    _wrap(os, call, _Nth(1, fail), _nothing)


def _clock(path: str) -> None:
    from kubette.stdx.clock import SystemClock

    real = SystemClock.wall

    def wall(self: SystemClock) -> float:
        try:
            return real(self) + float(Path(path).read_text())
        except (OSError, ValueError):
            return real(self)

    SystemClock.wall = wall  # type: ignore[method-assign]


def main(words: list[str]) -> int:
    split = words.index("--")
    for fault in words[:split]:
        kind, _, rest = fault.partition(":")
        if kind == "kill":
            where, _, count = rest.rpartition(":")
            _kill(where, int(count))
        elif kind == "segment":
            from kubette.etcd import wal

            wal.SEGMENT_BYTES = int(rest)
        elif kind == "error":
            _error(*rest.split(":"))
        elif kind == "power":
            from harness import power_cut

            directory, _, seed = rest.rpartition(":")
            _before_death.append(power_cut.install(Path(directory), seed))
        else:
            _clock(rest)
    from kubette.etcd.__main__ import main as etcd

    return etcd(words[split + 1 :])


if __name__ == "__main__":
    assert asyncio  # imported before anything is wrapped
    sys.exit(main(sys.argv[1:]))
