"""The door to a machine: run a program in all namespaces of its PID 1 (what `nsenter -t PID -a` does, with ssh's manners).

The program gets a terminal of the machine's own when ours is one, a login environment, and its exit status is passed on.
"""

import errno
import fcntl
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Mapping, Sequence
from pathlib import Path

from kubette.machines import etc_files, namespaces

# The user namespace first: it gives the rights to enter the others.
_ORDER = (
    ("user", namespaces.CLONE_NEWUSER),
    ("cgroup", namespaces.CLONE_NEWCGROUP),
    ("ipc", namespaces.CLONE_NEWIPC),
    ("uts", namespaces.CLONE_NEWUTS),
    ("net", namespaces.CLONE_NEWNET),
    ("pid", namespaces.CLONE_NEWPID),
    ("mnt", namespaces.CLONE_NEWNS),
)
_COPY_BYTES = 1 << 16
SIGNALLED = 128  # the shell's convention: 128 + the number of the signal


class EnterError(Exception):
    """The machine cannot be entered; the text says why."""


def join(pid: int) -> None:
    """Move the calling process into the namespaces of `pid`. Its next children are in the machine."""
    fds = []
    try:
        for kind, flag in _ORDER:
            path = f"/proc/{pid}/ns/{kind}"
            if os.stat(path).st_ino != os.stat(f"/proc/self/ns/{kind}").st_ino:
                fds.append((os.open(path, os.O_RDONLY | os.O_CLOEXEC), flag))
        _join_cgroup(pid)
        for fd, flag in fds:
            namespaces.setns(fd, flag)
    except OSError as error:
        raise EnterError(f"cannot enter the machine: {error.strerror or error}") from error
    finally:
        for fd, _ in fds:
            os.close(fd)


def _join_cgroup(pid: int) -> None:
    """Be in the machine's control group too (where it has one), so that a pause stops this process with the others."""
    from kubette.machines import cgroups

    base = cgroups.hierarchy()
    if base is None:
        return
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        group = base / line[3:].strip().lstrip("/")
        if line.startswith("0::") and "kubette-" in line:
            cgroups.join(group)


def environment(term: str) -> dict[str, str]:
    """A login's environment, once inside the machine."""
    pairs = {"PATH": etc_files.PATH, "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/bash", "LANG": "C.UTF-8", "TERM": term}
    try:
        return pairs | etc_files.environment(Path("/etc/environment").read_text())
    except OSError:
        return pairs


def command_line(command: Sequence[str]) -> tuple[str, list[str]]:
    """The program and its arguments. No command is a login shell; one word is a shell's line, as with ssh; several are taken exactly as they are."""
    shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
    if not command:
        return shell, ["-" + os.path.basename(shell)]
    if len(command) == 1:
        return shell, [shell, "-c", command[0]]
    return command[0], list(command)


def _exec(command: Sequence[str], extra: Mapping[str, str]) -> None:
    """Become the program. Never returns."""
    code = 127
    try:
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                continue
        program, argv = command_line(command)
        variables = environment(os.environ.get("TERM", "dumb")) | dict(extra)
        os.environ["PATH"] = variables["PATH"]
        os.chdir("/root")
        os.umask(0o022)
        os.execvpe(program, argv, variables)
    except OSError as error:
        code = 126 if error.errno == errno.EACCES else 127
        os.write(2, f"{command[0] if command else 'sh'}: {os.strerror(error.errno or 0) if code == 126 else 'command not found'}\n".encode())
    finally:
        os._exit(code)


def _wait(child: int) -> int:
    while True:
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except InterruptedError:
            continue
        return code if code >= 0 else SIGNALLED - code


def run(pid: int, command: Sequence[str], extra_environment: Mapping[str, str] | None = None, terminal: bool = True) -> int:
    """Run `command` with this process's own standard streams and answer its exit status. The calling process stays in the machine."""
    join(pid)
    extra = extra_environment or {}
    if terminal and os.isatty(0) and os.isatty(1):
        return _run_on_terminal(command, extra)
    child = os.fork()
    if child == 0:
        namespaces.die_with_parent(signal.SIGHUP)
        _exec(command, extra)
    for which in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(which, lambda number, _: os.kill(child, number))
    return _wait(child)


def spawn(pid: int, command: Sequence[str], stdin: int, stdout: int, stderr: int) -> int:
    """Start `command` in the machine and answer the pid of a child of ours whose exit status will be the command's."""
    # A Ctrl-C while Python runs its fork hooks would be reported and forgotten: it waits until the fork is over.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        door = os.fork()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if door:
        return door
    code = 126
    try:
        for source, target in ((stdin, 0), (stdout, 1), (stderr, 2)):
            os.dup2(source, target)
        os.closerange(3, 4096)
        os.setsid()  # a Ctrl-C at the terminal is for the caller to act on
        namespaces.die_with_parent(signal.SIGTERM)
        code = run(pid, command)
    except EnterError as error:
        os.write(2, f"error: {error}\n".encode())
    finally:
        os._exit(code)


def _run_on_terminal(command: Sequence[str], extra: Mapping[str, str]) -> int:
    # The machine's own /dev/ptmx (we are inside its mount namespace): so `tty` and job control work in there.
    master, slave = os.openpty()
    child = os.fork()
    if child == 0:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(slave, fd)
        os.closerange(3, 4096)
        _exec(command, extra)
    os.close(slave)
    _copy_size(master)
    signal.signal(signal.SIGWINCH, lambda *_: _copy_size(master))
    saved = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is kept, as ssh does
    try:
        _pump(master)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, saved)
    os.close(master)
    return _wait(child)


def _copy_size(master: int) -> None:
    try:
        fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(1, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return


def _pump(master: int) -> None:
    """Copy between our terminal and the machine's until the machine's side is closed."""
    sources = [0, master]
    while True:
        readable, _, _ = select.select(sources, [], [])
        if master in readable:
            try:
                data = os.read(master, _COPY_BYTES)
            except OSError:  # EIO: the last process with the terminal open has gone
                return
            if not data:
                return
            sys.stdout.flush()
            os.write(1, data)
        if 0 in readable:
            data = os.read(0, _COPY_BYTES)
            if data:
                os.write(master, data)
            else:
                sources.remove(0)
