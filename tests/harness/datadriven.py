"""Stories with golden text: a file of commands, each with the output it must have. `pytest --rewrite` writes down what it has instead.

    # A comment.
    command argument key=value key=(value,value)
    ----
    the output, up to an empty line

A command without output has none of this. After a rewrite, `git diff` is to be read: it is the test's only judge.
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_SEPARATOR = "----"
_WORD = re.compile(r"[^\s=]+=\([^)]*\)|\S+")


class StoryError(AssertionError):
    """The story cannot be read, or went another way."""


@dataclass(frozen=True, slots=True)
class Command:
    """One line of a story."""

    name: str
    arguments: tuple[str, ...] = ()
    options: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def option(self, name: str, default: str) -> str:
        """The only value of an option."""
        values = self.options.get(name, (default,))
        assert len(values) == 1, f"{name} takes one value"
        return values[0]


def parse(line: str) -> Command:
    """A command line."""
    name, *words = _WORD.findall(line)
    arguments, options = [], {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            arguments.append(word)
        elif value.startswith("("):
            options[key] = tuple(each.strip() for each in value[1:-1].split(",") if each.strip())
        else:
            options[key] = (value,)
    return Command(name, tuple(arguments), options)


def run(path: Path, handle: Callable[[Command], str], *, rewrite: bool) -> None:
    """Tell the story to `handle`; raises StoryError where its answer differs from the file's, or puts its answers into the file."""
    told: list[str] = []
    lines = path.read_text().splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        told.append(line)
        at += 1
        if not line.strip() or line.startswith("#"):
            continue
        number = at
        expected: list[str] = []
        if at < len(lines) and lines[at] == _SEPARATOR:
            at += 1
            while at < len(lines) and lines[at]:
                expected.append(lines[at])
                at += 1
        try:
            output = handle(parse(line)).splitlines()
        except AssertionError as error:
            raise StoryError(f"{path}:{number}: {line}: {error}") from error
        assert all(output), f"{path}:{number}: an empty line ends an output"
        if output != expected and not rewrite:
            difference = "\n".join(difflib.unified_diff(expected, output, "expected", "found", lineterm="", n=8))
            raise StoryError(f"{path}:{number}: {line}\n{difference}")
        if output:
            told += [_SEPARATOR, *output]
            if at < len(lines) and lines[at]:
                told.append("")
    if rewrite:
        path.write_text("\n".join(told).rstrip("\n") + "\n")
