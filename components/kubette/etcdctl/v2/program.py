"""The program: its commands, its own flags, and how it ends."""

import sys
from collections.abc import Sequence

from kubette.etcdctl import versions
from kubette.etcdctl.v2 import backup, cluster, command_line, keys, users
from kubette.etcdctl.v2.client import FailureError
from kubette.etcdctl.v2.command_line import HELP, VERSION, Command, Flag, Parsed, UsageError
from kubette.etcdctl.v2.run import Run

_NO_TOPIC = 3
_NAME, _USAGE = "etcdctl", "A simple command line client for etcd."
COMMANDS = (backup.BACKUP, cluster.HEALTH, *keys.COMMANDS, cluster.MEMBER, users.USER, users.ROLE, users.AUTH)
_HELP_COMMAND = Command("help, h", "Shows a list of commands or help for one command", "[command]")
_DEFAULTS = '(default: "http://127.0.0.1:2379,http://127.0.0.1:4001")'
FLAGS = (
    Flag("debug", "bool", "output cURL commands which can be used to reproduce the request"),
    Flag("no-sync", "bool", "don't synchronize cluster information before sending request"),
    Flag("output, o", "string", "output response in the given format (`simple`, `extended` or `json`)", "simple"),
    Flag("discovery-srv, D", "string", "domain name to query for SRV records describing cluster endpoints"),
    Flag("insecure-discovery", "bool", "accept insecure SRV records describing cluster endpoints"),
    Flag("peers, C", "string", 'DEPRECATED - "--endpoints" should be used instead'),
    Flag("endpoint", "string", 'DEPRECATED - "--endpoints" should be used instead'),
    Flag("endpoints", "string", f"a comma-delimited list of machine addresses in the cluster {_DEFAULTS}"),
    Flag("cert-file", "string", "identify HTTPS client using this SSL certificate file"),
    Flag("key-file", "string", "identify HTTPS client using this SSL key file"),
    Flag("ca-file", "string", "verify certificates of HTTPS-enabled servers using this CA bundle"),
    Flag("username, u", "string", "provide username[:password] and prompt if password is not supplied."),
    Flag("timeout", "duration", "connection timeout per request", 2.0),
    Flag("total-timeout", "duration", "timeout for the command execution (except watch)", 5.0),
)


def main(words: Sequence[str]) -> int:
    """The exit code."""
    try:
        _run(words)
    except FailureError as failure:
        sys.stdout.flush()
        if str(failure):
            print(failure, file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        pass
    return 0


def _run(words: Sequence[str]) -> None:
    release = versions.release()[0]
    listed = [(each.name, each.usage) for each in (*COMMANDS, _HELP_COMMAND)]
    text = command_line.program_help(_NAME, _USAGE, release, listed, (*FLAGS, HELP, VERSION))
    try:
        options = command_line.parse(words, (*FLAGS, HELP, VERSION))
    except UsageError as error:
        print(f"Incorrect Usage. {error}\n\n{text}")
        raise FailureError(str(error)) from None
    if options["help"]:
        print(text)
    elif options["version"]:
        print(f"{_NAME} version: {release}\nAPI version: 2")
    else:
        _dispatch(_NAME, COMMANDS, text, options, options.args)


def _dispatch(name: str, commands: Sequence[Command], text: str, options: Parsed, words: Sequence[str]) -> None:
    """Run the command that the first word names, or explain."""
    if not words:
        print(text)
        return
    word, *rest = words
    command = next((each for each in commands if each.name == word), None)
    if command is not None and command.commands:
        _group(f"{name} {word}", command, options, rest)
    elif command is not None:
        _single(f"{name} {word}", command, options, rest)
    elif word in ("help", "h"):
        _explain(name, commands, _as_program(name, commands, text), rest)
    else:
        raise FailureError(f"No help topic for '{word}'", _NO_TOPIC)


def _as_program(name: str, commands: Sequence[Command], text: str) -> str:
    """What `GROUP help` shows: upstream takes the group for a program."""
    if name == _NAME:
        return text
    usage = next(each.usage for each in COMMANDS if each.commands is commands)
    return command_line.program_help(name, usage, versions.release()[0], [(each.name, each.usage) for each in commands], (HELP,))


def _explain(name: str, commands: Sequence[Command], text: str, words: Sequence[str]) -> None:
    """`help [COMMAND]`."""
    if not words:
        print(text)
        return
    if words[0] in ("help", "h"):
        print(command_line.command_help("", _HELP_COMMAND))
        return
    command = next((each for each in commands if each.name == words[0]), None)
    if command is None:
        raise FailureError(f"No help topic for '{words[0]}'", _NO_TOPIC)
    print(command_line.command_help(f"{name} {command.name}", command))


def _group(name: str, command: Command, options: Parsed, words: Sequence[str]) -> None:
    text = command_line.group_help(name, command)
    try:
        parsed = command_line.parse(words, (HELP,))
    except UsageError as error:
        print(f"Incorrect Usage. {error}\n\n{text}")
        raise FailureError(str(error)) from None
    if parsed["help"]:
        print(text)
    else:
        _dispatch(name, command.commands, text, options, parsed.args)


def _single(name: str, command: Command, options: Parsed, words: Sequence[str]) -> None:
    text = command_line.command_help(name, command)
    try:
        parsed = command_line.parse_moved(words, (*command.flags, HELP))
    except UsageError as error:
        print(f"Incorrect Usage: {error}\n\n{text}")
        raise FailureError(str(error)) from None
    if parsed["help"]:
        print(text)
        return
    assert command.action is not None
    command.action(Run(options, parsed))
