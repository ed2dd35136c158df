"""Pure: what every command's flags have in common."""

from typing import Any

from kubette.component_base.flags import FlagError, FlagSet

DEFAULT_NAME = "kubette"


def flag_set(command: str, description: str, positional: bool = False) -> FlagSet:
    """A command's flags, `--name` among them."""
    flags = FlagSet(f"kubette {command}", description, positional=positional)
    flags.string("name", DEFAULT_NAME, "The cluster's name.")
    return flags


def arguments(options: Any, usage: str, minimum: int, maximum: int) -> list[str]:
    """The arguments that are not flags; `usage` is shown when there are too few or too many."""
    words: list[str] = options.args
    if not minimum <= len(words) <= maximum:
        raise FlagError(f"expected '{usage}', got {len(words)} arguments")
    return words
