"""Booting one machine: from a fork of the warm parent to its PID 1.

    supervisor ──fork──► builder: plugs in the network cable, makes the namespaces ──fork──► PID 1: assembles the root tree, becomes init

The builder is needed since a pid namespace begins with the *next* child. When it has ended, PID 1 is the supervisor's own child (it adopts orphans).
Both report over one socket, a line each: `pid N`, then `up` or `error TEXT`. PID 1 waits for `go` before it goes on, which the supervisor sends once it has
reaped the builder: only then is the supervisor the parent whose death is to be PID 1's.
"""

import importlib
import itertools
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from kubette.machines import cgroups, etc_files, layout, namespaces, network, root_tree, spec

CONSOLE_LOG_BYTES_MAX = 1 << 20  # the console starts anew at a boot that finds it larger
OPEN_FILES = 1048576  # what systemd gives its services


@dataclass(frozen=True, slots=True)
class Boot:
    """What a boot needs to know."""

    machine: spec.Machine
    cluster: spec.Cluster
    layout: layout.Layout
    switch_fd: int
    cgroup: Path | None
    init: str  # "module:function"


def fork_builder(boot: Boot) -> tuple[int, socket.socket]:
    """Start a machine. Answers the builder's pid and the socket of its reports."""
    ours, theirs = socket.socketpair()
    builder = os.fork()
    if builder:
        theirs.close()
        ours.setblocking(False)
        return builder, ours
    code = 1
    try:
        reset_after_fork({theirs.fileno(), boot.switch_fd})
        _build(boot, theirs)
        code = 0
    except BaseException as error:
        _report_error(theirs, error)
    finally:
        os._exit(code)


def reset_after_fork(keep: set[int]) -> None:
    """Make a fork of the supervisor a clean process: no signal handlers, no descriptors of the supervisor's."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    close_all_but({0, 1, 2, *keep})


def close_all_but(keep: set[int]) -> None:
    edges = [-1, *sorted(keep), os.sysconf("SC_OPEN_MAX")]
    for low, high in itertools.pairwise(edges):
        if low + 1 < high:  # closerange(0, 0) closes everything (the kernel is asked for 0 to -1)
            os.closerange(low + 1, high)


def _report_error(channel: socket.socket, error: BaseException) -> None:
    text = " ".join(str(error).split()) or type(error).__name__
    channel.sendall(f"error {text}\n".encode())


def _build(boot: Boot, channel: socket.socket) -> None:
    """The builder. Returns in the builder only; PID 1 never returns."""
    namespaces.setns(boot.switch_fd, namespaces.CLONE_NEWNET)
    switch = network.open_netlink()  # stays in the switch when this process moves on
    kinds = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWUTS | namespaces.CLONE_NEWIPC | namespaces.CLONE_NEWNET | namespaces.CLONE_NEWPID
    if boot.cgroup is not None and cgroups.join(boot.cgroup):
        kinds |= namespaces.CLONE_NEWCGROUP
    namespaces.unshare(kinds)
    network.connect(switch, boot.machine, os.getpid())
    switch.close()
    pid = os.fork()
    if pid:
        channel.sendall(f"pid {pid}\n".encode())
        return
    code = 1
    try:
        code = _pid_1(boot, channel)
    except BaseException as error:
        # After `up` the socket is closed and the console is where PID 1 complains.
        try:
            _report_error(channel, error)
        except OSError:
            import traceback

            traceback.print_exception(error)
    finally:
        os._exit(code)


def _pid_1(boot: Boot, channel: socket.socket) -> int:
    if channel.recv(2) != b"go":
        return 1
    # Machines have no power without their supervisor: nothing of a cluster can be left behind.
    namespaces.die_with_parent(signal.SIGKILL)
    module, _, function = boot.init.partition(":")
    main = getattr(importlib.import_module(module), function)
    console = open_log(boot.layout.console_log(boot.machine.name))
    root = boot.layout.machine_root(boot.machine.name)
    root.mkdir(parents=True, exist_ok=True)
    root_tree.seed(root, boot.machine, boot.cluster)
    root_tree.assemble(root, boot.layout.programs, boot.layout.ssh_socket)
    namespaces.set_hostname(boot.machine.name)
    network.configure(boot.machine)
    _become_init()
    redirect_output(console)
    channel.sendall(b"up\n")
    channel.close()
    close_all_but({0, 1, 2})
    code: int = main([])
    return code


def _become_init() -> None:
    """The environment, limits and title of a PID 1."""
    import resource

    import setproctitle

    os.umask(0o022)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    environment = {"PATH": etc_files.PATH, "HOME": "/root", "TERM": "linux", "LANG": "C.UTF-8", "container": "kubette"}
    os.environ.clear()
    os.environ.update(environment | etc_files.environment(Path("/etc/environment").read_text()))
    sys.argv = ["/sbin/init"]
    setproctitle.setproctitle("/sbin/init")
    setproctitle.setthreadtitle("init")


def open_log(path: Path) -> int:
    """A log for standard output: appended to, begun anew when large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    if path.exists() and path.stat().st_size > CONSOLE_LOG_BYTES_MAX:
        flags |= os.O_TRUNC
    return os.open(path, flags, 0o600)


def redirect_output(fd: int) -> None:
    """Standard input from /dev/null, output and error to `fd`."""
    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    for extra in (null, fd):
        if extra > 2:
            os.close(extra)
