"""Making a process of a unit: fork, then either exec or, for one of our own programs, a call of its `main` (a warm start).

init forks out of its running event loop. The child never returns into it: it leaves the loop's descriptors closed and its objects untouched
(`gc.freeze`), puts signals, session, descriptors, limits, user and directories in order, and ends by exec or `os._exit`. All signals are blocked across
the fork, so that no signal meant for the child wakes the parent's loop through the shared wake-up socket.

What goes wrong before the program runs is reported through a close-on-exec pipe as one JSON object (`step`, `text`) and by systemd's exit statuses 200-242; an end of file
without a report means that the program is running.
"""

import gc
import io
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from kubette.component_base import process_title

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TIOCSCTTY = 0x540E


@dataclass(frozen=True, slots=True)
class Request:
    """Everything about the process to be; the descriptors stay the caller's to close."""

    argv: tuple[str, ...]
    program: str
    environment: Mapping[str, str]
    stdin: int
    stdout: int
    stderr: int
    terminal: bool = False
    entry_point: str = ""
    working_directory: str = "/"
    working_directory_optional: bool = False
    umask: int = 0o022
    nice: int = 0
    oom_score_adjust: int | None = None
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    user: str = ""
    group: str = ""
    supplementary_groups: tuple[str, ...] = ()
    ignore_sigpipe: bool = True
    cgroup_procs: str = ""


class _StepFailed(Exception):
    """Preparation failed: systemd's step name and exit status, and what to tell the journal."""

    def __init__(self, step: str, status: int, text: str) -> None:
        super().__init__(text)
        self.step, self.status = step, status


def spawn(request: Request) -> tuple[int, int]:
    """Fork. Returns the child's pid and the read end of its report pipe. Raises OSError when there can be no process."""
    report_read, report_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(report_write, True)
    sys.stdout.flush()
    sys.stderr.flush()
    everything = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    try:
        pid = os.fork()
        if pid == 0:
            _child(request, report_write)
    except BaseException:
        os.close(report_read)
        raise
    finally:
        os.close(report_write)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid, report_read


def _child(request: Request, report: int) -> NoReturn:
    status = 1
    try:
        # Nothing of the parent's may ever be finalised here: a socket object that dies would close a descriptor that is ours by then.
        gc.freeze()
        try:
            _prepare(request, report)
            if request.entry_point:
                status = _run_warm(request, report)
            else:
                _execute(request)
        except _StepFailed as failure:
            status = failure.status
            os.write(report, json.dumps({"step": failure.step, "text": str(failure)}).encode())
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(status)


def _prepare(request: Request, report: int) -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # reserved by the C library
    signal.signal(signal.SIGPIPE, signal.SIG_IGN if request.ignore_sigpipe else signal.SIG_DFL)
    os.setsid()
    if request.cgroup_procs:
        try:
            with open(request.cgroup_procs, "w") as file:
                file.write("0")
        except OSError as error:
            raise _StepFailed("CGROUP", 219, f"Failed to attach to cgroup: {error.strerror}") from None
    for target, fd in enumerate((request.stdin, request.stdout, request.stderr)):
        os.dup2(fd, target, inheritable=True)
    if request.terminal:
        import fcntl

        fcntl.ioctl(0, _TIOCSCTTY, 0)
    os.closerange(3, report)
    os.closerange(report + 1, os.sysconf("SC_OPEN_MAX"))
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    os.umask(request.umask)
    _set_limits(request)
    _become_user(request)
    try:
        os.chdir(request.working_directory)
    except OSError as error:
        if not request.working_directory_optional:
            raise _StepFailed("CHDIR", 200, f"Changing to the requested working directory failed: {error.strerror}") from None
        os.chdir("/")


