"""What `kubette up` refuses before it touches anything: no rights, no space, a port in use."""

import errno
import os
import shutil
import socket
from pathlib import Path

from kubette.cli.errors import CommandError
from kubette.machines import layout, namespaces

SPACE_BYTES_MIN = 200 << 20
HOST_ADDRESS = "127.0.0.1"
LISTEN_BACKLOG = 1024
PORTS_TRIED_MAX = 100


def check_folder(folder: Path) -> None:
    """The state's folder can be written and there is room for a cluster."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CommandError(f"cannot create {folder}: {(error.strerror or str(error)).lower()}; KUBETTE_HOME names another place") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"cannot write to {folder}: permission denied; KUBETTE_HOME names another place")
    free = shutil.disk_usage(folder).free
    if free < SPACE_BYTES_MIN:
        raise CommandError(
            f"no space: {folder} has {free >> 20} MB free, a cluster needs at least {SPACE_BYTES_MIN >> 20} MB; KUBETTE_HOME names another place"
        )


def check_rights() -> None:
    """This user may make machines here."""
    refusal = namespaces.probe()
    if refusal:
        raise CommandError(refusal)


def reserve_api_port(name: str, wanted: int, is_chosen: bool) -> socket.socket:
    """Listen on `wanted` of the loopback. Another cluster of ours there makes us take the next free port, unless the user chose this one."""
    if not 1 <= wanted <= 65535:
        raise CommandError(f'invalid argument "{wanted}" for "--api-port" flag: must be between 1 and 65535')
    for port in range(wanted, min(wanted + PORTS_TRIED_MAX, 65536)):
        try:
            return _listen(port)
        except PermissionError:
            raise CommandError(f"cannot listen on {HOST_ADDRESS}:{port}: permission denied; choose a port with --api-port") from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise CommandError(f"cannot listen on {HOST_ADDRESS}:{port}: {error.strerror}") from error
            if is_chosen or (port == wanted and port not in _ports_of_others(name)):
                raise CommandError(f"port {port} on {HOST_ADDRESS} is already in use{_user_of(port)}; choose another with --api-port") from None
    raise CommandError(f"no free port from {wanted} on; choose one with --api-port")


def _listen(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST_ADDRESS, port))
        sock.listen(LISTEN_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _ports_of_others(name: str) -> set[int]:
    return {place.load().api_port for place in layout.clusters() if place.root.name != name and place.is_running()}


def _user_of(port: int) -> str:
    """` by etcd (pid 42)`, as far as this user may see it."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return ""
