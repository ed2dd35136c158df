"""`ssh node01`, typed on a machine: a login shell or a command on another machine of the cluster, as root.

Its counterpart is `ssh_door`. It takes ssh's options and needs none of them: there are no keys, no known hosts and no ports here.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DOOR = "/run/kubette/ssh.sock"
FAILED = 255
USAGE = "usage: ssh [-46AaCfGgKkMNnqsTtVvXxYy] [-F configfile] [-i identity_file]\n           [-l login_name] [-o option] [-p port] destination [command [argument ...]]"
LETTERS = "46AaCKkqTtvXxYyn"
WITH_VALUE = "FiloOpbcDeEILmRSwWJ"
OF_USE = "Filop"  # the others would tunnel or multiplex: that is not here


class UsageError(Exception):
    """What ssh prints before its usage."""


@dataclass
class Destination:
    host: str = ""
    user: str = "root"
    terminal: bool | None = None  # -t and -T
    no_input: bool = False
    command: list[str] = field(default_factory=list)


def parse(words: Sequence[str]) -> Destination:
    """ssh's own way with options: they may also stand after the host, and end where the command begins."""
    found, rest = Destination(), list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            if not found.host:
                continue
            found.command = rest
            break
        if not word.startswith("-") or word == "-":
            if found.host:
                found.command = [word, *rest]
                break
            user, _, found.host = word.removeprefix("ssh://").rpartition("@")
            found.user = user or found.user
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in WITH_VALUE:
                if letter not in OF_USE:
                    raise UsageError(f"option -- '{letter}' is not for the machines of a kubette cluster")
                if not letters and not rest:
                    raise UsageError(f"option requires an argument -- '{letter}'")
                value, letters = letters or rest.pop(0), ""
                found.user = value if letter == "l" else found.user
            elif letter in LETTERS:
                found.terminal = {"t": True, "T": False}.get(letter, found.terminal)
                found.no_input |= letter == "n"
            else:
                raise UsageError(f"unknown option -- {letter}")
    if not found.host:
        raise UsageError("")
    return found


def machine_of(host: str, hosts: str) -> str:
    """The machine's own name, which /etc/hosts knows by its address and other names."""
    for line in hosts.splitlines():
        words = line.partition("#")[0].split()
        if host in words and not words[0].startswith(("127.", "::1")):
            return words[1]
    return host


def as_user(destination: Destination) -> list[str]:
    """The command on the other machine. ssh joins its words for a shell there."""
    line = " ".join(destination.command)
    if destination.user == "root":
        return [line] if line else []
    return ["runuser", "-l", destination.user, *(["-c", line] if line else [])]


def run(destination: Destination, environment: Mapping[str, str]) -> int:
    host = destination.host
    if host in ("localhost", "127.0.0.1", "::1"):
        host = os.uname().nodename
    name = machine_of(host, Path("/etc/hosts").read_text())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        try:
            door.connect(DOOR)
        except OSError:  # in a pod, or as another user than root
            return _fail(f"ssh: connect to host {destination.host} port 22: Connection refused")
        stdin = os.open("/dev/null", os.O_RDONLY) if destination.no_input else 0
        # As ssh has it: a command gets no terminal unless -t asks for one, a login gets one.
        terminal = destination.terminal if destination.terminal is not None else not destination.command
        request = {"machine": name, "command": as_user(destination), "term": environment.get("TERM", "dumb"), "terminal": terminal}
        socket.send_fds(door, [json.dumps(request).encode()], [stdin, 1, 2])
        signal.signal(signal.SIGWINCH, lambda *_: door.send(b"w"))
        with door.makefile("rb") as answers:
            line = answers.readline()
    answer = json.loads(line) if line else {"error": "closed"}
    match answer.get("error"):
        case "resolve":
            return _fail(f"ssh: Could not resolve hostname {destination.host}: Name or service not known")
        case "route":
            return _fail(f"ssh: connect to host {destination.host} port 22: No route to host")
        case "closed":
            return _fail(f"Connection to {destination.host} closed by remote host.")
    if terminal and os.isatty(0) and os.isatty(1):
        print(f"Connection to {destination.host} closed.", file=sys.stderr)
    return int(answer["code"]) & 0xFF


def _fail(text: str) -> int:
    print(text, file=sys.stderr)
    return FAILED


def main(argv: Sequence[str] | None = None) -> int:
    """The program ssh of a machine."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["-V"]:
        print("kubette ssh: the door between the machines of a cluster", file=sys.stderr)
        return 0
    try:
        return run(parse(words), os.environ)
    except UsageError as error:
        print("\n".join(filter(None, [str(error), USAGE])), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
