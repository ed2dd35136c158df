"""The client of a supervisor's control socket.

with client.Control(layout.of("kubette")) as control:
    control.call("StopMachine", name="node01")
    control.machine("node01")["pid"]
"""

import json
import socket
from typing import Any

from kubette.machines import layout

ANSWER_TIMEOUT_S = 120.0  # a stop waits for the machine's own time limit


class ControlError(Exception):
    """The supervisor refused, or there is none; the text is for the user."""


class Control:
    """One connection; calls are answered in order."""

    def __init__(self, place: layout.Layout) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(ANSWER_TIMEOUT_S)
        try:
            with layout.in_directory_of(place.control_socket) as name:
                self._sock.connect(name)
        except OSError:
            self._sock.close()
            what = "is not running; start it with: kubette up" if place.exists() else "not found; start one with: kubette up"
            extra = "" if place.root.name == "kubette" else f" --name {place.root.name}"
            raise ControlError(f'cluster "{place.root.name}" {what}{extra}') from None
        self._file = self._sock.makefile("rb")
        self._last_id = 0

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def send(self, method: str, **params: Any) -> int:
        """Send a request without waiting; answers its id."""
        self._last_id += 1
        self._sock.sendall(json.dumps({"id": self._last_id, "method": method, "params": params}).encode() + b"\n")
        return self._last_id

    def receive(self) -> dict[str, Any]:
        """The next answer, whichever request it belongs to."""
        try:
            line = self._file.readline()
        except TimeoutError:
            raise ControlError("the cluster's supervisor does not answer") from None
        except OSError:
            line = b""
        if not line:
            raise ControlError("the cluster's supervisor went away")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def call(self, method: str, **params: Any) -> Any:
        """Send and wait. Raises ControlError with the supervisor's words."""
        self.send(method, **params)
        return self.result(self.receive())

    def result(self, answer: dict[str, Any]) -> Any:
        if "error" in answer:
            raise ControlError(answer["error"]["message"])
        return answer["result"]

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.call("Status")
        return status

    def machine(self, name: str) -> dict[str, Any]:
        """A machine's line of the status. Raises ControlError for an unknown name."""
        machines = self.status()["machines"]
        for machine in machines:
            if machine["name"] == name:
                found: dict[str, Any] = machine
                return found
        raise ControlError(f'machine "{name}" not found (the cluster has {", ".join(m["name"] for m in machines)})')
