"""Pure: the Corefile. Directives that are not known are refused, as CoreDNS refuses plugins it was not built with."""

import shlex
from dataclasses import dataclass, field

_KNOWN = frozenset({"errors", "health", "ready", "kubernetes", "prometheus", "forward", "cache", "loop", "reload", "loadbalance"})


class CorefileError(Exception):
    """The text is not a Corefile this server can run."""


@dataclass(slots=True)
class Directive:
    """One plugin: its arguments and its block, a list of words a line."""

    name: str
    arguments: list[str]
    block: list[list[str]] = field(default_factory=list)

    def option(self, name: str) -> list[str] | None:
        """The words after `name` in the block; None if it is not there."""
        return next((line[1:] for line in self.block if line[0] == name), None)


@dataclass(slots=True)
class Server:
    """One server block."""

    zone: str
    port: int
    directives: dict[str, Directive]


def parse(text: str) -> Server:
    """The one server block of the file. Raises CorefileError with the line."""
    servers: list[Server] = []
    current: Server | None = None
    directive: Directive | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        words = shlex.split(raw, comments=True)
        if not words:
            continue
        if current is None:
            if words[-1] != "{":
                raise CorefileError(f"Corefile:{number} - Error during parsing: Unexpected '{words[-1]}'; expecting '{{'")
            zone, _, port = words[0].removeprefix("dns://").rpartition(":")
            if not port.isdigit():
                zone, port = words[0], "53"
            current = Server(zone or ".", int(port), {})
        elif words == ["}"]:
            if directive is not None:
                directive = None
            else:
                servers.append(current)
                current = None
        elif directive is not None:
            directive.block.append(words)
        else:
            opened = words[-1] == "{"
            name, *arguments = words[:-1] if opened else words
            if name not in _KNOWN:
                raise CorefileError(f"Corefile:{number} - Error during parsing: Unknown directive '{name}'")
            current.directives[name] = Directive(name, arguments)
            directive = current.directives[name] if opened else None
    if current is not None or len(servers) != 1:
        raise CorefileError("Corefile: expected exactly one closed server block")
    return servers[0]
