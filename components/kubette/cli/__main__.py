"""The table of commands, and how each ends: exit code 0, 1 for a failure, 130 after Ctrl-C; `ssh` passes the command's own on."""

import importlib
import os
import sys
from collections.abc import Sequence

from kubette.cli.errors import CommandError, PhaseError
from kubette.component_base import version
from kubette.component_base.flags import FlagError, HelpRequested, VersionRequested

# Name to what `--help` says. The module of the same name has `flags()` and `run(options) -> int`; it is imported when it is called.
COMMANDS = {
    "up": "Start a cluster (create it the first time)",
    "down": "Stop a cluster; its data stays unless --purge is given",
    "machine": "Power switch: machine start|stop|reboot|kill|pause|resume NAME",
    "ssh": "A shell, or a command, on a machine: ssh NAME [-- COMMAND...]",
    "status": "Show the machines of a cluster",
    "logs": "Show the journal of a machine, or of one of its units: logs MACHINE [UNIT]",
    "backup": "Save a snapshot of etcd, verified: backup [FILE]",
    "restore": "Take etcd back to a snapshot, saying what would be lost: restore [FILE]",
    "doctor": "Find what is wrong with a cluster, and say what to do",
    "lab": "Exercises on a running cluster: lab list|start|hint|check|solve|reset [NAME]",
    "trace": "What happened to a pod, step by step: trace pod/NAME",
    "kubeconfig": "Print the administrator's kubeconfig, or its path",
    "list": "List the clusters",
    "versions": "List the Kubernetes releases a cluster can be of: versions [LINE]",
}


def main(argv: Sequence[str] | None = None) -> int:
    """kubette."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] in ("--version", "version"):
        print(f"kubette (Kubernetes {version.DEFAULT_VERSION})")
        return 0
    name = words[0]
    if name not in COMMANDS:
        what = f"unknown flag: {name.partition('=')[0]}" if name.startswith("-") else f'unknown command "{name}" for "kubette"'
        print(f"error: {what}\nSee 'kubette --help' for usage.", file=sys.stderr)
        return 1
    try:
        return _run(name, words[1:])
    except BrokenPipeError:
        # `kubette logs node01 | head`: nobody reads on, and the interpreter must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(name: str, words: list[str]) -> int:
    command = importlib.import_module(f"kubette.cli.{name}")
    flag_set = command.flags()
    try:
        options = command.parse(words) if hasattr(command, "parse") else flag_set.parse(words)
        code: int = command.run(options)
        return code
    except HelpRequested:
        print(flag_set.usage())
        return 0
    except VersionRequested:
        print(f"error: unknown flag: --version\nSee 'kubette {name} --help' for usage.", file=sys.stderr)
    except FlagError as error:
        print(f"error: {error}\nSee 'kubette {name} --help' for usage.", file=sys.stderr)
    except PhaseError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.tail:
            print(f"{error.component}, last log lines:", *(f"  {line}" for line in error.tail), sep="\n", file=sys.stderr)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
    except Exception as error:
        from kubette.machines import client, enter, launch, spec

        if not isinstance(error, (client.ControlError, enter.EnterError, launch.LaunchError, spec.SpecError)):
            raise
        print(f"error: {error}", file=sys.stderr)
    return 1


def _help() -> str:
    lines = ["kubette: a small Kubernetes that behaves like a big one", "", "Usage:", "  kubette [command]", "", "Available Commands:"]
    lines += [f"  {name:<11} {text}" for name, text in COMMANDS.items()]
    return "\n".join([*lines, "", 'Use "kubette [command] --help" for more information about a command.'])


if __name__ == "__main__":
    sys.exit(main())
