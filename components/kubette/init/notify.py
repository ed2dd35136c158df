"""The notification socket: what services tell about themselves (sd_notify(3))."""

import array
import asyncio
import os
import socket
import struct
from pathlib import Path

from kubette.component_base import logs
from kubette.init import unit_state
from kubette.init.manager import Manager
from kubette.init.service_runner import NOTIFY_SOCKET, ServiceRunner

log = logs.logger(__name__)

MESSAGE_BYTES_MAX = 4096
STATUS_CHARACTERS_MAX = 1024
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class NotifySocket:
    """Reads datagrams and tells the runners."""

    def __init__(self, manager: Manager, path: str = NOTIFY_SOCKET) -> None:
        self._manager = manager
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(path)
        os.chmod(path, 0o777)
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def drain(self) -> None:
        """Take what has been sent: called before exits are told, so that READY=1 of a process that has ended since still counts."""
        while self._readable():
            continue

    def _readable(self) -> bool:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(MESSAGE_BYTES_MAX, socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(64))
        except BlockingIOError:
            return False
        except OSError as error:
            log.error("Cannot read a notification", err=error)
            return False
        sender = 0
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                sender = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])[0]
            elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                # Descriptors somebody sends (FDSTORE) are not kept.
                for fd in array.array("i", content[: len(content) - len(content) % 4]):
                    os.close(fd)
        runner = self._manager.unit_of_pid(sender) if sender else None
        if runner is not None and self._is_allowed(runner, sender):
            try:
                self._tell(runner, _parse(data))
            except ValueError as error:
                log.warning("Ignored a malformed notification", unit=runner.name, err=error)
        return True

    @staticmethod
    def _is_allowed(runner: ServiceRunner, sender: int) -> bool:
        access = runner.spec.notify_access
        return (
            access == "all"
            or (access == "main" and sender == runner.main_pid)
            or (access == "exec" and sender in (runner.main_pid, runner.control_pid))
        )

    def _tell(self, runner: ServiceRunner, variables: dict[str, str]) -> None:
        if "MAINPID" in variables:
            runner.set_main_pid(int(variables["MAINPID"]))
        if "STATUS" in variables:
            runner.status_text = variables["STATUS"][:STATUS_CHARACTERS_MAX]
        if variables.get("WATCHDOG") == "1":
            runner.feed_watchdog()
        if variables.get("READY") == "1":
            runner.handle(unit_state.Ready())
        elif variables.get("STOPPING") == "1":
            runner.handle(unit_state.Stopping())
        elif "STATUS" in variables:
            self._manager.changed(runner.name)


def _parse(data: bytes) -> dict[str, str]:
    pairs = (line.partition("=") for line in data.decode(errors="replace").split("\n"))
    return {name: value for name, separator, value in pairs if separator}
