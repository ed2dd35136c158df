"""One run of a program made of commands: parse, do, and fail the way upstream fails."""

import signal
import sys
from collections.abc import Sequence

from kubette.etcdctl import completion
from kubette.etcdctl.cobra import CommandLineError, Program, ShowHelp
from kubette.etcdctl.context import Context, apply_environment, environment
from kubette.etcdctl.errors import CommandError, Exit


def run(program: Program, argv: Sequence[str]) -> int:
    """The exit code."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `etcdctl get ... | head` ends quietly
    try:
        return _run(program, argv)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        sys.stdout.flush()


def _run(program: Program, argv: Sequence[str]) -> int:
    try:
        if argv and argv[0] in completion.QUESTIONS:
            completion.answer(program, argv)
            return 0
        invocation = program.parse(argv)
    except ShowHelp as shown:
        if shown.complaint:
            print(shown.complaint, file=sys.stderr)
        print(shown)
        return 0
    except CommandLineError as error:
        if error.usage:
            print(f"Error: {error}", file=sys.stderr)
            print(error.usage)
            print(f"\nError: {error}", file=sys.stderr)
        else:
            print(f"Error: {error}\n{error.hint}\nError: {error}", file=sys.stderr)
        return int(Exit.ERROR)
    context = Context(invocation)
    try:
        apply_environment(program.global_flags(), invocation.options, environment())
        assert invocation.command.run is not None
        invocation.command.run(context)
    except CommandError as error:
        sys.stdout.flush()
        if str(error):
            print(f"Error: {error}", file=sys.stderr)
        return error.code
    finally:
        context.close()
    return 0
