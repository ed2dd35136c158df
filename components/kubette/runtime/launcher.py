"""kubette-runc: turns a launch specification into a running container and is gone (runc's place).

    kubette-runc create SPEC.json                 ExecStart of a container's unit (Type=forking, PIDFile=)
    kubette-runc exec SPEC.json PROCESS.json FD   a further process in a running container; stays, forwards its exit code

`create` joins or makes the namespaces, forks the container's first process and waits until that process has been executed or has failed; a
failure's text goes to the spec's `error_file`. The first process is PID 1 of its own PID namespace and, once the launcher is gone, a child of the
machine's init, which holds its pipes and its exit. Only the standard library and `syscalls` are imported: this runs once a container and once a probe.
"""

import contextlib
import errno
import json
import os
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from kubette.runtime import capabilities, syscalls

_KINDS = {
    "net": syscalls.CLONE_NEWNET,
    "ipc": syscalls.CLONE_NEWIPC,
    "uts": syscalls.CLONE_NEWUTS,
    "pid": syscalls.CLONE_NEWPID,
}
EXEC_FAILED = 128  # what containerd reports for a container whose first process could not be executed
SIGNALS = [s for s in signal.Signals if s not in (signal.SIGKILL, signal.SIGSTOP)]


class LaunchError(Exception):
    """The container cannot run; the text is runc's."""


def _read(path: str) -> dict[str, Any]:
    with open(path) as file:
        value: dict[str, Any] = json.load(file)
        return value


def _enter_namespaces(namespaces: dict[str, str | None]) -> None:
    """`None` keeps the machine's, `new` makes one, a path joins one."""
    fresh = 0
    for name, kind in _KINDS.items():
        where = namespaces[name]
        if where == "new":
            fresh |= kind
        elif where is not None:
            fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
            syscalls.setns(fd, kind)
            os.close(fd)
    if fresh:
        syscalls.unshare(fresh)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _join_cgroups(directories: list[str]) -> None:
    for directory in directories:
        with contextlib.suppress(OSError):  # a machine whose control groups are not ours to write
            _write(f"{directory}/cgroup.procs", "0")


def _apply_sysctls(defaults: dict[str, str], sysctls: dict[str, str]) -> None:
    """The runtime's own wishes where the kernel grants them (a user namespace maps few groups), the pod's or none."""
    for name, value in defaults.items():
        with contextlib.suppress(OSError):
            _write("/proc/sys/" + name.replace(".", "/"), value)
    for name, value in sysctls.items():
        try:
            _write("/proc/sys/" + name.replace(".", "/"), value)
        except OSError as error:
            raise LaunchError(f"write sysctl key {name}: {os.strerror(error.errno or 0).lower()}") from error


def _user(process: dict[str, Any]) -> tuple[int, int, str]:
    """uid, primary gid and home by the container's own /etc/passwd; a name is looked up there."""
    wanted, home, gid, uid = process["user"], "/", process["gid"], None
    if wanted.isdigit():
        uid = int(wanted)
    with contextlib.suppress(OSError), open("/etc/passwd") as table:
        for line in table:
            fields = line.rstrip("\n").split(":")
            if len(fields) >= 7 and (fields[0] == wanted or fields[2] == str(uid)):
                uid, home = int(fields[2]), fields[5]
                gid = int(fields[3]) if gid is None else gid
                break
    if uid is None:
        raise LaunchError(f"unable to find user {wanted}: no matching entries in passwd file")
    return uid, gid or 0, home


def _become(process: dict[str, Any], uid: int, gid: int) -> None:
    """Drop to the process's user and capabilities, last of all."""
    kept = capabilities.mask(process["capabilities"])
    for number in range(len(capabilities.NAMES)):
        if not kept >> number & 1:
            with contextlib.suppress(OSError):  # a capability this kernel does not have
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)
    try:
        # Without a second group to become there is nothing to set, and a user namespace may forbid it (setgroups: deny).
        if process["groups"] or os.getgroups():
            with contextlib.suppress(PermissionError) if not process["groups"] else contextlib.nullcontext():
                os.setgroups(process["groups"])
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        what = f"setting up user {uid}:{gid}"
        raise LaunchError(
            f"{what}: {os.strerror(error.errno or 0).lower()} (this machine's user namespace maps no such id; install newuidmap and newgidmap, or run kubette as root)"
        ) from error
    if uid == 0:
        present = _permitted() & kept
        syscalls.set_capabilities(present, present, 0)
    if process["no_new_privs"]:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


def _permitted() -> int:
    with open("/proc/thread-self/status") as status:
        for line in status:
            if line.startswith("CapPrm:"):
                return int(line.split()[1], 16)
    return 0


