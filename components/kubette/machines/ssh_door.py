"""What answers `ssh node01` on a machine: the supervisor's side of the door between the machines of one cluster.

A socket of the supervisor's lies on every machine, for its root alone. Who connects hands over standard streams and a command; a child of the
supervisor enters the other machine with them, as `kubette ssh` does from the host, and answers the command's exit status. No key is needed: whoever is root of
one machine of a practice cluster is meant to reach the others. A machine without power is not reached, nor one of another cluster.
"""

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Callable

from kubette.machines import enter, machine, namespaces, root_tree

REQUEST_BYTES_MAX = 1 << 17
REQUEST_TIMEOUT_S = 5.0
STREAMS = 3
HUNG_UP = 255  # ssh's own exit status


def serve(connection: socket.socket, init_pid: Callable[[str], int]) -> None:
    """Fork a child for one client. `init_pid` answers PID 1 of a machine by its name; 0 for one that is off, LookupError for none."""
    if os.fork():
        connection.close()
        return
    code = 1
    try:
        machine.reset_after_fork({connection.fileno()})
        namespaces.die_with_parent(signal.SIGKILL)
        connection.setblocking(True)
        connection.settimeout(REQUEST_TIMEOUT_S)
        _answer(connection, init_pid)
        code = 0
    except (OSError, ValueError, KeyError):
        pass  # a client that is no ssh, or went away
    finally:
        os._exit(code)


def _answer(connection: socket.socket, init_pid: Callable[[str], int]) -> None:
    text, descriptors, _, _ = socket.recv_fds(connection, REQUEST_BYTES_MAX, STREAMS)
    request = json.loads(text)
    name, command, term = str(request["machine"]), [str(word) for word in request["command"]], str(request["term"])
    if len(descriptors) != STREAMS:
        raise ValueError("no streams")
    try:
        pid = init_pid(name)
    except LookupError:
        _say(connection, error="resolve")
        return
    if not pid:
        _say(connection, error="route")
        return
    child = os.fork()
    if child == 0:
        _enter(descriptors, connection, pid, command, term, bool(request["terminal"]))
    for descriptor in descriptors:
        os.close(descriptor)
    connection.settimeout(None)
    _say(connection, code=_watch(child, connection))


def _say(connection: socket.socket, **answer: object) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(answer).encode() + b"\n")


def _enter(descriptors: list[int], connection: socket.socket, pid: int, command: list[str], term: str, terminal: bool) -> None:
    """The child with the client's streams. Never returns."""
    code = HUNG_UP
    try:
        os.setsid()
        namespaces.die_with_parent(signal.SIGKILL)
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
        machine.close_all_but({0, 1, 2})
        os.environ["TERM"] = term
        root_tree.drop_capabilities()  # whoever came through another machine has no more rights than there
        code = enter.run(pid, command, terminal=terminal)
    except enter.EnterError as error:
        os.write(2, f"ssh: {error}\n".encode())
    finally:
        os._exit(code & 0xFF)


def _watch(child: int, connection: socket.socket) -> int:
    """Until the command has ended, or its client: then it is hung up on."""
    ended = os.pidfd_open(child)
    hung_up = False
    while True:
        readable, _, _ = select.select([ended] if hung_up else [ended, connection.fileno()], [], [])
        if ended in readable:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            word = connection.recv(64)
        except OSError:
            word = b""
        hung_up = not word
        os.kill(child, signal.SIGHUP if hung_up else signal.SIGWINCH)
