"""One run of a command: its flags and arguments, and the client that it asks."""

import sys
from dataclasses import dataclass, field

from kubette.etcdctl.v2.client import BAD_ARGS, Client, FailureError, fail
from kubette.etcdctl.v2.command_line import Parsed


@dataclass(slots=True)
class Run:
    """`options` are the program's, `flags` the command's."""

    options: Parsed
    flags: Parsed
    _clients: list[Client] = field(default_factory=list)

    @property
    def args(self) -> list[str]:
        return self.flags.args

    @property
    def output(self) -> str:
        return str(self.options["output"])

    @property
    def client(self) -> Client:
        if not self._clients:
            self._clients.append(Client(self.options))
        return self._clients[0]

    def key(self) -> str:
        _ = self.client  # upstream looks for the cluster first, then at the arguments
        if not self.args:
            fail("key required", BAD_ARGS)
        return self.args[0]

    def value(self) -> str:
        text = self.args[1] if len(self.args) > 1 else sys.stdin.read()
        if not text and len(self.args) < 2:
            fail("value required", BAD_ARGS)
        return text

    def only_argument(self, message: str) -> str:
        if len(self.args) != 1:
            raise FailureError(message)
        return self.args[0]

    def no_arguments(self) -> None:
        if self.args:
            raise FailureError("No arguments accepted")
