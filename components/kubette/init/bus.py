"""Calls from commands to init: one request, one answer, over the control socket. Blocking, since a command has nothing else to do (and starts faster without asyncio)."""

import json
import socket
from typing import Any

SOCKET_PATH = "/run/systemd/private"


class BusError(Exception):
    """init refused: D-Bus error name and text."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name, self.message = name.rpartition(".")[2], message


class NotBooted(Exception):
    """There is no init of ours here."""


class Bus:
    """One connection."""

    def __init__(self, path: str = SOCKET_PATH) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
        except OSError as error:
            raise NotBooted(str(error)) from None
        self._lines = self._socket.makefile("rb")
        self._id = 0

    def call(self, method: str, **params: Any) -> Any:
        """The result. Raises BusError when refused, NotBooted when init went away."""
        self._id += 1
        try:
            self._socket.sendall(json.dumps({"id": self._id, "method": method, "params": params}).encode() + b"\n")
            line = self._lines.readline()
        except OSError as error:
            raise NotBooted(str(error)) from None
        if not line:
            raise NotBooted("the connection was closed")
        answer = json.loads(line)
        if "error" in answer:
            raise BusError(answer["error"]["name"], answer["error"]["message"])
        return answer["result"]
