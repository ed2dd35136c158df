"""Pure: how etcdctl fails: a message on standard error and an exit code that says what kind of failure it was (upstream's table)."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes."""

    ERROR = 1
    BAD_CONNECTION = 2
    INVALID_INPUT = 3  # of txn and watch
    BAD_FEATURE = 4  # a valid flag with an unsupported value
    INTERRUPTED = 5
    IO = 6
    BAD_ARGS = 128


class CommandError(Exception):
    """The command fails. An empty message prints nothing more."""

    def __init__(self, message: str, code: int = Exit.ERROR) -> None:
        super().__init__(message)
        self.code = int(code)


def bad_args(message: str) -> CommandError:
    return CommandError(message, Exit.BAD_ARGS)