def _find(program: str, path: str) -> str:
    """The file a command names, or LaunchError in Go's os/exec words."""
    if "/" in program:
        try:
            mode = os.stat(program).st_mode
        except OSError as error:
            raise LaunchError(f'exec: "{program}": stat {program}: {os.strerror(error.errno or 0).lower()}') from error
        if stat.S_ISDIR(mode):
            raise LaunchError(f'exec: "{program}": is a directory')
        if not mode & 0o111:
            raise LaunchError(f'exec: "{program}": permission denied')
        return program
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", program)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise LaunchError(f'exec: "{program}": executable file not found in $PATH')


def _reset_signals() -> None:
    for which in SIGNALS:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(which, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _run(process: dict[str, Any], programs: dict[str, str], ready: Callable[[], None]) -> NoReturn:
    """Become the program: our own without exec (their imports are shared pages already), any other by exec."""
    environment: dict[str, str] = process["env"]
    argv: list[str] = process["argv"]
    path = _find(argv[0], environment.get("PATH", ""))
    os.umask(0o022)
    module = programs.get(path)
    if module is None:
        os.execve(path, argv, environment)
    ready()
    _run_warm(module, argv, environment)


def _run_warm(target: str, argv: list[str], environment: dict[str, str]) -> NoReturn:
    """Call a program's `main` as if it had been executed."""
    import importlib
    import time
    import traceback

    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = argv
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if "asyncio" in sys.modules:  # the parent's running loop is not ours
        sys.modules["asyncio"].events._set_running_loop(None)
    code: Any = 1
    try:
        module, _, function = target.partition(":")
        code = getattr(importlib.import_module(module), function)(argv[1:])
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _controlling_terminal(fd: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


def _chdir(process: dict[str, Any], create: bool) -> None:
    directory = process["cwd"] or "/"
    try:
        if create:
            os.makedirs(directory, exist_ok=True)
        os.chdir(directory)
    except OSError as error:
        raise LaunchError(f'mkdir/chdir to cwd ("{directory}") set in config.json failed: {os.strerror(error.errno or 0).lower()}') from error


def _prepare(process: dict[str, Any], create_cwd: bool) -> None:
    """Everything between the namespaces and the program: user, directory, environment, limits."""
    if process["oom_score_adj"] is not None:
        with contextlib.suppress(OSError):  # lowering it needs a right that a user namespace does not have
            _write("/proc/self/oom_score_adj", str(process["oom_score_adj"]))
    uid, gid, home = _user(process)
    process["env"].setdefault("HOME", home)
    _chdir(process, create_cwd)
    _become(process, uid, gid)


def _first_process(spec: dict[str, Any], report: int) -> NoReturn:
    """In the forked child: the container's PID 1. Whatever fails is written to `report`."""
    try:
        _reset_signals()
        os.setsid()
        process = spec["process"]
        if spec["hostname"]:
            socket.sethostname(spec["hostname"])
        _apply_sysctls(spec["default_sysctls"], spec["sysctls"])
        if spec["kind"] == "sandbox":
            _pause(spec, report)
        if process["tty"]:
            _controlling_terminal(0)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        from kubette.runtime import rootfs

        rootfs.build(spec)
        _prepare(process, create_cwd=not spec["root"]["readonly"])
        os.set_inheritable(report, False)
        _close_others(report)
        _run(process, spec["programs"], lambda: os.close(report))
    except LaunchError as error:
        os.write(report, str(error).encode())
    except OSError as error:
        os.write(report, (error.strerror or str(error)).encode())
    except Exception as error:
        os.write(report, f"{type(error).__name__}: {error}".encode())
    os._exit(EXEC_FAILED)


def _pause(spec: dict[str, Any], report: int) -> NoReturn:
    """Hold the sandbox's namespaces with the least of processes: a `cat` named pause, reading from a pipe that nobody writes.

    SIGCHLD stays ignored across exec, so that as PID 1 of a shared PID namespace it reaps orphans, as upstream's pause does.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if spec["process"]["oom_score_adj"] is not None:
        with contextlib.suppress(OSError):
            _write("/proc/self/oom_score_adj", str(spec["process"]["oom_score_adj"]))
    read, write = os.pipe()
    os.dup2(read, 0)
    os.dup2(write, 3)  # held by the process itself: the pipe never ends
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    report = _move(report, 10)
    _close_others(report, first=4)
    os.set_inheritable(report, False)
    os.chdir("/")
    os.execve(spec["pause"], ["/pause"], {"PATH": spec["process"]["env"]["PATH"]})


def _move(fd: int, at_least: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, at_least)


def _close_others(keep: int, first: int = 3) -> None:
    os.closerange(first, keep)
    os.closerange(max(first, keep + 1), 1 << 16)


def _release_terminal() -> None:
    """Give up the controlling terminal that init set up, so that the container's own session can take it."""
    import fcntl
    import termios

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the kernel tells a session that lost its terminal
    with contextlib.suppress(OSError):
        fcntl.ioctl(0, termios.TIOCNOTTY)
    signal.signal(signal.SIGHUP, before)


def create(spec_path: str) -> int:
    """Make the container of a spec. Exit code 0 once its first process runs."""
    spec = _read(spec_path)
    if spec["process"]["tty"]:
        _release_terminal()
    read, report = os.pipe2(os.O_CLOEXEC)
    try:
        _join_cgroups(spec["cgroups"])
        _enter_namespaces(spec["namespaces"])
        pid = os.fork()
    except OSError as error:
        _write(spec["error_file"], error.strerror or str(error))
        return 1
    if pid == 0:
        os.close(read)
        _first_process(spec, report)
    os.close(report)
    failure = b""
    while chunk := os.read(read, 4096):
        failure += chunk
    if failure:
        os.waitpid(pid, 0)
        _write(spec["error_file"], failure.decode(errors="replace"))
        print(failure.decode(errors="replace"), file=sys.stderr)
        return 1
    _write(spec["pid_file"], f"{pid}\n")
    return 0


def _enter_container(pid: int) -> None:
    """Join every namespace of a process that differs from ours, the mount namespace last."""
    for name in ("net", "ipc", "uts", "pid", "mnt"):
        theirs, ours = f"/proc/{pid}/ns/{name}", f"/proc/self/ns/{name}"
        if os.stat(theirs).st_ino == os.stat(ours).st_ino:
            continue
        fd = os.open(theirs, os.O_RDONLY | os.O_CLOEXEC)
        syscalls.setns(fd)
        os.close(fd)


def _terminal(process: dict[str, Any], control: int) -> None:
    """A new terminal of the container's own devpts as standard streams; its master goes to the runtime."""
    import fcntl
    import pty
    import termios

    master, slave = pty.openpty()
    if process.get("size"):
        width, height = process["size"]
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    with socket.socket(fileno=os.dup(control)) as runtime:
        socket.send_fds(runtime, [b"t"], [master])
    os.close(master)
    for stream in range(3):
        os.dup2(slave, stream)
    _controlling_terminal(0)


def execute(spec_path: str, process_path: str, control_fd: int) -> int:
    """Run a further process in a running container and answer its exit code (128 + signal when killed).

    `control_fd` is a socket of the runtime: `t` with a descriptor is the terminal's master, `E…` why nothing was executed, and its end says
    that the process runs.
    """
    spec, process = _read(spec_path), _read(process_path)
    control = _move(control_fd, 10)
    os.close(control_fd)
    read, report = os.pipe2(os.O_CLOEXEC)
    failure = b""
    pid = 0
    try:
        _join_cgroups(spec["cgroups"])
        _enter_container(int(process["pid"]))
        pid = os.fork()
    except OSError as error:
        failure = (error.strerror or str(error)).encode()
    if not failure and pid == 0:
        _further_process(spec, process, report, control)
    os.close(report)
    null = os.open("/dev/null", os.O_RDWR)
    for stream in range(3):  # only the process itself holds the session's streams: their end is its end
        os.dup2(null, stream)
    for which in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(which, lambda *_: os.kill(pid, signal.SIGKILL) if pid else None)
    while chunk := os.read(read, 4096):
        failure += chunk
    if failure:
        os.write(control, b"E" + failure)
    os.close(control)
    if not pid:
        return EXEC_FAILED
    _, status = os.waitpid(pid, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _further_process(spec: dict[str, Any], process: dict[str, Any], report: int, control: int) -> NoReturn:
    """In the forked child of `exec`."""
    try:
        _reset_signals()
        os.setsid()
        if process["tty"]:
            _terminal(process, control)
        _prepare(process, create_cwd=False)
        report = _move(report, 11)
        os.close(control)
        _close_others(report)
        _run(process, spec["programs"], lambda: os.close(report))
    except LaunchError as error:
        os.write(report, str(error).encode())
    except OSError as error:
        os.write(report, (error.strerror or str(error)).encode())
    os._exit(EXEC_FAILED)


def main(argv: Sequence[str] | None = None) -> int:
    """The console script."""
    words = list(sys.argv[1:] if argv is None else argv)
    if len(words) == 2 and words[0] == "create":
        return create(words[1])
    if len(words) == 4 and words[0] == "exec" and words[3].isdigit():
        return execute(words[1], words[2], int(words[3]))
    print("usage: kubette-runc create SPEC | exec SPEC PROCESS CONTROL_FD", file=sys.stderr)
    return errno.EINVAL


if __name__ == "__main__":
    sys.exit(main())