def _set_limits(request: Request) -> None:
    import resource

    for name, (soft, hard) in request.limits.items():
        kind = getattr(resource, name)
        current = resource.getrlimit(kind)[1]
        try:
            resource.setrlimit(kind, (soft, hard))
        except (OSError, ValueError):
            # Without privilege the hard limit cannot be raised; systemd, too, then takes what it can get (setrlimit_closest).
            closest = current if current != resource.RLIM_INFINITY and (soft == -1 or soft > current) else soft
            try:
                resource.setrlimit(kind, (closest, current))
            except (OSError, ValueError) as error:
                raise _StepFailed("LIMITS", 205, f"Failed to adjust resource limit {name}: {error}") from None
    if request.nice:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, request.nice)
        except OSError as error:
            raise _StepFailed("NICE", 201, f"Failed to set up process scheduling priority (nice level): {error.strerror}") from None
    if request.oom_score_adjust is not None:
        try:
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write(str(request.oom_score_adjust))
        except PermissionError:
            pass  # lowering needs privilege over the host; systemd ignores this inside containers as well
        except OSError as error:
            raise _StepFailed("OOM_ADJUST", 206, f"Failed to adjust OOM setting: {error.strerror}") from None


def _become_user(request: Request) -> None:
    if not request.user and not request.group:
        return
    import grp
    import pwd

    try:
        account = pwd.getpwnam(request.user) if not request.user.isdigit() else pwd.getpwuid(int(request.user or 0))
    except (KeyError, ValueError):
        if request.user:
            raise _StepFailed("USER", 217, "Failed to determine user credentials: No such process") from None
        account = pwd.getpwuid(0)
    try:
        gid = grp.getgrnam(request.group).gr_gid if request.group and not request.group.isdigit() else int(request.group or account.pw_gid)
        extra = [grp.getgrnam(name).gr_gid for name in request.supplementary_groups]
    except KeyError:
        raise _StepFailed("GROUP", 216, "Failed to determine group credentials: No such process") from None
    if not (_is_mapped(account.pw_uid, "uid_map") and _is_mapped(gid, "gid_map")):
        # An ordinary user's cluster has one user inside: root. Its services run as that, and say so.
        os.write(2, f"<4>User {request.user or 'root'} is not mapped in this machine's user namespace, running as root\n".encode())
        return
    try:
        os.setgroups(sorted({*os.getgrouplist(account.pw_name, gid), *extra}))
        os.setresgid(gid, gid, gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    except OSError as error:
        raise _StepFailed("USER", 217, f"Failed to change to user {request.user}: {error.strerror}") from None


def _is_mapped(number: int, map_name: str) -> bool:
    try:
        with open(f"/proc/self/{map_name}") as file:
            ranges = [tuple(int(word) for word in line.split()) for line in file]
    except OSError:
        return True
    return any(first <= number < first + count for first, _, count in ranges)


def _execute(request: Request) -> NoReturn:
    try:
        os.execve(request.program, list(request.argv), dict(request.environment))
    except FileNotFoundError as error:
        raise _StepFailed("EXEC", 203, f"Failed to locate executable {request.program}: {error.strerror}") from None
    except OSError as error:
        raise _StepFailed("EXEC", 203, f"Failed to execute {request.program}: {error.strerror}") from None


def _run_warm(request: Request, report: int) -> int:
    """Be the program: what an interpreter started afresh would see, then its `main`."""
    import asyncio
    import atexit
    import importlib

    asyncio._set_running_loop(None)
    asyncio.set_event_loop(None)
    atexit._clear()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    name = os.path.basename(request.program)
    process_title.set_command_line(request.argv, request.environment, name)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv = [request.program, *request.argv[1:]]
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r", closefd=False)), "utf-8", "surrogateescape")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), "utf-8", "surrogateescape", line_buffering=os.isatty(1))
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, "w", closefd=False)), "utf-8", "backslashreplace", line_buffering=True)
    module, _, function = request.entry_point.partition(":")
    try:
        main = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise _StepFailed("EXEC", 203, f"Failed to import {request.program}: {error}") from None
    os.close(report)
    status = 0
    try:
        status = main(list(request.argv[1:])) or 0
    except SystemExit as exit_:
        code = exit_.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
        status = code if isinstance(code, int) else 0 if code is None else 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except Exception:
        import traceback

        traceback.print_exc()
        status = 1
    finally:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                status = status or 120  # what the interpreter answers when its output is gone
    return status & 0xFF
