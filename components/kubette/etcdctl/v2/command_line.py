"""Pure: a tree of commands with flags, parsed and explained as upstream's library of that time (urfave/cli) did.

A program's own flags stand before the command, a command's anywhere behind it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubette.component_base.flags import format_duration, parse_bool, parse_duration


class UsageError(Exception):
    """The words cannot be parsed."""


@dataclass(frozen=True, slots=True)
class Flag:
    """`names` as upstream writes them: `recursive, r`. The usage may name the value in backquotes."""

    names: str
    kind: str  # bool, string, int, duration, strings
    usage: str
    default: Any = None

    @property
    def spellings(self) -> list[str]:
        return [each.strip() for each in self.names.split(",")]

    def parse(self, text: str) -> Any:
        """Raises UsageError."""
        try:
            if self.kind == "int":
                return int(text, 0)
            return {"bool": parse_bool, "duration": parse_duration}.get(self.kind, str)(text)  # type: ignore[operator]
        except ValueError:
            what = f'boolean value "{text}" for ' if self.kind == "bool" else f'value "{text}" for flag '
            raise UsageError(f"invalid {what}-%s: parse error") from None

    def explained(self) -> tuple[str, str]:
        """As help shows it, in two columns."""
        usage, placeholder = self.usage, "" if self.kind == "bool" else "value"
        if "`" in usage and self.kind != "bool":
            before, placeholder, after = usage.split("`", 2)
            usage = f"{before}{placeholder}{after}"
        names = ", ".join(("--" if len(name) > 1 else "-") + name + (f" {placeholder}" if placeholder else "") for name in self.spellings)
        if self.default in (None, "", []):
            return names, usage
        shown = f'"{self.default}"' if self.kind == "string" else format_duration(self.default) if self.kind == "duration" else str(self.default)
        return names, f"{usage} (default: {shown})"


HELP = Flag("help, h", "bool", "show help")
VERSION = Flag("version, v", "bool", "print the version")


@dataclass(frozen=True, slots=True)
class Command:
    """One word of the command line: what it does, or what is below it."""

    name: str
    usage: str
    args_usage: str = ""
    action: Callable[[Any], None] | None = None
    flags: tuple[Flag, ...] = ()
    description: str = ""
    commands: tuple["Command", ...] = ()


@dataclass(slots=True)
class Parsed:
    """Values by a flag's first name, and the words that are left."""

    values: dict[str, Any] = field(default_factory=dict)
    args: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


_EMPTY: Mapping[str, Any] = {"bool": False, "string": "", "int": 0, "duration": 0.0}


def parse(words: Sequence[str], flags: Sequence[Flag]) -> Parsed:
    """Go's own flag package: flags first, one dash or two. Raises UsageError."""
    known = {name: flag for flag in flags for name in flag.spellings}
    parsed = Parsed({flag.spellings[0]: [] if flag.kind == "strings" else flag.default or _EMPTY[flag.kind] for flag in flags})
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, has_value, value = word.removeprefix("--" if word.startswith("--") else "-").partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f"bad flag syntax: {word}")
        flag = known.get(name)
        if flag is None:
            raise UsageError(f"flag provided but not defined: -{name}")
        if not has_value:
            if flag.kind == "bool":
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise UsageError(f"flag needs an argument: -{name}")
        try:
            found = flag.parse(value)
        except UsageError as error:
            raise UsageError(str(error) % name) from None
        first = flag.spellings[0]
        parsed.values[first] = [*parsed.values[first], found] if flag.kind == "strings" else found
    parsed.args = rest
    return parsed


def parse_moved(words: Sequence[str], flags: Sequence[Flag]) -> Parsed:
    """The words behind a command: its flags are moved to the front, each with the word behind it. Raises UsageError.

    That word may be no value at all, when the flag takes none: `rm a -r b` removes b. The library is like that, and so are we.
    """
    known = {name for flag in flags for name in flag.spellings}

    def is_flag(word: str) -> bool:
        return word.startswith("-") and word.lstrip("-").partition("=")[0] in known

    front: list[str] = []
    back: list[str] = []
    takes_next = False
    for at, word in enumerate(words):
        if takes_next and not is_flag(word):
            front.append(word)
            takes_next = False
        elif word == "--":
            front.append(word)
            back += words[at + 1 :]
            break
        elif is_flag(word):
            front.append(word)
            takes_next = "=" not in word
        else:
            back.append(word)
    return parse([*front, *back], flags)


# Help


def program_help(name: str, usage: str, version: str, commands: Sequence[tuple[str, str]], flags: Sequence[Flag]) -> str:
    lines = ["NAME:", f"   {name} - {usage}", "", "USAGE:", f"   {name} [global options] command [command options] [arguments...]", ""]
    lines += ["VERSION:", f"   {version}", "", "COMMANDS:", *_columns(commands), ""]
    return "\n".join([*lines, "GLOBAL OPTIONS:", *_columns([flag.explained() for flag in flags])])


def group_help(name: str, command: Command) -> str:
    lines = ["NAME:", f"   {name} - {command.usage}", "", "USAGE:", f"   {name} command [command options] [arguments...]", ""]
    lines += ["COMMANDS:", *_columns([(each.name, each.usage) for each in command.commands]), ""]
    return "\n".join([*lines, "OPTIONS:", *_columns([HELP.explained()]), "   "])


def command_help(name: str, command: Command) -> str:
    options = " [command options]" if command.flags else ""
    lines = ["NAME:", f"   {name} - {command.usage}", "", "USAGE:", f"   {name}{options} {command.args_usage or '[arguments...]'}"]
    if command.description:
        lines += ["", "DESCRIPTION:", f"   {command.description}"]
    if command.flags:
        lines += ["", "OPTIONS:", *_columns([flag.explained() for flag in command.flags]), "   "]
    return "\n".join(lines)


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(left) for left, _ in rows)
    return [f"   {left:{width}}  {right}" for left, right in rows]
