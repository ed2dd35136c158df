"""Starting a cluster's supervisor from the command line: a daemon that has reported readiness, or an error in the user's words."""

import fcntl
import os
import signal
import socket

from kubette.machines import layout, machine, namespaces, spec, supervisor


class LaunchError(Exception):
    """The supervisor did not start; the text says why."""


def start(place: layout.Layout, cluster: spec.Cluster, api_socket: socket.socket | None, init: str = "") -> None:
    """Daemonize a supervisor and wait until its control socket answers. Raises LaunchError."""
    place.supervisor_log.parent.mkdir(parents=True, exist_ok=True)
    # A Ctrl-C waits until there is a supervisor that can be told to stop.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        answer = _fork_daemon(place, cluster, api_socket, init)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    if answer != "ok":
        raise LaunchError(answer or f"the cluster's supervisor ended before it was ready; see {place.supervisor_log}")


def _fork_daemon(place: layout.Layout, cluster: spec.Cluster, api_socket: socket.socket | None, init: str) -> str:
    """Answers what the daemon says of itself: `ok`, or why not."""
    ready_read, ready_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ready_read)
            os.setsid()
            if os.fork() == 0:
                _daemon(place, cluster, api_socket, ready_write, init)
        finally:
            os._exit(0)
    os.close(ready_write)
    os.waitpid(child, 0)
    with os.fdopen(ready_read) as answers:
        return answers.read()


def _daemon(place: layout.Layout, cluster: spec.Cluster, api_socket: socket.socket | None, ready_fd: int, init: str) -> None:
    """The daemon's whole life."""
    import setproctitle

    code = 1
    try:
        setproctitle.setproctitle(f"kubette: cluster {cluster.name}")
        setproctitle.setthreadtitle("kubette")
        keep = {ready_fd} if api_socket is None else {ready_fd, api_socket.fileno()}
        machine.reset_after_fork(keep)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        os.chdir("/")
        os.umask(0o022)
        machine.redirect_output(machine.open_log(place.supervisor_log))
        lock = os.open(place.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.write(ready_fd, f'cluster "{cluster.name}" is already running'.encode())
            return
        if os.geteuid() != 0:
            namespaces.enter_user_namespace()

        def ready() -> None:
            # Raises when the launcher is gone: then nobody wants this cluster, and nothing of it has started.
            os.write(ready_fd, b"ok")
            os.close(ready_fd)

        supervisor.Supervisor(place, cluster, api_socket, init).run(ready)
        code = 0
    except BaseException as error:
        import traceback

        traceback.print_exception(error)
        try:
            os.write(ready_fd, str(error).encode())
        except OSError:
            pass  # the launcher has its answer already
    finally:
        os._exit(code)
