"""How a program of the cluster starts and ends.

    def main(argv: Sequence[str] | None = None) -> int:
        return run.run(FLAGS, argv, serve)

`serve(options)` runs until it is cancelled by SIGTERM or SIGINT. A wrong command line prints one line and the usage hint, a
`StartupError` prints klog's `command failed`; neither prints a traceback. Exit codes: 0 stopped, 1 failed.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kubette.component_base import flags, logs, version

log = logs.logger(__name__)


class StartupError(Exception):
    """The program cannot run: the text says why, in the user's words."""


def set_title(program: str, argv: Sequence[str]) -> None:
    """Make `ps` show upstream's command line instead of the interpreter's."""
    from kubette.component_base import process_title

    shown = process_title.command_line()
    if os.path.basename(shown[0]) == program and shown[1:] == list(argv):
        return  # warm-started: whoever forked us has seen to it
    process_title.set_command_line([program, *argv], os.environ, program)


def run(flag_set: flags.FlagSet, argv: Sequence[str] | None, serve: Callable[[Any], Awaitable[None]], version_line: str = "") -> int:
    """Parse, run `serve` until a signal, and answer the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    set_title(flag_set.program, words)
    try:
        options = flag_set.parse(words)
    except flags.HelpRequested:
        print(flag_set.usage())
        return 0
    except flags.VersionRequested:
        print(version_line or f"Kubernetes {version.git_version()}")
        return 0
    except flags.FlagError as error:
        print(f"Error: {error}\nSee '{flag_set.program} --help' for usage.", file=sys.stderr)
        return 1
    for warning in options.warnings:
        print(warning, file=sys.stderr)
    logs.set_verbosity(getattr(options, "v", 0) if "v" in flag_set.flags else 0)
    try:
        code: int = run_loop(_serve_until_signal(serve, options))
        return code
    except StartupError as error:
        log.error("command failed", err=error)
    except Exception as error:
        # A broken invariant: the supervisor restarts the process, the log keeps where it happened.
        import traceback

        log.error("command failed", err=error)
        traceback.print_exception(error, file=sys.stderr)
    return 1


def run_loop(work: Any) -> Any:
    """asyncio.run on uvloop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _serve_until_signal(serve: Callable[[Any], Awaitable[None]], options: Any) -> int:
    task = asyncio.current_task()
    assert task is not None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    loop = asyncio.get_running_loop()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, stop)
    try:
        await serve(options)
    except asyncio.CancelledError:
        if not stopped:
            raise
    return 0
